"""Ask which direction is meant if a file has translations into several languages.

A model that is not told the language of the answer can only guess it. A column with the language or
the direction has to be part of the question, or to pick the rows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from m2m.counted import counted
from m2m.dataset.mapping import RowMapping
from m2m.dataset.templates import field_names, is_empty, names_in, value_at, word_key
from m2m.dataset.ways import Choice, Way
from m2m.formats.records import Record
from m2m.recipe.new_recipe import toml_value

_INTO = re.compile(r"(target|tgt|trg|output|to|dst)_?(lang|language)(_?code)?")
_FROM = re.compile(r"(source|src|input|from)_?(lang|language)(_?code)?")
_BOTH = re.compile(r"(translation_?)?direction|(lang|languages?)_?pair|pair")
_MOST = 3
_LOOKED_AT = 200  # rows that show the columns


def refuse_directions(path: Path, records: Sequence[Record], mapping: RowMapping) -> None:
    """Refuse translations into several languages, unless the mapping names the direction.

    Raises:
        Choice: names the directions, and the lines of a recipe that settle it.
    """
    if mapping.text or mapping.messages:
        return
    known = {name for template in mapping.templates for name in names_in(template)}
    known |= {name for name, _ in mapping.where}
    columns = dict.fromkeys(name for r in records[:_LOOKED_AT] for name in field_names(r.fields))
    kinds = {name: _kind(name) for name in columns}
    deciding = [name for name, kind in kinds.items() if kind in ("into", "both")]
    if not deciding or known & {*deciding}:
        return
    name = deciding[0]
    values = {*_values(records, name)}
    if len(values) < 2 or 2 * len(values) > len(records) or any(map(str.isdecimal, values)):
        return  # one direction, or the numbers of pairs
    froms = [other for other, kind in kinds.items() if kind == "from"]
    names = [*froms[:1], name] if kinds[name] == "into" else [name]
    counts = Counter(zip(*(_values(records, column) for column in names), strict=True))
    raise _mixed(path, counts, names, mapping)


def _mixed(
    path: Path, counts: Counter[tuple[str, ...]], names: Sequence[str], mapping: RowMapping
) -> Choice:
    choice = _ways(counts, names, mapping)
    listed = ", ".join(
        f"{' to '.join(values)} ({count:,})" for values, count in counts.most_common(_MOST)
    )
    more = f" and {len(counts) - _MOST} more" if len(counts) > _MOST else ""
    picked, said, every = (way.mapping.as_fields("dataset") for way in choice)
    return Choice(
        f"{path}: translates in {counted(len(counts), 'direction')}, {listed}{more}, and the "
        "question does not say which one is meant",
        f"say it in the question: prompt = {toml_value(said['prompt'])}; or use one direction: "
        f"where = {toml_value(picked['where'])}; if all rows are meant as they are, write "
        f"where = {toml_value(every['where'])}",
        choice,
    )


def _kind(name: str) -> str:
    last = re.sub(r"\W+", "_", name.rpartition(".")[2].strip().lower())
    kinds = {"into": _INTO, "from": _FROM, "both": _BOTH}
    return next((kind for kind, pattern in kinds.items() if pattern.fullmatch(last)), "")


def _values(records: Sequence[Record], name: str) -> list[str]:
    values = [value_at(record.fields, name, missing=None) for record in records]
    return ["" if is_empty(value) else word_key(value) for value in values]


def _ways(counts: Counter[tuple[str, ...]], names: Sequence[str], mapping: RowMapping) -> list[Way]:
    """Return the largest direction alone, all with the direction in the question, and all."""
    (largest, _), *_ = counts.most_common(1)
    one = tuple((name, (value,)) for name, value in zip(names, largest, strict=True))
    said = " -> ".join(f"{{{name}}}" for name in names)
    prompt, answer = mapping.prompt or "{prompt}", mapping.answer or "{completion}"
    every = (names[-1], tuple(dict.fromkeys(values[-1] for values in counts)))
    return [
        Way(replace(mapping, where=(*mapping.where, *one))),
        Way(replace(mapping, prompt=f"{said}: {prompt}", answer=answer)),
        Way(replace(mapping, where=(*mapping.where, every))),
    ]
