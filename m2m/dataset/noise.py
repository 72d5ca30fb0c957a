"""Find noise in texts: addresses, names of users, HTML, escapes, cut texts, refusals, bad lengths.

The rules know no language, except for the refusals of assistants, which are fixed sentences.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

_TAGS = (
    "a|abbr|b|big|blockquote|body|br|button|center|code|div|em|figure|font|footer|form|h[1-6]|head|"
    "header|hr|html|i|iframe|img|input|label|li|link|meta|nav|ol|option|p|pre|s|script|section|"
    "small|span|strong|style|sub|sup|table|tbody|td|th|thead|title|tr|u|ul|video"
)
URL = re.compile(r"(?:https?://|www\.)[^\s<>\"]+", re.IGNORECASE)
EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}(?!\w)")
USER = re.compile(r"(?<![\w@/.])@(?!\d+\b)\w{2,}(?![\w@]|\.\w)")
# +256 772 123456, 0803 123 4567, (0803) 123-4567; `is_phone` decides.
PHONE = re.compile(r"(?<![\w.,/:+-])\(?\+?\d(?:[ ().-]{0,2}\d){8,14}(?![\w/:]|[.,-]\d)")
_DATE = re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{2,4}")
HTML = re.compile(
    rf"(?=[<&])(?:</?(?:{_TAGS})(?:\s[^<>]*)?/?>|<!--(?:(?!<!--|-->).)*+-->|<!doctype\s[^<>]*>|"
    r"&(?:amp|lt|gt|quot|apos|nbsp|[aeiouAEIOU](?:acute|grave|circ|uml|tilde)|#\d{2,6}|"
    r"#x[0-9a-fA-F]{2,6});)",
    re.IGNORECASE | re.DOTALL,
)
# "\n" as two characters: after a sign, twice, or before a capital. "C:\new" and "\nabla" are none.
ESCAPE = re.compile(
    r"(?<!\\)(?:\\r)?\\n(?=\\|[^a-z\\]|$)|(?:(?<=[.!?;,)])|(?<=\w\w:))\\[nrt]|(?<!\\)\\u[0-9a-fA-F]{4}|(?<=\w)\\['\"]"
)
_REFUSALS = re.compile(
    r"\bas an? (?:AI|artificial intelligence|large language model|language model)\b|"
    r"\bI(?:'m| am) (?:just |only )?an? (?:AI|artificial intelligence|(?:large )?language model)\b|"
    r"\bI(?:'m| am) (?:very |really )?sorry,? but I (?:can ?not|can't|am unable to|'m unable to) "
    r"(?:assist|help|fulfill?|provide|comply|translate|answer|generate)|"
    r"\bI (?:can ?not|can't) (?:assist|comply|fulfill?) (?:with|you|that|this|your)|"
    r"\ben tant qu(?:e modèle de langage|'(?:IA|intelligence artificielle)\b)|"
    r"\bje suis désolée?,? mais je ne peux pas (?:vous )?(?:aider|répondre|fournir|traduire)|"
    r"\bcomo (?:um modelo de linguagem|uma? (?:IA|inteligência artificial))\b|"
    r"\bkama (?:modeli|mfano|mfumo) (?:ya|wa) lugha\b|\bkama (?:AI|akili (?:bandia|mnemba))\b|"
    r"\ba matsayina? na (?:AI|samfurin harshe|ƙirar harshe)|"
    r"እንደ (?:AI|ሰው ሰራሽ|አርቴፊሻል|የቋንቋ ሞዴል)|"
    r"\bgẹ́gẹ́ bí (?:AI|àwòṣe èdè)",
    re.IGNORECASE,
)
# One of these is in every refusal, so most texts need no regular expression.
_REFUSING = (
    "as a", "i'm", "i am", "i can", "en tant qu", "désolé", "como um", "kama ", "matsayi", "እንደ",
    "gẹ́gẹ́ bí",
)  # fmt: skip
_TYPICAL_START = 300  # characters in which a refusal stands
_LETTER = re.compile(r"[^\W\d_]")
_OPEN_ENDED = re.compile(r"(?:\w|,)\s?(?:\.{3,}|…)$|\[(?:\.{3}|…)\]$")
_LONG = 60  # characters of a text of which it matters that it was cut
# More rows than these fractions have it: some rows of every collection end in three dots.
_MANY_CUT, _MANY_SAME_LENGTH = 0.05, 0.01
_LEAST = 3  # rows
_PAIRS, _ALIKE, _LOPSIDED, _LEAST_RATIO = 50, 0.35, 8.0, math.log(3)
_SHORT = 20  # characters; the ratio of shorter texts says nothing


@dataclass(frozen=True)
class Noise:
    """A kind of noise.

    Attributes:
        fault: words after "12 rows with".
        reason: why it matters.
        pattern: the noise itself.
        signs: one of these is in every match, so most texts need no regular expression.
        least: the fraction of rows from which it is reported; some noise is usual in some texts.
    """

    fault: str
    reason: str
    pattern: re.Pattern[str]
    signs: tuple[str, ...]
    least: float = 0.0


_PUBLIC = "may they be published?"
NOISE: dict[str, Noise] = {
    "email": Noise("e-mail addresses", _PUBLIC, EMAIL, ("@",)),
    "phone": Noise("telephone numbers", _PUBLIC, PHONE, tuple("0123456789")),
    "url": Noise(
        "web addresses", "the model learns to invent some", URL, ("://", "www.", "WWW."), 0.01
    ),
    "user": Noise("names of users (@name)", _PUBLIC, USER, ("@",), 0.01),
    "html": Noise("HTML (<br>, &amp;)", "the model learns to write it", HTML, ("<", "&")),
    "escape": Noise(
        "\\n, \\u00e9 or the like as characters", "a program escaped them twice", ESCAPE, ("\\",)
    ),
}


def find_noise(texts: Sequence[str]) -> dict[str, list[int]]:
    """Return the places of the texts with each kind of noise of `NOISE`."""
    return {
        kind: places
        for kind, noise in NOISE.items()
        if (places := [place for place, text in enumerate(texts) if has_noise(kind, text)])
    }


def has_noise(kind: str, text: str) -> bool:
    """Return whether a text has noise of a kind."""
    noise = NOISE[kind]
    if not any(sign in text for sign in noise.signs):
        return False
    matches = noise.pattern.finditer(text)
    return any(kind != "phone" or is_phone(match.group()) for match in matches)


def is_phone(number: str) -> bool:
    """Return whether a number is one of a telephone: it begins with + or 0, in up to 5 groups.

    A date, a sum of money and the number of a book are none.
    """
    groups = re.findall(r"\d+", number)
    digits = "".join(groups)
    local = digits[0] == "0" and digits[1] != "0" and 9 <= len(digits) <= 11
    abroad = number.lstrip("(")[0] == "+" and 9 <= len(digits) <= 15
    decimal = "." in number and len(groups) == 2
    varied = len(set(digits)) > 2
    return (
        (local or abroad)
        and varied
        and len(groups) <= 5
        and not decimal
        and not _DATE.match(number)
    )


def refusals(answers: Sequence[str]) -> list[int]:
    """Return the places of answers in which an assistant refuses, or speaks of itself as an AI."""
    return [i for i, text in enumerate(answers) if _is_refusal(text[:_TYPICAL_START])]


def _is_refusal(text: str) -> bool:
    low = text.lower()
    return any(sign in low for sign in _REFUSING) and bool(_REFUSALS.search(text))


def cut_texts(texts: Sequence[str]) -> list[int]:
    """Return the places of texts that a program cut: at one length, or with three dots.

    Return an empty list if only a few are: people write three dots, and some texts are as long as
    the longest one.
    """
    ends = [text.rstrip() for text in texts]
    dotted = [i for i, text in enumerate(ends) if len(text) >= _LONG and _OPEN_ENDED.search(text)]
    found = set(dotted) if len(dotted) >= max(_LEAST, _MANY_CUT * len(texts)) else set()
    longest = max(map(len, texts), default=0)
    if longest >= _LONG:
        # A cut text may end in a space, which was stripped.
        same = [i for i, text in enumerate(texts) if len(text) >= longest - 1]
        inside = [i for i in same if _LETTER.match(ends[i][-1:])]
        if len(inside) >= max(_LEAST, _MANY_SAME_LENGTH * len(texts)):
            found |= {*inside}
    return sorted(found)


def lopsided(questions: Sequence[str], answers: Sequence[str]) -> list[int]:
    """Return the places of pairs in which one side is far too long for the other.

    The file's own ratio of lengths is the measure. Return an empty list if the ratios of most
    rows differ much, as those of questions and answers do: these are no translations.
    """
    sizes = [
        (i, len(question), len(answer))
        for i, (question, answer) in enumerate(zip(questions, answers, strict=True))
        if question and answer and max(len(question), len(answer)) >= _SHORT
    ]
    if len(sizes) < max(_PAIRS, len(questions) / 2):
        return []
    ratios = np.log([(answer + 5) / (question + 5) for _, question, answer in sizes])
    off = np.abs(ratios - np.median(ratios))
    spread = float(np.median(off))
    if spread > _ALIKE:
        return []
    limit = max(_LEAST_RATIO, _LOPSIDED * spread)
    return [sizes[i][0] for i in np.flatnonzero(off > limit)]


def closed_set(answers: Iterable[str], most: int = 20) -> Counter[str]:
    """Count the answers if they are labels: at most `most`, each used ten times on average.

    One answer for all rows counts as a label, too.
    """
    counts = Counter[str]()
    for answer in answers:
        counts[answer] += 1
        if len(counts) > most:
            return Counter()
    return counts if len(counts) <= counts.total() / 10 else Counter()
