"""Made-up facts of a run, as tame or as hostile as a test wants them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

from m2m.evaluate.score import Score
from m2m.mix.agreement import Agreement
from m2m.mix.comparison import Foresight
from m2m.mix.facets import Breakdown, Facet
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.ranking import Interval, Ranked
from m2m.mix.rival_predictors import FIRST_ORDER, HALVING, MERGE, RANDOM
from m2m.mix.unmerged import Unmerged
from m2m.mix.verdict import Verdict
from m2m.mix.worth import VERDICTS
from m2m.results.answers import Answered, Answers
from m2m.results.confirmation import Confirmation, How, Model
from m2m.results.facts import DatasetFacts, Facts
from m2m.results.judging import Judged, Preference
from m2m.results.more_rows import MoreRows, RowsGain
from m2m.results.ranking import Ranking
from m2m.results.rivals import Pick, RivalResult, Rivals
from m2m.results.stage import Stage
from m2m.results.training import Curve
from m2m.results.validation import Validated, Validation

EVIL = "</title></script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&\x00\x1b[31m=cmd"


def uniform(*names: str) -> Mixture:
    return Mixture.uniform(names)


def ranking(names: tuple[str, ...], largest: int = 3) -> Ranking:
    """All mixtures of at most `largest` datasets; those with the first dataset are better."""
    mixes = [uniform(*c) for k in range(1, largest + 1) for c in combinations(names, k)]
    mixes.sort(key=lambda mix: (names[0] not in mix.datasets, len(mix.datasets)))
    places = tuple(
        Ranked(
            mixture=mix,
            rank=rank,
            score=(score := 0.5 / rank),
            stderr=0.05,
            ci95=(max(0.0, score - 0.1), score + 0.1),
            behind=Interval(0.5 - score, 0.4 - score, 0.6 - score),
            tied_with_best=rank <= 2,
        )
        for rank, mix in enumerate(mixes, 1)
    )
    worth = {name: Interval(0.1 - 0.05 * i, 0.05 - 0.05 * i, 0.14 - 0.05 * i)
             for i, name in enumerate(names)}  # fmt: skip
    verdicts = {name: VERDICTS[span.sign] for name, span in worth.items()}
    return Ranking(
        target="task",
        metric="choice_bits",
        higher_is_better=True,
        strategy="exhaustive",
        candidates=len(mixes),
        scored_tokens=1000,
        seconds=9.5,
        base_score=0.01,
        places=places,
        examples=130,
        different=130,
        worth=worth,
        verdicts=verdicts,
        smallest_effect=0.02,
        warnings=["be careful"],
        unmerged=[Unmerged(FIRST_ORDER, places[0].mixture, 1, 3, math.nan)],
    )


def confirmation(names: tuple[str, ...], text: str = "text") -> Confirmation:
    def model(label: str, how: How, mix: Mixture, score: float) -> Model:
        scores = {"choice_bits": Score(score, 0.02), "accuracy": Score(0.5)}
        return Model(label, mix, how, scores, scores)

    best = uniform(names[0])
    values = tuple(Score(0.1 * i, 0.02) for i in range(5))
    return Confirmation(
        target="task",
        metric="choice_bits",
        models=[
            model("base", "base", BASE, 0.01),
            model("top 1", "merged", best, 0.4),
            model("top 1, best single", "finetuned", best, 0.41),
            model("top 2", "finetuned", uniform(*names[:2]), 0.40),
            model("all datasets equally", "finetuned", uniform(*names), 0.7),
        ],
        winning=2,
        ahead=[
            Interval(0.4, 0.3, 0.5),
            Interval(0.0, 0.0, 0.0),
            Interval(0.0, 0.0, 0.0),
            Interval(0.01, -0.1, 0.1),
            Interval(-0.3, -0.4, -0.2),
        ],
        verdict=Verdict("tie inside", "Fine-tune on aa or on y.", ("Why.",), "more."),
        breakdowns=[Breakdown(text, "test", "choice_bits", True, (Facet(text, 40, values),))],
        answers=Answers(
            text, "test", 130, False, [Answered(text, text, text, f"not {text}", True, False)]
        ),
    )


def judged(text: str = "text") -> Judged:
    """Three judges, who compared the winner with the base."""
    counts = {"winner": 30, "rival": 6, "both": 3, "neither": 3}
    won = Preference("base", text, 20, 20, 6, counts, Interval(0.7, 0.55, 0.85))
    return Judged("0a1b2c3d4e5f", text, "test", 3, [won], Interval(0.5, 0.2, 0.7), 14)


def rivals(names: tuple[str, ...]) -> Rivals:
    """The merge, a rival that predicts, and one that needs more fine-tunes."""
    span = Interval(0.9, 0.5, 1.0)
    behind = Interval(0.1, math.nan, math.nan)
    pick = Pick(uniform(*names), Score(0.3, 0.02), Interval(0.1, 0.0, 0.2), behind)
    return Rivals(
        judged_on="test",
        metric="choice_bits",
        lengths=(20, 40),
        apart=0.05,
        steps=20,
        pool=5,
        rows=[
            RivalResult(MERGE, Foresight(4, span, span, span, None), pick),
            RivalResult(FIRST_ORDER, Foresight(4, span, span, span, behind), pick),
            RivalResult(RANDOM, None, replace(pick, mixture=None), "mean of all 5"),
            RivalResult(HALVING, None, None, "needs more"),
        ],
    )


def more_rows(names: tuple[str, ...]) -> MoreRows:
    half, span = Score(0.3, 0.05), Interval(0.15, 0.05, 0.25)
    gains = [RowsGain(name, 100, Score(0.4, 0.05), (half, half), span) for name in names]
    return MoreRows("task", "choice_bits", 20, 100, gains)


def validation(names: tuple[str, ...]) -> Validation:
    """One mixture for each dataset."""
    found = Agreement(3, Interval(0.9, 0.5, 1.0), Interval(0.8, math.nan, math.nan))
    groups = {"mixtures": found, "with_singles": None}
    return Validation(
        target="task",
        metric="choice_bits",
        higher_is_better=True,
        budget="fixed",
        judged_on="test",
        examples={"test": 130},
        mixtures=[
            Validated(
                uniform(name), i + 1, 20, {"surrogate": 0.1 * i}, 0.02, {"test": Score(0.2 * i)}
            )
            for i, name in enumerate(names)
        ],
        agreements={"surrogate": {"test": groups}},
        repeatability=None,
        picks={"all": uniform(*names)},
        regret={"all": Interval(0.1, 0.0, 0.2)},
        rivals=rivals(names),
    )


def facts(names: tuple[str, ...] = ("aa", "bb", "cc"), text: str = "text", **changes: Any) -> Facts:
    """A finished run over `names`; `text` stands wherever a recipe takes free text."""
    sources = tuple(
        DatasetFacts(name, 100, float(i == 0), ("sw",), text, text, text)
        for i, name in enumerate(names)
    )
    settings = {
        "base": {"model": text, "template": "chat"},
        "datasets": [{"name": n, "path": f"{n}.jsonl", "notes": text} for n in names],
        "train": {"steps": 20, "seed": 3, "target_modules": ["q_proj"]},
        "confirm": {"budget": "fixed"},
    }
    whole: dict[str, Any] = {
        "name": text,
        "base": {"name": text, "parameters": 135_000_000, "licence": "MIT"},
        "settings": settings,
        "versions": {"m2m": "0", "seeds": text},
        "sources": sources,
        "ranking": ranking(names),
        "confirmation": confirmation(names, text),
        "curves": tuple(
            Curve(name, tuple(5 / (s + 1) for s in range(20)), ((10, 1.0), (20, 0.5)), 20, 500)
            for name in names
        ),
        "validation": validation(names),
        "more_rows": more_rows(names),
        "judged": judged(text),
        "stages": (Stage("train", 3600.0, 2**30), Stage("search", 1800.0, 2**31)),
        "watts": 20.0,
        "warnings": (text,),
        "remarks": (text,),
    }
    return Facts(**{**whole, **changes})
