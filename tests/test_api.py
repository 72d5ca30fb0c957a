"""The Python API: its page runs, its results are those of the commands, its names are lazy."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from m2m import M2MWarning, Recipe, Run, Scores, own_metric
from m2m.cli.main import cli
from m2m.errors import BusyError, InputError
from m2m.evaluate.metrics import METRICS
from m2m.store import run_lock
from tests.pipeline.scenario import copied, make_scenario

PAGE = Path(__file__).parent.parent / "docs" / "python.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quick recipe whose mixtures are ranked."""
    recipe = make_scenario(tmp_path_factory.mktemp("api"))
    text = recipe.read_text(encoding="utf-8").replace("steps = 12", "steps = 4")
    recipe.write_text(text.replace("top = 2", 'top = 1\nbaselines = ["best_single"]'), "utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", M2MWarning)
        Run(recipe).rank()
    return recipe


@pytest.fixture
def recipe(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, in the current folder."""
    path = copied(made, tmp_path)
    monkeypatch.chdir(path.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", M2MWarning)
        yield path


def command(*arguments: str | Path) -> dict[str, Any]:
    """The JSON that a command prints."""
    words = [*map(str, arguments), "--json"]
    found = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    data: dict[str, Any] = json.loads(found.stdout)
    return data


def test_the_import_is_cheap_and_lazy() -> None:
    code = (
        "import sys, m2m; assert 'Run' in dir(m2m);"
        "print([name for name in sys.modules if name.startswith(('m2m.', 'numpy', 'click'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    import m2m

    with pytest.raises(AttributeError, match="no attribute 'Walk'"):
        m2m.Walk  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.slow
def test_the_code_of_the_page_runs(recipe: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), names)
    assert names["weighted"].mixture.weights == (0.75, 0.25)
    assert [each["seed"] for each in names["results"]] == [0, 1]
    assert names["results"][1]["folder"].endswith("recipe+train.seed=1")
    assert names["ranking"].metric == "margin"


def test_results_are_those_of_the_commands(recipe: Path) -> None:
    run = Run(recipe)
    assert run.rank().to_dict() | {"seconds": 0} == command("search", recipe) | {"seconds": 0}
    confirmed = run.confirm().to_dict()
    assert confirmed == command("confirm", recipe)
    best = confirmed["confirmed"][1]  # the best merge, which the search scored
    own = run.score(best["datasets"]).to_dict()
    assert own["metrics"] == {"copying": best["dev"]}
    assert run.score([]).to_dict()["metrics"]["copying"] == confirmed["confirmed"][0]["dev"]
    merged = run.merge(best["datasets"], "merged.gguf")
    evaluated = run.evaluate("pico", merged.out).to_dict()
    base, top = (each["metrics"] for each in evaluated["results"])
    assert base.items() >= confirmed["confirmed"][0]["test"].items()
    for name, measured in best["test"].items():  # the scratch file may have other kernels
        assert top[name]["value"] == pytest.approx(measured["value"], abs=0.05)
    assert evaluated == command("eval", "pico", merged.out, recipe.parent / "test.jsonl")


def test_a_metric_of_ones_own_judges(recipe: Path) -> None:
    """The plain accuracy by a function gives what m2m's own metric of that name gives."""

    def right(scores: Scores) -> np.ndarray:
        return (np.nanargmax(scores.loglik, axis=1) == scores.gold).astype(float)

    text = recipe.read_text(encoding="utf-8")
    named = recipe.with_name("named.toml")
    named.write_text(text.replace("[[targets]]", '[[targets]]\nmetric = "accuracy"'), "utf-8")
    theirs = Run(named).rank()
    run = Run(recipe, metric=own_metric("hits", right, higher_is_better=True))
    ranking = run.rank()
    assert ranking.metric == "hits"
    mixtures = [(place.mixture, place.score, place.stderr) for place in ranking.places]
    assert mixtures == [(place.mixture, place.score, place.stderr) for place in theirs.places]
    falls = Run(recipe, metric=own_metric("hits", right, higher_is_better=False)).rank()
    scores = [place.score for place in falls.places]
    assert scores == sorted(scores)
    assert run.folder.name == "recipe+targets.copying.metric=hits"
    assert "hits" in run.score(["copy"]).to_dict()["metrics"]["copying"]
    assert run.confirm().to_dict()["metric"] == "hits"
    assert "hits" not in METRICS, "no recipe can name it"
    assert command("report", run.folder)["report"]["html"], "the report needs no function"
    with pytest.raises(InputError, match="cannot be the name"):
        own_metric("accuracy", right, higher_is_better=True)
    wrong = own_metric("wrong", lambda scores: np.zeros(3), higher_is_better=True)
    with pytest.raises(InputError, match=r"returned shape \(3,\)"):
        Run(recipe, metric=wrong).rank()


def test_a_run_is_locked_while_it_works(recipe: Path) -> None:
    with Run(recipe) as run:
        run.train()
        with pytest.raises(BusyError):
            Run(recipe).train()
    Run(recipe).train()
    with run_lock(run.folder), pytest.raises(BusyError):
        Run(recipe).train()


def test_warnings_and_mistakes_are_pythons_own(recipe: Path) -> None:
    with pytest.raises(InputError, match="no dataset cpoy"):
        Run(recipe).score(["cpoy"])
    with pytest.raises(InputError, match="weights must be above 0"):
        Run(recipe).score({"copy": -1})
    with (recipe.parent / "upper.jsonl").open("a", encoding="utf-8") as file:
        file.write("no row\n")
    with pytest.warns(M2MWarning, match="upper: 1 bad row"):
        Run(recipe, overrides={"datasets.upper.bad_rows": "skip"}).train()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda run: Run(None), "recipe: expected a file, found None"),
        (lambda run: Run(run.recipe, overrides={"train.seed": 1}), "need the recipe's file"),
        (
            lambda run: Run(run.recipe.path, metric="accuracy"),
            "metric: expected a metric",
        ),
        (lambda run: Recipe.load(run.recipe.path, overrides=["train.seed=1"]), "a dict such as"),
        (lambda run: Recipe.load(run.recipe.path, out=1), "out: expected a folder, found 1"),
        (lambda run: run.score("copy"), "datasets: expected names in a list, .* found 'copy'"),
        (lambda run: run.score(None), "datasets: expected names in a list, .* found None"),
        (lambda run: run.score({"copy": "a"}), "weight of copy: expected a number, found 'a'"),
        (lambda run: run.score({"copy": None}), "weight of copy: expected a number, found None"),
        (lambda run: run.score([1]), "no dataset 1"),
        (lambda run: run.merge("copy", "x.gguf"), "datasets: expected names in a list"),
        (lambda run: run.merge(["copy"], None), "out: expected a file or folder, found None"),
        (lambda run: run.merge(["copy"], "x.gguf", rank="8"), "rank: expected a whole number"),
        (lambda run: run.merge(["copy"], "x.gguf", type="q9"), "unknown type 'q9'"),
        (lambda run: run.more_rows("copy"), "datasets: expected names in a list"),
        (lambda run: run.more_rows(["cpoy"]), "there is no dataset 'cpoy'"),
        (lambda run: run.evaluate(None), "there is no model called 'None'"),
    ],
)
def test_wrong_arguments_are_mistakes_in_words(
    recipe: Path, wrong: Callable[[Run], object], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        wrong(Run(recipe))


def test_a_loss_is_in_the_warnings_of_results(recipe: Path) -> None:
    merged = Run(recipe).merge(["copy", "reverse"], "low", rank=1)
    assert merged.warnings == [f"rank 1 keeps too little of the fine-tune; {merged.remedy}"]
    assert merged.to_dict()["warnings"] == merged.warnings
