"""Ask how a file is meant: the mappings that could be meant, ready to paste into the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from m2m.dataset.guess import Part, guess, options
from m2m.dataset.mapping import RowMapping
from m2m.formats.records import Record
from m2m.recipe.template import toml_value

_MOST = 3


def mappings_hint(path: Path, records: Sequence[Record], part: Part) -> str:
    """Return a hint with two or three mappings, made from the file's own columns; "" for none."""
    made = guess(path, records, part)
    mappings = options(records, part)
    if made:
        mappings = [made.mapping, *(mappings[-1:] if not made.mapping.messages else [])]
    blocks = [pasted(mapping, part) for mapping in dict.fromkeys(mappings)][:_MOST]
    if not blocks:
        return ""
    own = f"`m2m init` knows these rows ({made.shape}). " if made else ""
    count = "one of these" if len(blocks) > 1 else "this"
    return f"{own}write {count} under its [[{part}s]] in the recipe:\n" + "\n  or\n".join(blocks)


def pasted(mapping: RowMapping, part: Part) -> str:
    """Return a mapping as lines of a recipe."""
    return "\n".join(
        f"    {key} = {toml_value(value)}" for key, value in mapping.as_fields(part).items()
    )
