"""Cuts text into words before byte-pair encoding, at the same places as llama.cpp.

Python's `re` does not know Unicode categories. As in llama.cpp (src/unicode.cpp, "collapsed" text),
m2m replaces each character beyond ASCII with one private byte for its category. An ASCII-only
expression finds the cuts in the result, and the original text is cut at the same places.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from m2m.errors import InputError
from m2m.families import USE_KNOWN

# The private bytes of llama.cpp's k_ucat_cpt; a vertical tab replaces white space beyond ASCII.
_NUMBER, _LETTER, _PUNCTUATION, _MARK, _SYMBOL, _OTHER = "\xd1\xd2\xd3\xd4\xd5\xd0"
_BY_CATEGORY = {"N": _NUMBER, "L": _LETTER, "P": _PUNCTUATION, "M": _MARK, "S": _SYMBOL}

# unicode_set_whitespace in llama.cpp's src/unicode-data.cpp, beyond ASCII.
_WHITE_SPACE = frozenset(
    [0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]
)

# Letters and numbers of Unicode 15.1 (llama.cpp's tables) that Python 3.11's Unicode 14.0 lacks.
_NEWER_LETTERS = (
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
)
_NEWER_NUMBERS = ((0x11F50, 0x11F59), (0x1D2C0, 0x1D2D3), (0x1E4F0, 0x1E4F9))


class _Categories(dict[int, str]):
    """A table for `str.translate` that fills itself, one code point at a time."""

    def __missing__(self, code: int) -> str:
        self[code] = letter = _representative(code)
        return letter


def _representative(code: int) -> str:
    if code < 0x80:
        return chr(code)
    if code in _WHITE_SPACE:
        return "\x0b"
    category = unicodedata.category(chr(code))
    if category == "Cn":
        if any(low <= code <= high for low, high in _NEWER_LETTERS):
            return _LETTER
        if any(low <= code <= high for low, high in _NEWER_NUMBERS):
            return _NUMBER
    return _BY_CATEGORY.get(category[0], _OTHER)


_CATEGORIES = _Categories()
_N = "0-9\xd1"
_L = "A-Za-z\xd2"
_P = r"!-#%-*,-/:;?@\[-\]_{}" + _PUNCTUATION


def _stage(expression: str) -> re.Pattern[str]:
    """Compile one expression of llama.cpp's table; \\p{L}, \\p{N}, \\p{P} as inside brackets."""
    for name, characters in ((r"\p{L}", _L), (r"\p{N}", _N), (r"\p{P}", _P)):
        expression = expression.replace(name, characters)
    return re.compile(f"({expression})", re.ASCII)


# Expressions from llm_tokenizer_bpe in llama.cpp's src/llama-vocab.cpp, applied one after another:
# each cuts the pieces of the one before, and the text between two matches is a piece too.
_GPT2_SPLIT = _stage(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
_CONTRACTION = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = (_GPT2_SPLIT,)
_SMOLLM = (_stage(r"[\p{N}]"), _GPT2_SPLIT)
_LLAMA3 = (_stage(rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}]+|[\p{{N}}]{{1,3}}|{_REST}"),)
_QWEN2 = (_stage(rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}]+|[\p{{N}}]|{_REST}"),)
_DEFAULT = (
    _stage(r"[\p{P}$+<=>^~|]+"),
    _GPT2_SPLIT,
    _stage(r"[\p{N}]+"),
    _stage("[0-9][0-9][0-9]"),
)


@dataclass(frozen=True)
class Pretokenizer:
    """How one family of vocabularies cuts text, and its other settings in llama.cpp.

    Attributes:
        stages: expressions over collapsed text.
        ignore_merges: whether a word that is a token is kept whole.
        adds_bos: whether a sequence starts with the BOS token if the file does not say it.
    """

    stages: tuple[re.Pattern[str], ...]
    ignore_merges: bool = False
    adds_bos: bool = False

    def cut(self, text: str) -> list[str]:
        """Cut `text` into words, in order; together they are the text."""
        collapsed = text if text.isascii() else text.translate(_CATEGORIES)
        pieces = [collapsed]
        for stage in self.stages:
            pieces = [cut for piece in pieces for cut in stage.split(piece) if cut]
        if collapsed is text:
            return pieces
        words, start = [], 0
        for piece in pieces:
            words.append(text[start : start + len(piece)])
            start += len(piece)
        return words


_LLAMA3_FAMILY = Pretokenizer(_LLAMA3, ignore_merges=True, adds_bos=True)

# The value of tokenizer.ggml.pre -> how to cut.
PRETOKENIZERS: dict[str, Pretokenizer] = {
    "default": Pretokenizer(_DEFAULT),
    "smollm": Pretokenizer(_SMOLLM),
    "codeshell": Pretokenizer(_SMOLLM),
    "gpt-2": Pretokenizer(_GPT2),
    "phi-2": Pretokenizer(_GPT2),
    "olmo": Pretokenizer(_GPT2),
    "qwen2": Pretokenizer(_QWEN2),
    "deepseek-r1-qwen": Pretokenizer(_QWEN2),
    "llama-bpe": _LLAMA3_FAMILY,
    "llama3": _LLAMA3_FAMILY,
    "llama-v3": _LLAMA3_FAMILY,
    "smaug-bpe": Pretokenizer(_LLAMA3),
}


def find_pretokenizer(name: Any) -> Pretokenizer:
    """Return the entry of `PRETOKENIZERS` for a file's `tokenizer.ggml.pre` (absent: "default").

    Raises:
        InputError: the name is not in the table; guessing would give wrong ids.
    """
    try:
        return PRETOKENIZERS["default" if name is None else name]
    except (KeyError, TypeError):  # TypeError: a list
        raise InputError(
            f"unknown pre-tokenizer {name!r} (tokenizer.ggml.pre); "
            f"known are {', '.join(sorted(PRETOKENIZERS))}",
            USE_KNOWN,
        ) from None
