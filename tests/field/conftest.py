from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.field.places import m2m, outcome, small_scenario


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that nobody has run; copy its folder."""
    return small_scenario(tmp_path_factory.mktemp("field") / "scenario")


@pytest.fixture
def recipe(untouched: Path, tmp_path: Path) -> Path:
    """A scenario of the test's own."""
    return Path(shutil.copytree(untouched.parent, tmp_path / "scenario")) / "recipe.toml"


@pytest.fixture(scope="session")
def finished(untouched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose run nothing disturbed."""
    folder = tmp_path_factory.mktemp("finished") / "scenario"
    recipe = Path(shutil.copytree(untouched.parent, folder)) / "recipe.toml"
    done = m2m("run", recipe)
    assert done.returncode == 0, done.stderr
    return recipe


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A finished scenario of the test's own."""
    yield Path(shutil.copytree(finished.parent, tmp_path / "scenario")) / "recipe.toml"


@pytest.fixture(scope="session")
def expected(finished: Path) -> dict[str, str | bytes]:
    """What an undisturbed run leaves."""
    return outcome(finished)
