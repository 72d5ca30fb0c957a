"""The expressions with which llama.cpp cuts text into words before byte-pair merging.

They are those of llm_tokenizer_bpe in llama.cpp's src/llama-vocab.cpp, written for Python's `re`.
The steps of a tuple follow one another: each cuts the pieces of the one before, and the text
between two matches is a piece too.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import NamedTuple

from m2m.tokenizer.categories import CHINESE, CLASSES, COLLAPSED, HAN, NO_HAN, ORIGINAL, Collapsing


class Cutter(NamedTuple):
    """One step of the cutting.

    Attributes:
        view: changes the text before the step looks at it; ASCII stays as it is.
        cut: returns the pieces of a changed text; some may be empty.
    """

    view: Collapsing
    cut: Callable[[str], list[str]]


def _step(expression: str, view: Collapsing = COLLAPSED) -> Cutter:
    r"""Compile an expression; `\p{L}` and the other categories must be inside of brackets."""
    for name, characters in CLASSES.items():
        expression = expression.replace(name, characters)
    return Cutter(view, re.compile(f"({expression})", re.ASCII).split)


def _unicode_step(expression: str) -> Cutter:
    """Compile an expression that names characters beyond ASCII."""
    return Cutter(ORIGINAL, re.compile(f"({expression})", re.ASCII).split)


def _from_the_right(digit: str, *, glued: bool) -> Callable[[str], list[str]]:
    """Return a function that cuts runs of digits into groups of three, counted from the right.

    Args:
        digit: the characters of digits, for use inside of brackets.
        glued: whether the text before a run stays with the run's first group, as in llama.cpp's
            unicode_regex_split_custom_afmoe; if not, the text after a run stays with its last one.
    """
    runs = re.compile(f"[{digit}]+")

    def cut(text: str) -> list[str]:
        places = [0]
        for run in runs.finditer(text):
            start, end = run.span()
            first = start + ((end - start) % 3 or (3 if glued else 0))
            places += range(first, end + 1 if glued else end, 3)
        places.append(len(text))
        return [text[a:b] for a, b in itertools.pairwise(places)]

    return cut


_SHORT = "'s|'t|'re|'ve|'m|'ll|'d"
_ANY_CASE = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
_WORD = r"[^\r\n\p{L}\p{N}]?[\p{L}]+"
_MARKED_WORD = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+"
_LINES = r"\s*[\r\n]+"
_BLANKS = r"\s+(?!\S)|\s+"
_REST = rf"{_SIGNS}[\r\n]*|{_LINES}|{_BLANKS}"
_CODE_REST = rf"{_SIGNS}[\r\n/]*|{_LINES}|{_BLANKS}"
_ONE, _UP_TO_THREE = r"[\p{N}]", r"[\p{N}]{1,3}"

_GPT2_STEP = _step(rf"{_SHORT}| ?[\p{{L}}]+| ?[\p{{N}}]+|{_SIGNS}|{_BLANKS}")
_QWEN2_STEP = _step(rf"{_ANY_CASE}|{_WORD}|{_ONE}|{_REST}")
_ONE_STEP, _THREE_STEP, _NUMBERS_STEP = _step(_ONE), _step(_UP_TO_THREE), _step(r"[\p{N}]+")
_LINES_STEP = _step(r"[^\n]+|[\n]+")
_BREAKS_STEP = _step(r"[\r\n]")
_CHINESE_STEP = _unicode_step(r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+")
_CHINESE_OR_KOREAN_STEP = _unicode_step(r"[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+")
_ASCII_SIGN = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{\|}~]"
_SIGNED_WORD = rf"{_ASCII_SIGN}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"

GPT2 = (_GPT2_STEP,)
DIGITS_GPT2 = (_ONE_STEP, _GPT2_STEP)
QWEN2 = (_QWEN2_STEP,)
LLAMA3 = (_step(rf"{_ANY_CASE}|{_WORD}|{_UP_TO_THREE}|{_REST}"),)
_UNMARKED_SIGNS = r" ?[^\s\p{L}\p{M}\p{N}]+"
QWEN35 = (_step(rf"{_ANY_CASE}|{_MARKED_WORD}|{_ONE}|{_UNMARKED_SIGNS}[\r\n]*|{_LINES}|{_BLANKS}"),)
JAIS2 = (
    _step(
        rf"{_ANY_CASE}|{_WORD}|{_UP_TO_THREE}|{_SIGNS}[\r\n]*|{_LINES}|"
        + "|".join(rf"\s{{{size}}}(?!\S)" for size in (512, 256, 128, 64, 32, 16, 8, 4, "1,2"))
        + r"|\s"
    ),
)
MINICPM5 = (_THREE_STEP, _step(rf"{_ANY_CASE}|{_WORD}|[\p{{N}}]+|{_REST}"))
LAGUNA = (_LINES_STEP, _QWEN2_STEP)
SEED_CODER = (_step(rf"{_ANY_CASE}|{_WORD}|{_ONE}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_LINES}|{_BLANKS}"),)
BAILING = (
    _step(
        rf"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|{_WORD}|{_ONE}|{_SIGNS}[\r\n]*|"
        rf"\s*[\r\n]|{_BLANKS}"
    ),
)
UFAKZEKA = (_step(rf"{_WORD}|{_ONE}|{_REST}"),)
EXAONE_MOE = (
    _step(
        rf"{_ANY_CASE}|[^\r\n\p{{L}}\p{{N}}]?(?:[\p{{L}}][\p{{M}}]*(?: [\p{{L}}][\p{{M}}]*)*)+|"
        rf"{_ONE}|{_SIGNS}[\r\n/]?|\s*[\r\n]|{_BLANKS}"
    ),
)


def _cased(upper: str, lower: str, ending: str) -> str:
    """Return the expression of words such as "Word" and "WORD", perhaps with "'s"."""
    lead = r"[^\r\n\p{L}\p{N}]?"
    return f"{lead}[{upper}]*[{lower}]+{ending}|{lead}[{upper}]+[{lower}]*{ending}"


_ENDING = f"(?:{_ANY_CASE})?"
_CASED_WORD = _cased(r"\p{Lu}", r"\p{Ll}", _ENDING)
_CASED_MARKED_WORD = _cased(r"\p{Lu}\p{M}", r"\p{Ll}\p{M}", _ENDING)
TEKKEN = (_step(_cased(r"\p{Lu}", r"\p{Ll}", "") + rf"|{_ONE}|{_CODE_REST}"),)
GPT4O = (_step(rf"{_CASED_WORD}|{_UP_TO_THREE}|{_CODE_REST}"),)
GRANITE_MULTI = (_step(rf"{_CASED_MARKED_WORD}|{_UP_TO_THREE}|{_CODE_REST}"),)
# Here llama.cpp takes upper and lower case for the same.
TINY_AYA = (
    Cutter(COLLAPSED, _from_the_right(CLASSES[r"\p{N}"], glued=True)),
    _step(rf"{_MARKED_WORD}{_ENDING}|{_UP_TO_THREE}|{_CODE_REST}"),
)
YOUTU = (
    _unicode_step(
        r"[\uac00-\ud7a3\u3131-\u318e]+|"
        r"[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+|"
        r"[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
    ),
    _step(rf"{_MARKED_WORD}{_ENDING}|{_ONE}|{_CODE_REST}"),
)
KIMI_K2 = (
    _step(
        rf"[{HAN}{NO_HAN}]+|[^\r\n\p{{L}}\p{{N}}{HAN}{NO_HAN}]?[\p{{L}}]+{_ENDING}|{_UP_TO_THREE}|"
        rf" ?[^\s\p{{L}}\p{{N}}{HAN}]+[\r\n]*|{_LINES}|{_BLANKS}",
        CHINESE,
    ),
)
SUPERBPE = (_NUMBERS_STEP, Cutter(COLLAPSED, _from_the_right("0-9", glued=False)))
AFMOE = (
    Cutter(COLLAPSED, _from_the_right(CLASSES[r"\p{N}"], glued=True)),
    _unicode_step(
        r"[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f"
        r"\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f"
        r"\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
    ),
    _step(rf"{_SIGNED_WORD}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_LINES}|{_BLANKS}"),
)
DEEPSEEK3 = (
    _THREE_STEP,
    _CHINESE_STEP,
    _step(rf"{_SIGNED_WORD}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_LINES}|{_BLANKS}"),
)
SPARK = (
    _THREE_STEP,
    _CHINESE_STEP,
    _step(rf"{_SIGNED_WORD}| ?[\p{{P}}\p{{S}}]+|[\r\n]|{_BLANKS}"),
    _ONE_STEP,
)
DEEPSEEK_CODER = (
    _BREAKS_STEP,
    _step(r"\s?[\p{L}]+"),
    _step(r"\s?[\p{P}]+"),
    _CHINESE_OR_KOREAN_STEP,
    _ONE_STEP,
)
_CASED_LETTERS = (
    r"A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"
    r"\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c"
    r"\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5"
    r"\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    r"\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59"
    r"\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"
    r"\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"
    r"\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    r"\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee"
    r"\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
    r"\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    r"\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    r"\U000118a0-\U000118df\U0001e900-\U0001e943"
)
DEEPSEEK_LLM = (
    _BREAKS_STEP,
    _unicode_step(rf"\s?[{_CASED_LETTERS}]+"),
    _unicode_step(r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
    _step(r"(?<!\s)\s+\Z"),
    _CHINESE_OR_KOREAN_STEP,
    _NUMBERS_STEP,
)
FALCON = (_step(r"[\p{P}$+<=>^~|`]+"), _GPT2_STEP, _step("[0-9][0-9][0-9]"))
DEFAULT = (
    _step(r"[\p{P}$+<=>^~|]+"),
    _GPT2_STEP,
    _NUMBERS_STEP,
    _step("[0-9][0-9][0-9]"),
)
BLOOM = (_unicode_step(r" ?[^(\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"),)
VIKING = (*BLOOM, _ONE_STEP)
CHAMELEON = (
    _step("<sentinel:[0-9]+>"),
    _step("IMGIMG[A-I]{1,4}Z"),
    _step(r"[\t\n]|    |  "),
    _ONE_STEP,
    _step(r"[\p{P}!-/:-@\[-`{-~]"),
    _GPT2_STEP,
)
LINES = (_LINES_STEP,)
