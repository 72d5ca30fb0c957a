"""Every promise of SECURITY.md is a row of a table whose last cell names tests that exist."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("|")]
PROMISES = [row for row in ROWS if not re.match(r"\| (threat|promise|---) ", row)]


def cells(row: str) -> list[str]:
    """The cells of a row; a bar inside code is written `\\|`."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def functions(path: str) -> set[str]:
    """Names of the test functions in a file, also inside classes."""
    tree = ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: cells(row)[0][:60])
def test_each_promise_names_tests_that_exist(row: str) -> None:
    named = re.findall(r"`(tests/[^`]+)`", cells(row)[-1])
    assert named, "the last cell names no test"
    for name in named:
        path, _, function = name.partition("::")
        assert (REPOSITORY / path).exists(), f"{path} does not exist"
        if path.endswith("/"):  # a folder of tests
            assert list((REPOSITORY / path).rglob("test_*.py")), f"{path} has no tests"
        else:
            assert path.rpartition("/")[2].startswith("test_"), f"{path} is not a file of tests"
        assert not function or function in functions(path), f"{path} has no {function}"


def test_there_are_promises_and_their_rows_are_whole() -> None:
    assert len(PROMISES) >= 7
    assert {len(cells(row)) for row in ROWS} == {3}
