"""What m2m declares is what it imports, and nothing of it speaks to a network."""

from __future__ import annotations

import contextlib
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

from m2m.machine import PACKAGES
from tests.conftest import REPOSITORY
from tests.test_layers import ROOT, imports

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CLIENTS = {"requests", "urllib3", "httpx", "httpcore", "aiohttp", "huggingface-hub", "websockets"}


def names(requirements: list[str]) -> set[str]:
    """Names of packages, as indexes spell them, without those of an extra."""
    plain = (line for line in requirements if "extra" not in line)
    found = (re.match(r"[A-Za-z0-9._-]+", line) for line in plain)
    return {re.sub("[._-]+", "-", match[0]).lower() for match in found if match}


def test_declared_packages_are_imported_and_no_others() -> None:
    known = packages_distributions()
    optional = PROJECT["optional-dependencies"].values()
    extras = {name for requirements in optional for name in names(requirements)}
    used = set()
    for path in ROOT.rglob("*.py"):
        tops = {name.partition(".")[0] for name in imports(path)}
        for top in tops - sys.stdlib_module_names - {"m2m", "__future__"} - extras:
            used |= names(known[top])
    assert used == names(PROJECT["dependencies"])


def test_no_dependency_is_an_http_client() -> None:
    found, queue = set(), names(PROJECT["dependencies"])
    while queue:
        name = queue.pop()
        found.add(name)
        with contextlib.suppress(PackageNotFoundError):  # one of another system
            queue |= names(requires(name) or []) - found
    assert not found & CLIENTS


def test_the_doctor_looks_for_what_is_declared() -> None:
    assert set(PACKAGES) == names(PROJECT["dependencies"])
