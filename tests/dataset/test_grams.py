from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2m.dataset import grams, language
from m2m.dataset.grams import character_grams, comparable, head_and_tail, letters, without_frame


def test_grams_stay_within_their_text_and_tell_texts_apart() -> None:
    hashes, rows = character_grams(["abcd", "ab", "bcd", ""], 3)
    assert rows.tolist() == [0, 0, 2]
    assert hashes[1] == hashes[2] != hashes[0]
    same, _ = character_grams(["abc", "acb", "abc"], 3)
    assert same[0] == same[2] != same[1]


def test_different_grams_hardly_ever_share_a_hash() -> None:
    letters = np.random.default_rng(0).integers(97, 123, 20_000)
    text = "".join(map(chr, letters))
    hashes, _ = character_grams([text], 4)
    assert len(set(hashes.tolist())) == len({text[i : i + 4] for i in range(len(text) - 3)})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", " hello world "),
        ("ọ̀rọ̀-kan", " ọ̀rọ̀ kan "),
        ("snake_case", " snake case "),
        ("!!", "  "),
        ("3 €2 x", " x "),
    ],
)
def test_the_letters_of_a_text(text: str, expected: str) -> None:
    assert letters(text) == expected


def test_a_text_of_signs_only_is_compared_as_it_is() -> None:
    assert comparable("🙂") == " 🙂 " != comparable("🙃")
    assert comparable("?!") == " ?! " != comparable("!")


def test_the_words_of_a_frame_are_cut_off_where_they_are() -> None:
    framed = [f"Translate to English: {word} , please" for word in ("nyumba", "shule", "kitabu")]
    assert without_frame([*framed, "gari"]) == ["nyumba", "shule", "kitabu", "gari"]
    different = ["one two", "three four", "five six"]
    assert without_frame(different) == different
    assert without_frame([]) == []


def frame_of(texts: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words that texts begin and end with, found from lists of all their words."""

    def shared(rows: list[list[str]]) -> tuple[str, ...]:
        words: tuple[str, ...] = ()
        while True:
            starts = [
                tuple(word.casefold() for word in row[: len(words) + 1])
                for row in rows
                if len(row) > len(words) + 1
            ]
            most = max(starts, key=starts.count, default=())
            if starts.count(most) < max(3, len(rows) / 2):
                return words
            words = most

    rows, rests = [text.split() for text in texts], list[list[str]]()
    head = shared(rows)
    for row in rows:
        same = 0
        while same < min(len(head), len(row) - 1) and row[same].casefold() == head[same]:
            same += 1
        rests.append(row[same:][::-1])
    return head, shared(rests)


@settings(max_examples=40)
@given(st.lists(st.text(" \n\u00a0abA", max_size=12), min_size=3, max_size=7))
def test_the_frame_of_texts_is_that_of_the_lists_of_their_words(texts: list[str]) -> None:
    assert head_and_tail(texts) == frame_of(texts)
    same = zip(texts, without_frame(texts), strict=True)
    assert all(rest is text for text, rest in same if text == rest)


def test_languages_are_those_of_texts_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        "".join(map(chr, line)) for line in np.random.default_rng(1).integers(97, 103, (9, 50))
    ]
    found = []
    for size in (1 << 20, 100):
        monkeypatch.setattr(grams, "_CHUNK", size)
        assert len([*grams.chunks(texts)]) == (1 if size > 100 else 5)
        found.append([part.tolist() for part in language._binned(texts, 3)])
    assert found[0] == found[1] and set(found[0][1]) == {*range(9)}
