"""The examples of `examples/batch` under a real Slurm, and a real Snakemake."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import load_recipe
from tests.conftest import REPOSITORY
from tests.field.slurm import asked, cluster, finish, missing
from tests.pipeline.scenario import make_scenario
from tests.pipeline.test_shares import ranking
from tests.pipeline.test_until import until

EXAMPLES = REPOSITORY / "examples" / "batch"
SUBMIT = EXAMPLES / "slurm" / "submit.sh"
pytestmark = pytest.mark.soak
# Slurm looks every 30 seconds whose time will soon be up, and may send its signal so much earlier:
# here 15 to 45 seconds after a job begins. A signal to a job that is still starting is lost.
LIMITS = ["--time=2", "--signal=B:TERM@75"]
ALONE = 120.0  # seconds that the experts take, longer than a job may work on a quieter machine


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if lacking := missing():
        pytest.skip(f"needs {lacking} (Debian: slurm-wlm, munge)")
    root = tmp_path_factory.mktemp("slurm")
    programs = root / "bin"
    programs.mkdir()
    (programs / "m2m").write_text(f'#!/bin/sh\nexec {sys.executable} -m m2m "$@"\n', "utf-8")
    (programs / "m2m").chmod(0o755)
    with cluster(root) as environment:
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        environment["PYTHONPATH"] = str(REPOSITORY)
        yield environment


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose experts one process trained in about `ALONE` seconds, and its whole run."""
    folder = tmp_path_factory.mktemp("alone")
    seconds = {}
    for steps in (12, 48):
        recipe = make_scenario(folder / str(steps))
        short = recipe.read_text(encoding="utf-8")
        recipe.write_text(short.replace("steps = 12", f"steps = {steps}"), encoding="utf-8")
        start = time.monotonic()
        Run(load_recipe(recipe), Silent()).train()
        seconds[steps] = time.monotonic() - start
    steps = int(48 + (ALONE - seconds[48]) * 36 / (seconds[48] - seconds[12]))
    recipe = make_scenario(folder / "long")
    recipe.write_text(short.replace("steps = 12", f"steps = {steps}"), encoding="utf-8")
    run = Run(load_recipe(recipe), Silent())
    run.search()
    run.confirm()
    return recipe


def fresh(alone: Path, folder: Path) -> Path:
    shutil.copytree(alone.parent, folder, ignore=shutil.ignore_patterns("m2m-runs"))
    return folder / alone.name


def same_bytes(one: Path, other: Path) -> None:
    """Compare adapters, fine-tunes, and the ranking but for time and scorer."""
    folders = [load_recipe(recipe).folder for recipe in (one, other)]
    names = [
        sorted(
            path.relative_to(folder)
            for path in folder.rglob("adapter_model.safetensors")
            if path.relative_to(folder).parts[0] in ("adapters", "confirm")
        )
        for folder in folders
    ]
    assert names[0] == names[1]
    assert len(names[0]) >= 4
    for name in names[0]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    rankings: list[dict[str, Any]] = [
        ranking(Run(load_recipe(recipe), Silent())) for recipe in (one, other)
    ]
    assert rankings[0] == rankings[1]


def test_a_recipe_under_time_limits_comes_to_what_one_process_does(
    slurm: dict[str, str], alone: Path, tmp_path: Path
) -> None:
    """One share trains longer than its job may: Slurm ends the job, which goes back and goes on."""
    recipe = fresh(alone, tmp_path / "cluster")
    options = [*LIMITS, "--cpus-per-task=1", "--mem=1000"]
    output = f"--output={tmp_path}/%x-%j.out"
    line = ["sh", str(SUBMIT), *options, output, str(recipe), "1", "2"]
    done = subprocess.run(line, env=slurm, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    jobs = dict(re.findall(r"(\w+): (\d+)", done.stdout))
    assert set(jobs) == {"train", "search", "run"}
    finish(slurm, 20 * ALONE)
    shown = {name: asked(slurm, "scontrol", "show", "job", job) for name, job in jobs.items()}
    outputs = "\n".join(path.read_text("utf-8") for path in tmp_path.glob("*.out"))
    for name, text in shown.items():
        assert "JobState=COMPLETED" in text, (name, text, outputs)
    assert int(re.findall(r"Restarts=(\d+)", shown["train"])[0]) >= 1
    assert '"winner"' in outputs
    same_bytes(alone, recipe)


def test_rungs_and_validations_are_arrays(slurm: dict[str, str], tmp_path: Path) -> None:
    """Each rung is an array of two shares, and so are the fine-tunes of a validation."""
    alone = until(make_scenario(tmp_path / "alone"))
    first = Run(load_recipe(alone), Silent())
    whole, validation = first.confirm(), first.validate()
    assert whole.courses is not None
    recipe = fresh(alone, tmp_path / "cluster")
    options = ["--cpus-per-task=1", "--mem=1000", f"--output={tmp_path}/%x-%A-%a.out"]
    line = ["sh", str(SUBMIT), *options, str(recipe), "2", "2", "2"]
    done = subprocess.run(line, env=slurm, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    jobs = re.findall(r"(\w+): (\d+)", done.stdout)
    assert [name for name, _ in jobs] == ["train", "search", *["confirm"] * 3, "run"]
    finish(slurm, 20 * ALONE)
    script = str(EXAMPLES / "slurm" / "job.sbatch")
    validate = ["sbatch", "--parsable", "--array=1-2", *options, script, "validate"]
    jobs.append(("validate", asked(slurm, *validate, str(recipe), "2")))
    finish(slurm, 20 * ALONE)
    outputs = "\n".join(path.read_text("utf-8") for path in tmp_path.glob("*.out"))
    for name, job in jobs:
        shown = asked(slurm, "scontrol", "show", "job", job)
        states = set(re.findall(r"JobState=(\w+)", shown))
        assert states == {"COMPLETED"}, (name, shown, outputs)
    same_bytes(alone, recipe)
    second = Run(load_recipe(recipe), Silent())
    joined = second.confirm().courses
    assert joined is not None
    seconds = {"seconds": 0}  # of the last training
    assert joined.as_json() | seconds == whole.courses.as_json() | seconds
    assert second.validate().as_json() == validation.as_json()


def test_a_cancelled_job_is_not_brought_back(
    slurm: dict[str, str], alone: Path, tmp_path: Path
) -> None:
    recipe = fresh(alone, tmp_path / "cancelled")
    options = ["--cpus-per-task=1", "--mem=1000", f"--output={tmp_path}/%j.out"]
    line = ["sh", str(SUBMIT), *options, str(recipe), "1", "1"]
    done = subprocess.run(line, env=slurm, capture_output=True, text=True, check=True)
    train = re.findall(r"train: (\d+)", done.stdout)[0]
    adapters = load_recipe(recipe).folder / "adapters"
    end = time.monotonic() + 60
    while not adapters.exists() and time.monotonic() < end:
        time.sleep(0.5)
    asked(slurm, "scancel", train)
    finish(slurm, 60)  # the jobs that depend on it go too
    assert "JobState=CANCELLED" in asked(slurm, "scontrol", "show", "job", train)


def test_the_snakefile_comes_to_what_one_process_does(alone: Path, tmp_path: Path) -> None:
    snakemake = shutil.which("snakemake")
    if snakemake is None:
        pytest.skip("needs snakemake on the PATH")
    recipe = fresh(alone, tmp_path / "snake")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "m2m").write_text(f'#!/bin/sh\nexec {sys.executable} -m m2m "$@"\n', "utf-8")
    (programs / "m2m").chmod(0o755)
    line = [snakemake, "--snakefile", str(EXAMPLES / "Snakefile"), "--cores", "2", "--config"]
    values = [f"recipe={recipe}", "trainings=2", "scorings=2"]
    paths = f"{programs}:{Path(snakemake).parent}:/usr/bin:/bin"
    done = subprocess.run(
        [*line, *values],
        env={"PATH": paths, "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    same_bytes(alone, recipe)
