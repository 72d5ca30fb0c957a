"""Fine-tunes that are halved at equal steps, and the last one trained as long as it pays."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from m2m.adapter import load_adapter
from m2m.errors import Interrupted
from m2m.mix.mixture import Mixture
from m2m.mix.trial import Trial
from m2m.pipeline import ladder
from m2m.pipeline.experts import Tuning
from m2m.pipeline.finetunes import mixed_corpus
from m2m.pipeline.halving import Deadlines, Halving, seconds_to
from m2m.pipeline.inputs import read_inputs
from m2m.pipeline.ladder import Ladder, Stop
from m2m.pipeline.run import Run
from m2m.pipeline.shares import Share
from m2m.pipeline.trained_run import TrainedRun
from m2m.progress import Silent
from m2m.recipe import changed, load_recipe
from m2m.results.courses import CAP, PASSES, PATIENCE, TIME, Courses
from m2m.tuner.trainer import Trainer
from tests.pipeline.scenario import copied, make_scenario

MODELS = ("copy", "reverse", "upper")


def until(recipe: Path, more: str = "", learning_rate: str = "2e-3") -> Path:
    text = recipe.read_text(encoding="utf-8")
    text = text.replace('budget = "fixed"\n', more)  # the default is "until"
    text = text.replace("learning_rate = 5e-3", f"learning_rate = {learning_rate}")
    recipe.write_text(text, encoding="utf-8")
    return recipe


def run(recipe: Path, **more: Any) -> Run:
    return Run(load_recipe(recipe), Silent(), **more)


def courses(done: Run) -> Courses:
    found = done.confirm().courses
    assert found is not None
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = until(make_scenario(tmp_path_factory.mktemp("until")))
    run(recipe).run()
    return recipe


@pytest.fixture
def own(finished: Path, tmp_path: Path) -> Path:
    return copied(finished, tmp_path)


def decided(done: Run) -> dict[str, Any]:
    """All of the courses but the time that they took."""
    return courses(done).as_json() | {"seconds": 0}


def steps_of(found: Courses) -> list[list[int]]:
    return [[check.steps for check in course.checks] for course in found.courses]


def test_contenders_train_for_equal_steps_and_half_of_them_goes_on(own: Path) -> None:
    found = courses(run(own))
    rungs = sorted({tuple(steps[:2]) for steps in steps_of(found)}, key=len)
    assert rungs[0] == (12,), "some stop at the first rung"
    assert all(steps[0] == 12 for steps in steps_of(found))
    going_on = sum(len(steps) > 1 for steps in steps_of(found))
    assert 1 <= going_on <= -(-len(found.courses) // 2)
    assert found.end == PATIENCE
    assert found.best in steps_of(found)[found.winner]


@pytest.mark.slow
def test_steps_are_in_every_model_and_others_are_compared_after_equal_steps(own: Path) -> None:
    confirmation = run(own).confirm()
    assert confirmation.courses is not None
    last = {course.mixture: course.checks[-1].steps for course in confirmation.courses.courses} | {
        confirmation.winner.mixture: confirmation.courses.best
    }
    for model in confirmation.models:
        expected = {"base": None, "merged": 12, "finetuned": last.get(model.mixture)}
        assert model.steps == expected[model.how]
    assert "at equal steps" in " ".join(confirmation.verdict.lines)
    assert f"after {confirmation.winner.steps:,} steps" in confirmation.verdict.sentence


def test_the_winner_is_one_training_bit_for_bit(own: Path) -> None:
    """All rungs and checks together are what one trainer makes that is never stopped."""
    done = run(own)
    found, winner = courses(done), done.confirm().winner
    inputs = read_inputs(load_recipe(own))
    corpus = mixed_corpus(inputs, winner.mixture)
    if len(winner.mixture.datasets) == 1:
        corpus = inputs.corpora[winner.mixture.datasets[0]]
    job = ladder.Job(corpus, inputs.recipe.train, own.parent / "whole")
    tuning = Tuning(inputs.base, inputs.recipe, Silent())
    Trainer(
        tuning._decoder,
        corpus.samples,
        job.config,
        folder=job.folder,
        origin=job.origin(inputs.base),
        held_out=corpus.held_out,
    ).run(found.steps, last=True)
    last = own.parent / "m2m-runs" / "recipe" / "confirm" / str(found.steps)
    (name,) = last.iterdir()
    assert load_adapter(job.folder).sha256 == load_adapter(name).sha256


@pytest.mark.slow
def test_a_single_contender_goes_on_from_its_expert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = until(make_scenario(tmp_path / "single"))
    done = run(recipe)
    done.search()
    trained: list[tuple[str, int, int]] = []
    whole = Trainer.run

    def counted(self: Trainer, *args: Any, **more: Any) -> Any:
        result = whole(self, *args, **more)
        trained.append((self._origin.name, result.steps, result.resumed))
        return result

    monkeypatch.setattr(Trainer, "run", counted)
    found = courses(done)
    singles = [each.mixture for each in found.courses if len(each.mixture.datasets) == 1]
    assert singles, "the best single is a contender"
    for mixture in singles:
        assert (mixture.label, 12, 12) in trained, "its first rung makes no step"


@pytest.mark.slow
def test_a_finished_run_trains_and_scores_nothing_again(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run(own).confirm().as_json()

    def refused(*args: Any, **more: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "__init__", refused)
    journal = own.parent / "m2m-runs" / "recipe" / "confirm.jsonl"
    lines = journal.read_bytes()
    assert run(own).confirm().as_json() == before
    assert journal.read_bytes() == lines


class Stopping(Silent):
    """Asks to stop at the `after`th time that somebody wants to know: at each step, for one."""

    def __init__(self, after: int) -> None:
        self.left = after

    def stop_requested(self) -> bool:
        self.left -= 1
        return self.left <= 0


def tree(recipe: Path) -> dict[str, bytes]:
    """All adapters and the decisions of a run."""
    folder = recipe.parent / "m2m-runs" / "recipe"
    files = [*folder.glob("confirm/*/*/adapter_model.safetensors"), *folder.glob("states/*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow  # many short runs
def test_a_run_that_is_stopped_anywhere_ends_with_the_same_bytes(
    finished: Path, tmp_path: Path
) -> None:
    recipe = until(make_scenario(tmp_path / "stopped"))
    stops = 0
    for after in (15, 45, 20, 18, 17, 16, 20, 20, 20, 20, 20, 20, 20, 20):
        try:
            Run(load_recipe(recipe), Stopping(after)).confirm()
            break
        except Interrupted:
            stops += 1
    assert stops > 4
    assert decided(run(recipe)) == decided(run(finished))
    assert tree(recipe) == tree(finished)


@pytest.mark.slow
@pytest.mark.parametrize("at", range(1, 9))
def test_a_kill_between_training_and_journal_loses_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """A process dies before its `at`th line of the journal; the next one goes on."""
    recipe = copied(finished, tmp_path)
    folder = recipe.parent / "m2m-runs" / "recipe"
    lines = (folder / "checks.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "checks.jsonl").write_bytes(b"".join(lines[: at - 1]))
    assert decided(run(recipe)) == decided(run(finished))
    assert {*tree(recipe)} == {*tree(finished)}


@pytest.mark.slow
def test_only_best_last_and_rungs_stay_on_the_disk(own: Path) -> None:
    found = courses(run(own))
    folder = own.parent / "m2m-runs" / "recipe"
    kept = {int(path.parent.name) for path in folder.glob("confirm/*/*")}
    rungs = {12 * 2**rung for rung in range(5)}
    assert kept - rungs <= {found.best, found.steps}
    assert {found.best, found.steps} <= kept
    winner = found.courses[found.winner].mixture
    states = {path.name for path in (folder / "states").iterdir()}
    assert states == {f"{'+'.join(winner.datasets)}.safetensors"}


@pytest.mark.slow  # long trainings
@pytest.mark.parametrize(
    ("more", "end"),
    [("patience = 99\nmax_passes = 3\n", PASSES), ("patience = 99\nmax_passes = 900\n", CAP)],
)
def test_a_training_ends_at_the_cap_of_passes_or_of_steps(
    tmp_path: Path, more: str, end: str
) -> None:
    recipe = until(make_scenario(tmp_path / "caps"), more)
    done = run(recipe)
    found = courses(done)
    assert found.end == end
    others = [steps[-1] for i, steps in enumerate(steps_of(found)) if i != found.winner]
    rung = max(others)
    if end == CAP:  # three experts, and all contenders up to their last rungs
        cap = rung + 36 + sum(others) + rung
        assert cap <= found.steps < cap + 6
    else:
        assert found.steps <= 96


class Soon:
    """Hours that end at once, or much later."""

    def __init__(
        self, seconds: float, rungs: float | None = None, halving: float = math.inf
    ) -> None:
        now = time.monotonic()
        ends = now + (seconds if rungs is None else rungs)
        self.deadlines = Deadlines(ends, now + seconds, halving)

    def fit(self, inputs: Any, progress: Any) -> Any:
        return inputs

    def undecided(self) -> bool:
        return False

    choose = fit


@pytest.mark.parametrize(
    ("made", "steps", "seconds"),
    [([300, 600], 750, 30.0), ([300], 450, 30.0), ([2], 25, 690.0)],
)
def test_the_next_stretch_takes_as_long_per_step(
    made: list[int], steps: int, seconds: float
) -> None:
    """60 seconds for 300 steps are 30 for 150, and those for 2 are much more for 23."""
    trial = Trial(Mixture.uniform(["a"]), {}, {}, 0, 0.0)
    stops = [Stop(trial.mixture, each, trial, None, {}, 60.0) for each in made]
    assert seconds_to(steps, stops) == seconds


def test_a_last_stretch_is_shorter_if_there_is_no_time_for_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stretch is 150 of 300 steps, and a check comes at multiples of 25; a step takes 0.2 s."""
    settings = {"train": {"steps": 300, "checkpoint_every": 25}}
    recipe = changed(load_recipe(until(make_scenario(tmp_path))), settings)
    run = TrainedRun(read_inputs(recipe), {}, Silent())
    trial = Trial(Mixture.uniform(["copy"]), {}, {}, 0, 0.0)
    stops = [Stop(trial.mixture, steps, trial, None, {}, 60.0) for steps in (300, 600)]

    def following(seconds: float) -> int:
        halving = Halving(run, Deadlines(0.0, time.monotonic() + seconds))
        return halving._next(stops)

    assert following(40.0) == 750
    assert following(29.0) == 725
    assert following(11.0) == 650
    assert following(7.0) == 750, "no check is a quarter of the way and in time"
    assert Halving(run)._next(stops) == 750
    known = {650}
    monkeypatch.setattr(Ladder, "knows", lambda self, mixtures, steps: steps in known)
    assert following(40.0) == 650, "an earlier call had a check there"


@pytest.mark.slow  # its hours are seconds, enough for a busy machine
def test_a_training_that_ended_for_lack_of_time_goes_on_with_more(tmp_path: Path) -> None:
    recipe = until(make_scenario(tmp_path / "time"), "patience = 99\nmax_passes = 900\n")
    first = courses(run(recipe, hours=Soon(2, rungs=600)))
    assert first.end == TIME
    assert "--hours" in " ".join(first.sentences)
    again = courses(run(recipe))
    assert again.as_json() == first.as_json(), "without hours nothing more is trained"
    more = courses(run(recipe, hours=Soon(15, rungs=600)))
    assert more.steps > first.steps
    assert courses(run(recipe)).as_json() == more.as_json()
    fewer = courses(run(recipe, hours=Soon(-1, rungs=600)))
    assert fewer.as_json() == more.as_json(), "fewer hours later lose nothing"
    longer = steps_of(more)[more.winner]
    assert longer[: len(steps_of(first)[first.winner])] == steps_of(first)[first.winner]


@pytest.mark.slow  # two real runs
def test_a_run_without_time_stops_halving_and_goes_on_there_later(
    finished: Path, tmp_path: Path
) -> None:
    recipe = until(make_scenario(tmp_path / "late"))
    first = courses(run(recipe, hours=Soon(-1)))
    assert {check.steps for course in first.courses for check in course.checks} == {12}
    assert first.end == TIME
    again = courses(run(recipe))
    assert again.as_json() == first.as_json(), "without hours nothing more is trained"
    assert decided(run(recipe, hours=Soon(600))) == decided(run(finished))
    assert decided(run(recipe)) == decided(run(finished)), "and it stays so without hours"


@pytest.mark.slow  # two real runs
@pytest.mark.parametrize("limit", [{"rungs": 0}, {"halving": 0}])
def test_no_rung_begins_in_the_time_of_the_last_training_or_after_its_part(
    finished: Path, tmp_path: Path, limit: dict[str, float]
) -> None:
    recipe = until(make_scenario(tmp_path / "short"))
    done = run(recipe, hours=Soon(600, **limit))
    first = courses(done)
    others = [steps for i, steps in enumerate(steps_of(first)) if i != first.winner]
    assert others == [[12]] * len(others)
    assert first.end == PATIENCE, "the last training has its time"
    assert first.steps > 24
    again = courses(run(recipe))
    assert again.as_json() == first.as_json(), "without hours no rung is made after all"
    assert decided(run(recipe, hours=Soon(600))) == decided(run(finished))
    assert decided(run(recipe)) == decided(run(finished)), "and it stays so without hours"


@pytest.mark.slow
def test_experts_of_shares_are_the_beginning_too(finished: Path, tmp_path: Path) -> None:
    recipe = until(make_scenario(tmp_path / "shares"))
    for number in (2, 1):
        Run(load_recipe(recipe), Silent(), Share(number, 2)).train()
    states = recipe.parent / "m2m-runs" / "recipe" / "states"
    assert {path.stem for path in states.iterdir()} == {*MODELS}
    assert decided(run(recipe)) == decided(run(finished))


@pytest.mark.slow  # processes
def test_workers_train_the_rungs_to_the_same_result_every_time(tmp_path: Path) -> None:
    found = []
    for name in "ab":
        recipe = until(make_scenario(tmp_path / name))
        text = recipe.read_text(encoding="utf-8")
        text = text.replace("threads = 1", "threads = 2\nworkers = 2")
        recipe.write_text(text, encoding="utf-8")
        found.append((decided(run(recipe)), tree(recipe)))
    assert found[0] == found[1]


@pytest.mark.slow
def test_the_test_questions_are_read_once_after_all_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    opened = ladder.open_judge

    def noted(*args: Any, **more: Any) -> Any:
        order.append("dev" if more.get("dev_only") else "test")
        return opened(*args, **more)

    monkeypatch.setattr(ladder, "open_judge", noted)
    monkeypatch.setattr("m2m.pipeline.tuned.open_judge", noted)
    run(until(make_scenario(tmp_path / "once"))).confirm()
    assert order.count("test") == 1
    assert order[-1] == "test"


@pytest.mark.slow
def test_no_contender_is_there_twice(own: Path) -> None:
    mixtures = [course.mixture for course in courses(run(own)).courses]
    assert len({*mixtures}) == len(mixtures)
    assert Mixture.uniform(MODELS) in mixtures


def test_results_come_back_from_json_and_the_report_draws_them(own: Path) -> None:
    folder = own.parent / "m2m-runs" / "recipe"
    stored = json.loads((folder / "confirm.json").read_text(encoding="utf-8"))["courses"]
    assert Courses.from_json(stored).as_json() == stored
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "How long to train" in page
    assert "Dev scores of" in page
    assert (folder / "report" / "courses.csv").is_file()
    card = (folder / "export" / "README.md").read_text(encoding="utf-8")
    assert "Training ended after" in card


@pytest.mark.slow  # fine-tunes
def test_a_validation_uses_the_first_rungs_and_leaves_them(own: Path) -> None:
    before = decided(run(own))
    folder = own.parent / "m2m-runs" / "recipe" / "confirm" / "12"
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*/*")}
    assert times
    validated = run(own).validate()
    assert {path: path.stat().st_mtime_ns for path in times} == times, "none is trained again"
    assert {mixture.steps for mixture in validated.mixtures} == {12}
    assert decided(run(own)) == before
