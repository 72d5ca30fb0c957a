"""Ask whether a word such as NA is a label, or stands for an empty field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from m2m.dataset.conversation import NOTHING
from m2m.dataset.mapping import RowMapping
from m2m.dataset.templates import is_empty, only_name, value_at, word_key
from m2m.dataset.ways import Choice, Way
from m2m.errors import InputError
from m2m.formats.records import Record
from m2m.recipe.new_recipe import toml_value

_MOST_LABELS, _LONGEST_LABEL = 20, 30


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
    try:
        values = [value_at(record.fields, name, missing=None) for record in records]
    except InputError:
        return
    if any(isinstance(value, list | dict) for value in values):
        return
    counts = Counter(word_key(value) for value in values if not is_empty(value))
    words = [word for word in counts if word in NOTHING and counts[word] > 1]
    if not words or len(counts) == len(words) or not _are_labels(counts):
        return
    shown = " and ".join(f"{word!r} in {counts[word]:,}" for word in words)
    choice = replace(mapping, answer=f"{{{name}}}", labels=tuple((key, key) for key in counts))
    if not choice.prompt:
        choice = replace(choice, prompt="{prompt}" if "prompt" in first else "{question}")
    labels = toml_value(choice.as_fields("dataset")["labels"])
    raise Choice(
        f"{path}: {name} is {shown} of {len(records):,} rows: is that a label, or did a program "
        "write it for an empty field?",
        f"if it is a label, write labels = {labels} in the recipe; if not, leave these rows out "
        'with `bad_rows = "skip"`',
        [Way(choice)],
    )


def _are_labels(counts: Counter[str]) -> bool:
    return (
        len(counts) <= _MOST_LABELS
        and 2 * len(counts) <= counts.total()
        and all(len(word) <= _LONGEST_LABEL for word in counts)
    )
