"""The packages that only some kinds of files need: `m2m[files]`."""

from __future__ import annotations

import importlib
from types import ModuleType

from m2m.formats.rowfile import AS_CSV, Fault

# package: what it reads, and the way around it
EXTRA = {
    "pyarrow": ("Parquet and Arrow files", "save its rows as JSONL or CSV"),
    "python_calamine": ("Excel and LibreOffice tables", AS_CSV),
    "zstandard": ("Zstandard archives", "unpack it"),
}
INSTALL = "pip install 'm2m[files]'"


def imported(package: str, module: str = "") -> ModuleType:
    """Return a package of the extra, or one of its modules.

    Raises:
        Fault: it is not installed; the hint has the line to type.
    """
    try:
        return importlib.import_module(module or package)
    except ImportError:
        kinds, other = EXTRA[package]
        name = package.replace("_", "-")
        raise Fault(
            f"m2m reads {kinds} with the package {name}, which is not installed",
            f"type `{INSTALL}` (or `scripts/setup` in m2m's own folder), or {other}",
        ) from None
