"""The source of the package, which several tests read: each file is parsed once in a process."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def tree(path: Path) -> ast.Module:
    """Return the parsed module; it is only read."""
    return ast.parse(path.read_text(encoding="utf-8"))
