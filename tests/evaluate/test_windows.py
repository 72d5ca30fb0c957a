from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from m2m.errors import InputError
from m2m.evaluate.evaluator import Evaluator
from m2m.evaluate.metrics import measure_all
from m2m.evaluate.targets import load_target
from m2m.formats.gguf import GGUFFile, GGUFValue
from m2m.llamacpp.model import LlamaModel
from m2m.recipe import Target
from m2m.tokenizer import Formatter, Tokenizer
from tests.evaluate.perplexity import CASES, GOLDEN, SENTENCES, measured
from tests.tiny import pico_gguf, write_jsonl


def model_with(folder: Path, adds_bos: bool) -> Path:
    adds = {"tokenizer.ggml.add_bos_token": GGUFValue.boolean(adds_bos)}
    return pico_gguf(folder / "pico.gguf", metadata=adds)


def test_the_golden_file_has_every_case() -> None:
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]
    assert [(each["window"], each["adds_bos"]) for each in recorded] == CASES


@pytest.mark.parametrize(
    "case", json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"], ids=lambda c: c["window"]
)
def test_perplexity_is_what_llama_perplexity_recorded(
    tmp_path: Path, case: dict[str, float]
) -> None:
    model = model_with(tmp_path, bool(case["adds_bos"]))
    found = measured(model, int(case["window"]))
    assert found == pytest.approx(case["perplexity"], rel=1e-5)


def evaluator(folder: Path, path: Path, window: int) -> Evaluator:
    formatter = Formatter(Tokenizer.from_metadata(GGUFFile(folder / "pico.gguf").value))
    return Evaluator(load_target(Target("t", path, window=window), "dev"), formatter)


def test_a_window_is_an_example_with_an_error(tmp_path: Path) -> None:
    path = model_with(tmp_path, adds_bos=False)
    made = evaluator(tmp_path, SENTENCES, 100)
    ids = made.task.form.window
    with LlamaModel(path, exact_cache=True) as model:
        scores = made.evaluate(model)
    assert (scores.tokens == ids - 51).all()
    assert scores.facets == ()
    text = SENTENCES.read_text(encoding="utf-8").removesuffix("\n").encode()
    assert 0.4 * len(text) < scores.bytes.sum() < 0.5 * len(text)
    found = measure_all(scores)
    assert set(found) == {"bits_per_byte", "perplexity"}
    assert all(each.stderr > 0 for each in found.values())


def test_rows_are_one_text_too(tmp_path: Path) -> None:
    model_with(tmp_path, adds_bos=False)
    lines = SENTENCES.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    rows = write_jsonl(tmp_path / "t.jsonl", [{"text": line} for line in lines])
    one, other = evaluator(tmp_path, rows, 64), evaluator(tmp_path, SENTENCES, 64)
    np.testing.assert_array_equal(one._bytes, other._bytes)
    assert one.fingerprint == other.fingerprint != evaluator(tmp_path, rows, 65).fingerprint


def test_a_text_must_fill_two_windows(tmp_path: Path) -> None:
    model_with(tmp_path, adds_bos=False)
    short = write_jsonl(tmp_path / "t.jsonl", [{"text": "a b c"}])
    with pytest.raises(InputError, match="3 tokens are less than two windows of 64"):
        evaluator(tmp_path, short, 64)
