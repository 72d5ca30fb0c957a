"""Character n-grams of many texts at once, to find duplicates and to compare languages."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from m2m.dataset.sameness import normalize

# FNV-1a's 64-bit prime: it is odd, so the position of a letter in the gram matters.
_PRIME = np.uint64(0x100000001B3)
_CHUNK = 1 << 18  # characters


def character_grams(
    texts: Sequence[str], size: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the n-grams of all texts; no n-gram spans two texts.

    Args:
        texts: any texts; one that is shorter than `size` has no n-grams.
        size: characters of an n-gram.

    Returns:
        (G,) hashes and (G,) places in `texts` that the n-grams come from, in order.
    """
    lengths = np.array([len(text) for text in texts], np.int64)
    data = "".join(texts).encode("utf-32-le", "surrogatepass")
    letters = np.frombuffer(data, "<u4").astype(np.uint64)
    ends = np.repeat(np.cumsum(lengths), lengths)
    places = np.flatnonzero(np.arange(len(letters)) + size <= ends)
    hashes = np.full(len(places), size, np.uint64)
    for offset in range(size):
        hashes = (hashes ^ letters[places + offset]) * _PRIME
        hashes ^= hashes >> np.uint64(29)
    return hashes, np.repeat(np.arange(len(texts)), lengths)[places]


def chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of texts whose n-grams are made at once, to bound memory."""
    start, size = 0, 0
    for place, text in enumerate(texts):
        if size and size + len(text) > _CHUNK:
            yield start, place
            start, size = place, 0
        size += len(text)
    yield start, len(texts)


def letters(text: str) -> str:
    """Return the letters of a text for comparing languages, with a space around each word.

    Do not use this to decide whether texts are the same: it drops signs and digits.
    """
    folded = unicodedata.normalize("NFC", text).casefold()
    return f" {' '.join(folded.translate(_LETTERS).split())} "


_MEETING = frozenset("-*/\u2212\u2044\ufe63\uff0d\uff0a\uff0f")  # operators, if digits follow


class _Letters(dict[int, int | str]):
    """The replacement of each character, for `str.translate`; filled as characters occur."""

    def __missing__(self, code: int) -> int | str:
        char = chr(code)
        # Combining marks belong to their letters: without them tone marks would split words.
        kept = unicodedata.category(char)[0] == "M" or (char.isalnum() and not char.isdigit())
        self[code] = code if kept else " "
        return self[code]


_LETTERS = _Letters()


def comparable(text: str) -> str:
    """Return a text's normal form with a space before and after, to search one text in another.

    Return "" for a text without any characters.
    """
    form = normalize(text)
    return f" {form} " if form else ""


def joined(question: str, answer: str) -> str:
    """Return the comparable text of a question and its answer, given those of both."""
    return question[:-1] + answer if question and answer else question or answer


def joined_form(question: str, answer: str, forms: tuple[str, str]) -> str:
    """Return `comparable` of a question and its answer on the next line, given those of both.

    It is the two forms, one after the other, unless a side has only punctuation, or a sign and
    digits of the two sides meet ("5" and "- 3").
    """
    ends, begins = question.rstrip()[-1:], answer.lstrip()[:1]
    meet = ends in _MEETING or begins in _MEETING or ends.isnumeric() or begins.isnumeric()
    words = all(not form or any(map(str.isalnum, form)) for form in forms)
    if meet or not words:
        return comparable(f"{question}\n{answer}" if question or not answer else answer)
    return joined(*forms)


def without_frame(texts: Sequence[str]) -> list[str]:
    """Return the texts without the words with which at least half of them begin or end.

    At least one word of each text is kept. Words that an instruction repeats in every row carry no
    information: "Translate to English:" makes all rows alike, and makes them look English.
    """
    return unframed(texts, head_and_tail(texts))


def head_and_tail(texts: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the words with which at least half of the texts begin, and end (last word first)."""
    head = _shared_words(texts)
    rests = [" ".join(_cut(text.split(), head)) for text in texts] if head else texts
    return head, _shared_words(rests, backward=True)


def unframed(texts: Sequence[str], shared: tuple[tuple[str, ...], tuple[str, ...]]) -> list[str]:
    """Return texts without the words of `head_and_tail`; one that has none of them is itself."""
    head, tail = shared
    backward = (_cut(text.split(), head)[::-1] for text in texts)
    rests = (" ".join(_cut(row, tail)[::-1]) for row in backward)
    return [text if text == rest else rest for text, rest in zip(texts, rests, strict=True)]


def frame(texts: Sequence[str]) -> str:
    """Return the words that `without_frame` removes, in normal form; "" if there are none."""
    tail = _shared_words(texts, backward=True)
    return normalize(" ".join([*_shared_words(texts), *tail[::-1]]))


def _shared_words(texts: Sequence[str], *, backward: bool = False) -> tuple[str, ...]:
    """Return the longest beginning that at least half of the texts, and at least three, share."""
    beginning: tuple[str, ...] = ()
    while True:
        size = len(beginning) + 1
        # Only these words and the rest: all words would take six times the memory of the texts.
        rows = (
            text.rsplit(None, size)[::-1] if backward else text.split(None, size) for text in texts
        )
        # A beginning as long as the text would leave nothing of it.
        counts = Counter(tuple(map(str.casefold, row[:size])) for row in rows if len(row) > size)
        best, count = counts.most_common(1)[0] if counts else ((), 0)
        if count < max(3, len(texts) / 2):
            return beginning
        beginning = best


def _cut(row: list[str], head: tuple[str, ...]) -> list[str]:
    """Return the row without the words that it shares with the head, which may be a few of them."""
    same = 0
    while same < min(len(head), len(row) - 1) and row[same].casefold() == head[same]:
        same += 1
    return row[same:]
