"""Make rows fit that are longer than the limit: skip them, or cut their questions.

A question is cut in its middle, because its beginning often says what to do and its end often asks
(as LongBench cuts prompts: Bai et al. 2024, arXiv 2308.14508, section 4.1). Answers are never cut.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m2m.counted import counted
from m2m.dataset.row import Row
from m2m.dataset.samples import RowLimit, encode
from m2m.errors import InputError
from m2m.formats.spooled import Lazy, is_spooled
from m2m.tokenizer import Formatter

_CUT = " … "
_LEAST = 20  # characters of a message that stay
_NEAR = 25  # characters in which a cut looks for a space
_ROLES = ("user", "tool")  # whose messages may be cut
_SHOWN = 5


@dataclass(frozen=True)
class LongRows:
    """The rows of a dataset that were longer than the limit.

    Attributes:
        cut: lines of the rows whose question was cut.
        skipped: lines of the rows that are not trained on.
        tokens: how many tokens were cut from questions.
    """

    cut: tuple[int, ...] = ()
    skipped: tuple[int, ...] = ()
    tokens: int = 0

    @property
    def any(self) -> bool:
        """Return whether a row was cut or skipped."""
        return bool(self.cut or self.skipped)

    def as_json(self) -> dict[str, int]:
        """Return the counts for JSON."""
        return {"cut": len(self.cut), "cut_tokens": self.tokens, "skipped": len(self.skipped)}

    def in_words(self, name: str, rows: int, limit: RowLimit) -> list[str]:
        """Return a sentence for the cut rows, and one for the skipped ones, of `rows` in all."""
        over = f"longer than {counted(limit.tokens, 'token')} ({limit.name})"
        sentences = []
        if self.cut:
            sentences.append(
                f"{len(self.cut):,} of {counted(rows, 'row')} of {name} {_were(self.cut)} {over}: "
                f"the middle of the question was cut, {counted(self.tokens, 'token')} in all "
                f"({_lines(self.cut)})."
            )
        if self.skipped:
            why = ", even with a short question" if limit.long_rows == "truncate" else ""
            sentences.append(
                f"{len(self.skipped):,} of {counted(rows, 'row')} of {name} {_were(self.skipped)} "
                f"skipped: {over}{why} ({_lines(self.skipped)})."
            )
        return sentences


NONE = LongRows()


def _were(lines: Sequence[int]) -> str:
    return "was" if len(lines) == 1 else "were"


def _lines(lines: Sequence[int]) -> str:
    more = ", ..." if len(lines) > _SHOWN else ""
    return f"line{'s' * (len(lines) > 1)} {', '.join(map(str, lines[:_SHOWN]))}{more}"


def fitted(
    rows: Sequence[Row], formatter: Formatter, limit: RowLimit
) -> tuple[Sequence[Row], LongRows]:
    """Return the rows with long ones cut or left out, as `limit.long_rows` says, and their lines.

    With "refuse" nothing changes: `encode` refuses them. Bare texts are left to `encode`, which
    makes several samples of a long one. So are rows that the template refuses.
    """
    if limit.long_rows == "refuse":
        return rows, NONE
    cut, skipped, tokens = dict[int, Row](), dict[int, int](), 0  # by the row's place
    for place, row in enumerate(rows):
        before = _length(row, formatter)
        if before <= limit.tokens:
            continue
        if limit.long_rows == "truncate" and (shorter := _shortened(row, formatter, limit)):
            cut[place] = shorter
            tokens += before - _length(shorter, formatter)
        else:
            skipped[place] = row.line
    places = np.delete(np.arange(len(rows)), [*skipped])
    lines = tuple(row.line for row in cut.values())
    long_rows = LongRows(lines, tuple(skipped.values()), tokens)
    if not is_spooled(rows):
        return [cut.get(place, rows[place]) for place in places.tolist()], long_rows
    return Lazy(places, lambda place: cut.get(place) or rows[place]), long_rows  # type: ignore[arg-type]


def _length(row: Row, formatter: Formatter) -> int:
    """Return the tokens of a row's longest sample; 0 for rows that `encode` handles or refuses."""
    if row.text is not None:
        return 0
    try:
        return max(map(len, encode([row], formatter, 1 << 30)), default=0)
    except InputError:
        return 0


def _shortened(row: Row, formatter: Formatter, limit: RowLimit) -> Row | None:
    """Return the row with its longest messages cut until it fits; None if it never fits."""
    sizes = {
        place: len(str(message["content"]))
        for place, message in enumerate(row.messages or ())
        if message["role"] in _ROLES and len(str(message["content"])) > _LEAST
    }
    for place in sorted(sizes, key=lambda place: -sizes[place]):
        least = _with_cut(row, place, _LEAST)
        if _length(least, formatter) > limit.tokens:
            row = least  # the next longest message is cut, too
            continue
        low, high, best = _LEAST, sizes[place], least  # characters that fit, and too many
        while high - low > 1:
            size = (low + high) // 2
            trial = _with_cut(row, place, size)
            if _length(trial, formatter) <= limit.tokens:
                low, best = size, trial
            else:
                high = size
        return best
    return None


def _with_cut(row: Row, place: int, size: int) -> Row:
    """Return the row with about `size` characters of the message at `place`."""
    messages = [*(row.messages or ())]
    content = middle_cut(str(messages[place]["content"]), size)
    messages[place] = {**messages[place], "content": content}
    return dataclasses.replace(row, messages=tuple(messages))


def middle_cut(text: str, size: int) -> str:
    """Return about `size` characters of a text, from its beginning and its end, with " … " between.

    Words stay whole if a space is near; a letter keeps its combining marks.
    """
    if size >= len(text):
        return text
    begin, end = size - size // 2, len(text) - size // 2
    head, tail = text[:begin], text[end:]
    if not text[begin].isspace() and (space := re.search(rf"\s\S{{0,{_NEAR}}}$", head)):
        head = head[: space.start()]
    elif unicodedata.category(text[begin])[0] == "M":
        head = _without_last_letter(head)
    if not text[end - 1].isspace() and (space := re.search(rf"^\S{{0,{_NEAR}}}\s", tail)):
        tail = tail[space.end() :]
    while tail and unicodedata.category(tail[0])[0] == "M":
        tail = tail[1:]
    return f"{head.rstrip()}{_CUT}{tail.lstrip()}"


def _without_last_letter(text: str) -> str:
    """Return the text without its last letter and that letter's marks."""
    end = len(text)
    while end and unicodedata.category(text[end - 1])[0] == "M":
        end -= 1
    return text[: max(end - 1, 0)]
