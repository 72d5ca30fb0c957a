"""Puts a report into a run's folder: report.html, report.json and one CSV for each table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.formats.atomic import write_json, write_text
from m2m.report.facts import Facts
from m2m.report.page import page
from m2m.report.records import as_csv, records


@dataclass(frozen=True)
class Written:
    """Where a report lies."""

    html: Path
    json: Path
    csv: tuple[Path, ...]

    def as_json(self) -> dict[str, Any]:
        """The paths."""
        return {
            "html": str(self.html),
            "json": str(self.json),
            "csv": [str(path) for path in self.csv],
        }


def write_report(facts: Facts, folder: Path) -> Written:
    """Write all forms of the report into `folder`; the same facts give the same bytes.

    Raises:
        InputError: the folder cannot be written to.
        ResourceError: the disk is full.
    """
    html, data = folder / "report.html", folder / "report.json"
    write_text(html, page(facts))
    write_json(data, facts.as_json())
    tables = {folder / "report" / f"{name}.csv": rows for name, rows in records(facts).items()}
    for path, rows in tables.items():
        write_text(path, as_csv(rows))
    return Written(html, data, tuple(tables))
