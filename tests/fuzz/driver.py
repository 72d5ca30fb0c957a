"""`scripts/fuzz [TARGET...] [--minutes N]`: looks for files that are not refused in words.

Each target is read by a process of its own (tests.fuzz.worker), started again when a limit ended
it. Cases that reach new code are kept in build/fuzz/TARGET/grown, so that the next call goes on
from there; what is wrong is in build/fuzz/TARGET/findings, the smallest case of each kind with its
stack. `--keep` copies the few cases that reach most into `tests/fuzz/corpus/`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS, Reader
from tests.fuzz.worker import Lines, keep_finding

REPOSITORY = Path(__file__).parents[2]
SMALL = 4096  # bytes of a case that is kept in the repository
ALL = 24_000  # bytes that a target's kept cases may have together


@dataclass
class Counts:
    """What fuzzing a target came to; `code` counts branches with Atheris, lines without."""

    target: str
    cases: int = 0
    refused: int = 0
    code: tuple[int, int] = (0, 0)
    grown: int = 0
    findings: int = 0

    def row(self) -> str:
        before, after = self.code
        return (
            f"| {self.target} | {self.cases:,} | {self.refused:,} | {before:,} | "
            f"{after - before:+,} | {self.grown} | {self.findings} |"
        )


HEAD = """\
| target | cases | refused | code reached by the kept cases | new code | cases kept | findings |
| --- | --- | --- | --- | --- | --- | --- |"""


def work(folder: Path, seed: int, *arguments: str) -> tuple[int, str]:
    """Start the worker once; its exit status and all that it printed."""
    command = [sys.executable, "-m", "tests.fuzz.worker", str(folder), str(seed), *arguments]
    log = folder / arguments[0] / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        done = subprocess.run(command, stdout=file, stderr=file, cwd=REPOSITORY, check=False)
    return done.returncode, log.read_text(encoding="utf-8", errors="replace")


def ended(folder: Path, status: int, log: str) -> None:
    """Keep the case at which the worker ended as a finding."""
    stack = folder / "stack.txt"
    text = stack.read_text(encoding="utf-8", errors="replace") if stack.exists() else ""
    frames = re.findall(r'File ".*?/m2m/([^"]+)", line (\d+)', text)
    place = f"{Path(frames[0][0]).stem}-{frames[0][1]}" if frames else "unknown"
    kind = signal.Signals(-status).name if status < 0 else f"exit{status}"
    keep_finding(folder, f"{kind}-{place}", (folder / "current").read_bytes(), text or log[-4000:])


def fuzz(name: str, folder: Path, seconds: float, atheris: bool) -> Counts:
    """Fuzz one target for some time."""
    counts, until, seed = Counts(name), time.monotonic() + seconds, int(time.time())
    ends = 0
    while (left := until - time.monotonic()) > 1 and ends < 200:
        for stale in ("counts.json", "stack.txt"):
            (folder / name / stale).unlink(missing_ok=True)
        options = [name, "--seconds", str(left), *(["--atheris"] if atheris else [])]
        status, log = work(folder, seed, *options)
        add(counts, folder / name, log)
        if status:
            if not (folder / name / "current").exists():
                raise SystemExit(log[-4000:])
            ended(folder / name, status, log)
            ends += 1
        seed += 1
    counts.grown = len(list((folder / name / "grown").iterdir()))
    found = (folder / name / "findings").iterdir()
    counts.findings = sum(path.suffix != ".txt" for path in found)
    return counts


def add(counts: Counts, folder: Path, log: str) -> None:
    """What one process counted, and the code that it saw."""
    path = folder / "counts.json"
    own = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    counts.cases += own.get("cases", 0)
    counts.refused += own.get("refused", 0)
    seen = [int(number) for number in re.findall(r"(?:INITED|DONE|NEW|pulse)\s+cov: (\d+)", log)]
    first, last = own.get("lines") or ((seen[0], max(seen)) if seen else counts.code)
    counts.code = (counts.code[0] or first, max(counts.code[1], last))


def keep(name: str, folder: Path) -> int:
    """Copy grown cases to the corpus that reach lines which smaller ones do not; how many."""
    place = CORPUS / name
    place.mkdir(parents=True, exist_ok=True)
    room = ALL - sum(path.stat().st_size for path in place.iterdir())
    scratch = folder / name / "keep"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    lines, kept = Lines(), 0
    reader = Reader(TARGETS[name], scratch)
    with lines:
        for case in reader.seeds:
            _try(reader, case)
    cases = sorted((folder / name / "grown").iterdir(), key=lambda path: path.stat().st_size)
    for path in cases:
        case, before = path.read_bytes(), len(lines.seen)
        if len(case) > min(SMALL, room):
            break
        with lines:
            _try(reader, case)
        if len(lines.seen) > before + 2:
            (place / path.name).write_bytes(case)
            room, kept = room - len(case), kept + 1
    return kept


def _try(reader: Reader, case: bytes) -> None:
    try:
        reader.read(case)
    except Exception as error:  # noqa: BLE001 (a finding, which the next run reports)
        print(f"{reader.target.name}: {error!r:.200}", file=sys.stderr)  # noqa: T201


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "build" / "fuzz")
    parser.add_argument("--own", action="store_true", help="without Atheris")
    parser.add_argument("--keep", action="store_true", help="only add to tests/fuzz/corpus")
    given = parser.parse_args()
    if unknown := set(given.targets) - TARGETS.keys():
        parser.error(f"unknown targets {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    atheris = not given.own and importlib.util.find_spec("atheris") is not None
    findings = 0
    print(HEAD)  # noqa: T201
    for name in given.targets or TARGETS:
        if given.keep:
            print(f"{name}: {keep(name, given.folder)} cases kept")  # noqa: T201
            continue
        counts = fuzz(name, given.folder, given.minutes * 60, atheris)
        findings += counts.findings
        print(counts.row(), flush=True)  # noqa: T201
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
