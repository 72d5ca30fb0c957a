"""Every target reads its kept cases and damaged ones within limits that the kernel keeps."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from m2m.formats.nature import kind_of
from m2m.formats.rowfile import AS_IT_IS
from tests.field.places import environment, run
from tests.fuzz.driver import ALL, CORPUS, Counts, ended, fuzz
from tests.fuzz.limits import MEMORY, SECONDS
from tests.fuzz.targets import TARGETS, as_case, parted

LIMITS = pytest.mark.skipif(
    sys.platform != "linux", reason="needs RLIMIT_AS and the kernel's timers"
)


def read_cases(folder: Path, count: int, *names: str) -> dict[str, Any]:
    """Read the kept cases of the targets and new ones in one process; the counts by target."""
    command = [sys.executable, "-m", "tests.fuzz.worker", str(folder), "0", *names]
    done = run([*command, "--cases", str(count)], env=environment(), timeout=3600)
    last = max(folder.glob("*/current"), key=lambda path: path.stat().st_mtime_ns, default=None)
    ending = (last.parent / "stack.txt").read_text(encoding="utf-8") if last else ""
    assert done.returncode == 0, f"{last} ended it: {done.returncode}\n{ending}\n{done.stderr}"
    findings = [path.read_text(encoding="utf-8") for path in folder.glob("*/findings/*.txt")]
    assert not findings, "\n".join(findings)
    return {n: json.loads((folder / n / "counts.json").read_text(encoding="utf-8")) for n in names}


@pytest.mark.slow
@LIMITS
def test_kept_and_damaged_files_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    slow = {"run": 30}
    names = [name for name in TARGETS if name not in slow]
    found = read_cases(tmp_path, 100, *names)
    for name, count in slow.items():
        found |= read_cases(tmp_path, count, name)
    assert all(counts["cases"] > counts["refused"] for counts in found.values()), found
    assert sum(counts["refused"] for counts in found.values()) > 300


@pytest.mark.soak
@LIMITS
@pytest.mark.parametrize("name", TARGETS)
def test_4000_damaged_files_of_each_target(name: str, tmp_path: Path) -> None:
    read_cases(tmp_path, 4000, name)


@LIMITS
@pytest.mark.parametrize(
    ("act", "wall", "signal_name"),
    [
        ("while True: pass", 60, "SIGPROF"),
        pytest.param("re.match('(a+)+$', 'a' * 64 + 'b')", 60, "SIGPROF", marks=pytest.mark.slow),
        ("time.sleep(60)", 1, "SIGALRM"),
    ],
)
def test_the_kernel_ends_a_case_that_takes_too_long(
    act: str, wall: int, signal_name: str, tmp_path: Path
) -> None:
    code = (
        "import re, time; from pathlib import Path; from tests.fuzz import limits\n"
        f"limits.WALL = {wall}; limits.SECONDS = 1; limits.report_ends(Path({str(tmp_path)!r}))\n"
        f"with limits.bounded():\n    {act}"
    )
    done = run([sys.executable, "-c", code], env=environment())
    assert done.returncode == -signal.Signals[signal_name], done.stderr
    (tmp_path / "current").write_bytes(b"x.gguf\nabc")
    (tmp_path / "findings").mkdir()
    ended(tmp_path, done.returncode, done.stderr)
    [case] = (tmp_path / "findings").glob(f"{signal_name}-unknown")
    assert case.read_bytes() == b"x.gguf\nabc"
    assert "<string>" in case.with_name(f"{case.name}.txt").read_text(encoding="utf-8")


@LIMITS
def test_the_kernel_refuses_a_case_too_much_memory() -> None:
    code = (
        "from tests.fuzz.limits import MEMORY, bounded\n"
        "with bounded(): bytearray(MEMORY // 2)\n"
        "with bounded(): bytearray(MEMORY + (16 << 20))"
    )
    done = run([sys.executable, "-c", code], env=environment())
    assert "line 3" in done.stderr and "MemoryError" in done.stderr, done.stderr
    assert MEMORY < 2**30 and SECONDS < 10


@pytest.mark.slow
@LIMITS
def test_fuzzing_keeps_what_reaches_new_code_and_goes_on_from_there(tmp_path: Path) -> None:
    first = fuzz("journal", tmp_path, seconds=3, atheris=False)
    assert first.grown > 0 and first.code[1] > first.code[0] > 0
    assert f"| {first.cases:,} |" in first.row()
    second = fuzz("journal", tmp_path, seconds=2, atheris=False)
    assert second.code[0] >= first.code[1] - 2 and second.grown >= first.grown


def test_the_corpus_is_small_and_each_case_replaces_a_file_of_its_target() -> None:
    for place in CORPUS.iterdir():
        cases = [path.read_bytes() for path in place.iterdir()]
        assert sum(map(len, cases)) <= ALL
        assert {parted(case)[0] for case in cases} <= set(TARGETS[place.name].files)


def test_every_format_of_rows_has_cases(tmp_path: Path) -> None:
    TARGETS["rows"].make(tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in TARGETS["rows"].files}
    kinds = {kind_of(name, data, AS_IT_IS) for name, data in files.items()}
    assert kinds == {"json", "table", "text", "po", "xml", "zip", "gzip", "bzip2", "xz"}


def test_a_case_is_a_name_and_a_content() -> None:
    assert parted(as_case("a/x.csv", b"b\nc")) == ("a/x.csv", b"b\nc")
    assert Counts("x").row().startswith("| x | 0 |")
