"""The kind of a file by its beginning."""

from __future__ import annotations

from contextlib import suppress

import pytest

from m2m.formats.nature import kind_of
from m2m.formats.rowfile import AS_IT_IS, Fault


@pytest.mark.parametrize("gap", ["\t", " ", " ,", "\ta", "; "])
def test_the_longest_beginning_is_recognised_at_once(gap: str) -> None:
    """Tabs that could be read in two ways took minutes: time grew with their square."""
    begin = ("prompt" + gap * 60_000)[:65_000] + "!\nx\n"
    with suppress(Fault):  # some of these are no file of rows; the test is that this ends
        kind_of("x", begin.encode(), AS_IT_IS)


@pytest.mark.parametrize("line", ["prompt\tcompletion", "a ; answer", "text\t\tlabel", "id | b"])
def test_a_header_without_an_ending_is_a_table(line: str) -> None:
    try:
        assert kind_of("x", f"{line}\nb\tc\n".encode(), AS_IT_IS) == "table"
    except Fault as fault:
        assert "table" in str(fault)
