from __future__ import annotations

import itertools

import numpy as np

from m2m.dataset import grams
from m2m.dataset.duplicates import (
    NEAR,
    contradicted,
    exact_groups,
    holding,
    near_groups,
    repeated,
)
from m2m.dataset.grams import comparable


def sentences(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    words = ["".join(map(chr, rng.integers(97, 123, rng.integers(3, 9)))) for _ in range(400)]
    return [comparable(" ".join(rng.choice(words, 12))) for _ in range(count)]


def test_equal_texts_belong_to_the_first_of_them() -> None:
    assert exact_groups(["a", "b", "a", "c", "b"]).tolist() == [0, 1, 0, 3, 1]
    assert repeated([0, 1, 0, 3, 1, 0]) == [2, 4, 5]


def test_near_groups_are_those_of_comparing_all_pairs() -> None:
    texts = sentences(150)
    rng = np.random.default_rng(1)
    for i in range(0, 60, 2):  # from hardly changed to hardly alike
        words = texts[i].split()
        for place in rng.choice(12, 1 + i % 4, replace=False):
            words[place] = words[place][:-1] + "q"
        texts.append(comparable(" ".join(words)))
    shingles = [{t[i : i + 5] for i in range(len(t) - 4)} for t in texts]
    pairs = {
        (i, j)
        for i, j in itertools.combinations(range(len(texts)), 2)
        if len(shingles[i] & shingles[j]) >= NEAR * len(shingles[i] | shingles[j])
    }
    found = near_groups(texts)
    assert len(pairs) > 10
    assert {(int(g), i) for i, g in enumerate(found) if g != i} == pairs


def test_near_groups_are_the_same_however_the_texts_are_cut() -> None:
    texts = sentences(40) + sentences(40)
    whole = near_groups(texts)
    before, grams._CHUNK = grams._CHUNK, 300
    try:
        assert near_groups(texts).tolist() == whole.tolist()
    finally:
        grams._CHUNK = before
    assert whole[40:].tolist() == list(range(40))


def test_short_texts_are_only_equal_or_not() -> None:
    assert near_groups([" a ", " b ", " a ", ""]).tolist() == [0, 1, 0, 3]
    assert near_groups([]).tolist() == []


def test_a_contradiction_is_the_same_question_with_another_answer() -> None:
    questions, answers = ["q", "q", "r", "s"], ["yes", "no", "yes", "maybe"]
    own = zip(questions, answers, strict=True)
    assert contradicted(questions, answers, own) == [0, 1]
    assert contradicted(questions, answers, [("r", "no"), ("s", "maybe")]) == [2]


def test_only_whole_words_of_a_target_are_held() -> None:
    texts = [comparable(text) for text in ("the big trees", "a big tree here", "big", "tree")]
    assert holding(texts, map(comparable, ["Big tree", "tree"])) == [(1, " big tree ")]
