"""Every shape of JSON gives the same rows; pandas's orients are written as pandas writes them."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from m2m.dataset.rows import read_rows
from m2m.errors import InputError
from m2m.formats.records import read_records, rows_text
from m2m.formats.rowfile import Options, Several

ROWS: list[dict[str, Any]] = [
    {"prompt": "kitabu", "completion": "book"},
    {"prompt": 'sema "habari"\n', "completion": "é\u2028"},
    {"prompt": "mti", "completion": "tree"},
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
SHAPES: dict[str, str] = {
    "lines": "".join(json.dumps(row) + "\n" for row in ROWS),
    "lines with empty ones": "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS),
    "lines that end with CR": "\r".join(map(json.dumps, ROWS)),
    "array": json.dumps(ROWS),
    "array over lines": json.dumps(ROWS, indent=2),
    "array with a last comma": json.dumps(ROWS)[:-1] + ",\n]",
    "joined": "".join(map(json.dumps, ROWS)),
    "joined over lines": "\n".join(json.dumps(row, indent=1) for row in ROWS),
    "joined by commas": ",\n".join(json.dumps(row, indent=1) for row in ROWS),
    "columns": json.dumps(COLUMNS),
    "columns of pandas": json.dumps({k: dict(enumerate(v)) for k, v in COLUMNS.items()}),
    "split of pandas": json.dumps(
        {"columns": [*COLUMNS], "index": [0, 1, 2], "data": [[*row.values()] for row in ROWS]}
    ),
    "index of pandas": json.dumps(dict(enumerate(ROWS))),
    "inside": json.dumps({"version": "1", "data": ROWS}),
    "inside over lines": json.dumps({"about": {"by": "x"}, "examples": ROWS}, indent=2),
    "lists with names": json.dumps([[*COLUMNS], *([*row.values()] for row in ROWS)]),
    "lines of lists": "".join(
        json.dumps(row) + "\n" for row in [[*COLUMNS], *([*row.values()] for row in ROWS)]
    ),
}


def read(path: Path, text: str | bytes, **options: str) -> list[dict[str, Any]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return [record.fields for record in read_records(rows_text(path, options=Options(**options)))]


def refused(path: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        read(path, text)
    return f"{caught.value.message}\n{caught.value.hint}"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson", "a.jsonlines", "a", "a.csv"])
def test_every_shape_gives_its_rows_under_every_name(tmp_path: Path, shape: str, name: str) -> None:
    if shape == "lines of lists" and name in ("a", "a.csv"):
        return  # a line in brackets can begin many things
    rows = read(tmp_path / name, SHAPES[shape])
    assert [{key: row[key] for key in COLUMNS} for row in rows] == ROWS
    extra = {"id"} if shape == "index of pandas" else set()
    assert all(row.keys() - COLUMNS.keys() <= extra for row in rows)
    lines = [record.line for record in read_records(tmp_path / name)]
    assert lines == sorted(set(lines)), "a line names one row"


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"conversations": [{"from": "human", "value": "a"}], "tools": ["x"]},
        {"translation": {"en": "a", "sw": "b"}},
        {"translation": {"en": "a", "sw": "b"}, "meta": {"by": "x"}},
        {"segments": [{"text": "a", "label": True}]},
        {"prompt": "a", "completion": "b", "data": [{"x": 1}]},
        {"question": "a", "choices": ["b", "c"], "answer": 0},
        {"text": "a", "entities": [[0, 1, "PER"]]},
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_one_row_is_a_row(tmp_path: Path, row: dict[str, Any], indent: int | None) -> None:
    assert read(tmp_path / "a.json", json.dumps(row, indent=indent)) == [row]


def test_rows_that_python_or_yaml_wrote_are_read(tmp_path: Path) -> None:
    lines = "".join(f"{row!r}\n" for row in ROWS)
    inside = "rows:\n" + "".join(f"- {json.dumps(row)}\n" for row in ROWS)
    texts = {"a.jsonl": lines, "a.json": repr(ROWS), "a.yaml": json.dumps(ROWS), "b.yml": inside}
    for name, text in texts.items():
        assert read(tmp_path / name, text) == ROWS
    assert "dates or tags" in refused(tmp_path / "c.yaml", "- {prompt: a, day: 2024-01-01}\n")
    assert "c.yaml:3: " in refused(tmp_path / "c.yaml", "- a: 1\n- [\n")


def test_an_object_of_many_texts_is_a_list_of_words(tmp_path: Path) -> None:
    words = {f"neno {n}": f"word {n}" for n in range(20)}
    assert read(tmp_path / "a.json", json.dumps(words)) == [
        {"key": key, "value": value} for key, value in words.items()]  # fmt: skip


def test_several_lists_are_a_question_that_the_path_answers(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    text = json.dumps({"train": ROWS, "test": ROWS[:1]})
    assert '"train", "test"' in refused(path, text) and '/a.json/train"' in refused(path, text)
    assert [record.fields for record in read_records(path / "train")] == ROWS
    assert [record.fields for record in read_records(path / "test")] == ROWS[:1]
    with pytest.raises(InputError, match="has no list called 'dev'"):
        read_records(path / "dev")
    one, other = (rows_text(path / name).sha256 for name in ("train", "test"))
    assert one != other, "the same bytes, and other rows"


def test_lists_without_names_are_a_question(tmp_path: Path) -> None:
    path, text = tmp_path / "a.json", '[["kitabu", "book"], ["mti", "tree"]]'
    assert '`header = "no"`' in refused(path, text)
    assert read(path, text, header="no") == [
        {"1": "kitabu", "2": "book"},
        {"1": "mti", "2": "tree"},
    ]
    assert read(path, text, header="yes") == [{"kitabu": "mti", "book": "tree"}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '{"prompt": ["a", "b"], "completion": ["c"]}',
            "different lengths: prompt 2, completion 1",
        ),
        ("{'prompt': 'a'}\n{'prompt': f()}\n", "Python, not JSON"),
        ('{"a": 1}\n{"a": 2} {"b"\n', "line 2: malformed JSON"),
        ('{"a": 1}\n{"a": 2}, {"a": 3}\n', "line 2: malformed JSON: Extra data"),
        ('{\n"a": 1}\n{"a": \n', "line 3: malformed JSON"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path / "a.json", text)


def test_bad_lines_are_left_out_if_the_user_says_so(tmp_path: Path) -> None:
    text = b'{"a": "\xc3\xa9"}\n{"a": \n{"a": "\xff"}\n[1]\n{"a": 2}\n'
    (tmp_path / "a.jsonl").write_bytes(text)
    with pytest.raises(InputError, match="3 problems") as caught:
        read_records(tmp_path / "a.jsonl")
    assert all(f"line {number}:" in caught.value.message for number in (2, 3, 4))
    assert read(tmp_path / "a.jsonl", text, bad_rows="skip") == [{"a": "é"}, {"a": 2}]


def test_a_large_file_of_lines_takes_the_memory_of_its_rows(tmp_path: Path) -> None:
    """The text alone would be 64 MB; its rows are one short text each, and some counted bytes."""
    path = tmp_path / "a.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(64):
            file.write('{"a": "' + f"{number}" + '"' + " " * 1_000_000 + "}\n")
    tracemalloc.start()
    assert len(read_records(path)) == 64
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_lists_beside_the_one_with_the_rows_are_named(tmp_path: Path) -> None:
    """As in Natural Instructions, whose Definition says what all rows ask."""
    path = tmp_path / "a.json"
    value = {"Definition": ["Jibu swali."], "Positive Examples": ROWS[:1], "Instances": ROWS}
    for rows, note in (
        (value, ("only Instances is read, and Definition, Positive Examples left out",)),
        ({"version": "1", "data": ROWS}, ()),
    ):
        path.write_text(json.dumps(rows), encoding="utf-8")
        file = rows_text(path)
        assert [record.fields for record in file.records] == ROWS
        assert file.notes == note


def test_rows_two_levels_inside_are_offered_by_their_path(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    found = {"took": 3, "hits": {"total": 3, "hits": [{"_source": row} for row in ROWS]}}
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(Several) as caught:
        read_rows(path)
    assert caught.value.members == (path / "hits/hits",)
    assert [r.fields["_source"] for r in rows_text(path / "hits/hits").records] == ROWS


def test_values_of_yaml_are_those_that_json_has_too(tmp_path: Path) -> None:
    written = ["no", "12:30", "017", "0x1F", "1_000", "2.5", "7", "true", "'7'", "~"]
    text = "".join(f"- prompt: a\n  completion: {each}\n" for each in written)
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    values = [record.fields["completion"] for record in read_records(tmp_path / "a.yaml")]
    assert values == ["no", "12:30", "017", "0x1F", "1_000", 2.5, 7, True, "7", None]
    assert "'prompt' appears twice" in refused(tmp_path / "b.yaml", "- {prompt: a, prompt: b}\n")
    assert "save its rows as JSONL" in refused(tmp_path / "c.yaml", "- 1\n" * 10_001)


@pytest.mark.parametrize("value", ["b'x'", "{'x'}", "2j"])
def test_values_of_python_that_json_lacks_are_refused(tmp_path: Path, value: str) -> None:
    row = f"{{'prompt': 'a', 'completion': {value}}}\n"
    assert "this is Python, not JSON" in refused(tmp_path / "a.jsonl", row * 2)
