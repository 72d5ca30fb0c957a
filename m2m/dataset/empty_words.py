"""Ask whether a word such as NA is a label, or stands for an empty field; count such fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from m2m.counted import counted
from m2m.dataset.conversation import NOTHING, is_nothing
from m2m.dataset.mapping import RowMapping
from m2m.dataset.no_label import MISSING
from m2m.dataset.templates import is_empty, only_name, value_at, word_key
from m2m.dataset.ways import Choice, Way
from m2m.errors import InputError
from m2m.formats.records import Record
from m2m.recipe.new_recipe import toml_value

_MOST_LABELS, _LONGEST_LABEL = 20, 30
# Signs that people write for a missing label, as SNLI does if its annotators disagree.
_SIGNS = {"-", "--", "?", "??", "_", "."}


def refuse_doubtful_labels(path: Path, records: Sequence[Record], mapping: RowMapping) -> None:
    """Ask about NA, None and the like among labels: Namibia's code, or a label that is missing?

    A word is a label, perhaps, if it is there more than once and the other answers are few words.

    Raises:
        Choice: names the word and its count, and the lines of a recipe that settle it.
    """
    first = records[0].fields if records else {}
    name = only_name(mapping.answer or ("{completion}" if "completion" in first else "{answer}"))
    if not name or mapping.labels or mapping.choices or mapping.messages or mapping.text:
        return
    counts = label_counts(records, name, word_key)
    if not counts:
        return
    _refuse_signs(path, name, counts, mapping)
    words = [word for word in counts if word in NOTHING and counts[word] > 1]
    if not words or len(counts) == len(words) or not are_labels(counts):
        return
    shown = " and ".join(f"{word!r} in {counts[word]:,}" for word in words)
    choice = replace(mapping, answer=f"{{{name}}}", labels=tuple((key, key) for key in counts))
    if not choice.prompt:
        choice = replace(choice, prompt="{prompt}" if "prompt" in first else "{question}")
    labels = toml_value(choice.as_fields("dataset")["labels"])
    raise Choice(
        f"{path}: {name} is {shown} of {counted(len(records), 'row')}: is that a label, or did a "
        "program write it for an empty field?",
        f"if it is a label, write labels = {labels} in the recipe; if not, leave these rows out "
        'with `bad_rows = "skip"`',
        [Way(choice)],
    )


def _refuse_signs(path: Path, name: str, counts: Counter[str], mapping: RowMapping) -> None:
    """Ask about a sign among labels that are words, unless `where` says which labels are meant.

    Raises:
        Choice: names the sign and its count, and the lines of a recipe that settle it.
    """
    words = [label for label in counts if any(map(str.isalnum, label)) and label != MISSING]
    lettered = any(character.isalpha() for word in words for character in word)
    signs = [label for label in counts if label in _SIGNS or (label == MISSING and lettered)]
    chosen = any(key == name for key, _ in mapping.where)
    if chosen or not signs or not words or not are_labels(counts):
        return
    without = replace(mapping, where=(*mapping.where, (name, tuple(words))))
    all_of_them = replace(mapping, where=(*mapping.where, (name, tuple(counts))))
    where, whole = (toml_value(way.as_fields("dataset")["where"]) for way in (without, all_of_them))
    shown = " and ".join(f"{sign!r} in {counts[sign]:,}" for sign in signs)
    raise Choice(
        f"{path}: {name} is {shown} of {counted(counts.total(), 'row')}: is that a label, or a "
        "missing one?",
        f"if it is missing, write where = {where} in the recipe; if it is a label, write "
        f"where = {whole}",
        [Way(without), Way(all_of_them)],
    )


def label_counts(records: Iterable[Record], name: str, key: Callable[[Any], str]) -> Counter[str]:
    """Return how often a field has each of its values, by their key; nothing if it has many.

    A field whose values are lists or objects, or longer texts, has no labels either.
    """
    counts = Counter[str]()
    try:
        for record in records:
            value = value_at(record.fields, name, missing=None)
            if isinstance(value, list | dict):
                return Counter()
            if not is_empty(value):
                counts[key(value)] += 1
                if len(counts) > _MOST_LABELS:
                    return Counter()
    except InputError:
        return Counter()
    return counts


def are_labels(counts: Counter[str]) -> bool:
    """Return whether answers are labels: a few short ones, each used twice on average."""
    return (
        len(counts) <= _MOST_LABELS
        and 2 * len(counts) <= counts.total()
        and all(len(word) <= _LONGEST_LABEL for word in counts)
    )


def emptied(records: Sequence[Record], names: Sequence[str]) -> list[str]:
    """Say how many values of optional fields are words such as nan, which are read as empty."""
    notes = []
    for name in dict.fromkeys(names):
        values = (value_at(record.fields, name, missing=None) for record in records)
        if count := sum(is_nothing(value) for value in values if value):
            many = counted(count, "value")
            notes.append(f"{many} of {name} with nan, <noinput> or the like read as empty")
    return notes
