"""The fields of a dataclass say what its JSON is, and read it back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from m2m.formats.json_fields import (
    Inline,
    JsonFields,
    Key,
    Newer,
    OrUnknown,
    Rounded,
    inserted,
)
from m2m.formats.json_values import as_whole


@dataclass(frozen=True)
class Inner(JsonFields):
    names: tuple[str, ...]
    ends: tuple[int, float]


@dataclass(frozen=True)
class Outer(JsonFields):
    inner: Inline[Inner]
    advice: Annotated[str, Key("next")]
    rank: Annotated[int, as_whole]
    seconds: Annotated[float, Rounded(1)]
    gain: OrUnknown
    gains: Mapping[str, OrUnknown]
    each: Sequence[Inner]
    how: Literal["so", "other"]
    file: Path | None
    budget: str | int
    rest: Mapping[str, Any]
    steps: Newer[int | None] = None


OUTER = Outer(
    inner=Inner(("a", "b"), (1, 2.5)),
    advice="go on",
    rank=3,
    seconds=1.26,
    gain=math.nan,
    gains={"x": 0.5},
    each=[Inner((), (0, 0.0))],
    how="so",
    file=Path("a", "b"),
    budget=300,
    rest={"free": [1, {"k": None}]},
    steps=7,
)
WRITTEN = (
    '{"names": ["a", "b"], "ends": [1, 2.5], "next": "go on", "rank": 3, "seconds": 1.3, '
    '"gain": null, "gains": {"x": 0.5}, "each": [{"names": [], "ends": [0, 0.0]}], "how": "so", '
    '"file": "FILE", "budget": 300, "rest": {"free": [1, {"k": null}]}, "steps": 7}'
)


def test_keys_stand_in_the_order_of_the_fields_and_values_come_back() -> None:
    assert json.dumps(OUTER.to_dict()) == WRITTEN.replace("FILE", str(Path("a", "b")))
    read = Outer.from_json({**OUTER.to_dict(), "another": "key"})
    assert math.isnan(read.gain)
    assert repr(read) == repr(OUTER).replace("1.26", "1.3")


def test_only_a_newer_key_may_be_missing() -> None:
    for key in OUTER.to_dict():
        data = {k: value for k, value in OUTER.to_dict().items() if k != key}
        if key == "steps":
            assert Outer.from_json(data).steps is None
            continue
        with pytest.raises(KeyError, match=key):
            Outer.from_json(data)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        *(("rank", -1), ("rank", 1.5), ("ends", [1]), ("each", [3]), ("gains", ["x"])),
        *(("gain", "much"), ("names", "ab")),
    ],
)
def test_values_that_do_not_fit_the_type_are_refused(key: str, wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        Outer.from_json({**OUTER.to_dict(), key: wrong})


def test_a_derived_key_stands_where_readers_expect_it() -> None:
    assert [*inserted({"a": 1, "c": 3}, "a", b=2).items()] == [("a", 1), ("b", 2), ("c", 3)]
