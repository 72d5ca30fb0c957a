"""Columns of CSV files have the values that pandas and so `datasets` give them."""

from __future__ import annotations

import csv
import io
import random
from typing import Any

import pytest

from m2m.formats.table_types import column_names, typed

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
pandas = pytest.importorskip("pandas", reason="pip install lm-eval")
pyarrow = pytest.importorskip("pyarrow", reason="pip install lm-eval")
# Whole numbers of more than 64 bits are left out: with most other cells pandas itself fails.
CELLS = ["", "NA", "nan", "None", "null", "NULL", "#N/A", "n/a", "<NA>", "-nan", "01", "1", "-1"]
CELLS += ["+1", " 1", "1 ", " ", "00", "1.", "0.5", ".5", "-.5", "1e3", "1E-3", "1e400", "inf"]
CELLS += ["-inf", "Infinity", "+inf", "True", "TRUE", "true", "tRUE", "False", "yes", "a b", "é"]
CELLS += ["1,000", "1_000", "0x1f", "12a", "9223372036854775807", "-9223372036854775808", "nan "]
CELLS += ["2020-01-01", "1/2", "-", ".", "e5", "1e", "none", "Nan", "1.5e", "\u0663", "½", "5e-324"]


def theirs(cells: list[str]) -> list[Any]:
    file = io.StringIO()
    csv.writer(file).writerows([["k", "x"], *(["r", cell] for cell in cells)])
    file.seek(0)
    return pyarrow.Table.from_pandas(pandas.read_csv(file)).column("x").to_pylist()


def test_columns_have_the_values_that_pandas_gives_them() -> None:
    rng = random.Random(0)
    columns = [[one, two] for one in CELLS for two in CELLS]
    columns += [rng.choices(CELLS, k=rng.randint(1, 6)) for _ in range(2000)]
    for cells in columns:
        ours, known = typed(cells), theirs(cells)
        assert (list(map(type, ours)), ours) == (list(map(type, known)), known), cells


def test_columns_have_the_names_that_pandas_gives_them() -> None:
    rng = random.Random(0)
    names = ["", "r", "r.1", "r.2", "a", "Unnamed: 0", "Unnamed: 1", "Unnamed: 1.1", "r.1.1", " "]
    for _ in range(2000):
        header = rng.choices(names, k=rng.randint(2, 7))
        file = io.StringIO()
        csv.writer(file).writerows([header, ["1"] * len(header)])
        file.seek(0)
        assert column_names(header) == list(pandas.read_csv(file).columns), header
