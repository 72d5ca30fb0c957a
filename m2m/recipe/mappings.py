"""Read the fields of a recipe that are tables, and mappings that one entry takes from another."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from m2m.recipe.data_fields import Dataset, Target
from m2m.spelling import likely

UNKNOWN = "?"  # begins a word that `m2m init` leaves for the user
_SHARED = ("prompt", "system", "text", "messages", "choices", "answers", "labels")

Words = tuple[tuple[str, str], ...]
Picks = tuple[tuple[str, tuple[str, ...]], ...]
Entry = Dataset | Target


def labels_of(raw: Any) -> Words:
    """Return `labels` as (value, word) pairs, from a table or a list of words.

    Raises:
        ValueError: says what is wrong.
    """
    if isinstance(raw, list):
        raw = {str(number): word for number, word in enumerate(raw)}
    if not isinstance(raw, dict) or not raw:
        raise ValueError(f'labels must be like {{ 0 = "bad", 1 = "good" }}, found {raw!r:.60}')
    for value, word in raw.items():
        if not isinstance(word, str) or not word.strip():
            raise ValueError(f"the word for {value!r} in labels must be text, found {word!r:.60}")
    if missing := [value for value, word in raw.items() if word.startswith(UNKNOWN)]:
        example = ", ".join(f'{value} = "..."' for value in missing[:2])
        raise ValueError(
            f"labels: write the words that {', '.join(missing)} mean in place of those with ?, "
            f"like {{ {example} }}"
        )
    return tuple((_key(value), word) for value, word in raw.items())


def where_of(raw: Any) -> Picks:
    """Return `where` as (field, values) pairs.

    Raises:
        ValueError: says what is wrong.
    """
    if not isinstance(raw, dict) or not raw:
        raise ValueError(f'where must be like {{ lang = "swh" }}, found {raw!r:.60}')
    picks = []
    for name, given in raw.items():
        values = given if isinstance(given, list) else [given]
        if not values or not all(isinstance(value, str | int | float) for value in values):
            raise ValueError(
                f"where: {name} must be a text, a number, true or false, or a list of these, "
                f"found {given!r:.60}"
            )
        picks.append((name, tuple(_key(value) for value in values)))
    return tuple(picks)


def _key(value: Any) -> str:
    """Return a value as rows are compared with it; see `m2m.dataset.templates.word_key`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return text.lower() if isinstance(value, bool) or text.lower() in ("true", "false") else text


def variables_of(raw: Any) -> dict[str, str | int | bool]:
    """Return `template_variables`, a table of names and plain values.

    Raises:
        ValueError: says what is wrong.
    """
    if not isinstance(raw, dict) or not all(
        _VARIABLE.fullmatch(name) and isinstance(value, str | int | bool)
        for name, value in raw.items()
    ):
        raise ValueError(
            "template_variables must be names with texts, whole numbers, true or false, such as "
            f"{{ enable_thinking = false }}, found {raw!r:.60}"
        )
    return raw


_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")
TABLES = {"labels": labels_of, "where": where_of, "template_variables": variables_of}


def with_like(
    datasets: Sequence[Dataset], targets: Sequence[Target]
) -> tuple[tuple[Dataset, ...], tuple[Target, ...], list[tuple[tuple[str, int, str], str]]]:
    """Return datasets and targets with the mappings that `like` names, and the mistakes in it."""
    problems: list[tuple[tuple[str, int, str], str]] = []
    entries: list[Entry] = [*targets, *datasets]
    known = {entry.name: entry for entry in entries}

    def filled(entries: Sequence[Any], section: str) -> Iterator[Any]:
        for index, entry in enumerate(entries):
            other = known.get(entry.like)
            if other is None and entry.like:
                advice = likely(entry.like, known)
                message = f"like: there is no dataset or target {entry.like!r}; {advice}"
                problems.append(((section, index, "like"), message))
            elif other is not None and other.like:
                message = f"like: {other.name} itself is like {other.like}; name that one"
                problems.append(((section, index, "like"), message))
            elif other is not None:
                entry = _like(entry, other)
            yield entry

    return tuple(filled(datasets, "datasets")), tuple(filled(targets, "targets")), problems


def _like(entry: Entry, other: Entry) -> Entry:
    """Return an entry with the other's mapping in the fields that it does not set itself."""
    values = {name: getattr(other, name) for name in _SHARED}
    values[_answer(entry)] = getattr(other, _answer(other))
    defaults = {spec.name: spec.default for spec in dataclasses.fields(entry)}
    given = {name: v for name, v in values.items() if getattr(entry, name) == defaults[name]}
    return dataclasses.replace(entry, **given)


def _answer(entry: Entry) -> str:
    return "completion" if isinstance(entry, Dataset) else "answer"
