"""A small but real scenario: a pico model, three datasets and a target."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from m2m.tuner.trainer import Trainer
from tests.tiny import pico_dataset, pico_model, pico_target

RECIPE = """\
[base]
model = "pico"

[[datasets]]
name = "copy"
path = "copy.jsonl"
licence = "CC0-1.0"

[[datasets]]
name = "reverse"
path = "reverse.jsonl"

[[datasets]]
name = "upper"
path = "upper.jsonl"

[[targets]]
name = "copying"
dev = "dev.jsonl"
test = "test.jsonl"

[train]
steps = 12
rank = 4
batch_tokens = 256
learning_rate = 5e-3
checkpoint_every = 3

[search]
strategy = "exhaustive"

[confirm]
top = 2
budget = "fixed"

[limits]
threads = 1
"""


def make_scenario(folder: Path, *more: str) -> Path:
    """Write model, data and recipe, with a dataset each of `more` skills; return its path.

    The target is learned from `copy` and `reverse`, and unlearned from `upper`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pico_model(folder / "models")
    for skill in ("copy", "reverse", "upper", *more):
        pico_dataset(folder / f"{skill}.jsonl", skill)
    datasets = "".join(f'[[datasets]]\nname = "{s}"\npath = "{s}.jsonl"\n\n' for s in more)
    pico_target(folder / "dev.jsonl", "copy", wrong="upper")
    pico_target(folder / "test.jsonl", "copy", seed=2000, wrong="upper")
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.replace("[[targets]]", f"{datasets}[[targets]]"), encoding="utf-8")
    return recipe


def copied(recipe: Path, folder: Path) -> Path:
    """The recipe in a copy of its folder with all that was made there, free to be changed."""
    shutil.copytree(recipe.parent, folder / "copy")
    return folder / "copy" / recipe.name


def watched_trainings(monkeypatch: pytest.MonkeyPatch, name: Callable[[Trainer], str]) -> list[str]:
    """Return a list that gets the name of each training when it begins."""
    names: list[str] = []
    real = Trainer.run

    def counting(trainer: Trainer, *arguments: Any, **named: Any) -> Any:
        names.append(name(trainer))
        return real(trainer, *arguments, **named)

    monkeypatch.setattr(Trainer, "run", counting)
    return names
