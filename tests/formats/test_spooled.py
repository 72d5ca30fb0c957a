"""Rows of a file that is too large for memory are the same rows."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2m.dataset.mapping import RowMapping
from m2m.dataset.row_source import open_source
from m2m.dataset.rows import Rows, read_rows
from m2m.errors import InputError
from m2m.formats import spooled
from m2m.formats.rowfile import Record
from m2m.formats.spooled import Lazy, Spooled, collected, is_spooled
from m2m.pipeline.leaks import Asking
from tests.tiny import write_jsonl

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40)
@given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), min_size=1, max_size=20))
def test_every_value_of_json_comes_back(rows: list[dict[str, Any]]) -> None:
    records = [Record(fields, line) for line, fields in enumerate(rows, 3)]
    packed = collected(records, held=1)
    assert isinstance(packed, Spooled)
    assert [*packed] == records and [*packed] == records


def test_rows_are_found_by_their_place() -> None:
    records = [Record({"text": f"ọ̀rọ̀ {n}"}, n + 1) for n in range(3000)]
    packed = collected(iter(records), held=1)
    assert len(packed) == 3000 and packed[:3] == records[:3] and packed[2990:] == records[2990:]
    assert [packed[n] for n in (0, 1023, 1024, 2999, -1)] == [
        records[n] for n in (0, 1023, 1024, 2999, -1)
    ]
    with pytest.raises(IndexError):
        packed[3000]
    some = Lazy(packed, lambda record: record.line, np.array([1, 5, 2999]))
    assert [*some] == [2, 6, 3000] and some[1] == 6 and some[1:] == [6, 3000] and len(some) == 3
    assert collected(records) == records


FILES: dict[str, list[dict[str, Any]]] = {
    "prompt": [{"prompt": f"Ìbéèrè {n}?", "completion": f"ìdáhùn {n}"} for n in range(1100)],
    "alpaca": [{"instruction": f"Kọ {n}", "input": "", "output": f"dára {n}"} for n in range(1100)],
    "chat": [
        {"messages": [{"role": "user", "content": f"a{n}"}, {"role": "assistant", "content": "b"}]}
        for n in range(1100)
    ],
    "text": [{"text": f"ọjọ́ {n}", "id": n} for n in range(1100)],
    "mapped": [{"q": f"a{n}", "a": ["rere", "buru"][n % 2], "lang": "yo"} for n in range(1100)],
    "faulty": [{"prompt": f"a{n}", "completion": "b" * (n % 7 > 0)} for n in range(1100)],
}  # fmt: skip
MAPPED = RowMapping(prompt="{q}", answer="{a}", where=(("lang", ("yo",)),))


def read(path: Path, name: str) -> Rows:
    return read_rows(open_source([path]), MAPPED if name == "mapped" else RowMapping())


@pytest.mark.parametrize("name", FILES)
def test_a_large_file_has_the_rows_and_problems_of_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", FILES[name])
    small = read(path, name)
    monkeypatch.setattr(spooled, "_HELD", 1000)
    large = read(path, name)
    assert is_spooled(open_source([path]).records)
    assert is_spooled(large.rows) or name == "mapped"  # `where` makes a list of what it picks
    assert [*large.rows] == [*small.rows] and [*large.records] == [*small.records]
    assert [*large.problems] == [*small.problems] and large.notes == small.notes
    parts = [[*Asking.blocks(rows.rows)] for rows in (small, large)]
    assert parts[0] == parts[1]


def test_a_large_file_is_refused_as_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"instruction": "Tumọ", "sw": f"neno {n}", "output": f"ọ̀rọ̀ {n}"} for n in range(1500)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    messages = []
    for held in (1 << 30, 1000):
        monkeypatch.setattr(spooled, "_HELD", held)
        with pytest.raises(InputError, match="sw") as caught:
            read(path, "alpaca").problems.raise_if_any(InputError, "x", "y")
        messages.append(caught.value.message)
    assert messages[0] == messages[1]


def test_only_a_few_rows_of_a_large_file_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", FILES["prompt"])
    monkeypatch.setattr(spooled, "_HELD", 1 << 10)
    monkeypatch.setattr(spooled, "_BLOCK", 64)
    gc.collect()
    before = _live()
    rows = read(path, "prompt").rows
    most = max(_live() for place, _ in enumerate(rows) if place % 500 == 499)
    assert len(rows) == 1100
    assert most - before < 4 * 64


def _live() -> int:
    """Return how many rows are in memory."""
    return sum(isinstance(each, Record) for each in gc.get_objects())
