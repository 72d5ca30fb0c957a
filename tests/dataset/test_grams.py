from __future__ import annotations

import numpy as np
import pytest

from m2m.dataset.grams import character_grams, comparable, letters, without_frame


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
