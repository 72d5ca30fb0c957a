"""Formulas without a result are refused; those that Excel or LibreOffice computed are read."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.formats.test_containers import ods, ods_row, read, refused, xlsx, zipped

pytest.importorskip("python_calamine")

WAITS = '<calcPr calcId="124519" fullCalcOnLoad="1"/>'  # openpyxl and XlsxWriter write it
FORMULA = '<f>CONCATENATE("jibu ",A2)</f>'
CELLS: list[tuple[str, Any]] = [("A1", "prompt"), ("B1", "completion")]
CELLS += [(f"A{row}", f"swali {row}") for row in range(2, 7)]


def sheet(path: Path, *cells: tuple[str, str], more: str = "", sheet: str = "Data 1") -> Path:
    formulas = [(f"B{row}", cell) for row, cell in enumerate(cells, 2)]
    return xlsx(path, {sheet: [*CELLS, *formulas], "Empty": []}, more)


@pytest.mark.parametrize(
    ("cell", "more"),
    [
        (("", f"{FORMULA}<v/>"), WAITS),  # openpyxl
        (("", f"{FORMULA}<v></v>"), ""),
        (("", FORMULA), ""),  # Apache POI
        (("", f"{FORMULA}<v>0</v>"), WAITS),  # XlsxWriter
        (("", '<f t="shared" si="0"/>'), ""),
    ],
)
def test_formulas_without_a_result_are_refused(
    tmp_path: Path, cell: tuple[str, str], more: str
) -> None:
    message = refused(sheet(tmp_path / "a.xlsx", *[cell] * 5, more=more))
    assert "has a sheet 'Data 1' in which the formulas of cells B2, B3, B4 and 2 more" in message
    assert "open it in Excel or LibreOffice Calc and save it once" in message


def test_one_formula_without_a_result_is_named(tmp_path: Path) -> None:
    good = ('t="str"', f"{FORMULA}<v>jibu</v>")
    message = refused(sheet(tmp_path / "a.xlsx", good, good, ("", FORMULA)))
    assert "the formula of cell B4 has no result" in message


def test_computed_formulas_are_read(tmp_path: Path) -> None:
    cells = [
        ('t="str"', f"{FORMULA}<v>jibu</v>"),
        ("", f"{FORMULA}<v>0</v>"),
        ('t="str"', f"{FORMULA}<v></v>"),  # an empty text
    ]
    rows = read(sheet(tmp_path / "a.xlsx", *cells, more=WAITS))
    assert [row["completion"] for row in rows[:3]] == ["jibu", "0", ""]


def test_another_sheet_with_such_formulas_does_not_matter(tmp_path: Path) -> None:
    cells = {"Data": [*CELLS, ("B2", "jibu")], "Work": [("A1", ("", FORMULA))]}
    path = xlsx(tmp_path / "a.xlsx", cells)
    assert read(path / "Data")[0]["completion"] == "jibu"
    assert "cell A1" in refused(path / "Work")


def test_formulas_of_libreoffice(tmp_path: Path) -> None:
    formula = '<table:table-cell table:formula="of:=1+1" {}/>'
    value = 'office:value-type="float" office:value="2"'
    far = '<table:table-cell table:number-columns-repeated="25"/>'

    def row(cell: str) -> str:
        return ods_row("swali", repeated=2).replace(
            "</table:table-row>", f"{cell}</table:table-row>"
        )

    head = ods_row("prompt", "completion")
    path = tmp_path / "a.ods"
    assert read(ods(path, head + row(formula.format(value))))[0]["completion"] == "2"
    rows = row(formula.format("")) + row(far + formula.format(""))
    assert "cells B2, AA4 have no result" in refused(ods(path, head + rows))


def test_an_entity_in_a_sheet_with_formulas_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(sheet(tmp_path / "a.xlsx", ("", FORMULA))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    declared = b'<!DOCTYPE x [<!ENTITY a "b">]>'
    sheets = {name: declared + data for name, data in members.items() if "sheet1" in name}
    path = zipped(tmp_path / "b.xlsx", {**members, **sheets})
    assert "declares the entity 'a'" in refused(path)
