"""Divide the hours between experts, search, halving and the last training (budget "until").

Each has its own limit: experts at most a quarter, search 5 %, halving a quarter, and the last
training gets at least 45 %. A recipe that takes more is cut, the least harmful cut first. Experts
never get fewer steps than carry a signal: they may take up to half of the hours then, and if that
is not enough, only the best of a first short pass get an expert, or fewer datasets are tried, or
none is tried alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m2m.counted import counted
from m2m.dataset.duplicates import contradicted
from m2m.dataset.grams import comparable
from m2m.dataset.translations import differ_alike, disputed
from m2m.mix.mixture import Mixture
from m2m.mix.similarity import likeness
from m2m.pipeline.corpus import Corpus
from m2m.pipeline.experts import given_experts, goes_on
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.likeness import token_features
from m2m.planning.cost import Work
from m2m.planning.cuts import (
    Cut,
    budget_words,
    pairs_cut,
    raise_setting,
    search_cuts,
    top_cut,
    with_settings,
)
from m2m.planning.until import (
    FLOOR_PART,
    HALVING,
    LAST_PART,
    MOST,
    SEARCH,
    SIGNAL,
    TRAIN,
    FirstPass,
)
from m2m.recipe import Recipe
from m2m.recipe.strategies import NONE

# A plan is within 30 % of a run's real time, so it may take this fraction of each limit.
RESERVE = 0.85
_NOTHING_SEARCHED = (
    "no experts and no search: the fewest steps that carry a signal, for two datasets alone, would "
    "take more than half of the hours. All datasets are trained on at once"
)
_NO_NESTED = "the best datasets together are no contenders by their scores alone"
_OVER = {
    TRAIN: "experts take {part} of the hours, more than {most}: {steps} steps each are the fewest "
    "that carry a signal",
    SEARCH: "the search takes {part} of the hours, more than {most}, at its cheapest",
    HALVING: "the first training takes {part} of the hours, more than {most}, at its shortest",
}
_TOO_LONG = (
    "the fewest steps that carry a signal, for every dataset alone, would take more than half of "
    "the hours."
)
# A file whose rows mostly contradict others is wrong, or answers another task.
_WRONG = 0.5
Pairs = Sequence[tuple[str, str]]


class Split:
    """The settings of a recipe, cut down until every stage keeps to its part of the hours.

    Args:
        work: the work of the whole recipe.
        hours: hours that the run may take.
    """

    def __init__(self, work: Work, hours: float) -> None:
        self._work, self._room = work, hours * 3600 * RESERVE
        self._planned: dict[str, dict[str, float]] = {}
        self._settings: dict[str, Any] = {}
        self._gave_up: dict[str, str] = {}
        self._first: FirstPass | None = None

    def decide(self) -> dict[str, Any]:
        """Return the settings that fit, and a sentence for every loss."""
        if not self._fits():
            self._fewer_datasets()
            if self._recipe.searches:
                self._cut(self._gentle())
                self._cut([*self._steps(), *self._harsh()])
                self._give_back()
            self._say_what_is_over()
        return {
            "settings": self._settings,
            "gave_up": [*self._gave_up.values()],
            "cuts": [*self._gave_up],
            **({"first_pass": list(self._first)} if self._first else {}),
        }

    @property
    def _recipe(self) -> Recipe:
        return with_settings(self._work.recipe, self._settings)

    def _seconds(self) -> dict[str, float]:
        return self._seconds_with(self._settings)

    def _seconds_with(self, settings: dict[str, Any]) -> dict[str, float]:
        """Return each stage's seconds with some settings; the same settings are planned once."""
        key = json.dumps([settings, self._first], sort_keys=True)
        if key not in self._planned:
            work = self._work.of(with_settings(self._work.recipe, settings), self._first)
            self._planned[key] = {stage.name: stage.seconds for stage in work.stages()}
        return self._planned[key]

    def _keeps(self, name: str) -> bool:
        """Return whether a stage keeps to its limit, and all before the last to theirs."""
        seconds = self._seconds()
        return seconds[name] <= MOST[name] * self._room and self._together(seconds)

    def _together(self, seconds: dict[str, float]) -> bool:
        return sum(seconds[name] for name in MOST) <= (1.0 - LAST_PART) * self._room

    def _fits(self) -> bool:
        seconds = self._seconds()
        within = all(seconds[name] <= most * self._room for name, most in MOST.items())
        return within and self._together(seconds)

    def _floor(self) -> int:
        return min(self._work.recipe.train.steps, SIGNAL)

    def _gentle(self) -> Iterator[tuple[str, Cut]]:
        """Yield, with the stages that need them, cuts that change no answer but make it rougher."""
        recipe = self._work.recipe
        for cut in top_cut(recipe):
            yield HALVING, cut
        if "union" in recipe.confirm.baselines and "all" in recipe.confirm.baselines:
            left = [name for name in recipe.confirm.baselines if name != "union"]
            words = "all rows of all datasets together do not contend, only all datasets equally"
            yield HALVING, Cut("baselines", left, words)
        for cut in search_cuts(self._work.of(self._recipe)):
            yield SEARCH, cut

    def _steps(self) -> Iterator[tuple[str, Cut]]:
        """Yield the cut of the experts' steps, which halving starts with too."""
        whole, floor = self._work.recipe.train.steps, self._floor()
        if floor < whole:
            words = f"experts and contenders start with {counted(floor, 'step')}, not {whole}"
            yield TRAIN, Cut("steps", floor, words)
            yield HALVING, Cut("steps", floor, words)

    def _harsh(self) -> Iterator[tuple[str, Cut]]:
        """Yield cuts after which fewer answers are known.

        The best two together stay longest: after 150 and 300 steps they are ahead of all datasets,
        clearly on one recorded scenario, within chance on the other (docs/log.md).
        """
        confirm, names = self._work.recipe.confirm, len(self._work.of(self._recipe).names)
        for most in range(min(confirm.nested, names) - 1, 1, -1):
            words = f"no more than {most} of the best datasets together contend by their scores"
            yield HALVING, Cut("nested", most, words)
        if confirm.baselines not in ((), ("best_single",)):
            left = [name for name in confirm.baselines if name == "best_single"]
            words = "training on all datasets is no contender, so nothing is compared with it"
            yield HALVING, Cut("baselines", left, words)
        if min(confirm.nested, names) > 1:
            yield HALVING, Cut("nested", 1, _NO_NESTED)
        for cut in pairs_cut(self._work.of(self._recipe)):
            yield SEARCH, cut

    def _cut(self, cuts: Iterable[tuple[str, Cut]]) -> None:
        """Make the cuts whose stage does not keep to its limit, if they save something."""
        for name, cut in cuts:
            if self._keeps(name):
                continue
            before, now = self._settings, sum(self._seconds()[stage] for stage in MOST)
            self._settings = {**before, cut.name: cut.value}
            if sum(self._seconds()[stage] for stage in MOST) < now:
                self._gave_up[cut.name] = cut.words
            else:
                self._settings = before

    def _fewer_datasets(self) -> None:
        """Leave datasets out until the least of the rest fits; if two are too many, search none."""
        if self._least_fits({}):
            return
        order = promising(self._work.inputs)
        needed = max(2, len(self._work.recipe.search.required))
        for count in range(len(order) - 1, needed - 1, -1):
            if self._least_fits(settings := self._without(order[count:])):
                if not order[count - 1].wrong and self._passes_first(order, needed):
                    return
                self._settings |= settings
                self._gave_up["excluded"] = _left_out(order[count:])
                return
        self._search_nothing(order)

    def _passes_first(self, order: list[Promising], needed: int) -> bool:
        """Try as many datasets as fit in a short pass, if the better half can get an expert.

        Args:
            order: the datasets, the most promising first.
            needed: the fewest that a search needs.
        """
        recipe, inputs = self._work.recipe, self._work.inputs
        if not goes_on(recipe) or given_experts(inputs):
            return False
        steps = -(-self._floor() // 2)
        for count in range(sum(not dataset.wrong for dataset in order), needed, -1):
            names = [dataset.name for dataset in order[:count]]
            for keep in range(count - 1, max(needed, -(-count // 2)) - 1, -1):
                self._first = FirstPass(names, steps, keep)
                if self._least_fits(settings := self._without(order[keep:])):
                    self._settings |= settings
                    self._gave_up["excluded"] = _tried(self._first, order[count:])
                    return True
        self._first = None
        return False

    def _search_nothing(self, order: list[Promising]) -> None:
        """Train on all datasets at once, except those that contradict the others."""
        wrong = [dataset for dataset in order if dataset.wrong]
        recipe = self._work.recipe
        baselines = [name for name in recipe.confirm.baselines if name != "best_single"]
        self._settings = {"strategy": NONE, "baselines": baselines or ["union"]}
        self._settings |= self._without(wrong) if wrong else {}
        self._gave_up = {"strategy": _NOTHING_SEARCHED}
        if wrong:
            reasons = "; ".join(f"{dataset.name} ({dataset.reason})" for dataset in wrong)
            self._gave_up["excluded"] = f"left out by the data check: {reasons}"
        if not self._keeps(HALVING) and len(baselines) > 1:
            self._settings["baselines"] = ["union"]
            self._gave_up["baselines"] = "only all rows together are trained on, each once a pass"
        if not self._keeps(HALVING):
            self._settings["steps"] = 1
            raise_setting("steps", recipe.train.steps, self._settings, self._fits)
            steps = self._settings["steps"]
            self._gave_up["steps"] = (
                f"the first check comes after {counted(steps, 'step')}, not {recipe.train.steps}"
            )

    def _without(self, datasets: list[Promising]) -> dict[str, Any]:
        excluded = self._work.recipe.search.excluded
        return {"excluded": [*excluded, *(dataset.name for dataset in datasets)]}

    def _least(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return settings with all cuts made that leave a search."""
        least = {**self._settings, **settings, "steps": self._floor()}
        work = self._work.of(with_settings(self._work.recipe, {**settings}))
        cuts = [*search_cuts(work), *pairs_cut(work), *top_cut(work.recipe)]
        least |= {cut.name: cut.value for cut in cuts}
        return least | {"nested": 1, "baselines": ["best_single"]}

    def _least_fits(self, settings: dict[str, Any]) -> bool:
        """Return whether a recipe fits with all cuts, and experts into half of the hours."""
        seconds = self._seconds_with(self._least(settings))
        return seconds[TRAIN] <= FLOOR_PART * self._room and self._together(seconds)

    def _give_back(self) -> None:
        """Raise the largest cuts again as far as the limits allow."""
        whole = self._work.recipe
        if "steps" in self._settings and self._fits():
            raise_setting("steps", whole.train.steps, self._settings, self._fits)
            self._gave_up["steps"] = (
                f"experts and contenders start with {self._settings['steps']} steps, not "
                f"{whole.train.steps}"
            )
        if "budget" in self._settings and self._keeps(SEARCH):
            free = {key: value for key, value in self._settings.items() if key != "budget"}
            most = self._work.of(with_settings(whole, free)).strategy.cost().evaluations
            raise_setting("budget", round(most), self._settings, lambda: self._keeps(SEARCH))
            self._gave_up["budget"] = budget_words(self._settings["budget"])

    def _say_what_is_over(self) -> None:
        """Say which stages take more than their part although nothing more can be cut."""
        seconds, room = self._seconds(), self._room
        for name, most in MOST.items():
            if (part := seconds[name] / room * RESERVE) > most:
                self._gave_up[f"{name} limit"] = _OVER[name].format(
                    part=f"{part:.0%}" if part <= 1 else "more than all",
                    most=f"{most:.0%}",
                    steps=self._recipe.train.steps,
                )
        least = self._work.of(self._recipe).least_seconds()
        if least > room / RESERVE:
            self._gave_up["hours"] = (
                f"even so the run takes at least {least / 3600:.2g} hours: the base has to be read "
                "and all questions scored"
            )


def _left_out(datasets: list[Promising]) -> str:
    return f"{_TOO_LONG} So these datasets {_not_tried(datasets)}"


def _tried(first: FirstPass, left: list[Promising]) -> str:
    more = f". These {_not_tried(left)}" if left else ""
    return (
        f"{_TOO_LONG} So {counted(len(first.names), 'dataset')} get a first pass of "
        f"{counted(first.steps, 'step')}, and the best {first.keep} of them on dev go on{more}"
    )


def _not_tried(datasets: list[Promising]) -> str:
    reasons = "; ".join(f"{dataset.name} ({dataset.reason})" for dataset in datasets)
    return f"are not tried, by data check and likeness: {reasons}"


@dataclass(frozen=True)
class Promising:
    """A dataset, and the reason to leave it out before those that come earlier in the order."""

    name: str
    reason: str
    wrong: bool = False


def promising(inputs: Inputs) -> list[Promising]:
    """Return the usable datasets with rows, the most promising first after those required.

    Nothing is trained for it. Datasets whose rows contradict the rows of others come last, and of
    the rest those whose tokens are least like the tokens of the dev questions with their answers.
    """
    names = [name for name in inputs.usable_names if inputs.corpora[name].samples]
    right = [name for name in names if name not in inputs.controls]
    wrong = _contradicting({name: inputs.corpora[name] for name in right}, inputs)
    wrong |= dict.fromkeys(inputs.controls, "a control")
    features = token_features(inputs)
    alike = likeness([Mixture.uniform([name]) for name in names], features.datasets,
                     features.target)  # fmt: skip
    order = sorted(range(len(names)), key=lambda i: (names[i] in wrong, -alike[i], i))
    best = max(alike)
    required = inputs.recipe.search.required
    found = [
        Promising(
            names[i],
            wrong.get(names[i])
            or f"its tokens are {-alike[i]:.2f} away from the dev questions, the nearest file's "
            f"{-best:.2f}",
            names[i] in wrong and names[i] not in required,
        )
        for i in order
    ]
    return sorted(found, key=lambda dataset: dataset.name not in required)


def _contradicting(corpora: Mapping[str, Corpus], inputs: Inputs) -> dict[str, str]:
    """Return the datasets of which most rows contradict the others', with the reason.

    The worst is taken out first, because its opposites would be counted as wrong too.
    """
    rows = {name: [*_pairs(corpus, inputs)] for name, corpus in corpora.items()}
    wrong: dict[str, str] = {}
    while counts := {name: _against(name, rows) for name in rows if rows[name]}:
        worst = max(counts, key=lambda name: counts[name] / len(rows[name]))
        if len(counts) < 2 or counts[worst] <= _WRONG * len(rows[worst]):
            return wrong
        wrong[worst] = (
            f"{counts[worst]:,} of its {counted(len(rows[worst]), 'row')} contradict other files"
        )
        del rows[worst]
    return wrong


def _against(name: str, rows: Mapping[str, Pairs]) -> int:
    """Return the number of rows whose question other files answer, and only differently."""
    others = [pair for other, pairs in rows.items() if other != name for pair in pairs]
    questions, answers = [q for q, _ in rows[name]], [a for _, a in rows[name]]
    right = {*others}
    against = [
        i
        for i in contradicted(questions, answers, others)
        if (questions[i], answers[i]) not in right
    ]
    asked, said = [questions[i] for i in against], [answers[i] for i in against]
    return 0 if differ_alike(disputed(asked, said, others)) else len(against)


def _pairs(corpus: Corpus, inputs: Inputs) -> Iterator[tuple[str, str]]:
    """Yield question and answer of each row that has both."""
    decode = inputs.formatter.tokenizer.decode
    for sample in corpus.samples:
        question = comparable(decode(map(int, sample.ids[~sample.loss_mask])))
        answer = comparable(decode(map(int, sample.ids[sample.loss_mask])))
        if question and answer:
            yield question, answer
