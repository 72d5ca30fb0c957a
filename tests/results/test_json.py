"""Every result goes to JSON, as it is stored, and comes back the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from m2m.export.selftest import SelfTest
from m2m.formats.json_text import json_text
from m2m.mix.mixture import Mixture
from m2m.mix.ranking import Interval
from m2m.mix.worth import Interaction
from m2m.results.confirmation import Confirmation, RowsSeen
from m2m.results.export import Exported
from m2m.results.judging import Judged
from m2m.results.ranking import OnFront, Ranking
from m2m.results.rivals import Rivals
from m2m.results.stage import Stage
from m2m.results.validation import Validation
from tests.report import samples

NAMES = ("aa", "bb", "cc")


class Result(Protocol):
    def as_json(self) -> dict[str, Any]: ...


def ranking() -> Ranking:
    from dataclasses import replace

    pair = Interaction(("aa", "bb"), Interval(0.1, 0.05, 0.2), 0.02)
    front = OnFront(Mixture.uniform(["aa"]), {"one": 0.5, "other": 0.25})
    return replace(samples.ranking(NAMES), interactions=[pair], pareto=[front], notes=["a"])


def confirmation() -> Confirmation:
    from dataclasses import replace

    found = samples.confirmation(NAMES)
    seen = {"aa": RowsSeen(3, 4, 1.5)}
    tuned = replace(found.models[2], adapter=Path("confirm/12/aa"), seen=seen)
    models = [*found.models[:2], tuned, *found.models[3:]]
    return replace(found, models=models, shared={"task": (1, 16)}, budget=900)


EXPORTED = Exported(
    gguf=Path("a.gguf"),
    modelfile=Path("Modelfile"),
    lora=Path("a-LoRA.gguf"),
    type="q8_0",
    types_written={"Q8_0": 3},
    delta_survival={"gain": 1.0, "cosine": 0.9},
    remedy="do",
    card=Path("README.md"),
    remarks=["mark"],
    self_test=SelfTest(4, 3, 2, 1, 0, "why", True),
    serving=["so"],
)
RESULTS: list[tuple[Callable[[], Result], Callable[[Mapping[str, Any]], Result]]] = [
    (ranking, Ranking.from_json),
    (confirmation, Confirmation.from_json),
    (lambda: samples.validation(NAMES), Validation.from_json),
    (lambda: samples.rivals(NAMES), Rivals.from_json),
    (samples.judged, Judged.from_json),
    (lambda: EXPORTED, Exported.from_json),
    (lambda: Stage("train", 1.5, 3), Stage.from_json),
]


@pytest.mark.parametrize(("make", "read"), RESULTS)
def test_a_result_comes_back_from_its_json(
    make: Callable[[], Result], read: Callable[[Mapping[str, Any]], Result]
) -> None:
    stored = json_text(make().as_json())
    assert json_text(read(json.loads(stored)).as_json()) == stored


@pytest.mark.parametrize(("make", "read"), RESULTS)
def test_damage_to_any_value_is_an_error_that_the_folder_can_name(
    make: Callable[[], Result], read: Callable[[Mapping[str, Any]], Result]
) -> None:
    stored = json.loads(json_text(make().as_json()))
    for key in stored:
        for odd in ("x", 3, None, [], {}, [None], {"a": None}, [[1]]):
            try:
                json_text(read({**stored, key: odd}).as_json())
            except (KeyError, TypeError, ValueError, AttributeError, IndexError):
                continue
