"""Ask how a file is meant: the mappings that could be meant, ready to paste into the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from m2m.dataset.columns import columns_of
from m2m.dataset.guess import Role, guess
from m2m.dataset.mapping import RowMapping
from m2m.dataset.ways import Way, tagged_columns, ways
from m2m.formats.records import Record
from m2m.formats.tagged import tagged_row
from m2m.recipe.new_recipe import toml_value

_NUMBERED = '`header = "no"` means that line 1 is a row, too: the columns are {1}, {2} ...'
_SHELL = str.maketrans({"\n": "\\n"})  # `m2m.cli.options` makes a line break of it again


def mappings_hint(path: Path, records: Sequence[Record], part: Role, table: bool = False) -> str:
    """Return a hint with two or three mappings, made from the file's own columns; "" for none.

    Args:
        path: the file.
        records: its rows.
        part: their purpose.
        table: whether its first row was taken for the names of the columns.
    """
    made, choice = guess(path, records, part), ways(path, records, part, table)
    blocks = [pasted(way.mapping, part, way.header) for way in choice]
    if not blocks:
        return ""
    if choice[-1].header == "no":
        blocks[-1] += "\n" + _NUMBERED
    if example := tagged_example(records):
        return f"{example}; or write one of these:\n" + "\n  or\n".join(blocks)
    own = f"`m2m init` knows these rows ({made.shape}). " if made else ""
    count = "one of these" if len(blocks) > 1 else "this"
    return f"{own}write {count} under its [[{part}s]] in the recipe:\n" + "\n  or\n".join(blocks)


def tagged_example(records: Sequence[Record]) -> str:
    """Return how to make a question of rows with a tag for each word; "" for other rows."""
    if not (tagged := tagged_columns(columns_of(records))):
        return ""
    words, tags = (records[0].fields.get(name, []) for name in tagged)
    row = tagged_row([(str(w), str(t)) for w, t in zip(words, tags, strict=False)][:12])
    return f"each word has a tag; {row}"


def pasted(mapping: RowMapping, part: Role, header: str = "auto") -> str:
    """Return a mapping as lines of a recipe."""
    first = {"header": header} if header != "auto" else {}
    values = {**first, **mapping.as_fields(part)}
    return "\n".join(f"    {key} = {toml_value(value)}" for key, value in values.items())


def in_one_line(mapping: RowMapping, part: Role) -> str:
    """Return a mapping as fields of a recipe with commas between them."""
    return ", ".join(f"{k} = {toml_value(v)}" for k, v in mapping.as_fields(part).items())


def as_options(way: Way) -> list[str]:
    """Return a way to read a file as options of `m2m init` and `m2m data preview`."""
    values = way.mapping.as_fields("dataset")
    options = [] if way.header == "auto" else ["--header", way.header]
    for key, value in values.items():
        if isinstance(value, dict):
            for name, given in value.items():
                for one in given if isinstance(given, list) else [given]:
                    options += [
                        f"--{key}",
                        f"{name}={str(one).lower() if isinstance(one, bool) else one}",
                    ]
        else:
            for one in value if isinstance(value, tuple) else [value]:
                options += [f"--{key}", str(one).translate(_SHELL)]
    return options
