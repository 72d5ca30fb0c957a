"""The counts of `m2m data check`."""

from __future__ import annotations

import pytest

from m2m.dataset import Row, encode, statistics
from m2m.dataset.statistics import count_overlap, normalise
from m2m.tokenizer import Formatter, Tokenizer
from tests.tiny import pico_config, pico_metadata


def row(line: int, prompt: str, completion: str) -> Row:
    turns = ({"role": "user", "content": prompt}, {"role": "assistant", "content": completion})
    return Row(line, messages=turns)


def test_counts() -> None:
    values = {key: value.value for key, value in pico_metadata(pico_config()).items()}
    formatter = Formatter(Tokenizer.from_metadata(values.get))
    rows = [
        row(1, "ab cd", "xyz"),
        row(2, "AB, cd!", "xyz."),
        row(3, "🙂", "🙃"),
        row(4, "🙃", "🙂"),
        row(5, "say: the big tree", "now"),
    ]
    found = statistics(rows, encode(rows, formatter, 99), formatter.tokenizer, ["big tree", "cd"])
    assert found.rows == 5
    assert found.duplicates == 1
    assert found.overlap == 1
    # Plain text puts a newline and an EOS round each row; every byte of the answer is a token.
    assert found.trained_tokens == 4 + 5 + 5 + 5 + 4
    assert found.tokens_per_word == pytest.approx(
        sum(len(formatter.tokenizer.encode(each.plain_text)) for each in rows) / (3 + 3 + 2 + 2 + 5)
    )
    assert found.bytes_per_token > 1
    assert found.longest == max(len(sample) for sample in encode(rows, formatter, 99))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", " hello world "),
        ("ọ̀rọ̀-kan", " ọ̀rọ̀ kan "),
        ("snake_case", " snake case "),
        ("!!", "  "),
    ],
)
def test_normalised_text(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_overlap_needs_whole_words() -> None:
    texts = [normalise(text) for text in ("the big trees", "a big tree here", "big", "tree")]
    assert count_overlap(texts, ["Big tree", "tree"]) == 1
