"""Detect text files in which a line is not a text: wrapped paragraphs, tags, chats, subtitles."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from m2m.dataset.columns import SIDES, is_side
from m2m.dataset.mapping import RowMapping
from m2m.errors import InputError
from m2m.formats.byte_parts import ByteSource
from m2m.formats.parted_text import CHAT, HALVES, TURNS, speakers
from m2m.formats.records import Record
from m2m.formats.tagged import tagged_hint
from m2m.opening import stream

_SOME = 60  # lines with the first sentence
_LONGEST_TAG = 3  # letters of a language in a file's name
_ENDINGS = re.compile(
    "csv|tsv|tab|psv|txt|po|tmx|xlf|xls|ods|gz|bz2|xz|zst|zip|md|tex|yml|ini|py|js|sh|log|bak"
)
TAGS = re.compile(r"[._-]")

Line = tuple[str, int]  # the text and its line number

# (its name, a pattern for its lines, the fraction of lines that must match, a hint)
_KINDS: tuple[tuple[str, re.Pattern[str], float, str], ...] = (
    (
        "one word a line with its tag (CoNLL)",
        re.compile(r"\S.*\s(O|[BIESLUM]-\S+)|\S+\s+[A-Z]{1,6}"),
        0.8,
        "",
    ),
    (
        "a chat with times and names",
        re.compile(r"[\[(]?\d{1,2}:\d{2}(:\d{2})?[\])]?\s+<[^>]+>\s.*"),
        0.5,
        'write it as messages: {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}',
    ),
    (
        "lines with dates before them",
        CHAT,
        0.5,
        'delete the dates, or write text = "{text}" if the model shall write them, too',
    ),
    (
        "words with their tags",
        re.compile(r"(\S+[/_|][A-Z]{2,6}[.,]?(?:\s+|$)){2,}"),
        0.8,
        "write each sentence as prompt and the expected answer as completion",
    ),
    (
        "subtitles with times",
        re.compile(r"\d+:\d{2}(:\d{2})?[.,]\d+\s+-->\s+.*"),
        0.2,
        "keep the spoken lines only",
    ),
    (
        "marks with texts (a dictionary of Toolbox, a book in USFM)",
        re.compile(r"\\[a-z_]+\d?\*?(\s.*)?"),
        0.6,
        "write a row for each entry, or each verse on a line of its own, without the marks",
    ),
    (
        "verses with their places before them",
        re.compile(r"(?:[1-4] ?)?[^\W\d_]{2,20}\.?\s+\d{1,3}:\d{1,3}\s+\S.*"),
        0.8,
        'delete the places, or write text = "{text}" if the model shall write them, too',
    ),
    (
        "glossed sentences, with a translation in quotation marks after them",
        re.compile("['\u2018\u2019`][^'\u2018`]{4,}['\u2019]"),
        0.2,
        "write each sentence as prompt and its translation as completion, or write "
        'text = "{text}" if they are lines of a story that people say',
    ),
    (
        "a quiz with lettered answers",
        re.compile(r"\(?[A-Ha-h]\s?[).:]\s+\S.*"),
        0.3,
        'write a row for each question: {"question": ..., "choices": [...], "answer": ...}',
    ),
    (
        "a table in Markdown",
        re.compile(r"\|[^|]*\|.*\|"),
        0.8,
        "write it as a table with tabs (.tsv), without the line of dashes",
    ),
    (
        "a text a line with its id before it (Kaldi)",
        re.compile(r"(?=\S*\d)(?=\S*[a-zA-Z])[\w.-]{4,}\s+[^\W\d_].*"),
        0.95,
        'delete the ids, or write text = "{text}" if the model shall write them, too',
    ),
)
# A line was wrapped if the next word did not fit. This holds for 0.0 to 0.3 of the line breaks of
# prose with one sentence a line, 0.8 to 1.0 of wrapped paragraphs, 0.6 with lists between them.
_WRAPPED, _LEAST_BREAKS = 0.6, 4
_SENTENCES = 0.8  # of the lines end a sentence; 0.1 of those of wrapped prose
_ENDED = re.compile("[.!?\u2026\u061f\u06d4\u1362\u1367\u0964\u3002][\"'\u00bb\u201d\u2019)]*$")
_NARROW, _WIDE = 30, 200  # characters of a wrapped line


def refuse_no_prose(path: Path, lines: Sequence[Line], answer: str = "completion") -> None:
    """Refuse a text file in which a line is not a text; `answer` names the column of answers.

    Raises:
        InputError: names the kind of file and the format to use.
    """
    texts = [text.strip() for text, _ in lines]
    for kind, looks, fraction, remedy in _KINDS:
        if sum(bool(looks.fullmatch(text)) for text in texts) >= max(2, fraction * len(texts)):
            raise InputError(
                f"{path}:{lines[0][1]}: this is {kind}, not a text a line",
                remedy.replace("completion", answer) or tagged_hint(_with_gaps(lines), answer),
            )
    if names := [*dict.fromkeys(speakers(texts))]:
        raise InputError(
            f"{path}:{lines[0][1]}: the lines are of {', '.join(names[:3])} in turn, not texts",
            f'write what each answers as prompt and {answer}, or write text = "{{text}}" for all',
        )
    width = wrapped_at(lines)
    if width:
        raise InputError(
            f"{path}:{lines[0][1]}: the paragraphs are broken into lines of about {width} "
            "characters, and every line would be a separate text",
            "write each paragraph on one line"
            + ", or set `window` to score the file as one text" * (answer == "answer"),
        )


def _with_gaps(lines: Sequence[Line]) -> list[str]:
    """Return the first lines, with an empty one between two that do not follow each other."""
    texts, last = list[str](), 0
    for text, place in lines[:_SOME]:
        texts += [""] * (place > last + 1) + [text]
        last = place
    return texts


def refuse_parallel(path: Path, count: int | None) -> None:
    """Refuse a text file with a translation next to it: alone, each is only a bare text.

    Args:
        path: the file.
        count: its texts; None: they are counted.

    Raises:
        InputError: names the other file, and how to use both.
    """
    if other := sibling_in_step(path, count):
        pair = sorted([path.name, other])
        raise InputError(
            f"{path}: {other} has as many lines, as if it were a translation",
            f'to translate, write path = ["{pair[0]}", "{pair[1]}"] with prompt = "{{0}}" and '
            'completion = "{1}"; to use each file as bare texts, write text = "{text}"',
        )


def part_mappings(records: Sequence[Record]) -> list[RowMapping]:
    """Return the mappings of lines with parts (`m2m.formats.parted_text`); [] for other rows."""
    bare = [RowMapping(text="{text}")] if "text" in records[0].fields else []
    if any(record.fields.keys() >= {*HALVES} for record in records):
        left, right = (f"{{{half}}}" for half in HALVES)
        return [RowMapping(left, right), RowMapping(right, left), *bare]
    turns = Counter(r.fields["turn"] for r in records if r.fields.keys() >= {*TURNS})
    by = [
        RowMapping("{before}", "{reply}", where=(("turn", (turn,)),))
        for turn, _ in turns.most_common(2)
    ]
    more = [replace(one, prompt="{reply}", answer="{before}") for one in by if len(by) == 1]
    return [*by, *more, *(bare if by else [])]


def sibling_in_step(path: Path, count: int | None = None) -> str | None:
    """Return the name of a text file with as many texts and a name in another language's code."""
    parts = TAGS.split(path.name)
    for other in sorted(path.parent.glob("*")):
        theirs = TAGS.split(other.name)
        differing = [pair for pair in zip(parts, theirs, strict=False) if pair[0] != pair[1]]
        differing = [pair for pair in differing if not {*pair} <= SIDES] or differing  # NTREX
        is_tagged = len(parts) == len(theirs) and len(differing) == 1 and other.is_file()
        if (
            not is_tagged
            or max(map(len, differing[0])) > _LONGEST_TAG
            or any(map(_ENDINGS.fullmatch, differing[0]))
            or not any(map(is_side, differing[0]))
        ):
            continue
        with suppress(InputError):  # the name is only used for a hint
            count = texts_in(path) if count is None else count
            if texts_in(other) == count:
                return other.name
    return None


def texts_in(path: Path) -> int:
    """Return the number of lines with text.

    Raises:
        InputError: the file cannot be read.
    """
    with stream(path) as file:
        lines = (line.decode("utf-8", "replace") for line in ByteSource(path.name, file).lines())
        return sum(bool(text.strip()) for line in lines for text in line.split("\r"))


def wrapped_at(lines: Sequence[Line]) -> int:
    """Return the width at which paragraphs were wrapped into lines; 0 if they were not wrapped.

    Two lines without an empty one between them are a break. The paragraphs are wrapped if, at three
    breaks in five, the first word of the second line did not fit at the end of the first.
    """
    pairs = [
        (one.rstrip(), other)
        for (one, place), (other, after) in pairwise(lines)
        if after == place + 1
    ]
    if len(pairs) < _LEAST_BREAKS:
        return 0
    lengths = sorted(len(one) for one, _ in pairs)
    width = lengths[int(0.95 * (len(lengths) - 1))]
    if not _NARROW <= width <= _WIDE:
        return 0
    ended = sum(bool(_ENDED.search(one)) and not other[:1].islower() for one, other in pairs)
    if ended > _SENTENCES * len(pairs):
        return 0  # a sentence on each line, as long as its neighbours
    full = sum(len(one) + 1 + len(other.split()[0]) > width for one, other in pairs)
    # Lines of equal length, such as a list of numbers, look wrapped even if they are not.
    spaced = sum(" " in one.strip() for one, _ in pairs)
    return width if full >= _WRAPPED * len(pairs) and spaced > len(pairs) / 2 else 0
