"""Tables as people have them: the rows that a person would mean, or a question; Python's csv is the
reference for all that its two modes agree on."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2m.errors import InputError, Problems
from m2m.formats.byte_parts import ByteSource
from m2m.formats.delimited import read_table
from m2m.formats.large_text import Lines
from m2m.formats.records import read_records, rows_text
from m2m.formats.rowfile import Options

ROWS = [
    {"prompt": "kitabu", "completion": "book"},
    {"prompt": "nyumba, kubwa", "completion": "a house; big"},
    {"prompt": 'sema "habari"', "completion": "bonjour"},
]


def read(path: Path, data: str | bytes, **options: Any) -> list[dict[str, Any]]:
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    file = rows_text(path, options=Options(**options))
    return [record.fields for record in read_records(file)]


def refused(path: Path, data: str | bytes, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(path, data, **options)
    return f"{caught.value.message}\n{caught.value.hint}"


def written(delimiter: str, ends: str = "\r\n") -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(
        file, ["prompt", "completion"], delimiter=delimiter, lineterminator=ends
    )
    writer.writeheader()
    writer.writerows(ROWS)
    return file.getvalue()


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.tab", "a.psv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_the_sign_between_the_columns_is_seen(
    tmp_path: Path, name: str, delimiter: str, ends: str
) -> None:
    assert read(tmp_path / name, written(delimiter, ends)) == ROWS


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("word", ["kitabu", "መጽሐፍ", "كتاب"])
def test_unicode_in_all_its_encodings_is_read(tmp_path: Path, encoding: str, word: str) -> None:
    text = "prompt,completion\n" + f"{word},book\n" * 30
    assert (
        read(tmp_path / "a.csv", text.encode(encoding))
        == [{"prompt": word, "completion": "book"}] * 30
    )


def test_other_encodings_are_a_question_with_the_line_to_write(tmp_path: Path) -> None:
    text = "prompt,completion\nTraduis: l\u2019été à Thiès,chaud\nkitabu,book\nété,saison\n"
    path = tmp_path / "a.csv"
    message = refused(path, text.encode("cp1252"))
    assert "a.csv:2: byte 0x92 is not UTF-8; so in line 4" in message
    assert '"Traduis: l\u2019été à Thiès' in message and '`encoding = "cp1252"`' in message
    assert read(path, text.encode("cp1252"), encoding="cp1252")[0] == {
        "prompt": "Traduis: l\u2019été à Thiès", "completion": "chaud",
    }  # fmt: skip
    # The other lines show that the file is UTF-8: no encoding of the whole file would be right.
    mixed = text.encode("utf-8") + b"\xe9t\xe9,x\n"
    assert "`encoding =" not in refused(path, mixed)
    assert ":5: byte 0xe9" in refused(path, mixed)
    assert "is not known" in refused(path, text, encoding="klingon")
    assert "is not known" in refused(path, text, encoding="zip")


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nprompt;completion\nkitabu;book\nmti;tree\n",
        '"sep=,"\r\nprompt,completion\r\nkitabu,book\r\nmti,tree\r\n',
        "# made in 2024\n#\nprompt,completion\nkitabu,book\nmti,tree\n",
        ",,\n\nprompt,completion,\nkitabu,book,\n,,\nmti,tree,\n\n,,,\n",
        "prompt,completion,,\nkitabu,book,,\nmti,tree,,\n",
        ",prompt,completion\n0,kitabu,book\n1,mti,tree\n",
        " Prompt ,COMPLETION\nkitabu,book\nmti,tree\n",
        'prompt, completion\nkitabu, book\nmti, "tree"\n',
    ],
    ids=[
        "sep",
        "quoted sep",
        "comments",
        "empty rows",
        "empty columns",
        "index",
        "capitals",
        "spaces",
    ],
)
def test_what_programs_add_is_no_row_and_no_column(tmp_path: Path, text: str) -> None:
    assert read(tmp_path / "a.csv", text) == [
        {"prompt": "kitabu", "completion": "book"},
        {"prompt": "mti", "completion": "tree"},
    ]


def test_a_hash_sign_may_begin_a_column_and_a_row(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "#,text\n1,#leo na kesho\n") == [
        {"#": "1", "text": "#leo na kesho"}
    ]
    assert "line 3: 1 field" in refused(tmp_path / "a.csv", "id,text\n1,a\n# part two\n2,b\n")


def test_nan_is_null_and_words_are_words(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", "text,label\nna,NaN\nnan,NA\nNone,none\n")
    assert rows == [
        {"text": "na", "label": None}, {"text": None, "label": None},
        {"text": "None", "label": "none"},
    ]  # fmt: skip
    (row,) = read(tmp_path / "a.jsonl", '{"prompt": "NaN", "completion": NaN}\n')
    assert row == {"prompt": "NaN", "completion": None}


def test_a_table_without_names_has_numbers(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", "kitabu,book\nmti,tree\n", header="no")
    assert rows == [{"1": "kitabu", "2": "book"}, {"1": "mti", "2": "tree"}]


def test_columns_of_one_name_and_row_names_of_r(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert read(path, "text,notes,notes\na,b,c\n") == [{"text": "a", "notes": "b", "notes 2": "c"}]
    assert "it is notes 2 here" in rows_text(path).notes[0]
    assert [*read(path, "x 2,x,x,x\na,b,c,d\n")[0]] == ["x 2", "x", "x 3", "x 4"]
    assert read(path, "text,notes,notes\na,b,c\n")
    assert read(path, '"text","label"\n"1","a","x"\n"2","b","y"\n') == [
        {"text": "a", "label": "x"}, {"text": "b", "label": "y"}]  # fmt: skip
    assert "only counts the rows" in rows_text(path).notes[0]
    assert "3 fields, the header has 2" in refused(path, "text,label\nMama, leo,x\nBaba, jana,y\n")


@given(st.lists(st.tuples(*[st.text('ab",\\', max_size=6)] * 2), min_size=1, max_size=4))
def test_marks_after_a_backslash_are_read_as_python_reads_them(rows: list[tuple[str, str]]) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL, escapechar="\\", doublequote=False)
    writer.writerows([("prompt", "completion"), *((f"{a}x", f"{b}x") for a, b in rows)])
    lines, problems = Lines(ByteSource("a.csv", [file.getvalue().encode()])), Problems()
    records, _ = read_table(lines, ",", Options(quotes="backslash"), problems)
    expected = [*csv.reader(io.StringIO(file.getvalue()), escapechar="\\", doublequote=False)][1:]
    assert [[*record.fields.values()] for record in records] == expected
    assert not problems


def test_a_mark_after_a_backslash_is_offered(tmp_path: Path) -> None:
    text = 'prompt,completion\n"Sema \\"habari\\", rafiki","Hi"\n'
    assert 'quotes = "backslash"' in refused(tmp_path / "a.csv", text)
    assert read(tmp_path / "a.csv", text, quotes="backslash") == [
        {"prompt": 'Sema "habari", rafiki', "completion": "Hi"}]  # fmt: skip
    text = 'prompt,completion\nalisema \\"ndiyo\\",\\"Hi\\"\n'
    assert read(tmp_path / "a.csv", text, quotes="backslash") == [
        {"prompt": 'alisema "ndiyo"', "completion": '"Hi"'}]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt,completion,prompt\na,b,c\n", "two columns called 'prompt'"),
        ("prompt,completion,\na,b,\nc,d,e\n", "column 3 has no name, and line 3 has 'e'"),
        (",prompt,completion\n7,a,b\n7,c,d\n", "column 1 has no name"),
        ("a;b|c\n1;2|3\n4;5|6\n", "by semicolons or by |"),
    ],
)
def test_what_is_not_clear_is_a_question(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path / "a.csv", text)


def test_columns_separated_by_spaces_are_refused(tmp_path: Path) -> None:
    message = refused(tmp_path / "a.tsv", "prompt    completion\nkitabu    book\n")
    assert "separated by spaces, expected tabs" in message


def test_every_bad_row_is_named_or_left_out_and_counted(tmp_path: Path) -> None:
    text = "prompt,completion\nkitabu,book\nnyumba, kubwa,house, big\nmti\nmaji,water\n"
    message = refused(tmp_path / "a.csv", text)
    assert "line 3: 4 fields, the header has 2" in message and "line 4: 1 field" in message
    assert 'bad_rows = "skip"' in message
    assert len(read(tmp_path / "a.csv", text, bad_rows="skip")) == 2
    file = rows_text(tmp_path / "a.csv", options=Options(bad_rows="skip"))
    assert len(file.problems) == 2


TWEETS = [
    ("1", '"Habari za leo', "positive"),
    ("2", 'mti" mkubwa', "negative"),
    ("3", 'alisema "ndiyo" jana', "neutral"),
    ("4", "it's", "positive"),
]


def test_quotation_marks_of_a_tsv_are_text_if_there_is_no_other_way_to_read_it(
    tmp_path: Path,
) -> None:
    lines = ["\t".join(cells) for cells in [("id", "text", "label"), *TWEETS]]
    path = tmp_path / "a.tsv"
    for ends in ("\n", "\r\n"):
        rows = read(path, ends.join([*lines, ""]))
        assert [tuple(row.values()) for row in rows] == TWEETS
        plain = csv.reader(io.StringIO(ends.join(lines)), delimiter="\t", quoting=csv.QUOTE_NONE)
        assert [tuple(row) for row in plain][1:] == TWEETS
    # A second mark at the end of a cell makes another way: nobody knows which is meant.
    both = 'text\tlabel\nmaji\t"x\nmoto\ty\njua\tz"\nmwezi\tx\n'
    message = refused(path, both)
    assert "lines 2 to 4: a quotation mark" in message and '`quotes = "text"`' in message
    rows = read(path, both, quotes="text")
    assert [row["label"] for row in rows] == ['"x', "y", 'z"', "x"]
    assert "lines 2 to 4" in refused(path, both, bad_rows="skip"), "three rows, not one"


def test_a_tsv_that_was_cut_off_in_a_cell_is_refused(tmp_path: Path) -> None:
    assert "never closed" in refused(tmp_path / "a.tsv", 'a\tb\nx\ty\nx\t"the end is mis')


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    everything=st.booleans(),
)
def test_what_csv_writes_is_read_or_refused(
    rows: list[tuple[str, str, str]], delimiter: str, everything: bool
) -> None:
    file = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if everything else csv.QUOTE_MINIMAL
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
    writer.writerows([("one", "two", "three"), *rows])
    problems = Problems()
    options = Options(quotes="fields")
    lines = Lines(ByteSource("a.csv", [file.getvalue().encode("utf-8")]))
    table, _ = read_table(lines, delimiter, options, problems)
    if problems:  # rows that look joined, or repeat the header
        return
    nulls = {"NaN", "nan", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "null", "\\N"}
    filled = [row for row in rows if any(cell.strip() for cell in row)]
    read = [tuple(record.fields.values()) for record in table]
    assert len(read) == len(filled)
    for found, row in zip(read, filled, strict=True):
        for value, cell in zip(found, row, strict=True):
            # A column of a few repeated words may have such a word as a label.
            assert value == cell or (value is None and cell in nulls)


TITLED = "Mradi wa 2023,,\nChuo Kikuu,,\n,,\nKiingereza,Kiswahili,Maoni\n" + "book,kitabu,\n" * 9


@pytest.mark.parametrize(
    ("name", "text", "line", "title"),
    [
        ("a.csv", TITLED, 4, "Mradi wa 2023"),
        ("a.csv", "Maswali\n\nswali;jibu\n" + "Nani?;Mimi\n" * 9, 3, "Maswali"),
        ("a.tsv", "Data\t\t\ntweet\tlabel\tby\n" + "leo\tchanya\tA\n" * 9, 2, "Data"),
    ],
)
def test_titles_above_the_names_are_refused_with_the_line_of_the_names(
    tmp_path: Path, name: str, text: str, line: int, title: str
) -> None:
    message = refused(tmp_path / name, text)
    assert f"line 1: '{title}' is a title" in message and f"`header = {line}`" in message
    path = tmp_path / name
    file = rows_text(path, options=Options(header=line))
    names = [cell for cell in re.split("[,;\t]", text.splitlines()[line - 1]) if cell]
    assert [*file.records[0].fields] == [n.lower() if n == "label" else n for n in names]
    assert [record.line for record in file.records] == [*range(line + 1, line + 10)]
    assert "expected the names" in refused(path, text, header=99)
    assert Options(header=line).mark("x", "") != Options(header="yes").mark("x", "")


@pytest.mark.parametrize("sign", ["\uff0c", "\u060c", "\uff1b", "^", "\x01"])
def test_a_sign_that_is_no_separator_of_m2m_is_a_question(tmp_path: Path, sign: str) -> None:
    text = f"text{sign}label\n" + f"Habari ya leo, rafiki{sign}chanya\n" * 3
    assert f"`sep={sign}`" in refused(tmp_path / "a.csv", text)
    found = read(tmp_path / "a.csv", f"sep={sign}\n{text}")
    assert found == [{"text": "Habari ya leo, rafiki", "label": "chanya"}] * 3
    assert len(read(tmp_path / "a.csv", f"text\nmoja{sign}mbili\ntatu\n")) == 2


def test_a_wide_row_below_narrow_ones_makes_no_title_of_the_names(tmp_path: Path) -> None:
    text = "q,a,more,x\n" + "a,b,,\n" * 9 + "c,d,e,f\n"
    assert len(read(tmp_path / "a.csv", text)) == 10
    assert "3 fields, the header has 1" in refused(
        tmp_path / "a.csv", "text\n" + "a\n" * 9 + "a,b,c\n"
    )


def test_a_first_row_that_reads_like_the_names_of_no_header_is_a_row(tmp_path: Path) -> None:
    found = read(tmp_path / "t.csv", "1,2\n3,4\n", header="no")
    assert found == [{"1": "1", "2": "2"}, {"1": "3", "2": "4"}]


@pytest.mark.parametrize("end", ["", "hiki"])
def test_a_cell_more_than_the_names_is_no_row_name_of_r_next_to_an_id(
    tmp_path: Path, end: str
) -> None:
    rows = "".join(f"{number},kitabu {number},{end}\n" for number in range(1, 4))
    if end:
        assert "3 fields, the header has 2" in refused(tmp_path / "a.csv", "id,text\n" + rows)
    else:
        expected = [{"id": f"{n}", "text": f"kitabu {n}"} for n in range(1, 4)]
        assert read(tmp_path / "a.csv", "id,text\n" + rows) == expected
        expected = [{"alama": f"{n}", "text": f"kitabu {n}"} for n in range(1, 4)]
        assert read(tmp_path / "b.csv", "alama,text\n" + rows) == expected
