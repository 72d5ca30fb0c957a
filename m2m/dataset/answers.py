"""Find the choice that an answer names: by its text, its letter, or its place from 0 or from 1.

One reading holds for all files of a target, and all their rows decide it: a reading fits if every
row's answer names a choice by it. If several readings fit and give different choices, m2m cannot
know which one is meant, and the target must name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m2m.dataset.sameness import normalize
from m2m.errors import InputError

# This is the order in which a message names readings that give the same choices.
READINGS = {
    "text": "the text of a choice",
    "letter": "the letter of a choice (A, B, ...)",
    "index0": "the place of a choice, counted from 0",
    "index1": "the place of a choice, counted from 1",
    "name": "the name that the row gives to a choice",
}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LONGEST = 4  # digits of a place


@dataclass(frozen=True)
class GivenAnswer:
    """The answer of a row as text (None: not a text or a whole number), and the row's choices.

    `names` are those that the row gives to its choices, such as the columns that hold them.
    """

    path: Path
    line: int
    answer: str | None
    choices: tuple[str, ...]
    names: tuple[str, ...] = ()


def place(
    reading: str, answer: str | None, choices: Sequence[str], names: Sequence[str] = ()
) -> int | None:
    """Return the place (from 0) of the choice that an answer names; None if it names none."""
    form, index = normalize(answer or ""), -1
    if reading in ("text", "name"):
        forms = [normalize(choice) for choice in (choices if reading == "text" else names)]
        index = forms.index(form) if forms.count(form) == 1 else -1
    elif reading == "letter":
        index = _LETTERS.find(form) if len(form) == 1 else -1
    elif form.isdecimal() and len(form) <= _LONGEST and (form == "0" or form[0] != "0"):
        index = int(form) - (reading == "index1")
    return index if 0 <= index < len(choices) else None


def decide(rows: Sequence[GivenAnswer], *, named: bool) -> tuple[str, InputError | None]:
    """Return the reading of some rows, all of one target, and a message if it is a guess.

    If no reading fits every row, return the one that fits most rows: the errors of reading by it
    then name the rows that are wrong.

    Args:
        rows: at least one.
        named: whether the target lists the choices, so that answers are always their texts.
    """
    places = {
        reading: [place(reading, row.answer, row.choices, row.names) for row in rows]
        for reading in READINGS
    }
    fits = [reading for reading, row_places in places.items() if None not in row_places]
    if not fits:
        order = sorted(READINGS, key=lambda reading: reading != ("text" if named else "index0"))
        return min(order, key=lambda reading: places[reading].count(None)), None
    if "name" in fits:  # the rows themselves say which choice it is
        if all({*row.names} == {"0", "1"} for row in rows):  # marks of what is right
            return "name", None
        same = [reading for reading in fits if places[reading] == places["name"]]
        return same[0], None
    first = fits[0]
    other = next((reading for reading in fits if places[reading] != places[first]), None)
    if other is None or (named and first == "text"):
        return first, None
    at = next(i for i in range(len(rows)) if places[first][i] != places[other][i])
    one, two = (rows[at].choices[places[reading][at] or 0] for reading in (first, other))
    return first, InputError(
        f"{rows[at].path}:{rows[at].line}: the answer {rows[at].answer!r} is {one!r:.40} as "
        f"{READINGS[first]}, and {two!r:.40} as {READINGS[other]}; both fit all rows",
        "write "
        + " or ".join(f'answers = "{reading}"' for reading in fits)
        + " in the recipe, or give `--answers` on the command line",
    )


def expected(reading: str, choices: Sequence[str], names: Sequence[str] = ()) -> str:
    """Return the form that an answer must have, for a message."""
    count = len(choices)
    return {
        "text": f"one of {', '.join(choices)}",
        "letter": f"a letter from A to {_LETTERS[min(count, len(_LETTERS)) - 1].upper()}",
        "index0": f"an index from 0 to {count - 1}",
        "index1": f"a number from 1 to {count}",
        "name": f"one of {', '.join(names)}",
    }[reading]
