from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.errors import InputError, LlamaError
from m2m.llamacpp.model import LlamaModel, build_info
from m2m.nn.decoder import Decoder
from m2m.tokenizer import Tokenizer
from tests.tiny import pico_config, pico_metadata, pico_weights

IDS = [1, 80, 90, 100, 110, 120, 130, 140]


def test_logits_are_those_of_the_numpy_decoder(exact: LlamaModel) -> None:
    ours = Decoder(pico_config(), pico_weights(0)).logits(np.array(IDS))
    np.testing.assert_allclose(exact.logits(IDS), ours, atol=2e-4)


def test_logits_of_a_text_longer_than_a_batch(pico: Path, exact: LlamaModel) -> None:
    ids = [3 + i % 250 for i in range(300)]
    with LlamaModel(pico, threads=1, exact_cache=True, batch=64) as model:
        np.testing.assert_allclose(model.logits(ids), exact.logits(ids), atol=2e-4)


def test_closing_twice_is_safe_and_a_closed_model_says_so(pico: Path) -> None:
    model = LlamaModel(pico)
    assert not model.closed
    model.close()
    model.close()
    assert model.closed
    for ask in (lambda: model.logits(IDS), lambda: model.tokenize("a"), model.clear):
        with pytest.raises(ValueError, match="closed"):
            ask()


def test_tokens_and_pieces(exact: LlamaModel) -> None:
    metadata = pico_metadata(pico_config())
    tokenizer = Tokenizer.from_metadata(lambda key: getattr(metadata.get(key), "value", None))
    text = "<|im_start|>user\nthe cat\u00e9 \u10e0<|im_end|>"
    for special in (True, False):
        ids = exact.tokenize(text, special)
        assert ids == tokenizer.encode(text, special)
        assert b"".join(exact.piece(i, special=True) for i in ids).decode() == text
    assert exact.tokenize("") == []
    assert exact.ends_generation(tokenizer.eos_id)
    assert not exact.ends_generation(50)
    with pytest.raises(ValueError, match="vocabulary"):
        exact.piece(exact.vocab_size)


def test_a_missing_file_and_a_broken_one(tmp_path: Path, pico: Path) -> None:
    with pytest.raises(InputError, match="no such model"):
        LlamaModel(tmp_path / "none.gguf")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGML" + bytes(100))
    with pytest.raises(LlamaError, match=r"broken\.gguf[^\n]*\n  llama\.cpp: .*magic"):
        LlamaModel(broken)
    broken.write_bytes(pico.read_bytes()[:-5000])
    with pytest.raises(LlamaError, match=r"llama\.cpp: "):
        LlamaModel(broken)


def test_what_would_abort_the_process_is_refused_before(exact: LlamaModel) -> None:
    one: tuple[Any, ...] = ([5], [0], [(0,)], [True])
    for place, value, words in (
        (0, [exact.vocab_size], "token ids"),
        (0, [-1], "token ids"),
        (0, [], "batch of 0"),
        (1, [], "batch of 1"),
        (2, [(exact.sequences,)], "sequence ids"),
        (2, [()], "sequence ids"),
    ):
        batch = list(one)
        batch[place] = value
        with pytest.raises(ValueError, match=words):
            exact.decode(*batch)
    n = exact.batch + 1
    with pytest.raises(ValueError, match=f"batch of {n}"):
        exact.decode([5] * n, range(n), [(0,)] * n, [False] * n)
    assert exact.logits(IDS).shape == (len(IDS), exact.vocab_size)


def test_llama_cpps_refusal_becomes_an_error_with_its_words(exact: LlamaModel) -> None:
    exact.clear()
    with pytest.raises(LlamaError, match=r"llama_decode failed(.|\n)*not continuous"):
        exact.decode([5, 6], [0, 2], [(0,), (0,)], [False, True])


def test_a_row_longer_than_the_training_context_is_refused(exact: LlamaModel) -> None:
    with pytest.raises(InputError, match=r"513 tokens.*at most 512"):
        exact.logits([5] * 513)


def test_the_cache_grows_on_demand_and_keeps_a_prefix(pico: Path) -> None:
    with LlamaModel(pico, context=100) as model:
        assert model.cells == 256
        assert model.keep(IDS) == len(IDS)
        assert model.keep(IDS) == 0
        assert model.keep(IDS[:3]) == 3
        model.reserve(300)
        assert model.cells == 512
        assert model.keep(IDS[:3]) == 3
        assert model.keep([]) == 0


def test_an_open_model_at_exit_neither_crashes_nor_prints(pico: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from m2m.llamacpp.model import LlamaModel;"
        "model = LlamaModel(Path(sys.argv[1])); model.logits([5, 6])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(pico)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_build_info_names_package_commit_and_cpu(exact: LlamaModel) -> None:
    assert "llama-cpp-python" in build_info()
    assert "CPU" in build_info()
    assert "llama" in exact.description
