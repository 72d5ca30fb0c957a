from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from click.testing import CliRunner

from m2m.cli.main import CONTEXT
from m2m.cli.tools import merge
from m2m.commands import merge as merge_module
from m2m.recipe import MERGE_METHODS, Merge

OTHER = {"method": "ties", "scale": 0.5, "density": 0.7, "epsilon": 0.2, "gamma": 0.03, "seed": 5}
NEEDED = ["--model", "m", "--adapter", "a", "--out", "o.gguf"]


class Seen(Exception):
    """What reached the pipeline."""


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> Any:
    def stop(model: str, adapters: Any, options: Merge, kind: str, rank: Any, out: Any) -> None:
        raise Seen(options, kind, rank)

    monkeypatch.setattr(merge_module, "merge_adapters", stop)

    def run(*arguments: str) -> tuple[Merge, str | None, int | None]:
        found = CliRunner().invoke(merge, [*NEEDED, *arguments], **CONTEXT)
        assert isinstance(found.exception, Seen), found.output
        seen: tuple[Merge, str | None, int | None] = found.exception.args
        return seen

    return run


def test_the_defaults_are_the_recipes(reached: Any) -> None:
    assert reached() == (Merge(), None, None)  # the type follows what is written


def test_every_option_of_the_recipe_arrives(reached: Any) -> None:
    # Weights are given one by one here, and do not grow.
    assert OTHER.keys() == {spec.name for spec in dataclasses.fields(Merge)} - {"growth"}
    for name, value in OTHER.items():
        assert reached(f"--{name}", str(value))[0] == dataclasses.replace(Merge(), **{name: value})
    assert reached("--rank", "8", "--type", "f16")[1:] == ("f16", 8)


@pytest.mark.parametrize(
    "arguments", [("--density", "0"), ("--scale", "-1"), ("--method", "magic"), ("--rank", "0")]
)
def test_what_the_recipe_refuses_is_wrong_usage(arguments: tuple[str, str]) -> None:
    assert CliRunner().invoke(merge, [*NEEDED, *arguments], **CONTEXT).exit_code == 2


def test_the_help_names_the_methods() -> None:
    shown = " ".join(CliRunner().invoke(merge, ["--help"], **CONTEXT).output.split())
    assert all(name in shown for name in MERGE_METHODS)
