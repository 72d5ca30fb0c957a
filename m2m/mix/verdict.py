"""The verdict: say in one true sentence how to use the best fine-tune.

`judge` is a pure function of the evidence: paired differences on the questions of one part (test,
or dev if a target has no test). It tries the kinds in this order and takes the first that fits:

    suspect          test has questions that were trained on, or that chose the winner
    unclear          fewer than `LEAST` different test questions
    nothing learned  no model is better than guessing, or training changed nothing
    keep the base    the winner scores no better than the base model
    unverified       there are no test questions
    clear            the winner is better than the base model and than guessing
    tie inside       the same, and other fine-tunes are as good
    unclear          the rest, with the number of questions that would decide it
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from m2m.counted import counted
from m2m.evaluate.same import in_words
from m2m.formats.json_fields import JsonFields, Key
from m2m.mix.evidence import Evidence, JudgedRival
from m2m.mix.ranking import SEEN, Interval

Kind = Literal[
    "clear", "tie inside", "unclear", "unverified", "nothing learned", "keep the base", "suspect"
]
WITHHELD: tuple[Kind, ...] = ("nothing learned", "keep the base", "suspect")  # these get no GGUF
LEAST = 10  # different questions: a bootstrap of fewer is far too certain
SHARED = 0.05  # fraction of the test questions that may be dev questions too
POWER = 2.8  # standard errors at which a 95 % interval excludes zero 8 times out of 10: 1.96 + 0.84
MOST = 100_000  # questions; a difference that needs more does not matter


@dataclass(frozen=True)
class Verdict(JsonFields):
    """The answer of a run.

    Attributes:
        sentence: the recommendation, for people.
        reasons: more sentences.
        advice: the next step.
        needed: different questions that would decide it; None if more would not, or none need to.
    """

    kind: Kind
    sentence: str
    reasons: tuple[str, ...] = ()
    advice: Annotated[str, Key("next")] = ""
    needed: Annotated[int | None, Key("questions_needed")] = None

    @property
    def withheld(self) -> bool:
        """Return whether a GGUF is made only with `--anyway`."""
        return self.kind in WITHHELD

    def as_json(self) -> dict[str, Any]:
        """Return the field `verdict` of `m2m confirm --json` and `m2m run --json`."""
        return {**super().as_json(), "gguf_only_with_anyway": self.withheld}

    @property
    def tag(self) -> str:
        """Return a mark for the names of files that are made all the same: "KEEP-THE-BASE"."""
        return self.kind.upper().replace(" ", "-") if self.withheld else ""

    @property
    def lines(self) -> list[str]:
        """Return all lines for people, the answer first."""
        return [self.sentence, *self.reasons, *([f"Next: {self.advice}"] if self.advice else [])]


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict; see the module for the order of the kinds."""
    for rule in (_suspect, _too_few, _nothing_learned, _keep_the_base, _unverified, _better):
        if verdict := rule(evidence):
            return verdict
    return _unclear(evidence)


def _suspect(evidence: Evidence) -> Verdict | None:
    reasons = [
        (
            f"1 row of {name} is also a dev or test question, so the model has seen the answer."
            if count == 1
            else f"{count} rows of {name} are also dev or test questions, so the model has seen "
            "the answers."
        )
        for name, count in (evidence.leaks or {}).items()
    ]
    leaks = bool(reasons)
    shared = evidence.shared or {}
    reasons += [
        f"{count} of {counted(total, 'test question')} of {name} are also dev "
        "questions, so they helped to choose it."
        for name, (count, total) in shared.items()
        if count > SHARED * total
    ]
    if not reasons:
        return None
    advice = (
        "delete these rows (`m2m data check RECIPE` lists them) and run again."
        if leaks
        else "replace the shared test questions and run `m2m confirm RECIPE` again."
    )
    sentence = f"Do not trust this result. Best tried: {evidence.winner.name}."
    return Verdict("suspect", sentence, tuple(reasons), advice)


def _too_few(evidence: Evidence) -> Verdict | None:
    if evidence.part == "dev" or evidence.different >= LEAST:
        return None
    count = in_words(evidence.questions, evidence.different, "test questions")
    comma = "," if evidence.different < evidence.questions else ""
    are = "is" if evidence.questions == 1 else "are"
    reason = f"{count}{comma} {are} too few to decide anything."
    sentence = f"No clear result yet. Best tried: {evidence.winner.name}. {_scores(evidence)}"
    needed = questions_needed(evidence.winner.over_base, evidence.different)
    enough = max(100, needed or 0)
    return Verdict(
        "unclear", sentence, (reason,), f"write about {enough} different test questions.", enough
    )


def _nothing_learned(evidence: Evidence) -> Verdict | None:
    models = [evidence.base, evidence.winner, *evidence.others]
    advice = (
        "train longer ([train] steps), use rows that look like the target's questions, or a larger "
        f"base model. More {evidence.part} questions would show a smaller gain "
        f"(you have {evidence.different})."
    )
    if not any(model.beats_guessing for model in models):
        sentence = "Nothing was learned. No model was clearly better than guessing."
        reasons = (_scores(evidence), _level(evidence), "Do not use the ranking of the mixtures.")
        return Verdict("nothing learned", sentence, reasons, advice)
    gain = evidence.winner.over_base
    if max(abs(gain.estimate), abs(gain.low), abs(gain.high)) < SEEN:
        sentence = (
            f"Nothing was learned. Training on {evidence.winner.name} did not change the score."
        )
        return Verdict("nothing learned", sentence, (_scores(evidence),), advice)
    return None


def _keep_the_base(evidence: Evidence) -> Verdict | None:
    gain = evidence.winner.over_base
    if gain.estimate >= SEEN:
        return None
    sentence = f"Keep the base model. Best tried: {evidence.winner.name}. {_scores(evidence)}"
    advice = "add other datasets, or train with a lower learning_rate or fewer steps."
    return Verdict("keep the base", sentence, (_against_base(evidence),), advice)


def _unverified(evidence: Evidence) -> Verdict | None:
    if evidence.part == "test":
        return None
    sentence = (
        f"Not verified. Best on the dev questions: {evidence.winner.name}. {_scores(evidence)}"
    )
    missing = f" for {', '.join(evidence.untested)}" if len(evidence.metrics) > 1 else ""
    reason = (
        f"You gave no test questions{missing}. The dev questions chose it, so its score is too "
        "optimistic."
    )
    advice = (
        "write 100 or more test questions that are not in dev, name the file as `test` of the "
        "target, and run `m2m confirm RECIPE`."
    )
    return Verdict("unverified", sentence, (reason,), advice)


def _better(evidence: Evidence) -> Verdict | None:
    """Return "clear" or "tie inside" if one of them fits."""
    winner = evidence.winner
    if winner.over_base.sign <= 0 or not winner.beats_guessing:
        return None
    reasons = [_against_base(evidence), *_guessing(evidence), *_against_others(evidence)]
    reasons += _not_comparable(evidence)
    rivals = [m for m in evidence.others if m.over_base.sign > 0 and m.behind.sign <= 0]
    if not rivals:
        sentence = f"Fine-tune on {winner.name}. {_scores(evidence)}"
        return Verdict("clear", sentence, tuple(reasons))
    names = [winner.name, *(rival.name for rival in rivals)]
    either = f"{', on '.join(names[:-1])} or on {names[-1]}"
    both = "Both" if len(names) == 2 else "All"
    equally = "after equal steps " if evidence.equal_steps else ""
    sentence = (
        f"Fine-tune on {either}. {both} are better than the base model; {equally}the "
        f"test shows no clear difference between them. {_scores(evidence)}"
    )
    nearest = max(rivals, key=lambda rival: abs(rival.behind.estimate))
    needed = questions_needed(nearest.behind, evidence.different)
    tell = f"different test questions would separate it from {nearest.name}."
    more = f" About {needed:,} {tell}" if needed else ""
    advice = f"take {winner.name}, which was best on dev, or whichever data is easier to use.{more}"
    return Verdict("tie inside", sentence, tuple(reasons), advice, needed)


def _unclear(evidence: Evidence) -> Verdict:
    winner = evidence.winner
    spans = [winner.over_base] if winner.over_base.sign <= 0 else []
    if not winner.beats_guessing:
        spans.append(max(winner.over_chance.values(), key=lambda span: span.estimate))
    counts = [questions_needed(span, evidence.different) for span in spans]
    needed = None if None in counts else max(cast(list[int], counts))
    advice = (
        "more questions would not help: the difference is too small to matter."
        if needed is None
        else f"write more test questions: about {needed:,} different ones would be enough (you "
        f"have {evidence.different})."
    )
    sentence = f"No clear result yet. Best tried: {winner.name}. {_scores(evidence)}"
    reasons = [_against_base(evidence), *_guessing(evidence), *_against_others(evidence)]
    reasons += _not_comparable(evidence)
    return Verdict("unclear", sentence, tuple(reasons), advice, needed)


def questions_needed(span: Interval, different: int) -> int | None:
    """Return how many different questions would probably show this difference; None: too many.

    The standard error falls with the root of the number, and must be the difference / `POWER`.
    """
    error = (span.high - span.low) / (2 * 1.959964)
    if abs(span.estimate) < SEEN:
        return None
    count = different * (POWER * error / span.estimate) ** 2
    step = 10 if count < 1000 else 100
    return step * math.ceil(count / step) if count <= MOST else None


def _scores(evidence: Evidence) -> str:
    """Return "On 30 test questions x has 12 right (accuracy 0.400); the base model 6 (0.200)."."""

    def score_text(model: JudgedRival, target: str, metric: str = "") -> str:
        score = f"{metric}{model.scores[target]:z.3f}"
        if target not in model.right:
            return score
        right = f"{model.right[target]:.0f}"
        return f"{right} right ({score})" if metric else f"{right} ({score})"

    count = in_words(evidence.questions, evidence.different, f"{evidence.part} questions")
    comma = "," if evidence.different < evidence.questions else ""
    several = len(evidence.metrics) > 1
    parts = [
        score_text(evidence.winner, target, f"{metric} ")
        + (f" on {target}, " if several else "; ")
        + f"the base model {score_text(evidence.base, target)}"
        for target, metric in evidence.metrics.items()
    ]
    winner = evidence.winner.name + evidence.winner.after
    return f"On {count}{comma} {winner} has {'; '.join(parts)}."


def _against_base(evidence: Evidence) -> str:
    winner, gain = evidence.winner, evidence.winner.over_base
    if gain.sign:
        than = "better" if gain.sign > 0 else "worse"
        return f"{winner.name} is clearly {than} than the base model ({_range(gain)})."
    return f"There is no clear difference to the base model ({winner.name} is {_range(gain)})."


def _level(evidence: Evidence) -> str:
    """Say the score of guessing; all metrics in which it has one are better if higher."""
    winner, several = evidence.winner, len(evidence.metrics) > 1
    levels = (
        f"{max(0.0, winner.scores[target] - span.estimate):z.3f} {evidence.metrics[target]}"
        + (f" on {target}" if several else "")
        for target, span in winner.over_chance.items()
    )
    return f"Guessing, or the same answer to every question, scores {'; '.join(levels)}."


def _guessing(evidence: Evidence) -> list[str]:
    """Say on which targets the winner is not clearly better than guessing."""
    low = [target for target, span in evidence.winner.over_chance.items() if span.sign <= 0]
    where = f" on {', '.join(low)}" if len(evidence.metrics) > 1 else ""
    return [f"{evidence.winner.name} is not clearly better than guessing{where}."] if low else []


def _against_others(evidence: Evidence) -> list[str]:
    """Compare the winner with the other fine-tunes, in one sentence per kind of difference."""
    sentences = []
    for sign, words in (
        (1, "is clearly better than"),
        (-1, "was better on dev, but on test it is clearly worse than"),
        (0, "shows no clear difference to"),
    ):
        others = [
            f"{m.name}{m.after} ({_range(m.behind)})"
            for m in evidence.others
            if m.behind.sign == sign
        ]
        if others:
            sentences.append(f"{evidence.winner.name} {words} {'; '.join(others)}.")
    return sentences


def _not_comparable(evidence: Evidence) -> list[str]:
    """Name the fine-tunes that are left out, and the unit of differences over several targets."""
    sentences = []
    if evidence.equal_steps and evidence.others:
        sentences.append(
            "Each comparison with another fine-tune is at equal steps: with "
            f"{evidence.winner.name} as it was after as many."
        )
    if evidence.leaked:
        names = ", ".join(evidence.leaked)
        sentences.append(
            f"Not compared, because they were trained on dev or test questions: {names}."
        )
    if len(evidence.metrics) > 1:
        sentences.append(
            "Differences are means over the targets, in standard deviations between the models."
        )
    return sentences


def _range(span: Interval) -> str:
    """Return text like "0.131 worse; 95 % range -0.418 to +0.072"."""
    than = "better" if span.estimate >= 0 else "worse"
    return f"{abs(span.estimate):z.3f} {than}; 95 % range {span.low:+z.3f} to {span.high:+z.3f}"
