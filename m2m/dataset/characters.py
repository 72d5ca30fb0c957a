"""Find texts with damaged characters: wrong readings, mixed forms, invisible characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from m2m.counted import counted
from m2m.tokenizer.special import ENDS

# Not U+200C and U+200D, which scripts need. Thai, Lao, Burmese and Khmer part words by U+200B.
_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\ua9e0-\ua9ff\uaa60-\uaa7f"
_ZERO_WIDTH = f"(?<![{_SPACELESS}\u200b])(?<![{_SPACELESS}] )\u200b+(?!\u200b)(?! ?[{_SPACELESS}])"
INVISIBLE = re.compile(f"[\u00ad\u2060\ufeff]|{_ZERO_WIDTH}")
_LOST = re.compile("[\ufffd\ud800-\udfff]")
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# UTF-8 read as Windows-1252: the letter of a lead byte, then the letters of the bytes 0x80-0xBF.
_HIGH = (
    "\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc"
    "\u2013-\u203a\u20ac\u2122"
)
_MISREAD = re.compile(f"[\u00c2-\u00df][{_HIGH}]|[\u00e0-\u00ef][{_HIGH}]{{2}}")
# Signs that also follow a letter in well-set text: NBSP, guillemets, raised digits, quotes, dashes.
_TYPOGRAPHIC = frozenset("\u00a0\u00ab\u00bb\u00b9\u00b2\u00b3\u2022\u2026\u2039\u203a\u2122")
_TYPOGRAPHIC |= frozenset(map(chr, range(0x2013, 0x201F)))
_QUOTES = frozenset("\u201a\u201c\u201d\u201e")
_ALPHABETS = ("LATIN", "GREEK", "CYRILLIC")
# The Greek and Cyrillic blocks: without a letter of these, no word mixes alphabets.
_NOT_LATIN = re.compile(
    "[\u0370-\u052f\u1c80-\u1c8f\u1d26-\u1d2b\u1f00-\u1fff\u2de0-\u2dff\ua640-\ua69f]"
)
_WORD = re.compile(r"[^\W\d_]+")
# A "?" between letters or before a word, and words that consist of "?": no language writes so.
_QUESTIONED = re.compile(r"(?:[^\W\d_]\?+|(?<![^\s\"'(\[])\?+)(?=[^\W\d_])(.)")
_ONLY_MARKS = re.compile(r"(?<!\S)\?{2,}(?!\S)")
_ADDRESS = re.compile(r"(?<!\S)\S*(?:://|www\.|[=&/\\])\S*")
_LOST_ROWS, _LOST_WORDS = 0.03, 3


def find_faults(texts: Sequence[str]) -> dict[str, list[int]]:
    """Return the places of the texts with each kind of fault; a kind without any is left out.

    "mojibake": UTF-8 that was read as Windows-1252 or Latin-1 ("Ã¨" for "è"). "lost": characters
    that a conversion replaced. "control": control characters. "invisible": soft hyphens, zero-width
    spaces and byte order marks. "end_written": "</s>" and the like at the end. "not_nfc": a letter
    and its mark are two characters although one exists for both. "mixed_alphabets": words with
    letters of two of the Latin, Greek and Cyrillic alphabets, which often look alike.
    """
    faulty: dict[str, list[int]] = {kind: [] for kind in FAULTS}
    for place, text in enumerate(texts):
        for kind, (_, _, is_faulty) in FAULTS.items():
            if is_faulty(text):
                faulty[kind].append(place)
    return {kind: places for kind, places in faulty.items() if places}


def words_of_lost(texts: Iterable[str], kind: str) -> str:
    """Return how many texts have U+FFFD in place of a character, in words; "" for none.

    Half a surrogate pair in JSON is read as one too (`m2m.formats.json_rows.mended`).
    """
    count = sum(map(_is_lossy, texts))
    return f"{counted(count, kind)} with U+FFFD in place of a lost character" if count else ""


def _is_lossy(text: str) -> bool:
    return not text.isascii() and bool(_LOST.search(text))


def letters_lost(texts: Sequence[str]) -> list[int]:
    """Return the places of texts in which a program replaced letters by "?" ("k?nk?" for "kọńkọ́").

    Excel does so when it saves as CSV and not as CSV UTF-8. Return an empty list unless 3 % of the
    texts and three words have it: a missing space after a question mark looks the same.
    """
    words = [_count_questioned(text) for text in texts]
    places = [place for place, count in enumerate(words) if count]
    if sum(words) < _LOST_WORDS or len(places) < _LOST_ROWS * len(texts):
        return []
    return places


def _count_questioned(text: str) -> int:
    if "?" not in text:
        return 0
    text = _ADDRESS.sub(" ", text)
    inside = sum(not match.group(1).isupper() for match in _QUESTIONED.finditer(text))
    words_of_marks = len(_ONLY_MARKS.findall(text))
    return inside + (
        words_of_marks if words_of_marks > 1 and 2 * words_of_marks >= len(text.split()) else 0
    )


def _is_misread(text: str) -> bool:
    if text.isascii():
        return False
    return any(
        _reads_back(match.group()) and not _is_typography(text, match)
        for match in _MISREAD.finditer(text)
    )


def _is_typography(text: str, match: re.Match[str]) -> bool:
    """Return whether a letter and the signs after it are written so on purpose: "IL\u00c9\u201d".

    Letters of a lead byte are capitals (two bytes) or small (three). Misread text has a capital
    inside a small word, or a quotation mark inside a word; well-set text has neither.
    """
    signs = match.group()[1:]
    if not _TYPOGRAPHIC.issuperset(signs):
        return False
    if len(signs) > 1:
        return True
    before, after = _letter_before(text, match.start()), text[match.end() : match.end() + 1]
    if before.islower():
        return False
    inside = after.isalpha() and (signs in _QUOTES or not before)
    return not (inside and (after.islower() or signs in _QUOTES))


def _letter_before(text: str, place: int) -> str:
    """Return the letter before a place, without its combining marks; "" if there is none."""
    while place and unicodedata.combining(text[place - 1]):
        place -= 1
    return text[place - 1] if place and text[place - 1].isalpha() else ""


def _reads_back(piece: str) -> bool:
    for encoding in ("cp1252", "latin-1"):
        try:
            piece.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        return True
    return False


def _is_not_nfc(text: str) -> bool:
    return not unicodedata.is_normalized("NFC", text)


def _mixes_alphabets(text: str) -> bool:
    return bool(not text.isascii() and _NOT_LATIN.search(text)) and any(
        len({_alphabet(letter) for letter in word} - {None}) > 1 for word in _WORD.findall(text)
    )


@cache
def _alphabet(letter: str) -> str | None:
    first = unicodedata.name(letter, "").partition(" ")[0]
    return first if first in _ALPHABETS else None


FAULTS: dict[str, tuple[str, str, Callable[[str], bool]]] = {
    "end_written": (
        "the end token of a model as their last word",
        "delete it: m2m adds the end token of the base model; the model would learn to write this",
        lambda text: text.rstrip().endswith(ENDS),
    ),
    "mojibake": (
        "UTF-8 that was read as Windows-1252 or Latin-1",
        "open the source as UTF-8 and export it again",
        _is_misread,
    ),
    "lost": (
        "characters that an earlier conversion lost",
        "go back to the source; nothing here can restore them",
        _is_lossy,
    ),
    "control": (
        "control characters",
        "take them out: the model would learn to write them",
        lambda text: bool(CONTROL.search(text)),
    ),
    "invisible": (
        "invisible characters (soft hyphen, zero-width space, byte order mark)",
        "take them out: they cut words into other tokens",
        lambda text: not text.isascii() and bool(INVISIBLE.search(text)),
    ),
    "not_nfc": (
        "letters and marks apart although Unicode has one character (not NFC)",
        'write `normalise = "NFC"` under [data] in the recipe: to the model the two forms differ',
        _is_not_nfc,
    ),
    "mixed_alphabets": (
        "words of Latin, Greek and Cyrillic letters together",
        "replace look-alike letters: to the model these are other words",
        _mixes_alphabets,
    ),
}
