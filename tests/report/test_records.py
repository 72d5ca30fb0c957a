from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

from m2m.report import write_report
from m2m.report.records import as_csv, records
from tests.report import samples


def test_csv_reads_back_with_every_mixture_and_its_shares() -> None:
    facts = samples.facts()
    rows = list(csv.DictReader(io.StringIO(as_csv(records(facts)["ranking"]))))
    assert len(rows) == 7
    assert rows[0]["mixture"] == "aa"
    assert float(rows[0]["choice_bits"]) == 0.5
    assert [float(rows[-1][f"share of {n}"]) for n in ("aa", "bb", "cc")] == [0, 0.5, 0.5]
    assert set(records(facts)) == {
        "ranking", "worth", "confirmed", "facets", "losses", "validation", "data", "costs"
    }  # fmt: skip


def test_text_is_no_formula_and_unknown_numbers_are_empty() -> None:
    found = as_csv([{"text": "=1+1", "number": -1.5, "nan": math.nan, "quoted": 'a,"b"\nc'}])
    assert found == 'text,number,nan,quoted\n\'=1+1,-1.5,,"a,""b""\nc"\n'


def test_all_forms_are_written_and_json_has_no_nan(tmp_path: Path) -> None:
    written = write_report(samples.facts(text=samples.EVIL), tmp_path)
    data = json.loads(written.json.read_text(encoding="utf-8"), parse_constant=lambda x: 1 / 0)
    assert data["confirmation"]["models"][0]["dev"]["accuracy"] == [0.5, None]
    assert data["energy_kwh"] == 0.03
    assert written.html.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert {path.stem for path in written.csv} == set(records(samples.facts()))
    assert all(path.is_file() for path in written.csv)
