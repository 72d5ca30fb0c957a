"""What texts cost in tokens, and how long they are."""

from __future__ import annotations

import numpy as np
import pytest

from m2m.dataset.statistics import cost, divergence, histogram
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


def test_divergence_is_zero_for_the_same_and_one_bit_for_nothing_in_common() -> None:
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.0, 1.0])
    assert divergence(p, p) == pytest.approx(0.0, abs=1e-12)
    assert divergence(p, q) == divergence(q, p) == pytest.approx(1.0)
    half = np.array([0.25, 0.25, 0.5])  # by hand: H((p + h)/2) - (1 + 1.5)/2
    assert divergence(p, half) == pytest.approx(1.561278 - 1.25, abs=1e-6)
