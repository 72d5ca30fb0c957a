"""Print what the recorded scenarios say about the merge and its rivals, or write it into a page.

    python scripts/research/evidence.py [SCENARIO ...] [--write]
    python scripts/research/evidence.py --missing      # picks that nobody has fine-tuned yet

All fine-tunes of a scenario have the same number of steps, so every comparison is one at equal
tokens. Means over scenarios have intervals of a hierarchical bootstrap: scenarios are drawn with
replacement, in each its mixtures and its questions. With `--write` the tables replace the part
`evidence` of `docs/evidence.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from recorded import HERE, SEED, Recorded
from table import head_to_head

from m2m.arrays import F64
from m2m.evaluate.metric import REPLICATES
from m2m.formats.atomic import write_text
from m2m.mix.agreement import LEAST, ScoredPair, correlation, holding, ranks
from m2m.mix.comparison import apart, ordered_rightly
from m2m.mix.mixture import Mixture
from m2m.mix.ranking import Interval
from m2m.mix.rival_predictors import (
    ALL,
    BEST_SINGLE,
    MERGE,
    NESTED,
    RANDOM,
    RIVALS,
    KnownScores,
    nested,
)
from m2m.results.table import Column, Table, as_markdown

PAGE = HERE.parents[1] / "docs/evidence.md"
MARKS = ("<!-- evidence -->\n", "<!-- end of evidence -->")
GROWTHS = {MERGE: 0.0, f"{MERGE}_grown": 0.5}
TITLES = {MERGE: "merge, mean of the deltas", f"{MERGE}_grown": "merge, sum over sqrt(k)"}
CHOSE_DEFAULTS = ("starter",)  # never in a mean over scenarios
WRONG = ("missorted", "shuffled", "noisy")  # ends of the names of datasets with wrong answers
# Judged by a second metric too, which its recipe does not name: accuracy ties models that differ.
ALSO = {"labels": "choice_bits"}
DEV_SIZES = (16, 32, 64, 130)
SPLITS_OF_DEV = 400


@dataclass(frozen=True)
class Measure:
    """A number with its R bootstrap replicates; nan if it is not known."""

    point: float
    replicates: F64


@dataclass(frozen=True)
class Row:
    """One way of choosing in one scenario, or in the mean of several.

    Attributes:
        pick: the mixture that it takes among those that were fine-tuned; None for a mean.
        spearman, ordered: of its predictions for mixtures of two datasets or more.
        regret: how far its pick is behind the best fine-tune of the scenario.
    """

    name: str
    pick: Mixture | None
    spearman: Measure
    ordered: Measure
    regret: Measure

    @property
    def title(self) -> str:
        """Return its name for people."""
        return TITLES.get(self.name) or RIVALS[self.name].title


@dataclass(frozen=True)
class Case:
    """The fine-tunes of one scenario that have the same number of steps.

    Attributes:
        known: base and experts on dev.
        mixtures: n of them.
        dev, real: their scores on dev and on test.
        predicted: by way of choosing, predictions for all n.
    """

    scenario: Recorded
    known: KnownScores
    mixtures: Sequence[Mixture]
    dev: ScoredPair
    real: ScoredPair
    predicted: Mapping[str, ScoredPair]

    @classmethod
    def of(cls, scenario: Recorded) -> Case | None:
        """Return what is recorded; None if experts or enough fine-tunes are missing."""
        known = scenario.known(0.0)
        if known is None:
            return None
        dev = scenario.finetunes(scenario.steps, scenario.steps, "dev")
        test = scenario.finetunes(scenario.steps, scenario.steps, "test")
        if len(dev) < LEAST:
            return None
        mixtures = [*dev]
        return cls(
            scenario,
            known,
            mixtures,
            scenario.scored([*dev.values()]),
            scenario.scored([*test.values()]),
            dict(predictions(scenario, known, mixtures)),
        )

    def rows(self) -> list[Row]:
        """Return the merge and its rivals."""
        order = [mixture.datasets for mixture in self.mixtures]
        rows = [
            self._row(name, self.mixtures[int(np.argmax(scores.points))], scores)
            for name, scores in self.predicted.items()
        ]
        singles = [m for m in map(tuple, ([n] for n in self.known.best_singles())) if m in order]
        if singles:
            rows.append(self._row(BEST_SINGLE, self.mixtures[order.index(singles[0])]))
        tops = [m for m in nested(self.known) if m in self.mixtures]
        if tops:
            best = max(tops, key=lambda m: self.dev.points[self.mixtures.index(m)])
            rows.append(self._row(NESTED, best))
        every = Mixture.uniform(self.scenario.datasets)
        if every in self.mixtures:
            rows.append(self._row(ALL, every))
        return [*rows, self._row(RANDOM, None)]

    def _row(self, name: str, pick: Mixture | None, scores: ScoredPair | None = None) -> Row:
        places = range(len(self.mixtures)) if pick is None else [self.mixtures.index(pick)]
        best = int(np.argmax(self.real.points))
        points, replicates = self.real.points, self.real.replicates
        regret = Measure(
            float(points[best] - points[[*places]].mean()),
            replicates[best] - replicates[[*places]].mean(axis=0),
        )
        return Row(name, pick, *self._foresight(scores), regret)

    def _foresight(self, scores: ScoredPair | None) -> tuple[Measure, Measure]:
        """Return Spearman and the fraction of pairs in order, on the same draws for all rows."""
        several = np.flatnonzero([len(mixture.datasets) > 1 for mixture in self.mixtures])
        count, draws = len(several), self.real.replicates.shape[1]
        if scores is None or count < LEAST:
            return (nothing := Measure(np.nan, np.full(draws, np.nan))), nothing
        guess, truth = scores[several], self.real[several]
        drawn = np.random.default_rng(SEED).integers(count, size=(draws, count))
        columns = np.arange(draws)[:, None]
        guesses, truths = guess.replicates[drawn, columns], truth.replicates[drawn, columns]
        one = guess.points[None], truth.points[None]
        least = apart(self.scenario.objective.metric.name)
        return (
            Measure(
                float(correlation(*map(ranks, one))[0]), correlation(ranks(guesses), ranks(truths))
            ),
            Measure(
                float(ordered_rightly(*one, least)[0]), ordered_rightly(guesses, truths, least)
            ),
        )


def predictions(
    scenario: Recorded, known: KnownScores, mixtures: Sequence[Mixture]
) -> Iterator[tuple[str, ScoredPair]]:
    """Yield the scores that each way predicts for the mixtures."""
    for name, growth in GROWTHS.items():
        merges = scenario.merges(growth)
        if merges:
            yield name, scenario.scored([merges[mixture] for mixture in mixtures])
    for name, rival in RIVALS.items():
        scores = rival.predict and rival.predict(known, mixtures, REPLICATES)
        if scores:
            yield name, scores
    for name, values in scenario.likenesses().items():
        yield (
            name,
            ScoredPair.exact(np.array([values[mixture] for mixture in mixtures]), REPLICATES),
        )


def missing_picks(scenario: Recorded) -> dict[str, Mixture]:
    """Return the picks among all mixtures that were not fine-tuned, by way of choosing."""
    known, merges = scenario.known(0.0), scenario.merges(0.0)
    if known is None or not merges:
        return {}
    every = [mixture for mixture in merges if mixture.datasets]
    tuned = scenario.finetunes(scenario.steps, scenario.steps, "dev")
    picks = {
        name: every[int(np.argmax(scores.points))]
        for name, scores in predictions(scenario, known, every)
    }
    picks |= {f"{NESTED} {len(m.datasets)}": m for m in nested(known)[:4]}
    return {name: mixture for name, mixture in picks.items() if mixture not in tuned}


def mean_rows(cases: Sequence[Sequence[Row]]) -> list[Row]:
    """Return the means over scenarios of the ways that all scenarios have."""
    names = [row.name for row in cases[0] if all(any(r.name == row.name for r in c) for c in cases)]
    draws = len(cases[0][0].regret.replicates)
    drawn = np.random.default_rng(SEED).integers(len(cases), size=(draws, len(cases)))

    def mean(measures: Sequence[Measure]) -> Measure:
        each = np.stack([measure.replicates for measure in measures], axis=1)
        replicates: F64 = np.take_along_axis(each, drawn, axis=1).mean(axis=1)
        return Measure(float(np.mean([measure.point for measure in measures])), replicates)

    rows = []
    for name in names:
        same = [next(row for row in case if row.name == name) for case in cases]
        rows.append(
            Row(
                name,
                None,
                mean([row.spearman for row in same]),
                mean([row.ordered for row in same]),
                mean([row.regret for row in same]),
            )
        )
    return rows


def interval(measure: Measure) -> Interval | None:
    """Return a measure with its 95 % interval; None if it is not known."""
    known = measure.replicates[np.isfinite(measure.replicates)]
    if not np.isfinite(measure.point) or not len(known):
        return None
    return holding(measure.point, known)


def behind(row: Row, first: Row) -> Interval | None:
    """Return how much more a way loses than the first one, paired."""
    gap = row.regret.replicates - first.regret.replicates
    return None if row is first else holding(row.regret.point - first.regret.point, gap)


def table_of(rows: Sequence[Row], caption: str) -> Table:
    """Return the table of one scenario or of the mean of several."""
    with_picks = any(row.pick for row in rows)
    columns = [
        Column("rival", "chosen by"),
        *([Column("pick", "its pick")] if with_picks else []),
        Column("spearman", "Spearman", Interval, str),
        Column("ordered", "in order", Interval, str),
        Column("regret", "regret", Interval, str),
        Column("behind", "more than the merge", Interval, str),
    ]
    cells = [
        (
            row.title,
            *([row.pick.label if row.pick else None] if with_picks else []),
            interval(row.spearman),
            interval(row.ordered),
            interval(row.regret),
            behind(row, rows[0]),
        )
        for row in rows
    ]
    return Table("evidence", caption, columns, cells)


def flattery(scenario: Recorded) -> Table | None:
    """Show how much too good the best of all merges looks on few dev questions.

    The dev questions are split at random: `m` choose, the others judge the choice.
    """
    merges = [t for m, t in scenario.merges(0.0).items() if m.datasets]
    if not merges:
        return None
    target, metric = scenario.objective.target, scenario.objective.metric
    rng, questions = np.random.default_rng(SEED), len(merges[0].scores[target])
    rows = []
    for size in DEV_SIZES:
        if size > questions // 2:
            continue
        inside = np.zeros((SPLITS_OF_DEV, questions))  # 1 for a question that chooses
        for row in inside:
            row[rng.permutation(questions)[:size]] = 1.0
        chosen = np.stack([metric.value(t.scores[target], inside) for t in merges])
        judged = np.stack([metric.value(t.scores[target], 1.0 - inside) for t in merges])
        sign = 1.0 if metric.higher_is_better else -1.0
        picks = np.argmax(sign * chosen, axis=0)
        draws = np.arange(SPLITS_OF_DEV)
        lucky = sign * (chosen[picks, draws] - judged[picks, draws])
        lost = (sign * judged).max(axis=0) - sign * judged[picks, draws]
        rows.append((size, float(lucky.mean()), float(lost.mean())))
    caption = (
        f"Scenario {scenario.name}: the best of {len(merges)} merges, chosen on a part of the dev "
        f"questions and judged on the others ({metric.name}, mean of {SPLITS_OF_DEV} random splits)"
    )
    columns = [
        Column("questions", "questions that choose", int),
        Column("flattered", "looks better than it is by", float, "{:z.3f}".format),
        Column("behind", "behind the best on the others", float, "{:z.3f}".format),
    ]
    return Table("flattery", caption, columns, rows) if rows else None


def wrong_in(row: Row) -> list[str]:
    """Return the datasets with wrong answers in a pick."""
    names = row.pick.datasets if row.pick else ()
    return [name for name in names if name.endswith(WRONG)]


def report(scenarios: Sequence[Recorded]) -> Iterator[str]:
    """Yield the parts of the page in Markdown."""
    cases = [case for scenario in scenarios if (case := Case.of(scenario))]
    rows = {case.scenario.name: case.rows() for case in cases}
    fair = [rows[name] for name in rows if name not in CHOSE_DEFAULTS]
    if len(fair) > 1:
        caption = f"Mean over the {len(fair)} scenarios that chose no default"
        yield _shown(table_of(mean_rows(fair), caption))
    for case in cases:
        name = case.scenario.name
        yield from _one(case, rows[name])
        second = name in ALSO and Case.of(case.scenario.judged_by(ALSO[name]))
        if second:
            yield from _one(second, second.rows(), ", which its recipe does not name")
    again = [
        scenario.judged_by(ALSO[scenario.name]) for scenario in scenarios if scenario.name in ALSO
    ]
    for scenario in [*scenarios, *again]:
        table = flattery(scenario)
        if table:
            yield _shown(table)
    for scenario in scenarios:
        yield from hours_spent(scenario.name)


def hours_spent(name: str) -> Iterator[str]:
    """Yield the head-to-heads of a scenario, each with its caption."""
    for path in sorted((HERE / "results" / name / "head_to_head").glob("a-*.json")):
        hours = float(path.stem.partition("-")[2])
        yield f"Scenario {name}, {hours:g} h for each part, choice_bits on test.\n\n"
        yield f"{head_to_head(path.parent, hours)}\n\n"


def _one(case: Case, rows: Sequence[Row], note: str = "") -> Iterator[str]:
    """Yield the parts of one scenario."""
    scenario, metric = case.scenario, case.scenario.objective.metric.name
    caption = (
        f"Scenario {scenario.name}: {len(case.mixtures)} fine-tunes of {scenario.steps:,} "
        f"steps, {metric} on test{note}"
    )
    yield _shown(table_of(rows, caption))
    taken = {row.title: wrong for row in rows if (wrong := wrong_in(row))}
    bad = "; ".join(f"{title}: {', '.join(names)}" for title, names in taken.items())
    yield f"Datasets with wrong answers in a pick: {bad or 'none'}.\n\n"


def _shown(table: Table) -> str:
    return f"{table.caption}.\n\n{as_markdown(table, str)}\n\n"


def main() -> None:
    """Print, write, or name what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenarios", nargs="*")
    parser.add_argument("--write", action="store_true", help="into docs/evidence.md")
    parser.add_argument("--missing", action="store_true", help="picks that are not fine-tuned")
    options = parser.parse_args()
    every = sorted(path.parent.name for path in (HERE / "results").glob("*/base.json"))
    scenarios = [Recorded.read(name) for name in options.scenarios or every]
    if options.missing:
        for scenario in scenarios:
            for name, mixture in missing_picks(scenario).items():
                print(scenario.name, name, "+".join(mixture.datasets))
        return
    text = "".join(report(scenarios))
    if not options.write:
        print(text)
        return
    page = PAGE.read_text(encoding="utf-8")
    first, _, rest = page.partition(MARKS[0])
    write_text(PAGE, f"{first}{MARKS[0]}{text}{MARKS[1]}{rest.partition(MARKS[1])[2]}")


if __name__ == "__main__":
    main()
