"""Suggest the encoding of a text that is not UTF-8: the one or two that give plausible words.

An encoding fits if it decodes every line, and if the letters beyond ASCII that it gives belong
together: to the alphabet of one language, or to the usual part of one script. Nothing is decoded by
a suggestion; the user sees a line and decides.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

# Letters beyond ASCII of languages with Latin letters, and with others the frequent ones. An 8-bit
# encoding that gives letters of no single language is wrong.
_LATIN = {
    language: frozenset(letters + letters.upper())
    for language, letters in {
        "French": "àâæçéèêëîïôœùûüÿ",
        "Portuguese": "ãõáéíóúâêôàç",
        "Spanish and Catalan": "áéíóúüñçàèòïºª¿¡",
        "German": "äöüß",
        "Italian": "àèéìòùí",
        "Nordic": "åäöæøéáðíóúýþ",
        "Polish": "ąćęłńóśźż",
        "Czech and Slovak": "áčďéěíňóřšťúůýžäĺľôŕ",
        "Hungarian": "áéíóöőúüű",
        "Romanian": "ăâîşţșț",
        "South Slavic": "čćđšž",
        "Turkish": "çğıöşüâîû",
        "Baltic": "āčēģīķļņšūžąęėįųõäöü",
        "Vietnamese": "àáâãèéêìíòóôõùúýăđơư",
        "Tswana and Northern Sotho": "êôšáéóúà",
        "Afrikaans and Dutch": "áéèêëíïîóôöúûü",
        "Malagasy": "àâéèêìïñôù",
        "Wolof, Fula and Serer": "àãéëóñ",
    }.items()
}
_FREQUENT = {
    "CYRILLIC": "оеаинтсрвлкмдпуы",
    "GREEK": "αοιετσνηυρπκμλς",
    "HEBREW": "יוהלאתרבמש",
    "ARABIC": "اليمنرتوبهةعدسكیےہ",
    "THAI": "านรอกเงมยลวดทสต\u0e48\u0e49\u0e31\u0e35\u0e34",
    "CJK": "的一是在不了有和人这這中大为為上个個国國我以要他时時来來用们們生到"
    "作地于於出就分对對成会會可主"
    "发發年动動同工也能下过過子说說产產种種面而方后後多定行学學法所民得"
    "经經十三之进進着等部度家日本",
    "HANGUL": "이다는의가을에고도를하지은로사한기인리자그서아어나시대해부일",
}
# Signs of well-set text in many languages.
_SIGNS = frozenset(
    "\u2018\u2019\u201c\u201d\u201e\u2013\u2014\u2026\u00ab\u00bb\u00b0\u00a0\u20ac\u00a3\u00b7"
    "\u060c\u061b\u061f\u3002\u3001\uff0c\uff01\uff1f\u300c\u300d\uff1a"
)
_ONE_BYTE = (
    "cp1252", "cp1250", "cp1251", "cp1254", "cp1256", "cp1253", "cp1255", "cp1257", "cp1258",
    "cp874", "mac_roman", "cp850", "cp437", "cp852", "cp866", "koi8-r", "iso8859-2", "iso8859-5",
    "iso8859-6", "latin-1",
)  # fmt: skip
_SEVERAL_BYTES = ("shift_jis", "euc-jp", "gb18030", "big5", "euc-kr")
_ALPHABETS = frozenset(("CYRILLIC", "GREEK", "HEBREW", "ARABIC"))  # no word mixes them with Latin
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ENOUGH = 0.6  # of the characters beyond ASCII are plausible
_NEAR = 0.93  # of the best score: a second encoding is also named
_MOST = 2
_SHOWN = 40  # characters of a line that a message shows


def likely_encodings(lines: Sequence[bytes]) -> list[tuple[str, str]]:
    """Return the one or two likely encodings of lines that are not UTF-8, the best first.

    Returns:
        Python's name of the encoding, and the part of the first line that it changes, as it is
        read by it. [] if none is plausible.
    """
    scored: list[tuple[float, str, str]] = []
    seen: list[list[str]] = []
    for encoding in (*_SEVERAL_BYTES, *_ONE_BYTE):
        try:
            texts = [line.decode(encoding) for line in lines]
        except UnicodeDecodeError:
            continue
        score = 0.0 if any(map(_CONTROL.search, texts)) else _plausible(texts)
        if score >= _ENOUGH and texts not in seen:
            seen.append(texts)
            scored.append((score, encoding, shown_part(texts[0])))
    # Of equal scores, the first of the list is the most usual one.
    scored.sort(key=lambda one: -one[0])
    return [(name, text) for score, name, text in scored if score >= _NEAR * scored[0][0]][:_MOST]


def shown_part(text: str) -> str:
    """Return the part of a line around its first character beyond ASCII, to show it."""
    place = next((i for i, character in enumerate(text) if not character.isascii()), 0)
    begin = max(0, place - _SHOWN // 2)
    return text[begin : begin + _SHOWN].strip()


def _plausible(texts: Sequence[str]) -> float:
    """Return the fraction of the characters beyond ASCII that belong where they are."""
    found = Counter(character for text in texts for character in text if not character.isascii())
    total = found.total()
    if not total:
        return 0.0
    letters = Counter({c: n for c, n in found.items() if unicodedata.category(c)[0] in "LM"})
    good = float(sum(n for character, n in found.items() if character in _SIGNS))
    good += _of_one_script(letters) if letters else 0
    return (good - _out_of_place(texts)) / total


def _of_one_script(letters: Counter[str]) -> float:
    """Return how many letters are plausible together."""
    scripts = Counter[str]()
    for character, count in letters.items():
        scripts[_script(character)] += count
    script, count = scripts.most_common(1)[0]
    if script == "LATIN":
        return max(sum(letters[c] for c in alphabet) for alphabet in _LATIN.values())
    if script == "KANA":
        return count + scripts["CJK"]
    frequent = sum(letters[c] for c in _FREQUENT.get(script, ()))
    usual = {"CJK": 0.12, "HANGUL": 0.2}.get(script, 0.55)
    if script == "CYRILLIC":  # capitals are small letters of another encoding
        count = sum(n for c, n in letters.items() if c.islower()) + count // 10
    if script == "ARABIC":
        count += min(scripts["LATIN"], count // 20)
    return min(count, letters.total()) * min(1.0, frequent / max(1, count) / usual)


def _script(character: str) -> str:
    name = unicodedata.name(character, "")
    first = name.partition(" ")[0]
    if first in ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"):
        return "KANA"
    return first


def _out_of_place(texts: Iterable[str]) -> float:
    """Return how many characters beyond ASCII no word has: signs in words, capitals after small."""
    count = 0.0
    for text in texts:
        for (before, after), following in zip(pairwise(text), [*text[2:], " "], strict=False):
            if after.isascii() or after in _SIGNS:
                continue
            category = unicodedata.category(after)
            foreign = category[0] == "L" and _script(after) in _ALPHABETS
            if foreign and any(c.isascii() and c.isalpha() for c in (before, following)):
                count += 1
            elif category[0] not in "LM":
                count += 1 if category[0] in "SC" or before.isalpha() else 0.3
            elif before.islower() and after.isupper() and following.islower():
                count += 1
            elif before.islower() and after.isupper():
                count += 0.7
    return count
