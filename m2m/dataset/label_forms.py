"""Find labels that are one word to people and several to a model: "Positive" and "positive "."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from m2m.dataset.empty_words import are_labels, label_counts, refuse_doubtful_labels
from m2m.dataset.mapping import RowMapping
from m2m.dataset.templates import as_text, names_in, word_key
from m2m.dataset.ways import Choice, Way
from m2m.formats.records import Record
from m2m.recipe.new_recipe import toml_value

_SHOWN = 3  # groups of labels that a message lists


def alike_labels(labels: Mapping[str, int]) -> list[list[str]]:
    """Return the groups of labels that differ only in case, spaces or normal form.

    Args:
        labels: how often each label is the answer.

    Returns:
        Groups of two or more, in the order of `labels`; the most frequent label of each is first.
    """
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(_form(label), []).append(label)
    return [sorted(group, key=lambda label: -labels[label])
            for group in groups.values() if len(group) > 1]  # fmt: skip


def alike_words(labels: Mapping[str, int], groups: Sequence[Sequence[str]]) -> str:
    """Return groups of labels in words, each label with its count."""
    shown = [" and ".join(f"{label!r:.40} ({labels[label]:,})" for label in group)
             for group in groups[:_SHOWN]]  # fmt: skip
    return "; ".join([*shown, "..."] if len(groups) > _SHOWN else shown)


def labels_apart(own: Iterable[str], others: Mapping[str, Iterable[str]]) -> str:
    """Say which labels of a file another file writes in another way; "" if there are none.

    Args:
        own: the labels of a file.
        others: those of other files, by name.
    """
    known = {*own}
    forms = {_form(label): label for label in own}
    words = []
    for name, labels in others.items():
        pairs = [(forms[_form(label)], label) for label in labels
                 if label not in known and _form(label) in forms]  # fmt: skip
        if pairs:
            shown = ", ".join(f"{one!r:.40} and {other!r:.40}" for one, other in pairs[:_SHOWN])
            words.append(f"{shown} in {name}")
    return "; ".join(words)


def refuse_unclear_labels(
    path: Path, records: Sequence[Record], mapping: RowMapping, *, skips: bool
) -> None:
    """Ask about labels that are none, perhaps, and about those that are one word in two forms.

    Args:
        path: the file.
        records: its rows.
        mapping: how they are read.
        skips: whether rows without an answer are left out.

    Raises:
        Choice: names them, and the line of a recipe that settles it.
    """
    if not skips:
        refuse_doubtful_labels(path, records, mapping)
    refuse_alike_labels(path, records, mapping)


def refuse_alike_labels(path: Path, records: Sequence[Record], mapping: RowMapping) -> None:
    """Ask about labels that differ only in case or spaces: nobody means them as two classes.

    Raises:
        Choice: names them and their counts, and the line of a recipe that joins them.
    """
    first = records[0].fields if records else {}
    answer = mapping.answer or ("{completion}" if "completion" in first else "{answer}")
    names = names_in(answer)
    if len(names) != 1 or mapping.labels or mapping.choices or mapping.messages or mapping.text:
        return
    if "choices" in first:  # its answers name a choice, whatever their case
        return
    labels = label_counts(records, names[0], as_text)
    groups = alike_labels(labels) if are_labels(labels) else []
    if not groups:
        return
    words = _joined(labels, groups)
    choice = replace(mapping, answer=answer, labels=tuple(words.items()))
    if not choice.prompt:
        choice = replace(choice, prompt="{prompt}" if "prompt" in first else "{question}")
    raise Choice(
        f"{path}: labels in {names[0]} differ only in case or spaces, so each is a class of its "
        f"own: {alike_words(labels, groups)}",
        f"to join them, write labels = {toml_value(words)} in the recipe, or write each label one "
        "way in the file",
        [Way(choice)],
    )


def _joined(labels: Iterable[str], groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return a word for each value of the answer: the most frequent label of its group."""
    best = {label: group[0].strip() for group in groups for label in group}
    return {word_key(label): best.get(label, label.strip()) for label in labels}


def _form(label: str) -> str:
    return " ".join(unicodedata.normalize("NFC", label).casefold().split())
