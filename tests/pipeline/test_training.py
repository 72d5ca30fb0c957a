"""How the recipe's [train] and [limits] reach the experts and the confirming fine-tunes."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

import pytest

from m2m.adapter import read_extra
from m2m.checkpoint import BaseModel
from m2m.dataset import samples
from m2m.errors import InputError, RecipeError, ResourceError
from m2m.formats import spooled
from m2m.formats.spooled import is_spooled
from m2m.kernels import bfloat16
from m2m.machine import resident_bytes
from m2m.mix.mixture import Mixture
from m2m.nn.decoder import Decoder
from m2m.pipeline import experts as experts_module
from m2m.pipeline.finetunes import FineTuner, mixed_corpus, rows_seen
from m2m.pipeline.inputs import expert_corpus, read_inputs
from m2m.pipeline.leaks import find_leaks
from m2m.pipeline.more_rows import halves
from m2m.pipeline.run import Run
from m2m.pipeline.trained_run import TrainedRun
from m2m.progress import Silent
from m2m.recipe import changed, load_recipe
from m2m.store import run_lock
from m2m.tuner import row_mix
from m2m.tuner.saving import Saving
from tests.pipeline.scenario import make_scenario
from tests.tiny import pico_dataset


class Notes(Silent):
    """Remembers the notes, but not those on how answers are read."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        if "each answer is" not in text:
            self.said.append(text)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return make_scenario(tmp_path / "study")


def change(recipe: Path, before: str, after: str) -> None:
    text = recipe.read_text(encoding="utf-8")
    assert before in text
    recipe.write_text(text.replace(before, after), encoding="utf-8")


def trained(recipe: Path, progress: Silent | None = None) -> dict[str, bool]:
    """Train; which adapters were made in this call, by dataset."""
    found = Run(load_recipe(recipe), progress or Silent()).train()
    return {each.dataset: not each.resumed for each in found}


@pytest.mark.slow
def test_the_same_budget_in_other_words_is_the_same_training(recipe: Path) -> None:
    made = Run(load_recipe(recipe), Silent()).train()
    assert not any(each.resumed for each in made)
    least = min(each.tokens for each in made)  # every expert is trained on as many at least
    change(recipe, "steps = 12", f"tokens = {least}")
    assert not any(trained(recipe).values())
    change(recipe, f"tokens = {least}", "epochs = 2.5")
    run = Run(load_recipe(recipe), Silent())
    steps = {each.steps for each in run.train()}
    assert steps == {run.recipe.train.steps} != {12}
    change(recipe, "epochs = 2.5", "epochs = 2.5\nsteps = 12")
    with pytest.raises(RecipeError, match="only one of steps, epochs"):
        load_recipe(recipe)


def test_rows_are_held_out_of_datasets_that_are_large_enough(recipe: Path) -> None:
    pico_dataset(recipe.parent / "copy.jsonl", "copy", 240)
    pico_dataset(recipe.parent / "upper.jsonl", "upper", 220)
    inputs = read_inputs(load_recipe(recipe))
    sizes = {name: (len(c.samples), len(c.held_out)) for name, c in inputs.corpora.items()}
    assert sizes == {"copy": (228, 12), "reverse": (32, 0), "upper": (209, 11)}
    tuner = FineTuner(TrainedRun(inputs, {}, Silent()))
    others = {id(each) for each in gc.get_objects() if isinstance(each, Decoder)}  # other tests'
    pairs = (Mixture.uniform(["copy", "upper"]), Mixture.uniform(["copy", "reverse"]))
    extras = [read_extra(path) for path in tuner.adapters(pairs).values()]
    # Without a collection: scoring, which comes next, finds the base's memory free.
    assert {id(each) for each in gc.get_objects() if isinstance(each, Decoder)} <= others
    assert [step for step, _ in extras[0]["held_out"]] == [3, 6, 9, 12]
    assert extras[0]["kept_step"] in (3, 6, 9, 12)
    assert extras[1]["held_out"] == []


@pytest.mark.slow
def test_replayed_rows_come_from_the_other_datasets_and_are_known_by_the_fingerprint(
    recipe: Path,
) -> None:
    plain = read_inputs(load_recipe(recipe))
    change(recipe, "steps = 12", "steps = 12\nreplay = 0.2")
    inputs = read_inputs(load_recipe(recipe))
    for name, corpus in inputs.corpora.items():
        row_mix = expert_corpus(inputs, corpus)
        assert row_mix.samples[:32] == corpus.samples
        replayed = {id(sample) for sample in row_mix.samples[32:]}
        assert len(replayed) == 8
        for other in inputs.corpora.values():
            shared = replayed & {id(sample) for sample in other.samples}
            assert len(shared) == (0 if other.name == name else 4)
        assert row_mix.fingerprint != corpus.fingerprint == plain.corpora[name].fingerprint
    assert all(trained(recipe).values())
    upper = recipe.parent / "upper.jsonl"
    upper.write_text(upper.read_text(encoding="utf-8").replace("upper", "Upper"), encoding="utf-8")
    assert all(trained(recipe).values())
    assert not any(trained(recipe).values())
    # An expert that saw rows of others is no fine-tune on its dataset alone.
    inputs, alone = read_inputs(load_recipe(recipe)), Mixture.uniform(["copy"])
    tuner = FineTuner(TrainedRun(inputs, {"copy": recipe.parent}, Silent()))
    assert tuner.adapters([alone])[alone] == inputs.files.finetunes / "12" / "copy"


def test_a_training_from_a_temporary_file_has_the_rows_of_one_in_memory(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pico_dataset(recipe.parent / "general.jsonl", "first", 40)
    more = 'steps = 12\nholdout = 0.1\nreplay = 0.5\nreplay_from = "general.jsonl"'
    change(recipe, "steps = 12", more)
    monkeypatch.setattr(row_mix, "LEAST_ROWS", 10)
    found = []
    for held in (1 << 30, 1):
        monkeypatch.setattr(spooled, "_HELD", held)
        monkeypatch.setattr(samples, "_HELD", held)
        inputs = read_inputs(load_recipe(recipe))
        assert is_spooled(inputs.corpora["copy"].samples) == (held == 1)
        mixture = Mixture(("copy", "upper"), (0.2, 0.8))
        corpora = [mixed_corpus(inputs, mixture), expert_corpus(inputs, inputs.corpora["copy"])]
        parts = [each.samples for each in corpora] + [each.held_out for each in corpora]
        counts = row_mix.times_seen(corpora[0].samples, inputs.recipe.train, 3)
        halved = [sorted(half) for half in halves(inputs.corpora["upper"], 0)]
        found.append(
            ([[sample._bytes() for sample in part] for part in parts], inputs.warnings, halved,
             rows_seen(inputs, mixture, counts), find_leaks(inputs), sorted(counts.values()))
        )  # fmt: skip
        inputs.files.leaks.unlink()
    assert found[0] == found[1] and all(found[0][0])


def test_a_replay_file_feeds_experts_and_confirming_fine_tunes_alike(recipe: Path) -> None:
    plain = read_inputs(load_recipe(recipe))
    pico_dataset(recipe.parent / "general.jsonl", "first", 40)
    change(recipe, "steps = 12", 'steps = 12\nreplay = 0.5\nreplay_from = "general.jsonl"')
    inputs = read_inputs(load_recipe(recipe))
    assert inputs.replay is not None
    assert len(inputs.replay.samples) == 40
    general = {id(sample) for sample in inputs.replay.samples}
    row_mix = expert_corpus(inputs, inputs.corpora["copy"])
    assert len(row_mix.samples) == 64
    assert {id(sample) for sample in row_mix.samples[32:]} <= general
    both = Mixture.uniform(["copy", "upper"])
    mixed = mixed_corpus(inputs, both)
    assert sum(id(sample) in general for sample in mixed.samples) == len(mixed.samples) // 2
    assert mixed.fingerprint != mixed_corpus(plain, both).fingerprint
    # The expert is this very fine-tune, and is not made twice.
    expert = recipe.parent / "expert"
    tuner = FineTuner(TrainedRun(inputs, {"copy": expert}, Silent()))
    copy = Mixture.uniform(["copy"])
    assert tuner.adapters([copy]) == {copy: expert}


def test_there_must_be_something_to_replay(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8").replace("steps = 12", "steps = 12\nreplay = 0.2")
    for name in ("copy", "upper"):
        start = text.index(f'[[datasets]]\nname = "{name}"')
        end = text.index("[[", start + 2)
        text = text[:start] + text[end:]
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="there is only one") as caught:
        read_inputs(load_recipe(recipe))
    assert "replay_from" in (caught.value.hint or "")


def test_too_little_memory_is_told_before_anything_is_trained(recipe: Path) -> None:
    change(recipe, "threads = 1", "threads = 1\nmemory = 0.1")
    with pytest.raises(ResourceError, match=r"training needs about .*, and may take 0\.10 GiB"):
        trained(recipe)
    assert not (recipe.parent / "m2m-runs" / "recipe" / "adapters").exists()


@pytest.mark.slow
def test_memory_is_saved_where_it_must_be_and_the_adapters_stay_the_same(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes()
    trained(recipe, notes)
    assert notes.said == []
    folder = recipe.parent / "m2m-runs" / "recipe" / "adapters"
    before = {path: path.read_bytes() for path in folder.rglob("adapter_model.safetensors")}
    assert len(before) == 3
    shutil.rmtree(folder)
    saving = Saving(recompute=2, half=True, bytes=1 << 30)
    monkeypatch.setattr(experts_module, "choose_saving", lambda *sizes, held: saving)
    trained(recipe, notes)
    assert len(notes.said) == 1
    assert notes.said[0].endswith(
        "with the base kept in 16 bits and activations of 2 layers recomputed"
    )
    assert {path: path.read_bytes() for path in before} == before


def adapters_of(recipe: Path) -> dict[str, bytes]:
    folder = recipe.parent / "m2m-runs" / "recipe" / "adapters"
    return {
        path.parent.name: path.read_bytes() for path in folder.rglob("adapter_model.safetensors")
    }


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "q8_0"])
def test_another_precision_is_another_training_and_as_repeatable(
    recipe: Path, precision: str
) -> None:
    trained(recipe)
    plain = adapters_of(recipe)
    change(recipe, "steps = 12", f'steps = 12\nprecision = "{precision}"')
    notes = Notes()
    assert all(trained(recipe, notes).values())
    assert any("start from the weights that were imported" in note for note in notes.said) == (
        precision == "q8_0"
    )
    rounded = adapters_of(recipe)
    assert all(rounded[name] != plain[name] for name in plain)
    first = {
        name: read_extra(recipe.parent / "m2m-runs" / "recipe" / "adapters" / name)["losses"]
        for name in plain
    }
    shutil.rmtree(recipe.parent / "m2m-runs")
    trained(recipe)
    assert adapters_of(recipe) == rounded
    change(recipe, f'precision = "{precision}"', 'precision = "float32"')
    trained(recipe)
    assert adapters_of(recipe) == plain
    for name, losses in first.items():
        own = read_extra(recipe.parent / "m2m-runs" / "recipe" / "adapters" / name)["losses"]
        assert losses != own
        assert losses == pytest.approx(own, rel=0.02)


def test_a_processor_without_bfloat16_is_told_that_it_gains_nothing(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(recipe, "steps = 12", 'steps = 12\nprecision = "bf16"')
    monkeypatch.setattr(experts_module, "bf16_gain", lambda: 0.4)
    notes = Notes()
    trained(recipe, notes)
    assert len(notes.said) == 1
    assert "0.4 times as fast" in notes.said[0]


def test_a_library_without_bfloat16_is_refused_before_anything_is_read_in_full(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(recipe, "steps = 12", 'steps = 12\nprecision = "bf16"')
    monkeypatch.setattr(bfloat16, "available", lambda: False)
    with pytest.raises(ResourceError, match="no product of bfloat16"):
        read_inputs(load_recipe(recipe))


@pytest.mark.slow
@pytest.mark.model
def test_what_was_read_and_freed_before_is_not_in_the_way(recipe: Path, starter: Path) -> None:
    """A search before the confirming fine-tunes, say."""
    base, found = BaseModel.open(starter), load_recipe(recipe)
    before, start = experts_module.choose(base, found).bytes, resident_bytes()
    assert all(weights.size for weights in base.weights.values())
    assert sum(int(base.gguf.raw(name).max()) for name in base.gguf.tensors)
    freed = [bytearray(50_000) for _ in range(4000)]
    last = freed.pop()
    del freed
    assert resident_bytes() > start + (400 << 20)
    assert experts_module.choose(base, found).bytes < before + (50 << 20)
    assert len(last) == 50_000
    decoder = experts_module.open_decoder(base, found, experts_module.choose(base, found))
    held = resident_bytes()
    base.release()
    assert held - resident_bytes() < 20 << 20
    assert decoder


class Deletes(Silent):
    """Another person deletes the run's folder in the middle of training."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.left = folder, 4

    def advance(self, amount: float = 1.0, detail: str = "", *, earlier: bool = False) -> None:
        self.left -= 1
        if self.left == 0:
            shutil.rmtree(self.folder)


@pytest.mark.parametrize("workers", [1, 2])
def test_training_stops_in_words_when_its_folder_is_deleted(tmp_path: Path, workers: int) -> None:
    path = make_scenario(tmp_path)
    recipe = changed(load_recipe(path), {"limits": {"workers": workers}})
    with pytest.raises(ResourceError, match="was deleted"), run_lock(recipe.folder):
        Run(recipe, Deletes(recipe.folder)).train()
    assert not recipe.folder.exists()
