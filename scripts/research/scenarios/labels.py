"""What a name is the name of, by labels: food, animal, country ..."""

from __future__ import annotations

import random

from sources import LANGUAGES, SEED, Data, Language, Sources, rules, with_noise

KINDS = {  # by English keywords of pictures
    "animal": {"animal", "bird", "fish", "insect"},
    "food": {"food", "fruit", "vegetable", "dessert", "drink"},
    "clothing": {"clothing", "clothes", "hat", "shoe"},
    "sport": {"sport"},
    "music": {"music", "instrument"},
    "tool": {"tool"},
    "building": {"building"},
    "face": {"face"},
    "weather": {"weather"},
}
NAMED = {"country": "territories", "language": "languages"}  # parts of CLDR's display names
KIND = "What kind of thing is this in {lang}: {text}"
TARGET_SHARE, DEV_LABELS = 0.5, 130  # of the target language's names are asked for; of them in dev
MOST_NAMED = 70  # countries or languages of one dataset, so that they are no majority


def labels(sources: Sources) -> Data:
    """Build a target of labels: what a name in Swahili is the name of, by 11 labels."""
    rng = random.Random(SEED)
    named = {code: _labelled(sources, LANGUAGES[code]) for code in ("sw", "ha", "yo", "fr")}
    named["en"] = [(concept, label, concept) for _, label, concept in named["fr"]]
    concepts = sorted({concept for _, _, concept in named["sw"]})
    rng.shuffle(concepts)
    held = set(concepts[: int(len(concepts) * TARGET_SHARE)])
    questions = [
        {"question": KIND.format(lang="Swahili", text=text), "answer": label}
        for text, label, concept in named["sw"]
        if concept in held
    ]
    rng.shuffle(questions)
    texts = {rules.key(row["question"].split(": ", 1)[1]) for row in questions}
    sets = {}
    for code, items in named.items():
        language = LANGUAGES[code].name if code != "en" else "English"
        sets[f"{code}_kinds"] = [
            {"prompt": KIND.format(lang=language, text=text), "completion": label}
            for text, label, concept in rng.sample(items, len(items))
            if concept not in held and rules.key(text) not in texts
        ]
    sets["sw_shuffled"] = with_noise(sets["sw_kinds"], 1.0, rng)
    return Data(questions[:DEV_LABELS], questions[DEV_LABELS:], sets)


def _labelled(sources: Sources, language: Language) -> list[tuple[str, str, str]]:
    """Return (name, label, concept) of everything that has one label only."""
    keywords, labelled = sources.keywords(), []
    for thing in sources.things(language):
        fitting = [kind for kind, of in KINDS.items() if of & keywords.get(thing.english, set())]
        if len(fitting) == 1:
            labelled.append((thing.local, fitting[0], thing.concept))
    for label, part in NAMED.items():
        pairs = [p for p in sources.names(language, part) if rules.usable(p[1], 1, 4, 30)]
        rng = random.Random(f"{SEED} {label}")
        labelled += [
            (local, label, eng) for eng, local in rng.sample(pairs, len(pairs))[:MOST_NAMED]
        ]
    return labelled
