"""A pico base and a few rows to train it on."""

from __future__ import annotations

import pytest

from m2m.dataset import Row, Sample, encode
from m2m.nn.decoder import Decoder
from m2m.tokenizer import ChatTemplate, Formatter, Tokenizer
from tests.tiny import CHATML, dataset_rows, pico_config, pico_metadata, pico_weights


def pico_formatter() -> Formatter:
    values = {key: value.value for key, value in pico_metadata(pico_config()).items()}
    return Formatter(Tokenizer.from_metadata(values.get), ChatTemplate(CHATML))


def pico_samples(skill: str, count: int, seed: int = 0) -> list[Sample]:
    rows = [
        Row(
            line,
            messages=(
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]},
            ),
        )
        for line, row in enumerate(dataset_rows(skill, count, seed), start=1)
    ]
    return encode(rows, pico_formatter(), 128)


@pytest.fixture(scope="session")
def decoder() -> Decoder:
    return Decoder(pico_config(), pico_weights())


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    return pico_samples("reverse", 12)
