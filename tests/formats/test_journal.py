"""The journal: order, durability, torn last lines."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2m.errors import InputError, ResourceError
from m2m.formats.journal import Journal


def test_an_absent_journal_is_empty(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    assert journal.replay() == []


def test_entries_come_back_in_order_one_line_each(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "j.jsonl"
    Journal(path).append({"b": 1, "a": "é\n\u2028"})
    Journal(path).append({})
    assert path.read_bytes() == '{"b":1,"a":"é\\n\\u2028"}\n{}\n'.encode()
    assert Journal(path).replay() == [{"b": 1, "a": "é\n\u2028"}, {}]


@pytest.mark.parametrize("kept", [0, 1])
def test_every_torn_last_line_is_dropped_and_cut_off(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "j.jsonl"
    last = '{"x":"é"}'.encode()
    for length in range(1, len(last) + 1):
        path.write_bytes(b'{"n":1}\n' * kept + last[:length])
        journal = Journal(path)
        assert journal.replay() == [{"n": 1}] * kept
        journal.append({"n": 2})
        assert journal.replay() == [{"n": 1}] * kept + [{"n": 2}]


@pytest.mark.parametrize("line", [b"{", b"[1]", b"\xff", b"", b"[" * 100_000, b"\0" * 8])
def test_a_malformed_line_is_an_error_with_its_number(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b"{}\n" + line + b"\n{}\n")
    with pytest.raises(InputError, match=r"j\.jsonl:2"):
        Journal(path).replay()


def test_what_is_no_json_is_not_appended(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    with pytest.raises(ValueError, match="JSON compliant"):
        journal.append({"x": float("nan")})
    assert not journal.path.exists()


def test_a_full_disk_is_told_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append({"n": 1})

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=r"the disk is full.*8 bytes"):
        journal.append({"n": 2})
    assert journal.replay()[0] == {"n": 1}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(entries=st.lists(st.dictionaries(st.text("abc"), _JSON, max_size=3), max_size=4))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "trip.jsonl"
    path.unlink(missing_ok=True)
    for entry in entries:
        Journal(path).append(entry)
    assert Journal(path).replay() == entries
