"""Every program under scripts/ can be imported: it uses no name that m2m has no longer."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = sorted(path for path in (ROOT / "scripts").rglob("*.py") if path.stem != "__main__")
PEERS = {"torch", "peft", "transformers", "optuna"}


def packages(path: Path) -> set[str]:
    """What a program imports when it is imported itself."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.fixture
def _own_modules() -> Iterator[None]:
    """Forget the programs that a test imports: two folders may have one of the same name."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if ROOT / "scripts" in Path(getattr(sys.modules[name], "__file__", None) or "").parents:
            del sys.modules[name]


@pytest.mark.usefixtures("_own_modules")
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_program_can_be_imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if peers := PEERS & packages(path):
        pytest.skip(f"needs {', '.join(sorted(peers))}: scripts/install-peers")
    monkeypatch.syspath_prepend(path.parent)
    module = importlib.import_module(path.stem)
    assert Path(str(module.__file__)) == path
