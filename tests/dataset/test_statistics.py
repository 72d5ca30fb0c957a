"""What texts cost in tokens, and how long they are."""

from __future__ import annotations

import pytest

from m2m.dataset.statistics import cost, histogram
from m2m.tokenizer import Tokenizer
from tests.tiny import pico_config, pico_metadata


def test_cost_counts_tokens_words_characters_and_bytes() -> None:
    values = {key: value.value for key, value in pico_metadata(pico_config()).items()}
    tokenizer = Tokenizer.from_metadata(values.get)
    texts = ["ab cd", "ọ̀rọ̀"]
    tokens = sum(len(tokenizer.encode(text)) for text in texts)
    found = cost(texts, tokenizer)
    assert found.tokens == tokens
    assert found.tokens_per_word == pytest.approx(tokens / 3)
    assert found.characters_per_token == pytest.approx((5 + len(texts[1])) / tokens)
    assert found.bytes_per_token == pytest.approx((5 + len(texts[1].encode())) / tokens)
    assert cost([], tokenizer).tokens_per_word == 0


def test_a_histogram_counts_every_length_once() -> None:
    assert histogram([1, 16, 17, 32, 33, 100]) == {16: 2, 32: 2, 64: 1, 128: 1}
    assert histogram([]) == {}
