"""The package is whole in the project's file and in the wheel, and its metadata is complete."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel made from a copy of what the repository's package consists of."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(REPOSITORY / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "m2m", source / "m2m", ignore=ignored)
    line = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*line, "--wheel-dir", str(source), str(source)], check=True)
    return zipfile.ZipFile(next(source.glob("*.whl")))


def test_every_file_that_is_no_module_is_named_in_the_projects_file() -> None:
    root = REPOSITORY / "m2m"
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["tool"]
    patterns = project["setuptools"]["package-data"]["m2m"]
    named = {path for pattern in patterns for path in root.glob(pattern)}
    files = {path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert named == {path for path in files if path.suffix != ".py"}


@pytest.mark.slow  # builds it
def test_every_file_of_the_package_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    root = REPOSITORY / "m2m"
    files = {path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    expected = {Path("m2m", path.relative_to(root)).as_posix() for path in files}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


@pytest.mark.slow  # builds the wheel
def test_metadata(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    fields = Parser().parsestr(wheel.read(name).decode("utf-8"))
    for field in ("Author", "Summary", "Keywords", "License-Expression", "License-File"):
        assert fields[field], field
    assert fields.get_all("Classifier")
    entries = wheel.read(name.replace("METADATA", "entry_points.txt")).decode("utf-8")
    assert "m2m = m2m.cli.main:main" in entries
