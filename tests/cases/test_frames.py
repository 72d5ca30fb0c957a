"""Kind: words round an answer that are scored as if they were the answer.

`answer_prefix` and `answer_suffix` are a frame: given, never scored. Every metric is what the same
words at the end of the prompt give, in every style; so is what lm-evaluation-harness scores with
its `target_delimiter`, which counts as part of the choice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.errors import InputError
from m2m.evaluate.evaluator import Evaluator
from m2m.evaluate.metrics import ASKED_FOR, METRICS, measure_all
from m2m.evaluate.prompts import Prompter
from m2m.evaluate.targets import load_target
from m2m.evaluate.tasks import Task, requests
from m2m.formats.gguf import GGUFFile
from m2m.llamacpp.model import LlamaModel
from m2m.recipe import Target
from m2m.tokenizer import ChatTemplate, Formatter, Tokenizer
from tests.tiers import rotated
from tests.tiny import CHATML, pico_gguf, write_jsonl

TRIMMING = CHATML.replace("message['content']", "message['content'] | trim")
STYLES = ("raw", "plain", "chat", "trimming chat")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaModel]:
    path = pico_gguf(tmp_path_factory.mktemp("pico") / "pico.gguf")
    with LlamaModel(path, exact_cache=True) as made:
        yield made


def formatter(model: LlamaModel, style: str) -> Formatter:
    tokenizer = Tokenizer.from_metadata(GGUFFile(model.path).value)
    if "chat" not in style:
        return Formatter(tokenizer)
    source = TRIMMING if style.startswith("trimming") else CHATML
    return Formatter(tokenizer, ChatTemplate(source, "<|im_start|>", "<|im_end|>"))


def rows(folder: Path, kind: str) -> Path:
    if kind == "labels":
        made: list[dict[str, Any]] = [
            {"q": f"the {w} is", "choices": ["on", "in a bus", "there"], "answer": i % 3}
            for i, w in enumerate(("sea", "bus", "user", "list", "form", "other", "ring", "past"))
        ]
    else:
        words = ("there and", "in a bus", "stall", "on", "the form")
        made = [{"q": f"say {w}", "answer": w} for w in words]
    return write_jsonl(folder / f"{kind}.jsonl", made)


def beginning(style: str, question: str) -> str:
    """All text before the answer, written out apart from m2m's templates."""
    if style == "raw":
        return question
    if style == "plain":
        return question + "\n"
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("prefix", "style"),
    rotated([" The answer is: ", "(", "=", " in\n", "th"], STYLES),
)
def test_a_prefix_is_the_same_words_at_the_end_of_the_prompt(
    tmp_path: Path, model: LlamaModel, style: str, prefix: str
) -> None:
    made = formatter(model, style)
    seen = set()
    for kind in ("labels", "answer"):
        metric = "answer_match" if kind == "answer" else "auto"
        path = rows(tmp_path, kind)
        how = Target("t", path, prompt="{q}", stop=("q",), metric=metric, max_tokens=40)
        how = replace(how, answer="{answer}" if kind == "answer" else "")
        with_prefix = replace(how, answer_prefix=prefix, answer_suffix=" in all",
                              template=style.rpartition(" ")[2])  # fmt: skip
        framed = Evaluator(load_target(with_prefix, "dev"), made)
        as_prompt = load_target(replace(how, template="raw", stop=("q", " in all")), "dev")
        examples = tuple(
            replace(each, prompt=beginning(style, each.prompt) + prefix.lstrip()
                    if "trimming" in style else beginning(style, each.prompt) + prefix)
            for each in as_prompt.examples
        )  # fmt: skip
        asked = Evaluator(replace(as_prompt, examples=examples), formatter(model, "raw"))
        ours, theirs = framed.evaluate(model), asked.evaluate(model)
        np.testing.assert_allclose(ours.loglik, theirs.loglik, atol=1e-3)
        np.testing.assert_array_equal(ours.bytes, theirs.bytes)
        assert ours.predictions == theirs.predictions
        found, wanted = measure_all(ours), measure_all(theirs)
        assert found.keys() == wanted.keys()
        for name, measured in found.items():
            assert measured.value == pytest.approx(wanted[name].value, abs=1e-3, rel=1e-3)
        seen |= found.keys()
    assert seen == METRICS.keys() - ASKED_FOR


@pytest.mark.parametrize("style", STYLES)
def test_a_frame_is_tokenised_with_the_prompt_and_nothing_of_it_is_scored(
    tmp_path: Path, model: LlamaModel, style: str
) -> None:
    """Also if frame and choice would merge: " t" and "he" are one token in a text."""
    made = formatter(model, style)
    path = write_jsonl(tmp_path / "t.jsonl", [{"q": "x", "choices": ["he", "on"], "answer": 0}])
    task = load_target(Target("t", path, prompt="{q}"), "dev")
    form = replace(task.form, style=style.rpartition(" ")[2], prefix="A: t", suffix=" in all.")
    decode, example = made.tokenizer.decode, task.examples[0]
    spaced = Prompter(replace(form, prefix="A: t\n"), made).request(example)
    assert decode(spaced.prompt).endswith("A: t")
    assert [decode(each) for each in spaced.continuations] == ["\nhe", "\non"]
    assert len(made.tokenizer.encode(" the")) == 1
    if style == "raw":
        with pytest.raises(InputError, match="vanishes"):
            Prompter(form, made).request(example)
        return
    request = Prompter(form, made).request(example)
    assert request.prompt == spaced.prompt
    assert [decode(each) for each in request.continuations] == ["he", "on"]


def harness(folder: Path, **changes: Any) -> Task:
    """A task file over the label rows."""
    config = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "labels.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}} ",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
    }
    rows(folder, "labels")
    path = folder / "task.yaml"
    path.write_text(json.dumps(config | changes), encoding="utf-8")
    written = "doc_to_choice" in changes
    metric = "answer_match" if written else "auto"
    return load_target(Target("t", path, metric=metric), "dev")


@pytest.mark.parametrize("delimiter", [" ", "", "\nAnswer: ", " is"])
def test_a_task_files_delimiter_is_scored_as_the_harness_scores_it(
    tmp_path: Path, model: LlamaModel, delimiter: str
) -> None:
    """lm_eval/api/model.py, `_encode_pair`: one text, cut after the tokens of the context."""
    made = formatter(model, "raw")
    task = harness(tmp_path, target_delimiter=delimiter)
    encode = made.tokenizer.encode
    for example, request in zip(task.examples, requests(task, made), strict=True):
        context, spaces = example.prompt.rstrip(), " "
        assert request.prompt == encode(context)
        for choice, ids in zip(example.choices, request.continuations, strict=True):
            whole = encode(context + spaces + delimiter + choice)
            assert ids == whole[len(request.prompt) :]
    until = {"output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "{{q}}"}
    asked = harness(tmp_path, **until, target_delimiter=delimiter)
    opening = Prompter(asked.form, made).opening(asked.examples[0])
    assert opening == encode(asked.examples[0].prompt)  # the delimiter is not given


def test_a_choice_that_vanishes_in_the_prompts_last_token_is_refused(
    tmp_path: Path, model: LlamaModel
) -> None:
    made = formatter(model, "raw")
    path = write_jsonl(
        tmp_path / "t.jsonl",
        [{"prompt": " t", "answer": "he"}, {"prompt": "x", "answer": "y"}],
    )
    assert len(made.tokenizer.encode(" the")) == 1
    with pytest.raises(InputError, match=r"t\.jsonl:1: an answer vanishes in the prompt"):
        requests(load_target(Target("t", path, template="raw"), "dev"), made)
