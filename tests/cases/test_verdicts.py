"""Kind: the first sentence of a result is its verdict, and it is true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from m2m.cli.main import cli
from m2m.commands.eval import compare_models
from m2m.evaluate.metric import Metric
from m2m.evaluate.metrics import METRICS, best_possible
from m2m.mix.mixture import BASE, Mixture, subsets
from m2m.mix.ranking import rank
from m2m.mix.scoreboard import scoreboard
from m2m.mix.trial import Trial
from m2m.mix.warnings import above_chance
from m2m.mix.worth import worth
from m2m.recipe import Target
from tests.evaluate.test_metrics import drawn
from tests.mix.planted import BITS
from tests.mix.test_study import scores
from tests.pipeline.scenario import copied
from tests.tiny import pico_target, write_jsonl


def m2m(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments), "--quiet"], catch_exceptions=False)


def ran(recipe: Path, *options: str) -> dict[str, Any]:
    found = m2m("run", recipe, "--json", *options)
    assert found.exit_code == 0, found.stderr
    said: dict[str, Any] = json.loads(found.stdout)
    return said


@pytest.fixture(scope="module")
def finished(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = copied(finished_run, tmp_path_factory.mktemp("finished"))
    changed(recipe, ("top = 2", 'top = 1\nbaselines = ["best_single"]'))
    return recipe


@pytest.fixture
def recipe(finished: Path, tmp_path: Path) -> Path:
    return copied(finished, tmp_path)


def changed(recipe: Path, *pairs: tuple[str, str]) -> None:
    text = recipe.read_text(encoding="utf-8")
    for before, after in pairs:
        assert before in text
        text = text.replace(before, after)
    recipe.write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_every_output_begins_with_the_verdict(recipe: Path) -> None:
    said = ran(recipe)
    assert [*said].index("verdict") < 5
    verdict = said["verdict"]
    assert verdict["kind"] in ("clear", "tie inside")
    assert verdict["sentence"].startswith("Fine-tune on copy")
    assert Path(said["gguf"]).is_file()
    folder = Path(said["folder"])
    assert json.loads((folder / "confirm.json").read_text("utf-8"))["verdict"] == verdict
    for command in ("run", "confirm", "report"):
        shown = m2m(command, recipe).stdout if command != "report" else ""
        assert shown == "" or shown.startswith(
            f"Verdict: {verdict['kind']}\n  {verdict['sentence']}"
        )
        first = json.loads(m2m(command, recipe, "--json").stdout)
        assert [*first].index("verdict") < 5
        assert first["verdict"] == verdict
    told = CliRunner().invoke(cli, ["report", str(recipe)]).stdout
    asked = "What should we train on?"
    assert told.startswith(f"Verdict: {verdict['kind']}\n{asked}\n  {verdict['sentence']}")
    page = (folder / "report.html").read_text("utf-8")
    assert page.index(f"Verdict: {verdict['kind']}") < page.index(verdict["sentence"])
    assert page.index(verdict["sentence"]) < page.index("<h2>")
    card = (folder / "export" / "README.md").read_text("utf-8")
    assert card.index(f"Verdict: {verdict['kind']}. Fine-tune on copy") < card.index("## ")
    assert "The test questions did not help to choose it." in card
    # The winner is compared with others only.
    assert "top 1 (merged)" not in m2m("confirm", recipe).stdout


def withheld(recipe: Path, kind: str, *options: str) -> str:
    """Check what a verdict against the model does; returns the text of the card made anyway."""
    said = ran(recipe, *options)
    assert said["verdict"]["kind"] == kind
    assert said["gguf"] is None
    shown = m2m("run", recipe, *options)
    assert shown.exit_code == 0
    assert "GGUF       not made" in shown.stdout
    assert "Best tried " in shown.stdout
    assert "Winner" not in shown.stdout
    refused = m2m("export", recipe, *options)
    assert refused.exit_code == 1
    assert "--anyway" in refused.stderr
    report = json.loads(m2m("report", recipe, "--json").stdout)
    assert report["export"] is None
    made = json.loads(m2m("export", recipe, "--anyway", "--json", *options).stdout)
    tag = kind.upper().replace(" ", "-")
    assert all(tag in Path(made[file]).name for file in ("gguf", "lora"))
    card = Path(made["card"]).read_text("utf-8")
    assert "**Made with --anyway, against the verdict.**" in card
    assert card.index("Made with") < card.index(said["verdict"]["sentence"][:20])
    again = ran(recipe, *options)
    assert again["gguf"] == made["gguf"], "the same result has its files now"
    assert not any("earlier result" in warning for warning in again["warnings"])
    assert "GGUF       not made" not in m2m("run", recipe, *options).stdout
    assert ran(recipe, "--anyway", *options)["gguf"] == made["gguf"]
    return card


def known_to_the_base(recipe: Path) -> None:
    """Make the target of questions that the base answers right, and that training unlearns."""
    path = pico_target(recipe.parent / "many.jsonl", "upper", count=120, wrong="copy")
    model = recipe.parent / "models" / "pico" / "base.gguf"
    scores = compare_models([str(model)], [path], Target("t", path)).results[0].scores
    right = METRICS["accuracy_norm"].per_example(scores) == 1.0
    rows = path.read_text("utf-8").splitlines()
    known = [json.loads(row) for row, is_right in zip(rows, right, strict=True) if is_right]
    assert len(known) >= 24
    write_jsonl(recipe.parent / "dev.jsonl", known[::2])
    write_jsonl(recipe.parent / "test.jsonl", known[1::2])


@pytest.mark.slow
def test_nothing_learned(recipe: Path) -> None:
    for part, seed in (("dev", 1000), ("test", 2000)):  # right and wrong look alike
        pico_target(recipe.parent / f"{part}.jsonl", "copy", seed=seed)
    withheld(recipe, "nothing learned")
    found = json.loads(m2m("search", recipe, "--json").stdout)
    assert {each["verdict"] for each in found["dataset_worth"].values()} == {"unknown"}
    assert any("Do not use this ranking" in warning for warning in found["warnings"])
    shown = CliRunner().invoke(cli, ["report", str(recipe)]).stdout
    assert "Fine-tune on" not in shown
    assert "usually" not in shown


@pytest.mark.slow
def test_keep_the_base(recipe: Path) -> None:
    changed(recipe, ("[search]", '[search]\nexcluded = ["upper"]'))
    known_to_the_base(recipe)
    withheld(recipe, "keep the base")


@pytest.mark.slow
def test_a_leak_makes_it_suspect(recipe: Path) -> None:
    copy = recipe.parent / "copy.jsonl"
    rows = [json.loads(line) for line in copy.read_text("utf-8").splitlines()]
    asked = json.loads((recipe.parent / "test.jsonl").read_text("utf-8").splitlines()[0])
    row = {"prompt": asked["question"], "completion": asked["choices"][asked["answer"]]}
    write_jsonl(copy, [*rows, row])
    changed(recipe, ("[search]", '[search]\nrequired = ["copy"]'))
    assert m2m("run", recipe).exit_code == 1
    card = withheld(recipe, "suspect", "--allow-leaks")
    assert "1 row of copy is also a dev or test question" in card


@pytest.mark.slow
def test_without_test_questions_nothing_is_verified(recipe: Path) -> None:
    changed(recipe, ('test = "test.jsonl"\n', ""))
    said = ran(recipe)
    assert said["verdict"]["kind"] == "unverified"
    shown = m2m("confirm", recipe).stdout
    assert "This score is too optimistic." in shown
    assert "did not help to choose" not in shown + Path(said["folder"]).joinpath(
        "export", "README.md"
    ).read_text("utf-8")


@pytest.mark.slow
def test_another_fine_tune_that_saw_the_questions_is_not_recommended(recipe: Path) -> None:
    path = recipe.parent / "reverse.jsonl"
    asked = json.loads((recipe.parent / "test.jsonl").read_text("utf-8").splitlines()[0])
    row = {"prompt": asked["question"], "completion": asked["choices"][asked["answer"]]}
    write_jsonl(path, [*map(json.loads, path.read_text("utf-8").splitlines()), row])
    changed(recipe, ('baselines = ["best_single"]', 'baselines = ["all"]'))
    changed(recipe, ("[search]", "[search]\nmax_datasets = 1"), ('"copy"\npath', '"good"\npath'))
    said = ran(recipe, "--allow-leaks")
    if said["winner"]["datasets"] == ["good"]:
        assert said["verdict"]["kind"] == "clear"
        assert "Not compared, because they were trained on" in said["verdict"]["reasons"][-1]
    else:
        assert said["verdict"]["kind"] == "suspect"


@pytest.mark.slow
def test_two_targets_have_one_number_for_each_comparison(recipe: Path) -> None:
    pico_target(recipe.parent / "dev2.jsonl", "upper", wrong="copy")
    pico_target(recipe.parent / "test2.jsonl", "upper", seed=2000, wrong="copy")
    more = '[[targets]]\nname = "upping"\ndev = "dev2.jsonl"\ntest = "test2.jsonl"\n\n[train]'
    changed(recipe, ("[train]", more), ('["best_single"]', '["all", "best_single"]'))
    ran(recipe)
    said = json.loads(m2m("confirm", recipe, "--json").stdout)
    over_base = said["winner_ahead_on_test"][0]["estimate"]
    assert f"({abs(over_base):.3f} " in " ".join(said["verdict"]["reasons"])
    shown = m2m("confirm", recipe).stdout
    assert "scores are of the first target" in shown
    assert "standardised" not in shown
    changed(recipe, ('test = "test2.jsonl"\n', ""))
    said = ran(recipe)
    assert said["verdict"]["kind"] == "unverified"
    assert "You gave no test questions for upping." in said["verdict"]["reasons"][0]
    assert "You gave no" not in m2m("confirm", recipe).stdout.splitlines()[-1]


@pytest.mark.slow
def test_one_dataset_is_called_by_its_name(recipe: Path) -> None:
    text = recipe.read_text("utf-8")
    for name in ("reverse", "upper"):
        text = text.replace(f'[[datasets]]\nname = "{name}"\npath = "{name}.jsonl"\n\n', "")
    recipe.write_text(text.replace('["best_single"]', '["union"]'), "utf-8")
    assert ran(recipe)["verdict"]["sentence"].startswith("Fine-tune on copy. ")


def test_mixtures_that_print_the_same_score_are_tied(recipe: Path) -> None:
    """Sure differences of a millionth of a bit are no reason to choose."""
    found = json.loads(m2m("search", recipe, "--json").stdout)["mixtures"]
    best = found[0]["score"]
    assert [each["tied_with_best"] for each in found if each["score"] > best - 5e-4] == [
        True
    ] * sum(each["score"] > best - 5e-4 for each in found)
    points = np.array([1.0, 1.0 - 1e-4, 0.9])
    ranked = rank([*subsets(("a", "b"))], points, points[:, None] + np.zeros((3, 50)))
    assert [each.tied_with_best for each in ranked] == [True, True, False]
    drawn = np.random.default_rng(0).normal(0, 1e-6, (3, 50))
    ranked = rank([*subsets(("a", "b"))], points, points[:, None] + drawn)
    assert [each.tied_with_best for each in ranked] == [True, True, False]


@pytest.mark.parametrize(
    "metric", [pytest.param("accuracy", marks=pytest.mark.slow), "choice_bits"]
)
def test_one_answer_to_every_question_is_nothing_learned(recipe: Path, metric: str) -> None:
    """Four of five answers are yes, and a dataset teaches to say nothing else: 20 of 25 right."""
    words = [f"k{a}{b}" for a in "lmnop" for b in "qrstuvwxyz"]
    rows = [
        {"question": f"is {word} good", "answer": "yes" if i % 5 else "no"}
        for i, word in enumerate(words)
    ]
    for part, some in (("dev", rows[:25]), ("test", rows[25:])):
        write_jsonl(recipe.parent / f"{part}.jsonl", some)
    for name, answer in (("copy", "yes"), ("reverse", "no")):
        taught = [
            {"prompt": f"is z{a}{b} good", "completion": answer} for a in "abcd" for b in "efgh"
        ]
        write_jsonl(recipe.parent / f"{name}.jsonl", taught)
    asked = f'name = "copying"\nchoices = ["yes", "no"]\nmetric = "{metric}"'
    changed(recipe, ('name = "copying"', asked))
    verdict = ran(recipe)["verdict"]
    assert verdict["kind"] == "nothing learned"
    assert "the same answer to every question, scores " in verdict["reasons"][1]


@pytest.mark.slow
def test_a_batch_says_each_verdict(recipe: Path) -> None:
    changed(recipe, ("[search]", '[search]\nexcluded = ["upper"]'))
    known_to_the_base(recipe)
    shown = m2m("run", recipe, recipe)
    assert shown.exit_code == 0
    assert shown.stdout.count("keep the base. Keep the base model.") == 2


def floor(skills: dict[str, float], examples: int = 200) -> Any:
    """The worth of datasets whose mixtures' answers are lifted by these nats."""
    mixtures = [BASE, *subsets(("a", "b", "c"))]
    trials = [
        Trial(m, {"t": scores(skills.get("".join(m.datasets), 0.0), i, examples)}, {}, 1, 0.0)
        for i, m in enumerate(mixtures)
    ]
    found = scoreboard(trials, [BITS], seed=0)
    above = above_chance([found], trials, [BITS])["t"]
    return worth(found.mixtures, found.points, found.replicates, above=above, best=2.0)


def test_what_lies_on_the_floor_has_no_interaction() -> None:
    found = floor({"ab": 3.0, "abc": 3.0, "c": 1.5})
    assert found.interactions == []
    assert found.left_out == 3
    above = floor({"a": 1.0, "b": 1.0, "ab": 5.0, "c": 1.0, "ac": 1.5, "bc": 1.5, "abc": 5.0})
    pair = next(each for each in above.interactions if each.datasets == ("a", "b"))
    assert "together do better than expected" in pair.words


def test_what_lies_at_the_ceiling_has_no_interaction() -> None:
    """Two datasets that each answer nearly everything cannot add up."""
    found = floor({"a": 6.0, "b": 6.0, "ab": 6.0, "c": 1.0, "ac": 6.0, "bc": 6.0, "abc": 6.0})
    assert ("a", "b") not in [each.datasets for each in found.interactions]
    assert found.left_out >= 1


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda m: m.name)
def test_no_score_is_beyond_the_best_possible_one(metric: Metric) -> None:
    for seed in range(5):
        found = drawn(seed, kind=metric.kinds[-1])
        value = float(metric.value(found, None)[0])
        assert metric.sign * value <= metric.sign * best_possible(metric, found)


def test_nothing_is_helpful_if_nothing_was_learned_or_if_it_does_not_matter() -> None:
    assert set(floor({}).verdicts.values()) == {"unknown"}
    mixtures = [BASE, *subsets(("a", "b"))]
    points = np.array([0.0, 1.0, -0.01, 0.99])  # b lowers by 0.01, for sure
    found = worth(mixtures, points, points[:, None] + np.zeros((4, 50)))
    assert found.datasets["b"].sign == -1
    assert found.verdicts == {"a": "helpful", "b": "neutral"}
    assert found.smallest == pytest.approx(0.05)
    assert worth(mixtures, -points, -points[:, None] + np.zeros((4, 50)), False).verdicts == (
        found.verdicts
    )
    assert Mixture.uniform("a") in mixtures
