"""Kind: a right answer that can never be written, so that a model which knows it gets 0.

A limit of tokens below the longest right answer, a stop text inside a right answer, a context that
leaves no room.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.commands.eval import compare_models
from m2m.errors import InputError
from m2m.evaluate.evaluator import Evaluator
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.scores import Scores
from m2m.evaluate.targets import load_target
from m2m.evaluate.tasks import load_task
from m2m.formats.gguf import GGUFFile
from m2m.llamacpp.generate import Sampling, complete, generate
from m2m.llamacpp.model import LlamaModel
from m2m.mix.mixture import BASE, Mixture
from m2m.mix.scoreboard import Objective
from m2m.mix.trial import Trial
from m2m.mix.warnings import mixture_warnings
from m2m.pipeline.inputs import make_formatter
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import Target, load_recipe
from tests.pipeline.scenario import RECIPE, make_scenario
from tests.tiny import pico_gguf, pico_model, write_jsonl


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pico_gguf(tmp_path_factory.mktemp("pico") / "pico.gguf")


@pytest.fixture
def model(pico: Path) -> Iterator[LlamaModel]:
    with LlamaModel(pico, exact_cache=True) as made:
        yield made


def target(folder: Path, *answers: Any, **settings: Any) -> Target:
    rows = [{"prompt": f"say {i}", "answer": answer} for i, answer in enumerate(answers)]
    return Target("t", write_jsonl(folder / "t.jsonl", rows), metric="answer_match", **settings)


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "exact", "words"), [
    ("", 1.0, None),
    ("max_tokens = 64", 0.0, r"2 of 2 written answers were cut at 64 tokens; a right answer has "
     r"up to 1\d\d and cannot be written: leave max_tokens out"),
])  # fmt: skip
def test_a_model_that_knows_long_answers_gets_full_marks(
    tmp_path: Path, setting: str, exact: float, words: str | None
) -> None:
    """Real training (takes 8 s): the advice was "train longer"."""
    rng = np.random.default_rng(0)
    syllables = [a + b for a in "abcdefghij" for b in "uvwxyz"]
    rows = [(word, " ".join(rng.permutation(syllables).tolist())) for word in ("sea", "bus")]
    pico_model(tmp_path / "models")
    write_jsonl(tmp_path / "copy.jsonl", [{"prompt": p, "completion": a} for p, a in rows] * 8)
    write_jsonl(tmp_path / "dev.jsonl", [{"prompt": p, "answer": a} for p, a in rows])
    train = "steps = 100\nrank = 16\nbatch_tokens = 512\nlearning_rate = 1e-2\n"
    head = RECIPE.partition('[[datasets]]\nname = "reverse"')[0]
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'{head}[[targets]]\nname = "long"\ndev = "dev.jsonl"\nmetric = "answer_match"\n{setting}\n'
        f"[train]\n{train}",
        encoding="utf-8",
    )
    found = Run(load_recipe(recipe), Silent(), allow_leaks=True).search()
    assert found.places[0].score == exact
    said = "\n".join(found.warnings)
    assert "train longer" not in said
    if words is None:
        assert "cut" not in said
    else:
        assert re.search(words, said), said


def test_the_limit_follows_the_longest_right_answer(tmp_path: Path, model: LlamaModel) -> None:
    formatter = make_formatter(GGUFFile(model.path), "chat")
    long = "ab " * 70 + "c"
    made = Evaluator(load_target(target(tmp_path, "x", ["y", long]), "dev"), formatter)
    scores = made.evaluate(model)
    assert scores.longest == len(formatter.answer_ids(long))
    assert scores.limit == 16 + scores.longest * 3 // 2
    # The same for every block of examples, and part of what scores are kept under.
    assert made.evaluate(model, [0]).limit == scores.limit
    other = Evaluator(load_target(target(tmp_path, "x", ["y", long + " d"]), "dev"), formatter)
    assert other.fingerprint != made.fingerprint
    framed = target(tmp_path, "x", ["y", long], answer_prefix="A: ", answer_suffix=" in all")
    with_suffix = Evaluator(load_target(framed, "dev"), formatter).evaluate(model)
    assert with_suffix.longest == len(formatter.rest_ids(f" {long} in all"))


@pytest.mark.slow
def test_cut_answers_are_those_that_go_on_when_they_may(model: LlamaModel) -> None:
    formatter = make_formatter(GGUFFile(model.path), "plain")
    prompts = [formatter.prompt_ids(text) for text in ("the sea", "say ab", "a bus", "in form")]
    free = [
        "".join(generate(model, each, Sampling(max_tokens=400), stop=["s"])) for each in prompts
    ]
    for limit in (1, 7, 60):
        found = complete(model, prompts, limit, ["s"])
        assert found.cut == [text != whole for text, whole in zip(found.texts, free, strict=True)]
    near_the_end = [1, *[70] * (model.context_trained - 3)]
    assert complete(model, [near_the_end], 100).cut == [True]


def test_a_stop_text_inside_a_right_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 2: the right answer holds '\.'") as caught:
        load_target(target(tmp_path, "a", "e.g. b", ["c.", "c"], stop=(".",)), "dev")
    assert "choose another `stop`" in (caught.value.hint or "")
    with pytest.raises(InputError, match=r"line 1: the right answer holds ' in all'"):
        load_target(target(tmp_path, "a in all", "b", answer_suffix=" in all"), "dev")


def test_an_empty_line_ends_no_answers_that_have_one(tmp_path: Path, model: LlamaModel) -> None:
    formatter = make_formatter(GGUFFile(model.path), "plain")
    for answer, stop in (("a\nb", ("\n\n",)), ("a\n\nb", ())):
        made = Evaluator(load_target(target(tmp_path, answer, "c"), "dev"), formatter)
        assert made._stop == stop


def test_cut_answers_are_counted_kept_and_said(tmp_path: Path, pico: Path) -> None:
    how = replace(target(tmp_path, "the sea and the rest", "b"), max_tokens=3, metric="auto")
    found = compare_models([str(pico)], [how.dev], how)
    scores = found.results[0].scores
    said = scores.cut_in_words
    assert said is not None
    assert said.startswith("2 of 2 written answers were cut at 3 tokens; a right answer has up to")
    data = found.as_json()
    (shown,) = data["results"]
    assert (shown["cut"], shown["max_tokens"], shown["longest_right"]) == (2, 3, scores.longest)
    again = Scores.from_json(scores.to_json())
    assert (again.cut, again.limit, again.longest) == (scores.cut, 3, scores.longest)
    parts = Scores.join([again.take([1]), again.take([0])])
    assert (parts.cut, parts.limit, parts.longest) == (scores.cut[::-1], 3, scores.longest)
    trials = [Trial(mixture, {"t": scores}, {}, 0, 0.0) for mixture in (BASE, Mixture.uniform("a"))]
    (warning,) = mixture_warnings(trials, [Objective("t", METRICS["answer_match"])])
    assert warning == f"a on t: {said}"
    assert data["warnings"] == [f"pico.gguf on t.jsonl: {said}"]


@pytest.mark.slow
def test_confirm_says_which_test_answers_of_the_winner_were_cut(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    for name in ("dev", "test"):
        rows = [{"prompt": f"{name} {w}", "answer": f"{w} {w}"} for w in ("ab", "cd", "ef", "gh")]
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    changed = 'metric = "answer_match"\nmax_tokens = 2\n[train]'
    text = recipe.read_text(encoding="utf-8").replace("[train]", changed)
    recipe.write_text(text, encoding="utf-8")

    class Heard(Silent):
        def warn(self, text: str) -> None:
            said.append(text)

    said: list[str] = []
    Run(load_recipe(recipe), Heard()).confirm()
    for part in ("dev", "test"):
        words = (
            rf"\w+ on {part}:copying: \d of 4 written answers were cut at 2 tokens; a right answer"
        )
        assert any(re.match(words, each) for each in said), said


def test_a_task_file_keeps_the_limit_of_the_harness() -> None:
    path = Path(__file__).parent.parent / "golden" / "harness" / "written.yaml"
    assert load_target(Target("t", path, metric="answer_match"), "dev").form.max_tokens > 0
    assert load_task(path.with_name("choices.jsonl")).form.max_tokens == 0
