"""Shares of one recipe, made apart, come to the same as one run; so do runs brought together."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

from m2m.adapter import load_adapter
from m2m.cli.main import CONTEXT, cli
from m2m.errors import BusyError, InputError
from m2m.formats.journal import Journal
from m2m.mix.study import SCHEMA
from m2m.mix.trial import Trial, joined
from m2m.pipeline.journals import join_journals
from m2m.pipeline.merge_runs import merge_runs
from m2m.pipeline.run import Run
from m2m.pipeline.shares import Share, join_shares
from m2m.progress import Silent
from m2m.recipe import load_recipe
from m2m.results.folder import RunFolder
from m2m.store import run_lock
from tests.conftest import REPOSITORY
from tests.pipeline.scenario import make_scenario, watched_trainings

EXAMPLES = REPOSITORY / "examples" / "batch"


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def ranking(run: Run) -> dict[str, Any]:
    """What a search found, without its time and without who scored."""
    found = run.search().as_json()
    del found["seconds"], found["scored_elsewhere"]
    warned = zip(found["warnings"], found.pop("gravity"), strict=True)
    found["warnings"] = [each for each in warned if "Scored elsewhere" not in each[0]]
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose search was made by one process."""
    recipe = make_scenario(tmp_path_factory.mktemp("alone"))
    text = recipe.read_text(encoding="utf-8").replace("steps = 12", "steps = 3")
    recipe.write_text(text, encoding="utf-8")
    Run(load_recipe(recipe), Silent()).search()
    return recipe


def fresh(alone: Path, folder: Path) -> Path:
    """The same recipe and data in another place, without results."""
    shutil.copytree(alone.parent, folder, ignore=shutil.ignore_patterns("m2m-runs"))
    return folder / alone.name


def share(recipe: Path, number: int, total: int) -> Run:
    return Run(load_recipe(recipe), Silent(), Share(number, total))


def test_shares_come_to_what_one_process_does(alone: Path, tmp_path: Path) -> None:
    recipe = fresh(alone, tmp_path / "shared")
    names = [[each.dataset for each in share(recipe, i, 2).train()] for i in (1, 2)]
    assert names == [["copy", "upper"], ["reverse"]]
    # Seven mixtures, and the base in each share.
    assert [share(recipe, i, 3).search_share() for i in (1, 2, 3)] == [4, 3, 3]
    whole = Run(load_recipe(recipe), Silent())
    assert ranking(whole) == ranking(Run(load_recipe(alone), Silent()))
    assert len(Journal(whole.folder / "study.jsonl").replay()) == 8
    assert join_shares(whole.folder) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "scored", "said"),
    [
        ("racing", [4, 3, 3], "4 mixtures on 6 examples"),
        pytest.param("guided", [2, 2, 2], "3 single datasets", marks=pytest.mark.slow),
    ],
)
def test_shares_of_a_search_that_chooses(
    alone: Path, tmp_path: Path, strategy: str, scored: list[int], said: str
) -> None:
    """What is asked in any case is shared, and the rest goes on from it as if one had done all."""
    recipe = fresh(alone, tmp_path / strategy)
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("exhaustive", strategy), encoding="utf-8")
    shutil.copytree(load_recipe(alone).folder / "adapters", load_recipe(recipe).folder / "adapters")
    whole = shutil.copytree(recipe.parent, tmp_path / "whole") / recipe.name
    heard = Heard()
    runs = [Run(load_recipe(recipe), heard, Share(i, 3)) for i in (1, 2, 3)]
    assert [each.search_share() for each in runs] == scored
    assert said in next(note for note in heard.notes if "each answer is" not in note)
    shared, one = (Run(load_recipe(each), Silent()) for each in (recipe, whole))
    assert ranking(shared) == ranking(one)
    first, second = (
        [line["mixture"] for line in Journal(run.folder / "study.jsonl").replay()]
        for run in (shared, one)
    )
    assert sorted(map(str, first)) == sorted(map(str, second))  # nothing twice, nothing more


def trained_bytes(recipe: Path) -> dict[str, bytes]:
    """The weights of all experts and fine-tunes."""
    folder = load_recipe(recipe).folder
    paths = [*folder.glob("adapters/*/*.safetensors"), *folder.glob("confirm/*/*/*.safetensors")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def confirmed(run: Run) -> dict[str, Any]:
    """What a confirmation found, without times and places."""
    found = run.confirm().as_json()
    for model in [*found["confirmed"], found["winner"]]:
        model["adapter"] = None
    del found["scored_elsewhere"]
    (found["courses"] or {}).pop("seconds", None)
    return found


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what is trained, as it happens."""
    return watched_trainings(monkeypatch, lambda trainer: trainer._origin.name)


def with_budget(alone: Path, folder: Path, budget: str) -> tuple[Path, Path]:
    """Two copies of the recipe with that budget, with their experts and scores if they fit."""
    text = alone.read_text(encoding="utf-8").replace('"fixed"', f'"{budget}"')
    recipes = [fresh(alone, folder / name) for name in ("one", "shared")]
    for recipe in recipes:
        recipe.write_text(text, encoding="utf-8")
        run = Run(load_recipe(recipe), Silent())
        run.search()
    return recipes[0], recipes[1]


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["proportional", "until"])
def test_shares_of_the_fine_tunes_come_to_what_one_process_does(
    alone: Path, tmp_path: Path, trainings: list[str], budget: str
) -> None:
    one, shared = with_budget(alone, tmp_path, budget)
    expected = confirmed(Run(load_recipe(one), Silent()))
    trainings.clear()
    parts = [share(shared, i, 2).confirm_share() for i in (1, 2)]
    assert all(part.trained for part in parts)
    made = [path for part in parts for path in part.trained]
    assert len(made) == len({*made})
    for _ in range(3):  # rungs
        if any(part.more for part in parts):
            parts = [share(shared, i, 2).confirm_share() for i in (1, 2)]
    assert [part.more for part in parts] == [False, False]
    by_shares = len(trainings)
    assert by_shares
    trainings.clear()
    assert confirmed(Run(load_recipe(shared), Silent())) == expected
    if budget == "until":
        steps = {path.split("/")[1] for path in trained_bytes(shared) if "confirm/" in path}
        assert len(steps) > 2
        assert len({*trainings}) == 1, "only the winner trains on"
    else:
        assert trainings == []
    assert trained_bytes(shared) == trained_bytes(one)
    before = len(trainings)
    assert not share(shared, 1, 2).confirm_share().more
    assert len(trainings) == before


@pytest.mark.slow
def test_shares_of_a_validation_come_to_what_one_process_does(
    alone: Path, tmp_path: Path, trainings: list[str]
) -> None:
    one, shared = with_budget(alone, tmp_path, "proportional")
    expected = Run(load_recipe(one), Silent()).validate().as_json()
    trainings.clear()
    made = [path for i in (1, 2, 3) for path in share(shared, i, 3).validate_share().trained]
    assert len(made) == len({*made}) == len(trainings) == 4
    trainings.clear()
    assert Run(load_recipe(shared), Silent()).validate().as_json() == expected
    assert trained_bytes(shared) == trained_bytes(one)


def test_a_share_of_the_fine_tunes_needs_a_ranking(alone: Path, tmp_path: Path) -> None:
    recipe = fresh(alone, tmp_path / "unranked")
    share(recipe, 1, 1).train()
    for work in ("confirm_share", "validate_share"):
        with pytest.raises(InputError, match="not ranked yet") as caught:
            getattr(share(recipe, 1, 2), work)()
        assert "m2m search" in (caught.value.hint or "")
    Run(load_recipe(recipe), Silent()).search()
    found = CliRunner().invoke(cli, ["confirm", str(recipe), "--share", "1/2", "--json", "-q"])
    assert found.exit_code == 0, found.output
    part = json.loads(found.stdout)
    assert (len(part["trained"]), part["rung"], part["more"]) == (1, 0, False)
    journals = [path.name for path in load_recipe(recipe).folder.glob("*.jsonl")]
    assert "confirm.jsonl" not in journals, "a share writes only journals of its own"


def test_shares_leave_out_what_the_recipe_excludes(alone: Path, tmp_path: Path) -> None:
    recipe = fresh(alone, tmp_path / "excluded")
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("[search]", '[search]\nexcluded = ["copy"]'), encoding="utf-8")
    assert [each.dataset for each in share(recipe, 1, 1).train()] == ["reverse", "upper"]
    assert share(recipe, 1, 1).search_share() == 4


def test_a_share_needs_all_adapters(alone: Path, tmp_path: Path) -> None:
    recipe = fresh(alone, tmp_path / "early")
    share(recipe, 1, 2).train()
    with pytest.raises(InputError, match="not trained yet: reverse"):
        share(recipe, 1, 2).search_share()


def test_a_share_needs_a_type_by_name(alone: Path, tmp_path: Path) -> None:
    recipe = fresh(alone, tmp_path / "auto")
    text = recipe.read_text(encoding="utf-8") + '\n[quantize]\ntype = "auto"\n'
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="type is auto"):
        share(recipe, 1, 2).search_share()


def test_two_processes_do_not_train_the_same_adapter(alone: Path, tmp_path: Path) -> None:
    recipe = fresh(alone, tmp_path / "twice")
    lock = load_recipe(recipe).folder / "shares" / "adapter-copy"
    with run_lock(lock), pytest.raises(BusyError):
        share(recipe, 1, 5).train()


def test_runs_from_other_machines_are_brought_together(alone: Path, tmp_path: Path) -> None:
    source = load_recipe(alone).folder
    first, second = tmp_path / "usb" / "a", tmp_path / "usb" / "b"
    for folder, name in ((first, "copy"), (second, "upper")):
        shutil.copytree(source / "adapters" / name, folder / "adapters" / name)
    lines = Journal(source / "study.jsonl").replay()
    for line in lines[:5]:
        Journal(first / "study.jsonl").append(line)
    for line in lines[3:]:
        Journal(second / "study.jsonl").append(line)
    shutil.copytree(source / "adapters" / "reverse", second / "adapters" / "reverse")
    tuned = Path("confirm", "3", "copy+upper")  # where a real fine-tune of 3 steps would lie
    shutil.copytree(source / "adapters" / "copy", second / tuned)
    recipe = fresh(alone, tmp_path / "home")
    into = load_recipe(recipe).folder
    found = merge_runs(into, [first, second])
    assert sorted(found.adapters) == ["copy", "copy+upper", "reverse", "upper"]
    assert load_adapter(into / tuned).name == "copy"
    assert found.mixtures == len(lines)
    assert found.warnings == []
    run = Run(load_recipe(recipe), Silent())
    assert all(each.resumed for each in run.train())
    assert ranking(run) == ranking(Run(load_recipe(alone), Silent()))
    again = merge_runs(into, [first, second])
    assert (again.adapters, again.mixtures) == ([], 0)


def test_other_trainings_and_other_builds_are_told(alone: Path, tmp_path: Path) -> None:
    source = load_recipe(alone).folder
    other = tmp_path / "other"
    shutil.copytree(source, other)
    for path, before, after in (
        (other / "adapters" / "copy" / "m2m.json", '"identity": "', '"identity": "0'),
        (other / "recipe.json", "ggml", "another ggml"),
    ):
        path.write_text(path.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
    mine = tmp_path / "mine"
    shutil.copytree(source, mine)
    before = (mine / "adapters" / "copy" / "m2m.json").read_bytes()
    warnings = merge_runs(mine, [other]).warnings
    assert len(warnings) == 2
    assert "trained differently" in warnings[0]
    assert "another llama.cpp" in warnings[1]
    assert (mine / "adapters" / "copy" / "m2m.json").read_bytes() == before


def test_a_run_on_another_base_is_told(alone: Path, tmp_path: Path) -> None:
    source = load_recipe(alone).folder
    for name in ("mine", "other"):
        shutil.copytree(source, tmp_path / name)
    path = tmp_path / "other" / "recipe.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["inputs"]["base"]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(settings), encoding="utf-8")
    (warning,) = merge_runs(tmp_path / "mine", [tmp_path / "other"]).warnings
    assert "was made on another base model" in warning


def test_a_damaged_copy_changes_nothing(alone: Path, tmp_path: Path) -> None:
    broken, into = tmp_path / "broken", tmp_path / "into"
    shutil.copytree(load_recipe(alone).folder, broken)
    weights = broken / "adapters" / "upper" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        merge_runs(into, [broken, tmp_path / "empty"])
    assert "adapter_model.safetensors" in caught.value.message
    assert "empty has no adapters/" in caught.value.message
    assert not into.exists()


def test_no_example_comes_twice(alone: Path, tmp_path: Path) -> None:
    """Blocks that overlap, and a whole line beside a block, come to the whole once."""
    whole = Journal(load_recipe(alone).folder / "study.jsonl").replay()[-1]
    trial = Trial.from_json(whole)

    def block(*places: int) -> dict[str, Any]:
        part = trial.take({"copying": places})
        return {"schema": SCHEMA, "key": whole["key"], **part.as_json()}

    for name, lines in {"a": [block(3, 0)], "b": [block(0, 1), block(3)], "c": [whole]}.items():
        for line in lines:
            Journal(tmp_path / name).append(line)
    assert join_journals(tmp_path / "a", [tmp_path / "b", tmp_path / "none"]) == 1
    assert join_journals(tmp_path / "a", [tmp_path / "c", tmp_path / "b"]) == 1
    parts = [Trial.from_json(line) for line in Journal(tmp_path / "a").replay()]
    assert [part.places["copying"] for part in parts] == [(3, 0), (1,), (2, *range(4, 16))]
    scores = joined(parts, {"copying": 16}).scores["copying"]
    np.testing.assert_array_equal(scores.loglik, trial.scores["copying"].loglik)


def test_the_commands_take_shares(alone: Path) -> None:
    def m2m(*arguments: str) -> Any:
        return CliRunner().invoke(cli, [*arguments, "--quiet"], catch_exceptions=False)

    assert m2m("train", str(alone), "--share", "3/3", "--json").exit_code == 0
    assert '"scored": 2' in m2m("search", str(alone), "--share", "7/7", "--json").stdout
    for wrong in ("0/3", "4/3", "2", "a/b"):
        assert m2m("train", str(alone), "--share", wrong).exit_code == 2
    folder = str(load_recipe(alone).folder)
    joined = CliRunner().invoke(cli, ["merge-runs", folder, "--into", f"{folder}-2"])
    assert "3 adapters" in joined.stdout


@pytest.mark.slow  # ten processes
@pytest.mark.skipif(sys.platform == "win32", reason="runs sh")
def test_the_slurm_example_runs_the_whole_recipe(alone: Path, tmp_path: Path) -> None:
    """With an `sbatch` that runs at once what Slurm would run later, task by task."""
    recipe = fresh(alone, tmp_path / "cluster")
    scripts = tmp_path / "bin"
    scripts.mkdir()
    (scripts / "m2m").write_text(f'#!/bin/sh\nexec {sys.executable} -m m2m "$@"\n', "utf-8")
    (scripts / "sbatch").write_text(SBATCH, encoding="utf-8")
    for path in scripts.iterdir():
        path.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
    }
    line = ["sh", str(EXAMPLES / "slurm" / "submit.sh"), str(recipe), "2", "2", "1"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("confirm: ") == 3, "an array for each rung"
    assert '"winner"' in done.stderr
    (line_of_run,) = [each for each in done.stderr.splitlines() if each.startswith('{"schema"')]
    trained = RunFolder(load_recipe(recipe).folder).log.read_text(encoding="utf-8")
    assert json.loads(line_of_run)["status"] == "done"
    assert "training copy + reverse" not in trained, "the arrays made all fine-tunes"
    shares = load_recipe(recipe).folder / "shares"
    assert len(list(shares.glob("*-of-2/study.jsonl"))) == 2


SBATCH = """\
#!/bin/sh
tasks=1
while [ "${1#--}" != "$1" ]; do
    case $1 in --array=1-*) tasks=${1#--array=1-};; --parsable) quiet=1;; esac
    shift
done
for SLURM_ARRAY_TASK_ID in $(seq "$tasks"); do
    export SLURM_ARRAY_TASK_ID
    if [ "${quiet:-}" ]; then sh "$@" >&2 || exit 1; else sh "$@" || exit 1; fi
done
echo 1
"""


def test_every_m2m_line_of_the_examples_parses() -> None:
    files = [EXAMPLES / "README.md", EXAMPLES / "Snakefile"]
    pattern = r'm2m (?:train|search|confirm|validate|run|merge-runs) [^#\n">`]+'
    lines = [line for path in files for line in re.findall(pattern, path.read_text("utf-8"))]
    assert len(lines) >= 6
    parent = click.Context(cli, info_name="m2m", **CONTEXT)  # type: ignore[arg-type]
    values = {"share": "1", "TRAININGS": "8", "SCORINGS": "16", "RECIPE": "r.toml"}
    for line in lines:
        filled = re.sub(r"\{(?:wildcards\.)?(\w+)\}", lambda m: values[m[1]], line)
        arguments = shlex.split(filled.replace("/media/usb/*/m2m-runs/recipe", "."))[1:]
        command = cli.commands[arguments[0]]
        command.make_context(command.name, arguments[1:], parent=parent)
