"""Unicode categories as llama.cpp's expressions see them: one private byte for each.

Python's `re` does not know Unicode categories. As in llama.cpp (src/unicode.cpp, "collapsed" text),
m2m replaces each character beyond ASCII with one private byte for its category. An ASCII-only
expression finds the cuts in the result, and the original text is cut at the same places.
"""

from __future__ import annotations

import functools
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

# Characters of Unicode 15.1 (llama.cpp's tables) that Python 3.11's Unicode 14.0 lacks, by kind
# (hexadecimal).
_NEWER = {
    _LETTER: "1123F-11240 11F02 11F04-11F10 11F12-11F33 1342F 13441-13446 1B132 1B155 1DF25-1DF2A "
    "1E030-1E06D 1E4D0-1E4EB 2B739 2EBF0-2EE5D 31350-323AF",
    _NUMBER: "11F50-11F59 1D2C0-1D2D3 1E4F0-1E4F9",
    _MARK: "CF3 ECE 10EFD-10EFF 11241 11F00-11F01 11F03 11F34-11F3A 11F3E-11F42 13440 13447-13455 "
    "1E08F 1E4EC-1E4EF",
    _PUNCTUATION: "11B00-11B09 11F43-11F4F",
    _SYMBOL: "2FFC-2FFF 31EF 1F6DC 1F774-1F776 1F77B-1F77F 1F7D9 1FA75-1FA77 1FA87-1FA88 "
    "1FAAD-1FAAF 1FABB-1FABD 1FABF 1FACE-1FACF 1FADA-1FADB 1FAE8 1FAF7-1FAF8",
}

# Characters of Unicode 16 to 18, which newer Pythons know and llama.cpp does not (hexadecimal).
_TOO_NEW = (
    "558 58B-58C 5C8-5C9 88F 897 B53-B54 C5C CDC 1ACF-1AF0 1B4E-1B4F 1B7F 1C89-1C8A 208F "
    "209D-209F 20C1-20C4 2427-2429 2B96 2E60-2E63 31E4-31E5 A7CB-A7CF A7D2 A7D4 A7DA-A7DD A7E2 "
    "A7F1 AB6C-AB6D FBC3-FBD2 FD90-FD91 FDC8-FDCE 105C0-105F3 107BB-107BF 10940-10959 "
    "10D40-10D65 10D69-10D85 10D8E-10D8F 10EC2-10EC7 10EC9-10EEE 10EF0-10EFC 11380-11389 1138B "
    "1138E 11390-113B5 113B7-113C0 113C2 113C5 113C7-113CA 113CC-113D5 113D7-113D8 113E1-113E2 "
    "116D0-116E3 11B0A 11B60-11B67 11BC0-11BE1 11BF0-11BF9 11DB0-11DDB 11DE0-11DE9 11DF0-11DF1 "
    "11F5A 1246F 12475-1247F 12550-12686 13460-143FA 16100-16139 16D40-16D79 16EA0-16EB8 "
    "16EBB-16ED3 16FF2-16FF6 187F8-187FF 18CD6-18CDA 18CFF 18D09-18D20 18D80-18DF2 18E00-19191 "
    "191A0-191D2 1B123-1B128 1B168 1CC00-1CCFC 1CD00-1CEB3 1CEBA-1CED0 1CED2-1CED4 1CEDD-1CEFD "
    "1D127-1D128 1D1EB-1D1FF 1D250-1D281 1D6A6 1DB00-1DB1C 1DF1F-1DF24 1DF2B-1DF81 1DF90-1DF96 "
    "1DFCD-1DFFF 1E5D0-1E5FA 1E5FF 1E6C0-1E6DE 1E6E0-1E6F5 1E6FE-1E6FF 1F1AE 1F6D8-1F6D9 "
    "1F777-1F77A 1F7DA-1F7DB 1F7F1-1F7FF 1F8B2-1F8BB 1F8C0-1F8C1 1F8D0-1F8D8 1FA54-1FA57 "
    "1FA89-1FA8F 1FABE 1FAC6 1FAC8 1FACC-1FACD 1FADC-1FADD 1FADF 1FAE9-1FAEB 1FAEF 1FAF9-1FAFA "
    "1FBCB-1FBEF 1FBFA 2B73A-2B73F 2B81E 2CEA2-2CEAD 323B0-33479 3D000-3FC3F "
)

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


@functools.cache
def _ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Read the first and last code points of ranges such as "1F6DC 1F774-1F776"."""
    pairs = [entry.split("-") for entry in text.split()]
    return tuple((int(pair[0], 16), int(pair[-1], 16)) for pair in pairs)


@functools.cache
def too_new() -> tuple[tuple[int, int], ...]:
    """Return the first and last code points of `_TOO_NEW`, for a Python that knows them."""
    known = tuple(map(int, unicodedata.unidata_version.split(".")))
    return () if known <= (15, 1, 0) else _ranges(_TOO_NEW)


def _by_category(code: int) -> str:
    if code < 0x80:
        return chr(code)
    if code in _WHITE_SPACE:
        return _SPACE
    category = unicodedata.category(chr(code))
    if category != "Cn" and _is_in(code, too_new()):
        return _OTHER
    if category == "Cn":
        for letter, ranges in _NEWER.items():
            if _is_in(code, _ranges(ranges)):
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
