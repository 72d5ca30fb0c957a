"""The process that reads cases; tests.fuzz.driver starts it and survives its end.

`python -m tests.fuzz.worker FOLDER SEED --cases N TARGET...` reads the kept cases of each target
and N new ones. `--seconds S TARGET` goes on from what it finds: a case that reaches new code is
kept in FOLDER/TARGET/grown. With Atheris its own mutations take turns with ours, and it watches
the code; without it, Python's trace function does.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import random
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.fuzz.limits import bounded, report_ends

WATCHED = ("m2m", "jinja2", "yaml")  # packages whose new lines make a case worth keeping
SLOW = 3  # watched code may take that many times the processor time


class Cases:
    """Runs the cases of one target, counts them and writes down what is wrong."""

    def __init__(self, name: str, folder: Path, seed: int, slack: int = 1) -> None:
        from m2m.limits import Limits
        from m2m.templates import parent
        from tests.fuzz.targets import TARGETS, Reader

        parent.LIMITS = Limits(cpu=1)  # of the child that renders templates, for more cases
        self.folder = folder / name
        for part in ("files", "grown", "findings"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self.slack, self.chance = slack, random.Random(f"{seed} {name}")
        self.counts: dict[str, Any] = {"target": name, "cases": 0, "refused": 0, "findings": 0}
        self._written = time.monotonic()
        self.reader = Reader(TARGETS[name], self._empty("files"))
        grown = [path.read_bytes() for path in sorted((self.folder / "grown").iterdir())]
        self.kept = [*self.reader.seeds, *grown]

    def _empty(self, name: str) -> Path:
        shutil.rmtree(self.folder / name)
        (self.folder / name).mkdir()
        return self.folder / name

    def run(self, case: bytes) -> None:
        """Read one case within the limits; an error that is not m2m's becomes a finding."""
        (self.folder / "current").write_bytes(case)
        self.counts["cases"] += 1
        try:
            with bounded(self.slack):
                refused = self.reader.read(case)
            self.counts["refused"] += refused == len(self.reader.target.reads)
        except Exception as error:  # noqa: BLE001 (they are what is sought)
            self._finding(case, error)
        if time.monotonic() > self._written + 2:
            self.write_counts()

    def _finding(self, case: bytes, error: Exception) -> None:
        stack = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in stack if "/m2m/" in frame.filename.replace("\\", "/")]
        place = f"{Path((own or stack)[-1].filename).stem}-{(own or stack)[-1].lineno}"
        self.counts["findings"] += 1
        text = "".join(traceback.format_exception(error, limit=-12))
        keep_finding(self.folder, f"{type(error).__name__}-{place}", case, text)

    def write_counts(self, **more: Any) -> None:
        """The counts so far, for whoever reads them when this process was ended."""
        self.counts |= more
        self._written = time.monotonic()
        (self.folder / "counts.json").write_text(json.dumps(self.counts), encoding="utf-8")

    def new(self) -> bytes:
        """One of the kept cases, damaged; half of them valid before."""
        from tests.fuzz.targets import parted

        few = self.kept[: len(self.reader.valid)]
        name, content = parted(self.chance.choice(few if self.chance.random() < 0.3 else self.kept))
        return self.damaged(name, content, self.chance)

    def damaged(self, name: str, content: bytes, chance: random.Random) -> bytes:
        """The case of a file with some damage."""
        from tests.fuzz.damage import damage
        from tests.fuzz.targets import as_case, parted

        other, taken = parted(chance.choice(self.kept))
        return as_case(name, damage(name, content, chance, [taken] if other == name else []))

    def keep(self, case: bytes) -> None:
        """A case that reached new code."""
        self.kept.append(case)
        (self.folder / "grown" / hashlib.sha256(case).hexdigest()[:16]).write_bytes(case)


def keep_finding(folder: Path, name: str, case: bytes, text: str) -> None:
    """The smallest case of each kind of finding, with its stack."""
    path = folder / "findings" / name
    if not path.exists() or len(case) < path.stat().st_size:
        path.write_bytes(case)
        path.with_name(f"{name}.txt").write_text(text, encoding="utf-8", errors="backslashreplace")


class Lines:
    """Which lines of the watched packages ran, by Python's trace function."""

    def __init__(self) -> None:
        self.seen: set[tuple[Any, int]] = set()
        self._roots = []
        for package in WATCHED:
            spec = importlib.util.find_spec(package)
            if spec and spec.origin:
                self._roots.append(str(Path(spec.origin).parent))

    def __enter__(self) -> None:
        sys.settrace(self._call)

    def __exit__(self, *error: object) -> None:
        sys.settrace(None)

    def _call(self, frame: Any, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(tuple(self._roots)):
            return None
        self.seen.add((frame.f_code, frame.f_lineno))
        return self._line

    def _line(self, frame: Any, event: str, argument: Any) -> Any:
        self.seen.add((frame.f_code, frame.f_lineno))
        return self._line


def count(cases: Cases, number: int) -> None:
    """The kept cases, and as many new ones."""
    for case in list(cases.kept):
        cases.run(case)
    for _ in range(number):
        cases.run(cases.new())
    cases.write_counts()


def grow(cases: Cases, seconds: float) -> None:
    """New cases until the time is over; those that reach new lines are kept."""
    lines, until = Lines(), time.monotonic() + seconds
    with lines:
        for case in list(cases.kept):
            cases.run(case)
    first = len(lines.seen)
    while time.monotonic() < until:
        before, case = len(lines.seen), cases.new()
        with lines:
            cases.run(case)
        if len(lines.seen) > before:
            cases.keep(case)
        cases.counts["lines"] = [first, len(lines.seen)]
    cases.write_counts()


def grow_with_atheris(cases: Cases, seconds: float, seed: int) -> None:
    """The same by libFuzzer, which watches branches and comparisons; does not return."""
    import atheris

    from tests.fuzz.targets import parted

    start = cases.folder / "seeds"
    start.mkdir(exist_ok=True)
    for case in cases.reader.seeds:
        (start / hashlib.sha256(case).hexdigest()[:16]).write_bytes(case)
    longest = max(map(len, cases.kept)) * 2

    def mutate(data: bytes, most: int, number: int) -> bytes:
        chance, (name, content) = random.Random(number), parted(data)
        if name not in cases.reader.valid:
            name, content = parted(chance.choice(cases.reader.seeds))
        if chance.random() < 0.5:
            return cases.damaged(name, content, chance)[:most]
        head = name.encode() + b"\n"
        return (head + atheris.Mutate(content, max(1, most - len(head))))[:most]

    options = [f"-max_total_time={int(seconds)}", f"-seed={seed + 1}", f"-max_len={longest}"]
    options += ["-timeout=0", "-rss_limit_mb=0", "-mutate_depth=1"]
    folders = [str(cases.folder / "grown"), str(start)]
    atheris.Setup(
        [sys.argv[0], *options, f"-artifact_prefix={cases.folder}/", *folders],
        cases.run,
        custom_mutator=mutate,
    )
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--cases", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--atheris", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    os.fsync = lambda handle: None  # most of the time of the cases that write something
    for name in given.targets:
        if given.atheris:
            _watch()
        cases = Cases(name, given.folder, given.seed, SLOW if given.seconds else 1)
        report_ends(cases.folder)
        if given.atheris:
            grow_with_atheris(cases, given.seconds, given.seed)
        elif given.seconds:
            grow(cases, given.seconds)
        else:
            count(cases, given.cases)


def _watch() -> None:
    """Import the watched packages so that Atheris sees their branches."""
    import atheris

    with atheris.instrument_imports(include=list(WATCHED)):
        import tests.fuzz.targets  # noqa: F401


if __name__ == "__main__":
    main()
