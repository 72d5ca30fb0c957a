"""Scenarios of the starter's kind: what does this name or message mean, by four choices."""

from __future__ import annotations

import collections
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sources import LANGUAGES, SEED, Data, Language, Pair, Rows, Sources, Thing, rules

ROWS = 1000  # of a dataset, at most
MISSORTED = 800
HELD_CONCEPTS, HELD_MESSAGES = 0.45, 0.30  # kept for the target, as in the starter
DEV, TEST = {"things": 50, "school": 80}, {"things": 100, "school": 150}  # questions, at most


@dataclass(frozen=True)
class Held:
    """A language's items: those of the target by facet, and those that are left to train on."""

    language: Language
    dev: dict[str, list[Pair]]
    test: dict[str, list[Pair]]
    things: list[Pair]
    messages: list[Pair]

    @property
    def items(self) -> list[Pair]:
        """Return all items of the target."""
        return [pair for part in (self.dev, self.test) for some in part.values() for pair in some]


def held_concepts(languages: Iterable[Iterable[Thing]], rng: random.Random) -> set[str]:
    """Draw the concepts that only targets may ask for."""
    concepts = sorted({thing.concept for things in languages for thing in things})
    rng.shuffle(concepts)
    return set(concepts[: int(len(concepts) * HELD_CONCEPTS)])


def hold_out(
    sources: Sources, language: Language, held: set[str], rng: random.Random, fraction: float = 1.0
) -> Held:
    """Split a language's names and messages; `fraction` shrinks the target."""
    things, messages = sources.things(language), sources.messages(language)
    left = [thing.pair for thing in things if thing.concept not in held]
    rng.shuffle(messages)
    count = int(len(messages) * HELD_MESSAGES)
    held_messages, left_messages = messages[:count], messages[count:]
    met = collections.Counter(
        word
        for _, text in left + left_messages
        for word in set(rules.words(text))
        if len(word) >= 4
    )
    pools = {
        "things": [p for p in _one_each(things, held, met) if not rules.gives_itself_away(*p)],
        "school": [
            pair
            for pair in held_messages
            if _supported(pair[1], met)
            and 2 <= len(pair[0].split()) <= 9
            and not rules.gives_itself_away(*pair)
        ],
    }
    for pool in pools.values():
        rng.shuffle(pool)
    dev: dict[str, list[Pair]] = {}
    test: dict[str, list[Pair]] = {}
    texts: set[str] = set()
    for facet, pool in pools.items():
        first, last = (round(fraction * part[facet]) for part in (DEV, TEST))
        chosen = rules.spread([p for p in pool if rules.key(p[1]) not in texts], first + last)
        texts |= {rules.key(local) for _, local in chosen}
        dev[facet], test[facet] = chosen[:first], chosen[first:]
    return Held(language, dev, test, left, left_messages)


def _supported(text: str, met: Mapping[str, int]) -> bool:
    """Return whether a phrase can be worked out from words that were met in other phrases."""
    long_words = [word for word in rules.words(text) if len(word) >= 4]
    known = sum(met[word] >= 5 for word in long_words)
    return len(rules.words(text)) >= 2 and bool(long_words) and known / len(long_words) >= 0.5


def _one_each(things: Sequence[Thing], held: set[str], met: Mapping[str, int]) -> list[Pair]:
    """Return the first fit name of each held concept."""
    pairs: dict[str, Pair] = {}
    for thing in things:
        if (
            thing.concept in held
            and _supported(thing.local, met)
            and not rules.gives_itself_away(*thing.pair)
        ):
            pairs.setdefault(thing.concept, thing.pair)
    return list(pairs.values())


def questions_of(held: Sequence[Held], part: str, rng: random.Random) -> Rows:
    """Return the questions of all languages' "dev" or "test" items."""
    questions: Rows = []
    for held_out in held:
        rows = rules.make_mc(list(getattr(held_out, part).items()), held_out.language.name, rng)
        if len(held) > 1:
            for row in rows:
                row["facet"] = f"{held_out.language.cldr}_{row['facet']}"
        questions += rows
    if len(held) > 1:
        rng.shuffle(questions)
    return questions


class Candidates:
    """Makes datasets of pairs, none of which gives an item of the target away."""

    def __init__(self, sources: Sources, held: Sequence[Held], concepts: set[str]) -> None:
        self._sources, self._held, self._concepts = sources, held, concepts
        self._guard = rules.Guard([pair for held_out in held for pair in held_out.items])

    def rows(self, name: str, rng: random.Random) -> Rows:
        """Return a dataset by its name, such as "ha_things" or "missorted"."""
        code, _, kind = name.rpartition("_")
        if kind == "missorted":
            return self._missorted(
                [held_out for held_out in self._held if code in ("", _code(held_out))], rng
            )
        if kind == "definitions":
            pairs = [pair for pair in self._sources.nouns() if not self._guard.bad(pair[0])]
            rng.shuffle(pairs)
            return [
                {"prompt": rules.PROMPT_DEF.format(text=gloss), "completion": word}
                for word, gloss in pairs[:ROWS]
            ]
        language = LANGUAGES[code]
        rows: Rows = rules.rows_of(self._pairs(kind, language), language.name, self._guard, rng)
        return rows[:ROWS]

    def _pairs(self, kind: str, language: Language) -> list[Pair]:
        own = [held_out for held_out in self._held if held_out.language == language]
        if kind == "school":
            return own[0].messages if own else self._sources.messages(language)
        if kind == "things":
            things = self._sources.things(language)
            return [thing.pair for thing in things if thing.concept not in self._concepts]
        return self._sources.places(language)

    def _missorted(self, held: Sequence[Held], rng: random.Random) -> Rows:
        """Return rows whose two columns were sorted apart: real texts, wrong partners."""
        rows: Rows = []
        for held_out in held:
            pairs = [p for p in held_out.messages + held_out.things if not self._guard.bad(*p)]
            rng.shuffle(pairs)
            pairs = pairs[: MISSORTED // len(held)]
            truth = {local: english for english, local in pairs}
            columns = zip(sorted(truth), sorted(english for english, _ in pairs), strict=False)
            wrong = [(e, s) for s, e in columns if truth[s] != e]
            rng.shuffle(wrong)
            prompt = rules.PROMPT
            rows += [
                {"prompt": prompt.format(lang=held_out.language.name, text=s), "completion": e}
                for e, s in wrong
            ]
        if len(held) > 1:
            rng.shuffle(rows)
        return rows


def _code(held: Held) -> str:
    return held.language.cldr


def translation(sources: Sources, codes: Sequence[str], names: Sequence[str]) -> Data:
    """Make questions on the meaning of names and messages in some languages."""
    rng = random.Random(SEED)
    languages = [LANGUAGES[code] for code in codes]
    concepts = held_concepts([sources.things(language) for language in languages], rng)
    fraction = 1 / len(languages)
    held = [hold_out(sources, language, concepts, rng, fraction) for language in languages]
    dev, test = questions_of(held, "dev", rng), questions_of(held, "test", rng)
    candidates = Candidates(sources, held, concepts)
    return Data(dev, test, {name: candidates.rows(name, rng) for name in names})


def hausa(sources: Sources) -> Data:
    """Build the starter's scenario for Hausa; Fulfulde is spoken by its neighbours."""
    own = ("ha_school", "ha_things", "ha_places")
    others = ("ff_school", "sw_things", "yo_school", "en_definitions", "ha_missorted")
    return translation(sources, ["ha"], (*own, *others))


def yoruba(sources: Sources) -> Data:
    """Build the starter's scenario for Yoruba, whose letters carry up to two marks."""
    own = ("yo_school", "yo_things", "yo_places")
    others = ("ff_school", "ha_things", "sw_school", "en_definitions", "yo_missorted")
    return translation(sources, ["yo"], (*own, *others))


def complement(sources: Sources) -> Data:
    """Build a target half in Swahili, half in Hausa: no one dataset answers all of it."""
    own = ("sw_school", "sw_things", "ha_school", "ha_things")
    others = ("yo_school", "yo_things", "en_definitions", "missorted")
    return translation(sources, ["sw", "ha"], (*own, *others))
