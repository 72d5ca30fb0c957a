"""Write a report into a run's folder, or a comparison: a page, JSON, and a file for each table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m2m.escaping import markdown_text
from m2m.formats.atomic import write_json, write_text
from m2m.formats.json_fields import JsonFields
from m2m.report.compare_page import compare_page
from m2m.report.page import page
from m2m.results.compared import Compared
from m2m.results.facts import Facts, csv_tables
from m2m.results.folder import RunFolder
from m2m.results.table import as_csv, as_latex, as_markdown


@dataclass(frozen=True)
class Written(JsonFields):
    """The files of a report."""

    html: Path
    json: Path
    csv: tuple[Path, ...]


def write_report(facts: Facts, folder: Path) -> Written:
    """Write all forms of the report into `folder`; the same facts give the same bytes.

    Raises:
        InputError: the folder cannot be written to, or links lead out of it.
        ResourceError: the disk is full.
    """
    stored = RunFolder(folder)
    stored.refuse_links()
    html, data = stored.page, stored.data
    write_text(html, page(facts))
    write_json(data, facts.as_json())
    tables = {stored.tables / f"{table.name}.csv": table for table in csv_tables(facts)}
    for path, table in tables.items():
        write_text(path, as_csv(table))
    return Written(html, data, tuple(tables))


def write_comparison(compared: Compared, folder: Path) -> list[Path]:
    """Write a comparison's page, and each of its tables as CSV, Markdown and LaTeX.

    Raises:
        InputError: the folder cannot be written to.
        ResourceError: the disk is full.
    """
    files = {folder / "compare.html": compare_page(compared)}
    for table in compared.tables:
        files[folder / f"{table.name}.csv"] = as_csv(table)
        files[folder / f"{table.name}.md"] = as_markdown(table, markdown_text) + "\n"
        files[folder / f"{table.name}.tex"] = as_latex(table)
    for path, text in files.items():
        write_text(path, text)
    return [*files]
