from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

from m2m.evaluate.score import Score
from m2m.mix.ranking import Interval
from m2m.report import write_report
from m2m.results.facts import csv_tables, tables
from m2m.results.table import Column, Table, as_csv, as_markdown
from tests.report import samples

COLUMNS = [
    Column("text", "text"),
    Column("score", "score", Score),
    Column("span", "span", Interval, lambda span: span.signed),
    Column("count", "count", int),
    Column("hidden", "", float),
]


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_cell_is_text_for_people_and_numbers_in_csv() -> None:
    row = ("a", Score(0.5, 0.25), Interval(-0.1, -0.2, 0.3), 1234, 0.125)
    table = Table("t", "Caption", COLUMNS, [row])
    assert next(table.shown()) == (
        ["a", "0.500 ± 0.250", "-0.100 (-0.200 to +0.300)", "1,234"],
        False,
    )
    (found,) = read(as_csv(table))
    assert found == {
        "text": "a", "score": "0.5", "score_stderr": "0.25", "span": "-0.1", "span_low": "-0.2",
        "span_high": "0.3", "count": "1234", "hidden": "0.125",
    }  # fmt: skip


def test_text_is_no_formula_and_unknown_numbers_are_empty() -> None:
    rows = [("=1+1", Score(0.5), None, None, math.nan), ('a,"b"\nc', None, None, 0, None)]
    table = Table("t", "Caption", COLUMNS, rows)
    formula, quoted = read(as_csv(table))
    assert formula["text"] == "'=1+1"
    assert (formula["score"], formula["score_stderr"], formula["hidden"]) == ("0.5", "", "")
    assert quoted["text"] == 'a,"b"\nc'
    assert next(row for row, _ in table.shown()) == ["=1+1", "0.500", "-", "-"]


def test_people_see_the_ends_of_a_long_table_and_csv_has_all() -> None:
    rows = [(f"{i}", None, None, i, None) for i in range(10)]
    table = Table("t", "Caption", COLUMNS, rows, strong=frozenset({9}), top=3, bottom=2)
    shown = list(table.shown())
    assert [row[0] for row, _ in shown] == ["0", "1", "2", "...", "8", "9"]
    assert [strong for _, strong in shown] == [False] * 5 + [True]
    assert len(read(as_csv(table))) == 10
    short = Table("t", "Caption", COLUMNS, rows[:5], top=3, bottom=2)
    assert len(list(short.shown())) == 5


def test_markdown_has_a_line_for_each_row() -> None:
    table = Table("t", "Caption", COLUMNS[:2], [("a|b", Score(0.5, 0.1))])
    lines = as_markdown(table, lambda text: text.replace("|", "/")).splitlines()
    assert lines == ["| text | score |", "| --- | --- |", "| a/b | 0.500 ± 0.100 |"]


def test_csv_has_every_mixture_with_its_shares() -> None:
    found = {table.name: table for table in csv_tables(samples.facts())}
    rows = read(as_csv(found["ranking"]))
    assert len(rows) == 7
    assert rows[0]["mixture"] == "aa"
    assert float(rows[0]["choice_bits"]) == 0.5
    assert [float(rows[-1][f"proportion of {n}"]) for n in ("aa", "bb", "cc")] == [0, 0.5, 0.5]
    assert {"ranking", "worth", "confirmed", "losses", "validation", "data", "costs"} <= {*found}


def test_names_of_tables_are_different() -> None:
    names = [table.name for table in tables(samples.facts())]
    assert len(names) == len(set(names))


def test_all_forms_are_written_and_json_has_no_nan(tmp_path: Path) -> None:
    written = write_report(samples.facts(text=samples.EVIL), tmp_path)
    data = json.loads(written.json.read_text(encoding="utf-8"), parse_constant=lambda x: 1 / 0)
    accuracy = data["confirmation"]["confirmed"][0]["dev"]["accuracy"]
    assert accuracy == {"value": 0.5, "stderr": None}
    assert data["energy_kwh"] == 0.03
    assert written.html.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert len(written.csv) == len(csv_tables(samples.facts(text=samples.EVIL)))
    assert all(path.is_file() for path in written.csv)
