"""Imports point down: a module imports its own room and rooms of lower numbers only."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import m2m
from tests.sources import tree

ROOT = Path(m2m.__file__).parent
LAYERS = {
    "escaping": -3,
    "errors": -2, "spelling": -2,
    "opening": -1,
    "limits": -1, "machine": -1, "arrays": -1, "places": -1,
    "__init__": 0, "counted": 0, "families": 0, "blas": 0, "kernels": 0, "progress": 0,
    "templates": 0,
    "recipe": 1, "formats": 1, "nn": 1, "tokenizer": 1,
    "checkpoint": 2, "adapter": 2, "dataset": 2, "store": 2, "ggml": 2,
    "tuner": 3, "merge": 3, "llamacpp": 3,
    "evaluate": 4, "export": 4,
    "mix": 5,
    "results": 6,
    "report": 7,
    "pipeline": 8,
    "commands": 9, "planning": 9,
    "api": 10, "cli": 10, "__main__": 11,
}  # fmt: skip
OWNERS = {
    "llama_cpp": {"llamacpp"},
    "ctypes": {"blas", "ggml", "kernels", "limits", "llamacpp", "machine"},
    "click": {"cli"},
    "rich": {"cli"},
    "gguf": set(),
    "safetensors": {"formats"},
    "yaml": {"formats"},
    "sentencepiece": {"tokenizer"},
    "jinja2": {"templates"},
    "pickle": set(),
    "socket": {"store"},
    "torch": set(),
}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
            if node.module == "m2m":
                found |= {f"m2m.{alias.name}" for alias in node.names}
    return found


def forbidden_imports(path: Path) -> list[str]:
    room, found = room_of(path), []
    for name in sorted(imports(path)):
        package, _, rest = name.partition(".")
        other = rest.split(".")[0]
        if package == "m2m" and other in LAYERS:
            if other != room and LAYERS[other] >= LAYERS[room]:
                found.append(f"{path}: {room} imports {other}")
        elif room not in OWNERS.get(package, {room}):
            found.append(f"{path}: {package} belongs to {OWNERS[package]}, not to {room}")
    return found


def test_imports_point_down_and_packages_have_one_owner() -> None:
    paths = sorted(ROOT.rglob("*.py"))
    assert len(paths) > 300
    assert not [line for path in paths for line in forbidden_imports(path)]


def test_tests_import_no_private_names() -> None:
    """A name that a test needs is one that others may use."""
    imported = re.compile(r"^ *from m2m\S* import (\([^)]*\)|[^(\n]*)$", re.MULTILINE)
    for path in Path(__file__).parent.rglob("*.py"):
        for names in imported.findall(path.read_text(encoding="utf-8")):
            assert not re.findall(r"(?<![\w.])_\w+", names), path


def test_every_room_has_a_layer() -> None:
    rooms = {path.name.removesuffix(".py") for path in ROOT.iterdir() if path.suffix in ("", ".py")}
    assert rooms - {"__pycache__"} == set(LAYERS)


def test_the_architecture_has_the_same_floors() -> None:
    page = (ROOT.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (-?\d+) \| (.*?) \|", page, re.MULTILINE)
    floors = {room: int(floor) for floor, rooms in rows for room in re.findall(r"`(\w+)`", rooms)}
    assert floors == LAYERS


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"])
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    text = (ROOT.parent / page).read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:m2m|tests|scripts|docs)/[\w/.-]*\w", text))
    missing = [name for name in named if not (ROOT.parent / name).exists()]
    assert not [name for name in missing if "NAME" not in name and "ROOM" not in name]
