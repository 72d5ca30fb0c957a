"""Unicode categories as llama.cpp's expressions see them: one private byte for each.

Python's `re` does not know Unicode categories. As in llama.cpp (src/unicode.cpp, "collapsed" text),
m2m replaces each character beyond ASCII with one private byte for its category. An ASCII-only
expression finds the cuts in the result, and the original text is cut at the same places.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

# The private bytes of llama.cpp's k_ucat_cpt; a vertical tab replaces white space beyond ASCII.
_NUMBER, _LETTER, _PUNCTUATION, _MARK, _SYMBOL, _OTHER = "\xd1\xd2\xd3\xd4\xd5\xd0"
_BY_CATEGORY = {"N": _NUMBER, "L": _LETTER, "P": _PUNCTUATION, "M": _MARK, "S": _SYMBOL}
_SPACE = "\x0b"
# Two more, for Kimi K2: Chinese letters, and code points without a letter among them.
HAN, NO_HAN = "\xd6\xd7"

# The characters of a category in collapsed text, for use inside of brackets (k_ucat_map).
CLASSES = {
    r"\p{N}": f"0-9{_NUMBER}",
    r"\p{L}": f"A-Za-z{_LETTER}",
    r"\p{P}": rf"!-#%-*,-/:;?@\[-\]_{{}}{_PUNCTUATION}",
    r"\p{M}": _MARK,
    r"\p{S}": rf"$+<->\^`|~{_SYMBOL}",
    # Letters beyond ASCII count as upper and lower case, as in llama.cpp.
    r"\p{Lu}": f"A-Z{_LETTER}",
    r"\p{Ll}": f"a-z{_LETTER}",
}

# unicode_set_whitespace in llama.cpp's src/unicode-data.cpp, beyond ASCII.
_WHITE_SPACE = frozenset(
    [0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]
)

# Characters of Unicode 15.1 (llama.cpp's tables) that Python 3.11's Unicode 14.0 lacks: first and
# last code point of each range.
_NEWER = {
    _LETTER: (
        (0x1123F, 0x11240),
        (0x11F02, 0x11F02),
        (0x11F04, 0x11F10),
        (0x11F12, 0x11F33),
        (0x1342F, 0x1342F),
        (0x13441, 0x13446),
        (0x1B132, 0x1B132),
        (0x1B155, 0x1B155),
        (0x1DF25, 0x1DF2A),
        (0x1E030, 0x1E06D),
        (0x1E4D0, 0x1E4EB),
        (0x2B739, 0x2B739),
        (0x2EBF0, 0x2EE5D),
        (0x31350, 0x323AF),
    ),
    _NUMBER: ((0x11F50, 0x11F59), (0x1D2C0, 0x1D2D3), (0x1E4F0, 0x1E4F9)),
    _MARK: (
        (0x0CF3, 0x0CF3),
        (0x0ECE, 0x0ECE),
        (0x10EFD, 0x10EFF),
        (0x11241, 0x11241),
        (0x11F00, 0x11F01),
        (0x11F03, 0x11F03),
        (0x11F34, 0x11F3A),
        (0x11F3E, 0x11F42),
        (0x13440, 0x13440),
        (0x13447, 0x13455),
        (0x1E08F, 0x1E08F),
        (0x1E4EC, 0x1E4EF),
    ),
    _PUNCTUATION: ((0x11B00, 0x11B09), (0x11F43, 0x11F4F)),
    _SYMBOL: (
        (0x2FFC, 0x2FFF),
        (0x31EF, 0x31EF),
        (0x1F6DC, 0x1F6DC),
        (0x1F774, 0x1F776),
        (0x1F77B, 0x1F77F),
        (0x1F7D9, 0x1F7D9),
        (0x1FA75, 0x1FA77),
        (0x1FA87, 0x1FA88),
        (0x1FAAD, 0x1FAAF),
        (0x1FABB, 0x1FABD),
        (0x1FABF, 0x1FABF),
        (0x1FACE, 0x1FACF),
        (0x1FADA, 0x1FADB),
        (0x1FAE8, 0x1FAE8),
        (0x1FAF7, 0x1FAF8),
    ),
}

# unicode_cpt_is_han in llama.cpp's src/unicode.cpp.
_HAN = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B81F),
    (0x2B820, 0x2EBEF),
    (0x2F800, 0x2FA1F),
)


class Collapsing(dict[int, str]):
    """A table for `str.translate` that fills itself, one code point at a time."""

    def __init__(self, represent: Callable[[int], str]) -> None:
        super().__init__()
        self._represent = represent

    def __missing__(self, code: int) -> str:
        self[code] = letter = self._represent(code)
        return letter


def _by_category(code: int) -> str:
    if code < 0x80:
        return chr(code)
    if code in _WHITE_SPACE:
        return _SPACE
    category = unicodedata.category(chr(code))
    if category == "Cn":
        for letter, ranges in _NEWER.items():
            if _is_in(code, ranges):
                return letter
    return _BY_CATEGORY.get(category[0], _OTHER)


def _by_category_and_han(code: int) -> str:
    letter = _by_category(code)
    if not _is_in(code, _HAN):
        return letter
    return HAN if letter == _LETTER else NO_HAN


def _unchanged(code: int) -> str:
    return _SPACE if code in _WHITE_SPACE else chr(code)


def _is_in(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(low <= code <= high for low, high in ranges)


# The texts in which expressions search: ASCII is the same in all of them.
COLLAPSED = Collapsing(_by_category)
CHINESE = Collapsing(_by_category_and_han)
ORIGINAL = Collapsing(_unchanged)
