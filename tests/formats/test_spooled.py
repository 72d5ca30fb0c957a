"""Rows of a file that is too large for memory are the same rows."""

from __future__ import annotations

import gc
import re
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
from m2m.formats import large_text, spooled
from m2m.formats.byte_parts import ByteSource
from m2m.formats.large_text import Lines
from m2m.formats.records import rows_text
from m2m.formats.rowfile import Fault, Options, Record
from m2m.formats.spooled import Lazy, Spooled, chained, collected, drawn, is_spooled
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
    order = np.array([2999, 0, 0, 1024])
    for own in (records, packed):
        assert [*drawn(own, order)] == [records[n] for n in order]
        both = chained([records[:2], own, [], own])
        assert [*both] == [*records[:2], *records, *records] and both[3002] == records[0]
        assert both[-1] == records[-1] and both[1:3] == [records[1], records[0]]


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
    assert is_spooled(large.rows)
    assert [*large.rows] == [*small.rows] and [*large.records] == [*small.records]
    assert [*large.problems] == [*small.problems] and large.notes == small.notes
    parts = [[*Asking.blocks(rows.rows)] for rows in (small, large)]
    assert parts[0] == parts[1]


ROWS = [f"ìbéèrè {n}, dára\tìdáhùn {n}\t{n % 3}" for n in range(1100)]
CSV = [",".join(f'"{cell}"' for cell in row.split("\t")) for row in ROWS]
TABLES: dict[str, tuple[str, str]] = {  # name, text
    "quoted": ("a.csv", "\n".join(["prompt,completion,label", *CSV])),
    "marked": ("a.csv", "\ufeff" + "\r\n".join(["sep=,", "Prompt,completion,label", *CSV])),
    "old Mac": ("a.tsv", "\r".join(["prompt\tcompletion\tlabel", *ROWS])),
    "index": ("a.csv", "\n".join([",q,a,l", *(f"{n},{row}" for n, row in enumerate(CSV))])),
    "no index": ("a.csv", "\n".join([",q,a,l", *(f"{n % 9},{row}" for n, row in enumerate(CSV))])),
    "no name": ("a.tsv", "\n".join(["prompt\tcompletion\t", *ROWS])),
    "labels": ("a.tsv", "\n".join(["q\tlabel", *["ọ\tNA", "à\trere", "á\tburu"] * 99])),
    "bad rows": ("a.csv", "\n".join(["q,a,label", *CSV, "one", "q,a,label", "", *CSV])),
    "joined": ("a.tsv", "\n".join(["q\ta\tl", *ROWS, 'a "b\tc\td', '"a\tc\td', 'a"\tb\tc', *ROWS])),
    "marks of a text": ("a.tsv", "\n".join(["q\ta\tl", '"a" b\tc\td', *ROWS])),
    "marks around a text": ("a.tsv", "\n".join(["q\ta\tl", '"a b"\tc\td', *ROWS])),
    "never closed": ("a.csv", "\n".join(["q,a,l", *CSV, '"a,b,c', *CSV])),
}  # fmt: skip


def result(path: Path, options: Options) -> tuple[Any, ...]:
    try:
        file = rows_text(path, options=options)
    except InputError as error:
        return error.message, error.hint
    return [*file.records], [*file.problems], file.notes, file.sha256, file.label_names


@pytest.mark.parametrize("header", ["auto", "no"])
@pytest.mark.parametrize("name", TABLES)
def test_a_large_table_is_read_as_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, header: str
) -> None:
    path = tmp_path / TABLES[name][0]
    path.write_bytes(TABLES[name][1].encode("utf-8"))
    small = result(path, Options(header=header))
    monkeypatch.setattr(spooled, "_HELD", 1000)
    monkeypatch.setattr(large_text, "HELD", 1000)
    assert result(path, Options(header=header)) == small
    if len(small) > 2:
        assert is_spooled(rows_text(path, options=Options(header=header)).records)


@pytest.mark.parametrize("index", [None, [*range(1, 1101)], [n % 7 for n in range(1100)]])
@pytest.mark.parametrize("write", ["to_parquet", "to_feather"])
def test_large_columns_are_read_as_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str, index: list[int] | None
) -> None:
    arrow = pytest.importorskip("pyarrow")
    columns: dict[str, Any] = {"q": [f"ọ̀rọ̀ {n}" for n in range(1100)], "a": [*range(1100)]}
    columns |= {"__index_level_0__": index} if index else {}
    path = tmp_path / "rows.file"
    if write == "to_parquet":
        pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), path)
    else:
        pytest.importorskip("pyarrow.feather").write_feather(arrow.table(columns), path)
    small = result(path, Options())
    monkeypatch.setattr(spooled, "_HELD", 1000)
    assert result(path, Options()) == small
    assert is_spooled(rows_text(path).records)
    assert [record.fields["q"] for record in small[0]] == columns["q"]


@settings(max_examples=200)
@given(st.text(st.sampled_from("a ọ\r\n\u2028\x0b\x85\ufeff,"), max_size=30), st.integers(0, 3))
def test_the_lines_of_a_large_text_are_those_of_a_small_one(text: str, skipped: int) -> None:
    data = text.lstrip("\ufeff").encode("utf-8")
    small, large = Lines(ByteSource("a", [data])), Lines(ByteSource("a", [data]), held=1)
    for lines in (small, large):
        for line in [*lines][:skipped]:
            lines.skip(line)
    assert [*small] == [*large] == [*large]
    assert small.number == large.number
    expected = re.findall("[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+", text.lstrip("\ufeff"))
    assert [*small] == expected[skipped:]
    assert all(small.has(part) == large.has(part) for part in ("a", "ọ", ","))


def test_bytes_that_are_no_letters_are_named_in_a_large_text() -> None:
    data = "ọ̀rọ̀,a\r\nb,c\r".encode() + b"d,\xe9\n" + b"x,y\n" * 9
    messages = []
    for held in (0, 2):
        with pytest.raises(Fault) as caught:
            Lines(ByteSource("a.csv", [data]), held=held)
        messages.append((caught.value.message, caught.value.hint))
    assert messages[0] == messages[1] and messages[0][0].startswith("3: byte 0xe9 is not UTF-8")


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


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_only_a_few_rows_of_a_large_file_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    if name == "rows.csv":
        path.write_text("\n".join(["prompt,completion", *(f"a{n},b{n}" for n in range(1100))]))
    else:
        write_jsonl(path, FILES["prompt"])
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
