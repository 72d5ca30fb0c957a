"""Ask which direction is meant if a file has translations into several languages.

A model that is not told the language of the answer can only guess it. A column with the language or
the direction has to be part of the question, or to pick the rows. A column `lang` alone may be the
language of the question; it decides if the same questions have other answers in another language.
If too few rows show that, a source with its translation is asked about.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from m2m.counted import counted
from m2m.dataset.columns import plain
from m2m.dataset.mapping import RowMapping
from m2m.dataset.shapes import SOURCE, TARGET
from m2m.dataset.templates import field_names, is_empty, names_in, only_name, value_at, word_key
from m2m.dataset.translations import told_apart
from m2m.dataset.ways import Choice, Way
from m2m.formats.records import Record
from m2m.recipe.new_recipe import toml_value

_INTO = re.compile(r"(target|tgt|trg|output|to|dst)_?(lang|language)(_?code)?|tl")
_FROM = re.compile(r"(source|src|input|from)_?(lang|language)(_?code)?|sl")
_BOTH = re.compile(r"(translation_?)?direction|(lang|languages?)_?pair|pair|lp")
_LANGUAGE = re.compile(r"(lang|language|locale)(_?(code|name|id))?")
_FEWEST, _SHARED = 2, 0.05  # questions with answers in two languages; of all different questions
_LEAST_OF_EACH, _MOST_OF_EACH = 20, 100  # rows of a language that are compared
_APART, _TOGETHER = 0.88, 0.8  # of the rows
_MOST = 3
_LOOKED_AT = 200  # rows that show the columns


def refuse_directions(
    path: Path, records: Sequence[Record], mapping: RowMapping, sides: Sequence[tuple[str, str]]
) -> None:
    """Refuse translations into several languages, unless the mapping names the direction.

    Args:
        path: named in errors.
        records: the rows.
        mapping: how they are read.
        sides: the question and the answer of each row.

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
    if not deciding:
        _refuse_languages(path, records, mapping, sides)
    if not deciding or known & {*deciding}:
        return
    name = deciding[0]
    values = {*_values(records, name)}
    if len(values) < 2 or 2 * len(values) > len(records) or any(map(str.isdecimal, values)):
        return  # one direction, or the numbers of pairs
    froms = [other for other, kind in kinds.items() if kind == "from"]
    names = [*froms[:1], name] if kinds[name] == "into" else [name]
    counts = Counter(zip(*(_values(records, column) for column in names), strict=True))
    mixed = f"translates in {counted(len(counts), 'direction')}, "
    raise _mixed(f"{path}: {mixed}", counts, _ways(counts, names, records, mapping))


def _refuse_languages(
    path: Path, records: Sequence[Record], mapping: RowMapping, sides: Sequence[tuple[str, str]]
) -> None:
    """Refuse the same questions with answers in several languages, as a column `lang` has them.

    Raises:
        Choice: as `refuse_directions`.
    """
    known = {name for template in mapping.templates for name in names_in(template)}
    known |= {name for name, _ in mapping.where}
    columns = dict.fromkeys(name for r in records[:_LOOKED_AT] for name in field_names(r.fields))
    for name in columns:
        if name in known or not _LANGUAGE.fullmatch(_last(name)):
            continue
        values = _values(records, name)
        if len({*values} - {""}) < 2:
            continue
        answered: dict[int, tuple[str, int]] = {}  # hashes: a large file does not fit into memory
        shared = set[int]()
        for language, (question, answer) in zip(values, sides, strict=True):
            key, said = hash(question), hash(answer)
            first, first_said = answered.setdefault(key, (language, said))
            if first != language and first_said != said:
                shared.add(key)
        counts = Counter[tuple[str, ...]]((value,) for value in values if value)
        mixed = ""
        if len(shared) >= max(_FEWEST, _SHARED * len(answered)):
            mixed = f"{len(shared):,} questions have answers in {len(counts):,} languages, "
        elif _only_answers_differ(values, sides):
            mixed = f"the answers are in {len(counts):,} languages, "
        elif _translates(mapping) and min(counts.values()) < _LEAST_OF_EACH:
            mixed = f"these few translations have {len(counts):,} languages, "
        if mixed:
            raise _mixed(f"{path}: {mixed}", counts, _ways(counts, [name], records, mapping))


def _translates(mapping: RowMapping) -> bool:
    """Return whether the columns of question and answer are called a source and its translation."""
    names = [plain(only_name(side) or "") for side in (mapping.prompt, mapping.answer)]
    return bool(re.fullmatch(SOURCE, names[0]) and re.fullmatch(TARGET, names[1]))


def _only_answers_differ(values: Sequence[str], sides: Sequence[tuple[str, str]]) -> bool:
    """Return whether the two most frequent languages differ in the answers, not in the questions.

    Measured on translations of programs from English, 20 to 100 rows of each language: answers of
    two languages can be separated in 92 % of the rows at least, the questions in 79 % at most.
    """
    (one, _), (two, count), *_ = Counter(value for value in values if value).most_common(2)
    if count < _LEAST_OF_EACH:
        return False
    places = [
        place
        for language in (one, two)
        for place in islice((i for i, v in enumerate(values) if v == language), _MOST_OF_EACH)
    ]
    labels = np.array([values[place] == one for place in places])
    asked, answered = (told_apart([sides[i][side] for i in places], labels) for side in (0, 1))
    return answered >= _APART and asked < _TOGETHER


def _mixed(begin: str, counts: Counter[tuple[str, ...]], choice: list[Way]) -> Choice:
    listed = ", ".join(
        f"{' to '.join(values)} ({count:,})" for values, count in counts.most_common(_MOST)
    )
    more = f" and {len(counts) - _MOST} more" if len(counts) > _MOST else ""
    picked, *said, every = (way.mapping.as_fields("dataset") for way in choice)
    asked = f"say it in the question: prompt = {toml_value(said[0]['prompt'])}; or " if said else ""
    return Choice(
        f"{begin}{listed}{more}, and the question does not say which one is meant",
        f"{asked}use one alone: where = {toml_value(picked['where'])}; if all rows are meant as "
        f"they are, write where = {toml_value(every['where'])}",
        choice,
    )


def _last(name: str) -> str:
    return re.sub(r"\W+", "_", name.rpartition(".")[2].strip().lower())


def _kind(name: str) -> str:
    last = _last(name)
    kinds = {"into": _INTO, "from": _FROM, "both": _BOTH}
    return next((kind for kind, pattern in kinds.items() if pattern.fullmatch(last)), "")


def _values(records: Sequence[Record], name: str) -> list[str]:
    values = [value_at(record.fields, name, missing=None) for record in records]
    return ["" if is_empty(value) else word_key(value) for value in values]


def _ways(
    counts: Counter[tuple[str, ...]],
    names: Sequence[str],
    records: Sequence[Record],
    mapping: RowMapping,
) -> list[Way]:
    """Return the largest direction alone, all with the direction in the question, and all.

    The second is left out if the rows' format does not show which column is the question.
    """
    (largest, _), *_ = counts.most_common(1)
    one = tuple((name, (value,)) for name, value in zip(names, largest, strict=True))
    every = (names[-1], tuple(dict.fromkeys(values[-1] for values in counts)))
    ways = [
        Way(replace(mapping, where=(*mapping.where, *one))),
        Way(replace(mapping, where=(*mapping.where, every))),
    ]
    fields = records[0].fields
    prompt = mapping.prompt or _column(fields, ("prompt", "question"))
    answer = mapping.answer or _column(fields, ("completion", "answer"))
    if prompt and answer:
        said = " -> ".join(f"{{{name}}}" for name in names)
        ways.insert(1, Way(replace(mapping, prompt=f"{said}: {prompt}", answer=answer)))
    return ways


def _column(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the template of the first column that a row has as text; "" if there is none."""
    return next((f"{{{name}}}" for name in names if isinstance(fields.get(name), str)), "")
