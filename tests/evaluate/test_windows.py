from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from m2m.errors import InputError
from m2m.evaluate.evaluator import Evaluator, rolling
from m2m.evaluate.harness_results import reported
from m2m.evaluate.metrics import measure_all
from m2m.evaluate.scores import Scores
from m2m.evaluate.targets import load_target
from m2m.formats.gguf import GGUFFile, GGUFValue
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.scoring import Request, log_normalizer
from m2m.recipe import Target
from m2m.tokenizer import Formatter, Tokenizer
from tests.evaluate.perplexity import CASES, GOLDEN, SENTENCES, measured
from tests.tiny import pico_config, pico_gguf, write_jsonl, write_pico_gguf


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


# lm_eval.utils 0.4.13: make_disjoint_window of get_rolling_token_windows(range(1, n + 1), 0, 4, 1).
ROLLING = [
    (1, [([0], [1])]),
    (4, [([0], [1, 2, 3, 4])]),
    (5, [([0], [1, 2, 3, 4]), ([1, 2, 3, 4], [5])]),
    (8, [([0], [1, 2, 3, 4]), ([4], [5, 6, 7, 8])]),
    (10, [([0], [1, 2, 3, 4]), ([4], [5, 6, 7, 8]), ([6, 7, 8], [9, 10])]),
]


@pytest.mark.parametrize(("length", "expected"), ROLLING)
def test_windows_of_task_files_are_the_harnesss(
    length: int, expected: list[tuple[list[int], list[int]]]
) -> None:
    windows = rolling(Request([0], [list(range(1, length + 1))]), 4)
    assert [(list(w.prompt), list(w.continuations[0])) for w in windows] == expected


@pytest.mark.parametrize("adds_bos", [False, True])
def test_a_long_text_of_a_task_file_is_decoded_once(tmp_path: Path, adds_bos: bool) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"text": SENTENCES.read_text(encoding="utf-8")[:1500]}])
    task = tmp_path / "task.yaml"
    keys = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}}}
    keys |= {"test_split": "test", "output_type": "loglikelihood_rolling"}
    task.write_text(json.dumps(keys | {"doc_to_text": "", "doc_to_target": "{{text}}"}), "utf-8")
    metadata = {"tokenizer.ggml.add_bos_token": GGUFValue.boolean(adds_bos)}
    config = pico_config(max_position_embeddings=64)
    path = write_pico_gguf(tmp_path / "pico.gguf", config, metadata=metadata)
    formatter = Formatter(Tokenizer.from_metadata(GGUFFile(path).value))
    read = load_target(Target("text", task, task), "test")
    ids = formatter.text_ids(read.examples[0].answer)
    assert len(ids) > 2 * 64
    with LlamaModel(path, threads=1, exact_cache=True) as model:
        scores = Evaluator(read, formatter).evaluate(model)
        nats = 0.0
        for window in rolling(Request([formatter.tokenizer.bos_id], [ids]), 64):
            answer = list(window.continuations[0])
            logits = model.logits([*window.prompt, *answer][:-1])[-len(answer) :]
            nats += float((logits[range(len(answer)), answer] - log_normalizer(logits)).sum())
    assert scores.loglik[0, 0] == pytest.approx(nats, abs=1e-2)
    assert scores.tokens[0, 0] == len(ids)
    assert len(ids) <= scores.decoded_tokens < len(ids) + 64


def test_a_task_of_whole_texts_may_count_its_own_words(tmp_path: Path) -> None:
    """As WikiText does, whose words are those of another field than the text."""
    rows = [{"page": "a b  c", "text": "abc abc"}, {"page": "ẹ", "text": "x y"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    task = tmp_path / "task.yaml"
    task.write_text(
        "dataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\ntest_split: test\n"
        "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: text\n"
        "process_results: !function utils.judged\n",
        encoding="utf-8",
    )
    utils = tmp_path / "utils.py"
    counts = (
        "def judged(doc, results):\n    (nats,) = results\n    words = len(doc['page'].split())\n"
    )
    utils.write_text(
        counts + "    return {'word_perplexity': (nats, words), 'byte_perplexity': (nats, "
        "len(doc['page'].encode('utf-8')))}\n",
        encoding="utf-8",
    )
    read = load_target(Target("text", task, task), "test")
    assert read.sizes == {"word_perplexity": [3.0, 1.0], "byte_perplexity": [6.0, 3.0]}
    nats = np.array([[-6.0], [-2.0]])
    ones = np.ones_like(nats)
    made, notes = reported(read, Scores("text", nats, ones, ones, np.zeros(2, int)))
    assert [each.key for each in made] == ["word_perplexity,none", "byte_perplexity,none"]
    assert [each.score.value for each in made] == pytest.approx([np.exp(8 / 4), np.exp(8 / 9)])
    assert "bits_per_byte" in notes[0]
    for line in ("return {'word_perplexity': (nats * 2, words)}", "return {'acc': 1.0}", "pass"):
        utils.write_text(f"{counts}    {line}\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"`process_results` is .*utils.judged") as caught:
            load_target(Target("text", task, task), "test")
        assert "`process_results: null`" in str(caught.value.hint)
