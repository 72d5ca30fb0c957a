#!/usr/bin/env python3
"""Write what `m2m validate` and `scripts/validate_variants.py` found into a RESULTS.md.

    scripts/results.py examples/swahili/recipe.toml

replaces what stands between a pair of markers `<!-- NAME -->` and `<!-- end of NAME -->` in the
RESULTS.md beside the recipe; NAME is a file of the run's folder without its suffix, such as
validate-fixed or variants-proportional. Parts whose file is missing stay as they are.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from m2m.recipe import load_recipe

PART = re.compile(r"(<!-- ([\w-]+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def table(*rows: tuple[str, ...]) -> Iterator[str]:
    """Lines of a Markdown table; the first row is its head."""
    for number, row in enumerate(rows):
        yield f"| {' | '.join(row)} |"
        if number == 0:
            yield f"|{' --- |' * len(row)}"
    yield ""


def correlation(found: Mapping[str, Any], name: str) -> str:
    """A correlation with its interval."""
    low, high = found[f"{name}_ci95"]
    return f"{found[name]:.2f} ({low:.2f} to {high:.2f})"


def validation(found: Mapping[str, Any]) -> str:
    """The tables of one `validate-BUDGET.json`."""
    head = ("predictor", "against fine-tunes on", "mixtures", "Spearman", "Pearson")
    rows = [head]
    against = {**found["agreement"], "fine-tunes on dev": {"test": found["repeatability"]}}
    for predictor, splits in against.items():
        for split, groups in splits.items():
            for group, each in (groups or {}).items():
                if each:
                    kind = "of two or more" if group == "mixtures" else "with singles"
                    values = (correlation(each, name) for name in ("spearman", "pearson"))
                    name = predictor.replace("_", " ")
                    rows.append((name, split, f"{each['mixtures']} {kind}", *values))
    lines = [*table(*rows)]
    costs = [("choice", f"regret ({found['judged_on']})", "95 % interval", "mixture")]
    for choice, lost in found["regret"].items():
        low, high = found["regret_ci95"][choice]
        pick = " + ".join(found["picks"].get(choice, {}).get("datasets", ("mean of two or more",)))
        costs.append((choice.replace("_", " "), f"{lost:.3f}", f"{low:.3f} to {high:.3f}", pick))
    lines += table(*costs)
    columns = ["rank", "surrogate", "mean_of_singles", "similarity"]
    columns += [f"finetuned_{split}" for split in ("dev", "test")]
    scatter = [(*(name.replace("_", " ") for name in columns), "steps", "datasets")]
    for each in sorted(found["mixtures"], key=lambda each: -each["finetuned"]):
        values = (f"{each[name]:.3f}" for name in columns[1:])
        datasets = " + ".join(each["datasets"])
        scatter.append((str(each["rank"] or "-"), *values, str(each["steps"]), datasets))
    return "\n".join([*lines, *table(*scatter)])


def main(recipe: Path) -> None:
    """Rewrite the parts that there are files for."""
    folder, page = load_recipe(recipe).folder, recipe.parent / "RESULTS.md"

    def part(match: re.Match[str]) -> str:
        tables = folder / f"{match[2]}.json", folder / f"{match[2]}.md"
        if tables[0].is_file():
            text = validation(json.loads(tables[0].read_text(encoding="utf-8")))
        elif tables[1].is_file():
            text = tables[1].read_text(encoding="utf-8")
        else:
            return match[0]
        return f"{match[1]}{text}{match[3]}"

    page.write_text(PART.sub(part, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
