"""Made-up facts of a run, as tame or as hostile as a test wants them."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

from m2m.mix.mixture import BASE, Mixture
from m2m.mix.ranking import Interval, Ranked
from m2m.mix.verdict import Verdict
from m2m.mix.worth import VERDICTS
from m2m.report.facts import (
    Breakdown,
    Confirmation,
    Cost,
    Curve,
    Facet,
    Facts,
    Model,
    Pair,
    Ranking,
    Source,
    Validation,
)

EVIL = "</title></script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&\x00\x1b[31m=cmd"


def uniform(*names: str) -> Mixture:
    return Mixture.uniform(names)


def ranking(names: tuple[str, ...], largest: int = 3) -> Ranking:
    """All mixtures of at most `largest` datasets; those with the first dataset are better."""
    mixes = [uniform(*c) for k in range(1, largest + 1) for c in combinations(names, k)]
    mixes.sort(key=lambda mix: (names[0] not in mix.datasets, len(mix.datasets)))
    places = tuple(
        Ranked(
            mix,
            rank,
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
    return Ranking("task", "choice_bits", True, "exhaustive", len(mixes), 130, 1000, 9.5, 0.01,
                   places, worth, ("be careful",), (), 130, verdicts, 0.02)  # fmt: skip


def confirmation(names: tuple[str, ...]) -> Confirmation:
    def model(
        label: str, how: str, mix: Mixture, score: float, ahead: Interval, winner: bool
    ) -> Model:
        scores = {"choice_bits": (score, 0.02), "accuracy": (0.5, math.nan)}
        return Model(label, how, mix, scores, scores, ahead, winner)

    best, zero = uniform(names[0]), Interval(0.0, 0.0, 0.0)
    return Confirmation(
        "task",
        "choice_bits",
        (
            model("base", "base", BASE, 0.01, Interval(0.4, 0.3, 0.5), False),
            model("top 1", "merged", best, 0.4, zero, False),
            model("top 1, best single", "finetuned", best, 0.41, zero, True),
            model(
                "top 2", "finetuned", uniform(*names[:2]), 0.40, Interval(0.01, -0.1, 0.1), False
            ),
            model(
                "all datasets equally",
                "finetuned",
                uniform(*names),
                0.7,
                Interval(-0.3, -0.4, -0.2),
                False,
            ),
        ),
        verdict=Verdict("tie inside", "Fine-tune on aa or on y.", ("Why.",), "more."),
    )


def facts(names: tuple[str, ...] = ("aa", "bb", "cc"), text: str = "text", **changes: Any) -> Facts:
    """A finished run over `names`; `text` stands wherever a recipe takes free text."""
    sources = tuple(
        Source(name, 100, float(i == 0), ("sw",), text, text, text) for i, name in enumerate(names)
    )
    values = tuple((0.1 * i, 0.02) for i in range(5))
    settings = {
        "base": {"model": text, "template": "chat"},
        "datasets": [{"name": n, "path": f"{n}.jsonl", "notes": text} for n in names],
        "train": {"steps": 20, "seed": 3, "target_modules": ["q_proj"]},
        "confirm": {"budget": "fixed"},
    }
    pairs = tuple(Pair(uniform(n), (0.1 * i, 0.02), (0.2 * i, math.nan))
                  for i, n in enumerate(names))  # fmt: skip
    whole: dict[str, Any] = {
        "name": text,
        "base": {"name": text, "parameters": 135_000_000, "licence": "MIT"},
        "settings": settings,
        "versions": {"m2m": "0", "seeds": text},
        "sources": sources,
        "ranking": ranking(names),
        "confirmation": confirmation(names),
        "breakdowns": (Breakdown(text, "test", "choice_bits", True, (Facet(text, 40, values),)),),
        "curves": tuple(
            Curve(name, tuple(5 / (s + 1) for s in range(20)), ((10, 1.0), (20, 0.5)), 20, 500)
            for name in names
        ),
        "validation": Validation(
            pairs,
            "choice_bits",
            "test",
            "fixed",
            {"surrogate": (Interval(0.9, 0.5, 1.0), Interval(0.8, math.nan, math.nan))},
            {"all": Interval(0.1, 0.0, 0.2)},
        ),
        "costs": (Cost("train", 3600.0, 2**30), Cost("search", 1800.0, 2**31)),
        "watts": 20.0,
        "warnings": (text,),
        "remarks": (text,),
    }
    return Facts(**{**whole, **changes})
