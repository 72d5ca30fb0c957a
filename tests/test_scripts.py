"""Every program under scripts/ can be imported: it uses no name that m2m has no longer."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = sorted(path for path in (ROOT / "scripts").rglob("*.py") if path.stem != "__main__")
PEERS = {"torch", "peft", "transformers", "optuna"}
IMPORT = (
    "import importlib, sys; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2])"
)


def packages(path: Path) -> set[str]:
    """What a program imports when it is imported itself."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_program_can_be_imported(path: Path) -> None:
    if peers := PEERS & packages(path):
        pytest.skip(f"needs {', '.join(sorted(peers))}: scripts/install-peers")
    command = [sys.executable, "-c", IMPORT, str(path.parent), path.stem]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
