"""Folders of runs that strangers prepared: only what m2m wrote comes over, all of it or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.adapter import load_adapter
from m2m.errors import InputError, Interrupted, Problems
from m2m.formats.atomic import write_json
from m2m.formats.journal import Journal
from m2m.formats.records import read_object
from m2m.formats.safetensors import TensorSpec, write_safetensors
from m2m.pipeline.foreign_run import read_foreign
from m2m.pipeline.merge_runs import merge_runs
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import load_recipe
from m2m.results.facts import read_facts
from m2m.tuner.result import digest_of
from m2m.tuner.trainer import Trainer
from tests.conftest import REPOSITORY
from tests.pipeline.scenario import make_scenario
from tests.pipeline.test_until import Stopping, until

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes and devices")
UPPER = Path("adapters", "upper")
WEIGHTS, CONFIG, OWN = "adapter_model.safetensors", "adapter_config.json", "m2m.json"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose run was made by one process."""
    recipe = make_scenario(tmp_path_factory.mktemp("alone"))
    text = recipe.read_text(encoding="utf-8").replace("steps = 12", "steps = 3")
    recipe.write_text(text, encoding="utf-8")
    Run(load_recipe(recipe), Silent()).confirm()
    return recipe


@pytest.fixture
def stick(alone: Path, tmp_path: Path) -> Path:
    """A copy of that run's folder."""
    return shutil.copytree(load_recipe(alone).folder, tmp_path / "stick")


@pytest.fixture
def home(alone: Path, tmp_path: Path) -> Path:
    """The same recipe on another machine, on which two adapters are made."""
    shutil.copytree(alone.parent, tmp_path / "home", ignore=shutil.ignore_patterns("m2m-runs"))
    recipe = tmp_path / "home" / alone.name
    folder = load_recipe(recipe).folder
    for name in ("copy", "reverse"):
        shutil.copytree(load_recipe(alone).folder / "adapters" / name, folder / "adapters" / name)
    shutil.copy(load_recipe(alone).folder / "recipe.json", folder / "recipe.json")
    return recipe


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with its SHA-256; a link is known by where it leads."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or (path.is_file() and path.name != "lock")
    }


def victim(stick: Path) -> Path:
    """A file of the user's that a stick has no business with."""
    path = stick.parent / "secret"
    path.write_text("mine", encoding="utf-8")
    return path


def replace_by_link(path: Path, target: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(target)


def link_file(stick: Path) -> None:
    target = stick.parent / "elsewhere.safetensors"
    shutil.copy(stick / UPPER / WEIGHTS, target)
    replace_by_link(stick / UPPER / WEIGHTS, target)


def link_folder(stick: Path) -> None:
    shutil.copytree(stick / UPPER, stick.parent / "far")
    replace_by_link(stick / UPPER, stick.parent / "far")


def link_all(stick: Path) -> None:
    shutil.copytree(stick / "adapters", stick.parent / "far")
    replace_by_link(stick / "adapters", stick.parent / "far")


def link_device(stick: Path) -> None:
    replace_by_link(stick / "study.jsonl", Path("/dev/zero"))


def pipe_journal(stick: Path) -> None:
    (stick / "study.jsonl").unlink()
    os.mkfifo(stick / "study.jsonl")


def pipe_weights(stick: Path) -> None:
    (stick / UPPER / WEIGHTS).unlink()
    os.mkfifo(stick / UPPER / WEIGHTS)


def pipe_share(stick: Path) -> None:
    (stick / "shares" / "1-of-2").mkdir(parents=True)
    os.mkfifo(stick / "shares" / "1-of-2" / "study.jsonl")


def sparse_weights(stick: Path) -> None:
    os.truncate(stick / UPPER / WEIGHTS, 3 << 30)


def sparse_journal(stick: Path) -> None:
    os.truncate(stick / "study.jsonl", 1 << 40)


def giant_tensor(stick: Path) -> None:
    """A header that the size of the file agrees with: 3.5 GiB of zeros, of which none is stored."""
    spec, shape = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", (4, 7 << 25)
    header = json.dumps({spec: {"dtype": "F32", "shape": shape, "data_offsets": [0, 7 << 29]}})
    with (stick / UPPER / WEIGHTS).open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode("ascii"))
        file.truncate(8 + len(header) + (7 << 29))


def other_bytes(stick: Path) -> None:
    path = stick / UPPER / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def other_losses(stick: Path) -> None:
    write_json(stick / UPPER / OWN, read_object(stick / UPPER / OWN) | {"losses": [0.1] * 3})


def forged(stick: Path, **values: Any) -> None:
    """Other values in the training record, under a fingerprint that is right for them."""
    extra = read_object(stick / UPPER / OWN) | values
    names = ("steps", "kept_step", "tokens", "losses", "held_out")
    record = {name: extra.get(name) for name in names}
    extra["sha256"] = digest_of(load_adapter(stick / UPPER), record)
    write_json(stick / UPPER / OWN, extra)


def forged_steps(stick: Path) -> None:
    forged(stick, steps="many")


def forged_held_out(stick: Path) -> None:
    forged(stick, held_out=[[1]])


def other_shapes(stick: Path) -> None:
    """Factors for a wider model, under this base's fingerprint."""
    a, b = np.ones((4, 96), np.float32), np.ones((96, 4), np.float32)
    names = [f"base_model.model.model.layers.0.self_attn.q_proj.lora_{x}.weight" for x in "AB"]
    specs = [TensorSpec(n, "F32", x.shape) for n, x in zip(names, (a, b), strict=True)]
    write_safetensors(stick / UPPER / WEIGHTS, specs, [a, b])
    forged(stick)


def bad_line(text: str, name: str = "study.jsonl") -> Callable[[Path], None]:
    def change(stick: Path) -> None:
        with (stick / name).open("ab") as file:
            file.write(text.encode() + b"\n")

    return change


def changed_line(**values: Any) -> Callable[[Path], None]:
    def change(stick: Path) -> None:
        line = Journal(stick / "study.jsonl").replay()[-1]
        Journal(stick / "study.jsonl").append(line | values)

    return change


def changed_recipe(**values: Any) -> Callable[[Path], None]:
    def change(stick: Path) -> None:
        write_json(stick / "recipe.json", read_object(stick / "recipe.json") | values)

    return change


REFUSED: list[Any] = [
    pytest.param(link_file, f"{WEIGHTS}: is a link", marks=posix),
    pytest.param(link_folder, "upper: is a link", marks=posix),
    pytest.param(link_all, "adapters: is not a folder, or is a link", marks=posix),
    pytest.param(link_device, "study.jsonl: is a link", marks=posix),
    pytest.param(pipe_journal, "study.jsonl: is not a regular file", marks=posix),
    pytest.param(pipe_weights, f"{WEIGHTS}: is not a regular file", marks=posix),
    pytest.param(pipe_share, "study.jsonl: is not a regular file", marks=posix),
    pytest.param(sparse_weights, "file not fully covered", marks=posix),
    pytest.param(sparse_journal, "has 1099.51 GB, expected at most 1.07 GB", marks=posix),
    pytest.param(giant_tensor, "an adapter of rank 4 of pico has at most", marks=posix),
    (other_bytes, "its sha256 is not that of this adapter"),
    (other_losses, "its sha256 is not that of this adapter"),
    (forged_steps, "steps is 'many', expected a whole number"),
    (forged_held_out, "held_out has 1 entries, expected 2"),
    (other_shapes, "the adapter is for [96, 96]"),
    (bad_line("{"), "study.jsonl:9: malformed journal line"),
    (bad_line('{"schema":2,"key":"k"}'), "study.jsonl:9: not a scored mixture: scores is None"),
    (bad_line("[]", "confirm.jsonl"), "confirm.jsonl:6: found [], expected a JSON object"),
    (changed_line(key=["x"]), "study.jsonl:9: key is ['x'], expected a string"),
    (changed_line(places={"copying": [-1] * 16}), "study.jsonl:9: not a scored mixture: places"),
    (changed_line(seconds="long"), "study.jsonl:9: not a scored mixture: seconds is 'long'"),
    (changed_recipe(inputs={"base": []}), "recipe.json: is not as m2m writes it"),
    (changed_recipe(inputs=7), "recipe.json: is not as m2m writes it"),
    (changed_recipe(llama={}), "recipe.json: is not as m2m writes it"),
    (changed_recipe(datasets=[{"name": "../x"}]), "'../x' is not the name of a dataset"),
    (bad_line("[" * 100_000), "study.jsonl:9: malformed journal line: nested too deeply"),
    (bad_line('{"schema":7,"x":[' + "[]," * (1 << 21) + "[]]}"), "m2m reads 4,194,304 in 2,097"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_a_stick_that_is_not_as_m2m_writes_it_changes_nothing(
    home: Path, stick: Path, change: Callable[[Path], None], said: str
) -> None:
    into = load_recipe(home).folder
    change(stick)
    before = tree(into)
    with pytest.raises(InputError) as caught:
        merge_runs(into, [stick])
    assert caught.value.message.startswith("nothing was merged: ")
    assert said in caught.value.message
    assert tree(into) == before


@posix
def test_files_that_m2m_does_not_know_stay_where_they_are(home: Path, stick: Path) -> None:
    """Links, a pipe and other files beside the known ones are not opened, and the user is told."""
    into = load_recipe(home).folder
    (stick / UPPER / "notes").symlink_to(victim(stick))
    (stick / UPPER / "all").symlink_to("/usr")
    (stick / UPPER / "zero").symlink_to("/dev/zero")
    os.mkfifo(stick / UPPER / "pipe")
    (stick / "adapters" / "mine").write_text("?", encoding="utf-8")
    (stick / "adapters" / "..x").mkdir()
    merged = merge_runs(into, [stick])
    assert merged.adapters == ["upper", "copy+reverse", "copy+reverse+upper"]
    assert sorted(path.name for path in (into / UPPER).iterdir()) == [CONFIG, WEIGHTS, OWN]
    assert sorted(path.name for path in (into / "adapters").iterdir()) == [
        "copy", "reverse", "upper",
    ]  # fmt: skip
    (said,) = merged.warnings
    assert said.startswith("not copied, because m2m does not take such files from others: ")
    assert "and 1 more" in said


def test_a_file_that_changes_after_the_check_is_not_copied(stick: Path, tmp_path: Path) -> None:
    problems = Problems()
    run = read_foreign(stick, None, problems)
    assert not problems
    for path in (stick / UPPER).iterdir():
        path.write_bytes(victim(stick).read_bytes())
    (adapter,) = [each for each in run.adapters if each.place == UPPER]
    with pytest.raises(InputError, match="changed while it was copied"):
        adapter.copy(tmp_path / "copy")


_KILLED = """
import os, sys
from pathlib import Path
from m2m.pipeline.merge_runs import merge_runs
from tests.field.child import Steps, kill
into, stick, fresh = map(Path, sys.argv[1:])
import shutil
from tests.pipeline.test_merging_runs import tree
step, states = 0, set()
before = tree(into)
while True:
    step += 1
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(into, fresh)
    pid = os.fork()
    if pid == 0:
        sys.addaudithook(Steps(str(fresh), step, kill).hook)
        merge_runs(fresh, [stick])
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    killed = {k: v for k, v in tree(fresh).items() if not k.startswith(".m2m-")}
    merge_runs(fresh, [stick])
    whole = tree(fresh)
    states.add(tuple(sorted(whole.items())))
    parts = [p for p in killed if p not in before and killed[p] != whole[p]]
    assert not parts, f"half-written: {parts}"
    if ended == 0:
        break
assert len(states) == 1, "a merge after a kill comes to something else"
print(step)
"""


@posix
@pytest.mark.slow
def test_a_kill_at_any_step_leaves_what_the_same_command_completes(
    home: Path, stick: Path, tmp_path: Path
) -> None:
    into = load_recipe(home).folder
    line = [sys.executable, "-c", _KILLED, into, stick, tmp_path / "fresh"]
    paths = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(line, capture_output=True, text=True, env=paths, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
    assert hasattr(signal, "SIGKILL")


def claims(stick: Path) -> None:
    """Say of one mixture that it answers everything, under the key that is right for it."""
    lines = Journal(stick / "study.jsonl").replay()
    (stick / "study.jsonl").unlink()
    for line in lines:
        if line["mixture"]["datasets"] == ["upper"]:
            scores = line["scores"]["copying"]
            for row, gold in zip(scores["loglik"], scores["gold"], strict=True):
                row[gold] = -0.001
        Journal(stick / "study.jsonl").append(line)


@pytest.mark.slow
def test_claimed_scores_are_marked_and_scored_again(
    alone: Path, home: Path, stick: Path, tmp_path: Path
) -> None:
    """A stick may claim anything under a right key: that is said, and `--rescore` finds it out."""
    honest = Run(load_recipe(alone), Silent()).search()
    into = load_recipe(home).folder
    claims(stick)
    assert merge_runs(into, [stick]).mixtures == 8
    found = Run(load_recipe(home), Silent()).search()
    assert found.places[0].mixture.datasets == ("upper",)
    assert (found.scored_elsewhere, found.scored) == (8, 8)
    assert found.as_json()["scored_elsewhere"] == 8
    said = [each for each in found.warnings if each.startswith("Scored elsewhere: 8 of 8 models.")]
    assert len(said) == 1
    confirmation = Run(load_recipe(home), Silent()).confirm()
    assert confirmation.warnings[0].startswith("Scored elsewhere: ")
    assert [each for each in read_facts(into).warnings if "Scored elsewhere: 8 of 8" in each]

    again = Run(load_recipe(home), Silent(), rescore=True)
    true, confirmed = again.search(), again.confirm()
    assert [each.as_json() for each in true.places] == [each.as_json() for each in honest.places]
    assert true.scored_elsewhere == confirmed.scored_elsewhere == 0
    (wrong,) = [each for each in true.warnings if "claimed other scores" in each]
    assert wrong.startswith(f"upper: {stick} claimed other scores on 16 of 16 examples of copying")
    assert confirmed.warnings == []
    # The claims do not come back.
    assert merge_runs(into, [stick]).mixtures == 0
    assert Run(load_recipe(home), Silent()).search().scored_elsewhere == 0


@pytest.mark.slow
def test_a_claim_that_does_not_fit_the_target_names_the_way_out(home: Path, stick: Path) -> None:
    into = load_recipe(home).folder
    lines = Journal(stick / "study.jsonl").replay()
    line = lines[1] | {"places": {"copying": [10**6 + i for i in range(16)]}}
    Journal(stick / "study.jsonl").path.unlink()
    Journal(stick / "study.jsonl").append(line)
    merge_runs(into, [stick])
    with pytest.raises(InputError) as caught:
        Run(load_recipe(home), Silent()).search()
    assert "study.jsonl:1: scores example 1000016 of copying, which has 16" in caught.value.message
    assert "--rescore" in str(caught.value.hint)
    assert Run(load_recipe(home), Silent(), rescore=True).search().scored_elsewhere == 0


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with budget "until", of which one machine made the experts and stopped in a rung."""
    recipe = until(make_scenario(tmp_path_factory.mktemp("halved")))
    with pytest.raises(Interrupted):
        Run(load_recipe(recipe), Stopping(45)).confirm()
    return recipe


@pytest.mark.slow  # trainings
def test_a_training_goes_on_from_the_state_of_another_machine(
    halved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = load_recipe(halved).folder
    recipe = until(make_scenario(tmp_path / "other"))
    into = load_recipe(recipe).folder
    states = {path.name for path in (folder / "states").iterdir()}
    merged = merge_runs(into, [folder])
    assert {path.name for path in (into / "states").iterdir()} == states
    assert merged.states == len(states) > 0
    assert merge_runs(into, [folder]).states == 0, "they are there"
    steps: list[int] = []
    whole = Trainer.run

    def counted(self: Trainer, *args: Any, **more: Any) -> Any:
        result = whole(self, *args, **more)
        steps.append(result.steps - result.resumed)
        return result

    monkeypatch.setattr(Trainer, "run", counted)
    found = Run(load_recipe(recipe), Silent()).confirm().courses
    expected = Run(load_recipe(halved), Silent()).confirm().courses
    assert found is not None
    assert expected is not None
    assert found.as_json() | {"seconds": 0} == expected.as_json() | {"seconds": 0}
    half = len(steps) // 2
    assert sum(steps[:half]) == sum(steps[half:]), "no step is made twice"


@pytest.fixture(scope="module")
def trained_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with budget "until" whose experts have two steps."""
    recipe = until(make_scenario(tmp_path_factory.mktemp("state")))
    recipe.write_text(recipe.read_text("utf-8").replace("steps = 12", "steps = 2"), "utf-8")
    Run(load_recipe(recipe), Silent()).train()
    return recipe


def cut_state(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def add_to_state(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 8)


def nan_in_state(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    path.write_bytes(content)


def plain_tensors(path: Path) -> None:
    write_safetensors(path, [TensorSpec("a", "F32", (1,))], [np.zeros(1, np.float32)], {})


def link_state(path: Path) -> None:
    replace_by_link(path, path.parent.parent / "recipe.json")


@pytest.mark.parametrize(
    "change", [cut_state, add_to_state, nan_in_state, plain_tensors, link_state]
)
def test_a_state_that_is_not_as_m2m_writes_it_changes_nothing(
    home: Path, trained_state: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    stick = shutil.copytree(load_recipe(trained_state).folder, tmp_path / "until")
    change(stick / "states" / "copy.safetensors")
    into = load_recipe(home).folder
    before = tree(into)
    with pytest.raises(InputError, match=r"copy\.safetensors"):
        merge_runs(into, [stick])
    assert tree(into) == before
