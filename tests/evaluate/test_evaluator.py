from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from m2m.errors import InputError
from m2m.evaluate.evaluator import Evaluator
from m2m.evaluate.metrics import METRICS, measure_all
from m2m.evaluate.scores import Scores
from m2m.evaluate.tasks import load_task
from m2m.formats.gguf import GGUFFile
from m2m.llamacpp.model import LlamaModel
from m2m.tokenizer import ChatTemplate, Formatter, Tokenizer
from tests.tiny import CHATML, pico_gguf, pico_target, write_jsonl


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pico_gguf(tmp_path_factory.mktemp("pico") / "pico.gguf")


@pytest.fixture
def model(pico: Path) -> Iterator[LlamaModel]:
    with LlamaModel(pico, exact_cache=True) as model:
        yield model


@pytest.fixture
def formatter(pico: Path) -> Formatter:
    tokenizer = Tokenizer.from_metadata(GGUFFile(pico).value)
    return Formatter(tokenizer, ChatTemplate(CHATML, "<|im_start|>", "<|im_end|>"))


def nats(model: LlamaModel, prompt: list[int], answer: list[int]) -> float:
    logits = model.logits([*prompt, *answer]).astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(sum(logs[len(prompt) - 1 + i, t] for i, t in enumerate(answer)))


def test_choices_are_scored_after_the_prompt(
    tmp_path: Path, model: LlamaModel, formatter: Formatter
) -> None:
    task = load_task(pico_target(tmp_path / "t.jsonl", "reverse", 20))
    scores = Evaluator(task, formatter).evaluate(model)
    assert scores.kind == "choices"
    assert scores.gold.tolist() == [e.gold for e in task.examples]
    for row, example in enumerate(task.examples):
        prompt = formatter.prompt_ids(example.prompt)
        for column, choice in enumerate(example.choices):
            ids = formatter.answer_ids(choice)
            assert scores.loglik[row, column] == pytest.approx(nats(model, prompt, ids), abs=1e-3)
            assert scores.bytes[row, column] == len(choice.encode())
            assert scores.tokens[row, column] == len(ids)
    assert 0 < scores.decoded_tokens < scores.separate_tokens
    assert next(iter(measure_all(scores))) == "choice_bits"


def test_answers_are_scored_against_distractors(
    tmp_path: Path, model: LlamaModel, formatter: Formatter
) -> None:
    words = ("ab", "cd", "ef", "gh", "ij", "kl", "mn")
    rows = [{"prompt": f"say {w}", "answer": w, "facet": w[0]} for w in words]
    task = load_task(write_jsonl(tmp_path / "t.jsonl", rows))
    one, other = Evaluator(task, formatter, seed=1), Evaluator(task, formatter, seed=2)
    assert one.fingerprint != other.fingerprint
    scores = one.evaluate(model)
    assert scores.loglik.shape == (7, 4)
    assert scores.facets == ("a", "c", "e", "g", "i", "k", "m")
    assert METRICS["contrast_bits"].value(scores, None)[0] >= 0


def test_texts_are_scored_from_their_second_token(
    tmp_path: Path, model: LlamaModel, formatter: Formatter
) -> None:
    texts = ["the sea", "\u10e0 and the rest of it", "a b " * 400]
    task = load_task(write_jsonl(tmp_path / "t.jsonl", [{"text": t} for t in texts]))
    scores = Evaluator(task, formatter).evaluate(model)
    for row, text in enumerate(texts[:2]):
        ids = formatter.text_ids(text)
        first = len(formatter.tokenizer.token_bytes(ids[0]))
        assert scores.loglik[row, 0] == pytest.approx(nats(model, ids[:1], ids[1:]), abs=1e-3)
        assert scores.bytes[row, 0] == len(text.encode()) - first
        assert scores.tokens[row, 0] == len(ids) - 1
    assert scores.tokens[2, 0] > model.context_trained
    assert np.isfinite(scores.loglik).all()


def test_a_text_of_one_token_is_refused_with_its_line(tmp_path: Path, formatter: Formatter) -> None:
    task = load_task(write_jsonl(tmp_path / "t.jsonl", [{"text": "ab"}, {"text": "a"}]))
    with pytest.raises(InputError, match=r"t\.jsonl:2: the text is one token long"):
        Evaluator(task, formatter)


def test_the_same_model_gives_the_same_scores(
    tmp_path: Path, model: LlamaModel, formatter: Formatter
) -> None:
    evaluator = Evaluator(load_task(pico_target(tmp_path / "t.jsonl", "copy", 40)), formatter)
    first, second = evaluator.evaluate(model), evaluator.evaluate(model)
    np.testing.assert_array_equal(first.loglik, second.loglik)


def test_scores_of_older_rules_are_not_answered(
    tmp_path: Path, formatter: Formatter, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Evaluator(load_task(pico_target(tmp_path / "t.jsonl", "copy", 4)), formatter)
    now = made.fingerprint
    monkeypatch.setattr("m2m.evaluate.evaluator.SCHEMA", 1)
    assert made.fingerprint != now


def test_some_of_the_examples_are_scored_as_among_all(
    tmp_path: Path, model: LlamaModel, formatter: Formatter
) -> None:
    rows: list[dict[str, object]] = [
        {
            "question": f"q{i}",
            "choices": ["a", "b", "c"][: 2 + i % 2],
            "answer": i % 2,
            "lang": f"{i}",
        }
        for i in range(9)
    ]
    evaluator = Evaluator(load_task(write_jsonl(tmp_path / "t.jsonl", rows)), formatter)
    whole = evaluator.evaluate(model)
    assert len(evaluator) == len(whole) == 9
    parts = [[7, 1, 3], [0, 2], [8, 6, 5, 4]]
    joined = Scores.join([evaluator.evaluate(model, places) for places in parts])
    wanted = whole.take([place for part in parts for place in part])
    np.testing.assert_allclose(joined.loglik, wanted.loglik, atol=1e-3)
    for name in ("bytes", "tokens", "gold"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(wanted, name))
    assert joined.facets == wanted.facets == tuple("713028654")
    assert joined.decoded_tokens > 0
