"""Definitions and words in English, by part of speech: the base knows something of it."""

from __future__ import annotations

import random

from sources import SEED, STARTER, Data, Pair, Row, Rows, Sources, read, rules, with_noise

ROWS = 1000  # of a dataset, at most
PARTS = {"noun": "nouns", "verb": "verbs", "adj": "adjectives", "adv": "adverbs"}
ASKED = {"noun": (50, 90), "verb": (40, 70), "adj": (40, 70)}  # questions of dev and of test


def english(sources: Sources) -> Data:
    """Build a target that the base knows something of: definitions and words by part of speech."""
    rng = random.Random(SEED)
    pools = {part: sources.definitions(part) for part in PARTS}
    for pool in pools.values():
        rng.shuffle(pool)
    held = {part: pools[part][: sum(ASKED[part])] for part in ASKED}
    words = {word for some in held.values() for word, _ in some}
    glosses = {gloss for some in held.values() for _, gloss in some}
    dev = [(PARTS[part], held[part][:first]) for part, (first, _) in ASKED.items()]
    test = [(PARTS[part], held[part][first:]) for part, (first, _) in ASKED.items()]
    left = {
        PARTS[part]: [p for p in pool if p[0] not in words and p[1] not in glosses][:ROWS]
        for part, pool in pools.items()
    }
    sets = {f"en_{name}": [_defined(*pair) for pair in pairs] for name, pairs in left.items()}
    sets["en_shuffled"] = with_noise(sets["en_nouns"], 1.0, rng)
    keys = {rules.key(word) for word in words}
    school = read(STARTER / "datasets/sw_school.jsonl")
    sets["sw_school"] = [row for row in school if rules.key(row["completion"]) not in keys]
    return Data(_definition_questions(dev, rng), _definition_questions(test, rng), sets)


def _defined(word: str, gloss: str) -> Row:
    return {"prompt": rules.PROMPT_DEF.format(text=gloss), "completion": word}


def _definition_questions(items: list[tuple[str, list[Pair]]], rng: random.Random) -> Rows:
    rows: Rows = rules.make_mc(items, "", rng)
    for row in rows:
        gloss = row["question"].split(": ", 1)[1]
        row["question"] = rules.PROMPT_DEF.format(text=gloss)
    return rows
