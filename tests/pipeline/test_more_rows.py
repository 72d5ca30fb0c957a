"""What more rows would bring: adapters on halves of the rows against those on all rows."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.errors import InputError
from m2m.evaluate.score import Score
from m2m.mix.ranking import Interval
from m2m.pipeline import more_rows as more_rows_module
from m2m.pipeline.inputs import read_inputs
from m2m.pipeline.more_rows import halves, interval_ends, measurable
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import load_recipe
from m2m.report.words import collecting
from m2m.results.facts import read_facts
from m2m.results.more_rows import MoreRows, RowsGain
from tests.pipeline.scenario import copied


@pytest.fixture(scope="module")
def measured(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose rows were halved through the command."""
    recipe = copied(trained_run, tmp_path_factory.mktemp("halved"))
    done = CliRunner().invoke(cli, ["more-rows", str(recipe), "--quiet", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["datasets"][0]["dataset"] == "copy"
    return recipe


class Notes(Silent):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def found(recipe: Path) -> MoreRows:
    known = read_facts(load_recipe(recipe).folder).more_rows
    assert known is not None
    return known


def test_a_half_is_worth_what_a_file_with_these_rows_is_worth(
    measured: Path, tmp_path: Path
) -> None:
    """The reference is a recipe with the half as a dataset's own file."""
    rows = (measured.parent / "copy.jsonl").read_text("utf-8").splitlines(keepends=True)
    gain = found(measured).datasets[0]
    assert gain.rows == len(rows)
    adapters = load_recipe(measured).folder / "halves"
    recipe = copied(measured, tmp_path)
    parts = [_rows_of(measured, half) for half in (1, 2)]
    assert sorted(parts[0] + parts[1]) == [*range(1, len(rows) + 1)]
    for half, lines in enumerate(parts, 1):
        (recipe.parent / "copy.jsonl").write_text("".join(rows[i - 1] for i in lines), "utf-8")
        run = Run(load_recipe(recipe), Silent())
        name = "adapter_model.safetensors"
        trained = next(each for each in run.train() if each.dataset == "copy").path / name
        assert trained.read_bytes() == (adapters / str(half) / "copy" / name).read_bytes()
        places = run.search().places
        alone = next(place for place in places if place.mixture.datasets == ("copy",))
        assert math.isclose(alone.score, gain.halves[half - 1].value, abs_tol=1e-6)


def _rows_of(recipe: Path, half: int) -> list[int]:
    inputs = Run(load_recipe(recipe), Silent()).inputs
    return sorted(halves(inputs.corpora["copy"], inputs.recipe.train.seed)[half - 1])


def test_the_gain_is_all_rows_less_the_halves_and_a_hundred_is_a_part_of_a_doubling(
    measured: Path,
) -> None:
    for gain in found(measured).datasets:
        mean = sum(half.value for half in gain.halves) / 2
        assert gain.room == pytest.approx(2.0 - gain.all_rows.value), "four choices are two bits"
        assert gain.doubling.estimate == pytest.approx(gain.all_rows.value - mean)
        assert gain.doubling.low < gain.doubling.estimate < gain.doubling.high
        # The two halves differ by chance: the interval is at least as wide as that.
        chance = abs(gain.halves[0].value - gain.halves[1].value) / math.sqrt(2)
        assert gain.doubling.high - gain.doubling.low > 3.5 * chance
    gain = RowsGain("a", 100, Score(0.4), (Score(0.3), Score(0.1)), Interval(0.2, 0.1, 0.3))
    assert gain.hundred == gain.doubling  # a hundred more rows of a hundred are a doubling
    short = replace(gain, room=0.15).hundred
    assert (short.low, short.high) == (0.1, 0.15), "no score is better than perfect"
    assert replace(gain, rows=300).hundred.estimate == pytest.approx(0.2 * math.log2(4 / 3))


def test_the_result_stands_in_report_and_terminal(measured: Path) -> None:
    folder = load_recipe(measured).folder
    said = collecting(read_facts(folder))
    assert any(sentence.startswith("copy: all ") for sentence in said)
    assert "a guess from one doubling" in " ".join(said)
    assert "was not measured" not in " ".join(said)
    done = CliRunner().invoke(cli, ["report", str(measured), "--json"])
    assert done.exit_code == 0, done.output
    written = json.loads((folder / "report.json").read_text("utf-8"))
    assert written["more_rows"] == found(measured).to_dict()
    assert "What more rows would bring" in (folder / "report.html").read_text("utf-8")
    assert (folder / "report" / "more_rows.csv").is_file()


def test_a_measured_loss_is_no_promise(measured: Path) -> None:
    worse = RowsGain("a", 100, Score(0.1), (Score(0.3), Score(0.1)), Interval(-0.1, -0.3, 0.1))
    said = [*replace(found(measured), datasets=[worse]).sentences]
    assert "no gain from more rows of this kind is shown" in said[0]
    assert "100 more rows bring" not in said[0]


def test_a_half_replays_no_rows_of_the_other_half(measured: Path) -> None:
    recipe = load_recipe(measured)
    inputs = read_inputs(replace(recipe, train=replace(recipe.train, replay=0.5)))
    jobs = [more_rows_module._job(inputs, "copy", half) for half in (1, 2)]
    own = {id(sample) for sample in inputs.corpora["copy"].samples}
    trained = [{id(sample) for sample in job.corpus.samples} for job in jobs]
    assert not (trained[0] & trained[1] & own)
    assert all(len(rows - own) == 16 for rows in trained)


@pytest.mark.parametrize("count", [1, 2, 6])
def test_intervals_hold_no_gain_95_times_of_100(count: int) -> None:
    """Scores are chance alone: that of all rows has half the variance of that of a half."""
    rng = np.random.default_rng(count)
    held = []
    for _ in range(300):
        parts, whole = rng.normal(size=(count, 2)), rng.normal(0, math.sqrt(0.5), count)
        gains = np.repeat((whole - parts.mean(axis=1))[:, None], 400, axis=1)
        low, high = interval_ends(parts, gains, rng)
        held.append(float(np.mean((low <= 0) & (high >= 0))))
    assert np.mean(held) > 0.92


def test_a_dataset_that_was_measured_stays_in_the_result(measured: Path) -> None:
    names = measurable(read_inputs(load_recipe(measured)), ["upper"], Silent())
    assert names == ["copy", "reverse", "upper"]


def test_a_recipe_without_experts_is_refused_in_words(measured: Path) -> None:
    recipe = load_recipe(measured)
    inputs = read_inputs(replace(recipe, search=replace(recipe.search, strategy="none")))
    with pytest.raises(InputError, match='strategy = "none" trains no dataset by itself'):
        measurable(inputs, [], Silent())


def test_names_are_checked_before_anything_is_trained(measured: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no dataset 'nobody'") as error:
        Run(load_recipe(measured), Silent()).more_rows(["nobody"])
    assert "copy, reverse, upper" in str(error.value.hint)
    recipe = copied(measured, tmp_path)
    rows = (recipe.parent / "copy.jsonl").read_text("utf-8").splitlines(keepends=True)
    (recipe.parent / "copy.jsonl").write_text("".join(rows[:19]), "utf-8")
    run = Run(load_recipe(recipe), Silent())
    heard = Notes()
    assert measurable(run.inputs, [], heard) == ["reverse", "upper"]
    assert heard.notes == ["not measured: copy has 19 rows to train on, and halves need 20"]
    with pytest.raises(InputError, match="copy has 19 rows to train on, and halves need 20"):
        measurable(run.inputs, ["copy"], Silent())


def test_controls_are_not_offered(measured: Path) -> None:
    recipe = load_recipe(measured)
    datasets = tuple(replace(one, control=one.name == "upper") for one in recipe.datasets)
    with pytest.raises(InputError, match="there is no dataset 'nobody'") as error:
        measurable(read_inputs(replace(recipe, datasets=datasets)), ["nobody"], Silent())
    assert error.value.hint == "take some of: copy, reverse"


def test_a_dataset_that_the_run_leaves_out_is_refused_for_that(measured: Path) -> None:
    recipe = load_recipe(measured)
    inputs = read_inputs(replace(recipe, search=replace(recipe.search, excluded=("upper",))))
    with pytest.raises(InputError, match=r"this run leaves upper out .*--hours"):
        measurable(inputs, ["upper"], Silent())


def test_trainings_that_end_at_other_steps_are_not_compared(measured: Path) -> None:
    recipe = load_recipe(measured)
    inputs = read_inputs(replace(recipe, train=replace(recipe.train, patience=2, holdout=0.1)))
    with pytest.raises(InputError, match="cannot be compared") as error:
        measurable(inputs, [], Silent())
    assert "--set train.patience=0" in str(error.value.hint)
