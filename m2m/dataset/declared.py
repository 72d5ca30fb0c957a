"""Compare the languages that a recipe declares for a dataset with the letters and words in it.

Two faults can be seen without knowing a language: letters of another script, and rows that were
left in English, French or Portuguese, whose small words no other language has.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

# The scripts of languages (ISO 639-1 and 639-3), as the first word of their letters' Unicode names.
_SCRIPTS: dict[tuple[str, ...], str] = {
    ("LATIN",): (
        "af ak bem bm dag de dyu ee en es ewe fon fr gaa guw hil id ig ibo it kam ki kik kin "
        "kmb kpe kon lg lin ln loz lu lua lug luo mfe mg mos nd ng nl nso nya ny nyn om orm "
        "pcm pl pt rn run rw sag sg sn sna so som sot srn ss st sw swh swa tn tog toi ts tsn "
        "tso tum tw twi umb ve ven vi wo wol xh xho yo yor zu zul"
    ),
    ("LATIN", "ARABIC"): "ha hau ku ms swc kr",
    ("LATIN", "ARABIC", "ADLAM"): "ff ful fuv",
    ("LATIN", "TIFINAGH", "ARABIC"): "ber kab shi tzm zgh taq",
    ("LATIN", "CYRILLIC"): "sr uz bs",
    ("ETHIOPIC",): "am amh ti tir tig gez byn wal",
    ("ARABIC",): "ar ara arz ary apc aeb ckb fa fas pes prs ps ur ug sd",
    ("KHMER",): "km khm",
    ("THAI",): "th tha",
    ("LAO",): "lo lao",
    ("MYANMAR",): "my mya shn",
    ("DEVANAGARI",): "hi hin mr mar ne npi nep mai bho",
    ("BENGALI",): "bn ben as asm",
    ("TAMIL",): "ta tam",
    ("TELUGU",): "te tel",
    ("SINHALA",): "si sin",
    ("CYRILLIC",): "ru rus uk ukr be bg mk ky tg mn",
    ("GREEK",): "el ell",
    ("HEBREW",): "he heb yi",
    ("ARMENIAN",): "hy hye",
    ("GEORGIAN",): "ka kat",
    ("NKO",): "nqo",
    ("VAI",): "vai",
    ("CJK", "KATAKANA", "HIRAGANA"): "zh zho cmn yue ja jpn",
    ("HANGUL",): "ko kor",
    ("TIBETAN",): "bo bod dz dzo",
}
# Subtags of scripts (ISO 15924) in a code such as ff-Adlm.
_SUBTAGS = {
    "latn": "LATIN", "arab": "ARABIC", "ethi": "ETHIOPIC", "adlm": "ADLAM", "nkoo": "NKO",
    "tfng": "TIFINAGH", "cyrl": "CYRILLIC", "deva": "DEVANAGARI", "khmr": "KHMER", "vaii": "VAI",
    "hans": "CJK", "hant": "CJK", "beng": "BENGALI", "mymr": "MYANMAR",
}  # fmt: skip
_OF = {code: scripts for scripts, codes in _SCRIPTS.items() for code in codes.split()}
# Small words that other languages hardly have, and the codes of languages that share them.
_SMALL: dict[str, tuple[str, str]] = {
    "English": (
        "the of and that with for was were are this these you your have what which from they his "
        "her their not has been will would there when",
        "en eng pcm kri tpi bis bi jam wes srn",
    ),
    "French": (
        "le les des du et est une que qui dans pour sur avec pas sont cette aux nous vous ils",
        "fr fra ht hat mfe gcr rcf sg ca cat it ita ia oc",
    ),
    "Portuguese": (
        "não uma para com dos das são mais pelo pela também você muito foi está seu sua",
        "pt por kea pov gl glg es spa ca cat",
    ),
}
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_PLACEHOLDER = re.compile(r"\{[\w, ]*\}", re.ASCII)  # "{number}" is part of a program
_FEWEST_LETTERS, _OWN_LETTERS = 20, 0.2  # of a row whose script is judged
_FEWEST_WORDS, _SMALL_WORDS = 4, 0.3


def _scripts(code: str) -> tuple[str, ...]:
    """Return the scripts of a language, as words of Unicode names; () if m2m does not know."""
    head, *subtags = code.lower().split("-")
    named = tuple(_SUBTAGS[part] for part in subtags if part in _SUBTAGS)
    return named or _OF.get(head, ())


def other_scripts(texts: Sequence[str], languages: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the places of texts in scripts that no language has, and languages without letters.

    Both are empty if the scripts of a language are not known.
    """
    scripts = {code: _scripts(code) for code in languages}
    if not languages or not all(scripts.values()):
        return [], []
    expected = {script for names in scripts.values() for script in names}
    places, total = [], Counter[str]()
    for place, text in enumerate(texts):
        letters = _letters(_PLACEHOLDER.sub("", text) if "{" in text else text)
        total += letters
        own = sum(letters[script] for script in expected)
        if letters.total() >= _FEWEST_LETTERS and own < _OWN_LETTERS * letters.total():
            places.append(place)
    absent = [code for code, names in scripts.items() if not any(total[name] for name in names)]
    return places, absent if total else []


def _letters(text: str) -> Counter[str]:
    """Count a text's letters by script."""
    if text.isascii():
        return Counter({"LATIN": sum(map(str.isalpha, text))})
    counts: Counter[str] = Counter()
    for char, times in Counter(text).items():
        if script := _script(char):
            counts[script] += times
    return counts


@cache
def _script(char: str) -> str:
    return unicodedata.name(char, "").partition(" ")[0] if char.isalpha() else ""


def left_in(texts: Sequence[str], languages: Sequence[str]) -> dict[str, list[int]]:
    """Return the places of texts in English, French or Portuguese that are not of `languages`."""
    own = {code.lower().partition("-")[0] for code in languages}
    if not own:
        return {}
    sets = {
        name: {*words.split()}
        for name, (words, codes) in _SMALL.items()
        if not own & {*codes.split()}
    }
    places: dict[str, list[int]] = {name: [] for name in sets}
    for place, text in enumerate(texts):
        words = _WORD.findall(text.casefold())
        if len(words) < _FEWEST_WORDS:
            continue
        for name, small in sets.items():
            used = [word for word in words if word in small]
            if len(used) >= _SMALL_WORDS * len(words) and len(set(used)) > 1:
                places[name].append(place)
    return {name: found for name, found in places.items() if found}
