"""Rows of files: what is read, and where mistakes are said to be."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from m2m.errors import InputError
from m2m.formats.byte_parts import ByteSource, beginnings
from m2m.formats.records import Record, read_object, read_records, rows_text


def rows(path: Path, data: str | bytes) -> list[tuple[dict[str, object], int]]:
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return [(record.fields, record.line) for record in read_records(path)]


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("bom", [b"", BOM], ids=["plain", "bom"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.jsonl", '{"a": "1", "b": "é"}\n\n{"a": "2", "b": "y\u2028z"}'),
        ("x.json", '[\n{"a": "1", "b": "é"},\n\n {"a": "2", "b": "y\u2028z"}]'),
        ("x.json", '{"a": "1", "b": "é"}\n\n{"a": "2", "b": "y\u2028z"}\n'),
        ("x.csv", 'a,b\n1,é\n\n2,"y\u2028z"\n'),
        ("x.CSV", "a;b\n1;é\n\n2;y\u2028z\n"),
        ("x.tsv", "a\tb\n1\té\n\n2\ty\u2028z"),
    ],
)
def test_all_tables_read_alike(tmp_path: Path, name: str, text: str, end: str, bom: bytes) -> None:
    found = rows(tmp_path / name, bom + text.replace("\n", end).encode("utf-8"))
    assert [fields for fields, _ in found] == [{"a": "1", "b": "é"}, {"a": "2", "b": "y\u2028z"}]
    first = 1 if text.startswith("{") else 2
    assert [line for _, line in found] == [first, first + 2]


def test_text_files_give_their_lines(tmp_path: Path) -> None:
    found = rows(tmp_path / "x.txt", " one\r\n\n  \ntwo, \u2028 three")
    assert found == [({"text": " one"}, 1), ({"text": "two, \u2028 three"}, 4)]


def test_csv_fields_may_hold_lines_and_be_long(tmp_path: Path) -> None:
    long = "x" * 200_000
    found = rows(tmp_path / "x.csv", f'a,b\n"one\ntwo ""q""",2\n{long},3\n')
    assert found == [({"a": 'one\ntwo "q"', "b": "2"}, 2), ({"a": long, "b": "3"}, 4)]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.txt"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str) -> None:
    assert rows(tmp_path / name, b"") == []


def test_an_empty_array_has_no_rows(tmp_path: Path) -> None:
    assert rows(tmp_path / "x.json", " [ ] ") == []


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("x.jsonl", b'{"a": 1}\n{"a": \n', "line 2: malformed JSON"),
        ("x.jsonl", b"{}\n[1]\n", "line 2: found an array"),
        ("x.jsonl", b'{}\n"x"\n', "line 2: found a string"),
        ("x.jsonl", b'{"a": Infinity}\n', "line 1: malformed JSON: Infinity"),
        ("x.jsonl", b"[" * 100_000, "line 1: malformed JSON: nested"),
        ("x.jsonl", b'{"a": 1}\n{"a": "\xff"}', ":2: byte 0xff is not UTF-8"),
        ("x.jsonl", BOM + b"{}\n\xff", ":2: byte 0xff"),
        ("x.jsonl", b'{"a": "\0"}', "has zero bytes"),
        ("x.json", b'[{"a": 1},\n{"a" 2}]', "line 2: malformed JSON"),
        ("x.json", b"[{},\n{}", "line 2 is not followed"),
        ("x.json", b"[{},\n3]", "line 2: found 3"),
        ("x.json", b"[{}] []", "after the array's end"),
        ("x.json", b"[" * 100_000, "malformed JSON"),
        ("x.json", b"[{}\n,", "malformed JSON"),
        (
            "x.jsonl",
            b'{"a": ' + b"1" * 5000 + b"}",
            "line 1: malformed JSON: a number has more tha",
        ),
        ("x.csv", b"", "header"),
        ("x.csv", b"text,text\n1,2\n", "header"),
        ("x.csv", b"a,b\n1,2\n1,2,3\n", "line 3: 3 fields, the header has 2"),
        ("x.csv", b'a,b\n1,"2\n', "line 2: a quotation mark opens here"),
        ("x.tsv", b"a\tb\n1\n", "line 2: 1 field,"),
    ],
)
def test_mistakes_are_told_with_their_place(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        rows(tmp_path / name, data)
    assert said in caught.value.message
    assert name in caught.value.message


def test_many_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        rows(tmp_path / "x.jsonl", "{\n" * 30)
    message = caught.value.message
    assert "30 problems" in message
    assert "30 lines (1, 2, 3, 4, 5, ...): malformed" in message


def last_twice() -> list[str]:
    return [*(f"k{i:06}" for i in range(100_000)), "k099999"]


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("x.jsonl", lambda: "{" + ",".join(f'"{key}":1' for key in last_twice()) + "}", "k099999"),
        ("x.csv", lambda: ",".join([*last_twice(), "text", "text"]), "called 'text'"),
        (
            "x.jsonl",
            lambda: '{"a": [' + "1, " * 400_000 + "1]}\n" + "x\n" * 20_000,
            r"20000 lines \(2, 3, .*malformed",
        ),
        pytest.param(
            "x.jsonl", lambda: "x\n" * 1_000_000, "1000000 problems", marks=pytest.mark.slow
        ),
        ("x.json", lambda: "[" + " " * 10_000_000 + "3]", "line 1: found 3"),
    ],
    ids=["a key twice", "a column twice", "a large first row", "every line", "white space"],
)
def test_mistakes_in_large_files_take_no_quadratic_time(
    tmp_path: Path, name: str, make: Callable[[], str], said: str
) -> None:
    # No clock is asked: each of these took minutes, or hundreds of bytes a line.
    with pytest.raises(InputError, match=said):
        rows(tmp_path / name, make())


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a": ', "}")])
def test_rows_are_nested_a_hundred_deep_at_most(
    tmp_path: Path, name: str, opens: str, closes: str
) -> None:
    def row(levels: int) -> str:
        text = f'{{"a": {opens * (levels - 1)}1{closes * (levels - 1)}}}'
        return f"[{text}]" if name == "x.json" else text

    assert len(rows(tmp_path / name, row(100))) == 1
    for levels in (101, 500, 700, 950, 5000):  # Python's own limit is reached in several places
        with pytest.raises(InputError, match=r"line 1: .*nested"):
            rows(tmp_path / name, row(levels))


def test_unknown_endings_and_absent_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.data").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match=r"\.data") as caught:
        read_records(tmp_path / "x.data")
    assert ".jsonl" in str(caught.value.hint)
    with pytest.raises(InputError, match="cannot read"):
        read_records(tmp_path / "absent.jsonl")


def test_read_object(tmp_path: Path) -> None:
    path = tmp_path / "o.json"
    path.write_bytes(BOM + b'{"a": [1]}')
    assert read_object(path) == {"a": [1]}
    for text in ("[]", "{", "[" * 100_000, '{"a": Infinity}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"o\.json"):
            read_object(path)


def test_a_record_is_its_fields_and_line() -> None:
    assert Record({"a": 1}, 2) == Record(fields={"a": 1}, line=2)


def test_only_the_first_rows_of_json_lines_are_read_if_asked(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"habari {number}"}) for number in range(9)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([*lines[:5], "{broken"]), encoding="utf-8")
    file = rows_text(path, first=5)
    assert [record.fields["text"] for record in file.records][-1] == "habari 4"
    assert "only the first 5 rows were read" in file.notes[0]
    assert not file.problems
    for count in (4, 5):
        path.write_text("\n".join([*lines[:count], ""]), encoding="utf-8")
        assert not rows_text(path, first=5).notes
    path.write_text("\n".join(["{broken", *lines[:5]]), encoding="utf-8")
    file = rows_text(path, first=5)
    assert (len(file.records), len(file.problems), len(file.notes)) == (4, 1, 1)
    table = tmp_path / "a.csv"
    table.write_text("prompt,completion\na,b,c\n" + "a,b\n" * 4 + "a,b,c\n", encoding="utf-8")
    file = rows_text(table, first=5)
    assert (len(file.records), len(file.problems), len(file.notes)) == (4, 1, 1)


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "array.json", "array of one line.json"])
def test_only_the_first_rows_of_a_large_file_are_read_if_asked(tmp_path: Path, kind: str) -> None:
    """The rest of the file would be refused, so nothing of it was looked at."""
    rows = [(f"ọ̀rọ̀ {place}", "ewé, òkun\nigi " * 20) for place in range(4000)]
    file, path = io.StringIO(newline=""), tmp_path / f"a.{kind[:4].removesuffix('.')}"
    if kind in ("csv", "tsv"):
        writer = csv.writer(file, delimiter=",\t"[kind == "tsv"])
        writer.writerows([("prompt", "completion"), *rows])
        file.write('"never closed')
    elif kind == "txt":
        file.write("\n".join(f"{one} {two}".replace("\n", " ") for one, two in rows))
    else:
        path = tmp_path / "a.json"
        file.write(json.dumps(rows_of(rows), indent=None if "one line" in kind else 1)[:-1])
        file.write(', {"prompt": broken}]')
    path.write_bytes(file.getvalue().encode("utf-8") + b"\xff" * (kind == "txt"))
    read = rows_text(path, first=1000)
    assert len(read.records) == 1000 and read.is_part and not read.problems
    assert "only the first 1,000 rows were read" in read.notes[0]
    if kind != "txt":
        assert [tuple(record.fields.values()) for record in read.records] == rows[:1000]
    with pytest.raises(InputError):
        read_records(path)


def test_the_first_rows_of_a_small_file_are_those_of_a_large_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "habari\n" * 50, encoding="utf-8")
    read = rows_text(path, first=50)
    assert (len(read.records), read.notes) == (50, ())
    assert len(rows_text(path, first=20).records) == 20
    assert len(rows_text(path, first=60).records) == 50
    assert not rows_text(path, first=60).notes


def test_the_beginnings_of_a_file_end_with_a_line_or_a_letter() -> None:
    text = ("ẹ" * 700_000).encode()
    for begin in beginnings(ByteSource("a.txt", [text])):
        assert text.startswith(begin) and begin.decode("utf-8")
    lines = b"habari yako\n" * 200_000
    assert all(begin.endswith(b"\n") for begin in beginnings(ByteSource("a.txt", [lines])))


def rows_of(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"prompt": one, "completion": two} for one, two in pairs]


def test_only_the_first_rows_of_parquet_are_read_if_asked(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"text": [f"a{n}" for n in range(3000)]}), path)
    for first in (5, 1500, 2999, 3000):
        file = rows_text(path, first=first)
        assert (len(file.records), bool(file.notes)) == (first, first < 3000)
    assert len(rows_text(path).records) == 3000
