#!/usr/bin/env python3
"""Write what `m2m validate` and `scripts/research/validate_variants.py` found into a RESULTS.md.

    scripts/research/results.py examples/swahili/recipe.toml

replaces what stands between a pair of markers `<!-- NAME -->` and `<!-- end of NAME -->` in the
RESULTS.md beside the recipe; NAME is a file of the run's folder without its suffix, such as
validate-fixed or variants-proportional. Parts whose file is missing stay as they are.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from m2m.recipe import load_recipe
from m2m.results.table import as_markdown
from m2m.results.validation import Validation, validation_tables

PART = re.compile(r"(<!-- ([\w-]+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def validation(result: Validation) -> str:
    """The tables of one `validate-BUDGET.json`."""
    tables = validation_tables(result)
    return "".join(f"{table.caption}.\n\n{as_markdown(table, str)}\n\n" for table in tables)


def main(recipe: Path) -> None:
    """Rewrite the parts that there are files for."""
    folder, page = load_recipe(recipe).folder, recipe.parent / "RESULTS.md"

    def part(match: re.Match[str]) -> str:
        tables = folder / f"{match[2]}.json", folder / f"{match[2]}.md"
        if tables[0].is_file():
            stored = json.loads(tables[0].read_text(encoding="utf-8"))
            text = validation(Validation.from_json(stored))
        elif tables[1].is_file():
            text = tables[1].read_text(encoding="utf-8")
        else:
            return match[0]
        return f"{match[1]}{text}{match[3]}"

    page.write_text(PART.sub(part, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
