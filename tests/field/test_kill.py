"""A run that is killed anywhere goes on, and ends as if nothing had been."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m2m.formats.atomic import remove_leftovers
from m2m.formats.journal import Journal
from tests.field.places import assert_same, environment, m2m, outcome, run

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")

RUN = "m2m-runs"


def steps_of(recipe: Path, tmp_path: Path) -> list[str]:
    """The steps of writing of a whole run."""
    log = tmp_path / "steps"
    fault = {"root": str(recipe.parent / RUN), "at": 0, "how": "kill", "log": str(log)}
    done = m2m("run", recipe, fault=fault)
    assert done.returncode == 0, done.stderr
    return log.read_text(encoding="utf-8").splitlines()


def killed_at(recipe: Path, step: int) -> bool:
    """Whether the run was killed at this step; False where it ended before."""
    done = m2m("run", recipe, fault={"root": str(recipe.parent / RUN), "at": step, "how": "kill"})
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.slow
def test_kills_on_the_way_change_nothing(
    recipe: Path, expected: dict[str, str | bytes], tmp_path: Path
) -> None:
    assert [killed_at(recipe, step) for step in (25, 50)] == [True] * 2
    assert m2m("run", recipe).returncode == 0
    assert_same(outcome(recipe), expected)


@pytest.mark.soak
def test_a_kill_at_each_step_of_writing_changes_nothing(
    recipe: Path, expected: dict[str, str | bytes], tmp_path: Path
) -> None:
    """Each run is killed one step later than the one before, so that every step is met."""
    kinds = {step.split()[0] for step in steps_of(recipe, tmp_path)}
    assert {"open", "fsync", "rename", "remove", "mkdir"} <= kinds
    assert_same(outcome(recipe), expected)
    for step in range(1, 60):  # of what is left then: a resumed run has fewer steps than a new one
        killed_at(recipe, step)
    assert m2m("run", recipe).returncode == 0
    assert_same(outcome(recipe), expected)


LONGEST = 2.2  # seconds of a processor; a whole run takes about 1.9


def worked(pid: int) -> float:
    """Processor seconds that a process has had: a busy machine then changes nothing."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_200_kills_at_random_moments_change_nothing(
    untouched: Path, expected: dict[str, str | bytes], tmp_path: Path
) -> None:
    """Killed and resumed until it is done, then again from nothing, 200 kills in all."""
    chance, kills, rounds = random.Random(0), 0, itertools.count()
    command = [sys.executable, "-m", "m2m", "run"]
    while kills < 200:
        folder = tmp_path / f"{next(rounds)}"
        run(["cp", "-r", str(untouched.parent), str(folder)])
        recipe, code = folder / "recipe.toml", 1
        while code:
            with subprocess.Popen(
                [*command, str(recipe)],
                env=environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process:
                moment = chance.uniform(0.2, LONGEST)
                while process.poll() is None and worked(process.pid) < moment:
                    time.sleep(0.002)
                process.kill()
                code = process.wait()
                kills += code == -signal.SIGKILL
        assert_same(outcome(recipe), expected)
        run(["rm", "-rf", str(folder)])
    print(f"{kills} kills in {next(rounds)} runs")  # noqa: T201


_WRITERS = {
    "file": "write_text(Path('x'), 'new' * 5000)",
    "folder": """
with atomic_folder(Path('x')) as inside:
    write_text(inside / 'a', 'new')
    (inside / 'deep').mkdir()
    write_text(inside / 'deep' / 'b', 'new')
""",
    "journal": "Journal(Path('x')).append({'new': 'y' * 5000})",
    "removal": "remove_folder(Path('x'))",
}
_CHILD = """
import sys
import time
from pathlib import Path
from m2m.formats.atomic import atomic_folder, remove_folder, write_text
from m2m.formats.journal import Journal
from tests.field.child import install
steps = install({{"root": "", "at": int(sys.argv[1]), "how": "kill"}})
{writer}
sys.stdout.write(str(len(steps.seen)))
"""


def state(kind: str, path: Path) -> str:
    """What a reader finds: "old", "new", or "absent"; anything else is a broken promise."""
    remove_leftovers(path.parent)
    if kind == "journal":
        return Journal(path).replay()[-1]["is"] if path.exists() else "absent"
    if not path.exists():
        return "absent"
    if path.is_dir():
        parts = {str(p.relative_to(path)): p.read_text() for p in path.rglob("*") if p.is_file()}
        return {"a": "old", "a deep/b": "new"}[" ".join(sorted(parts))]
    return {"old": "old", "new" * 5000: "new"}[path.read_text()]


@pytest.mark.parametrize(
    ("kind", "exists"),
    [
        ("file", True),
        ("file", False),
        pytest.param("folder", True, marks=pytest.mark.slow),
        pytest.param("folder", False, marks=pytest.mark.soak),
        ("removal", True),
    ],
)
def test_a_kill_at_any_step_of_a_write_leaves_old_or_new(
    tmp_path: Path, kind: str, exists: bool
) -> None:
    seen = []
    for step in itertools.count(1):
        place = tmp_path / str(step)
        place.mkdir()
        target = place / "x"
        if exists and kind == "file":
            target.write_text("old")
        elif exists:
            target.mkdir()
            (target / "a").write_text("old")
        code = _CHILD.format(writer=_WRITERS[kind])
        done = run([sys.executable, "-c", code, str(step)], cwd=place)
        seen.append(state(kind, target))
        assert not [p for p in place.iterdir() if p != target], "a leftover that nobody clears away"
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    before = "old" if exists else "absent"
    after = "absent" if kind == "removal" else "new"
    turn = seen.index(after)
    assert seen == [before] * turn + [after] * (len(seen) - turn)
    assert len(seen) > 3


_TORN = """
import resource, signal, sys
from pathlib import Path
from m2m.formats.journal import Journal
signal.signal(signal.SIGXFSZ, signal.{action})
size = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
Journal(Path("x")).append({{"is": "new", "é": "y" * 40}})
"""


def test_a_kill_at_any_byte_of_an_append_loses_nothing_before_it(tmp_path: Path) -> None:
    """The kernel writes up to the limit, and kills at the next byte."""
    whole = len('{"is":"new","é":"' + "y" * 40 + '"}\n') + 1  # é has two bytes
    before = b'{"is":"old"}\n'
    for extra in (0, 1, 8, 20, 21, 22, whole - 2, whole - 1):
        (tmp_path / "x").write_bytes(before)
        code = _TORN.format(action="SIG_DFL")
        done = run([sys.executable, "-c", code, str(len(before) + extra)], cwd=tmp_path)
        assert done.returncode == -signal.SIGXFSZ, done.stderr
        assert len((tmp_path / "x").read_bytes()) == len(before) + extra
        journal = Journal(tmp_path / "x")
        assert journal.replay() == [{"is": "old"}]
        journal.append({"is": "newer"})
        assert [line["is"] for line in journal.replay()] == ["old", "newer"]


@pytest.mark.skipif(os.name != "posix", reason="folders are synced on POSIX only")
def test_every_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path) -> None:
    """The order of steps, as the system saw them: bytes, name, and then the folder that has it."""
    code = (
        _CHILD.format(writer=_WRITERS["file"]) + "\nsys.stdout.write('\\n'.join(['', *steps.seen]))"
    )
    done = run([sys.executable, "-c", code, "0"], cwd=tmp_path)
    kinds = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert kinds == ["open", "fsync", "rename", "fsync"]
    code = (
        _CHILD.format(writer=_WRITERS["journal"])
        + "\nsys.stdout.write('\\n'.join(['', *steps.seen]))"
    )
    done = run([sys.executable, "-c", code, "0"], cwd=tmp_path / "..")
    kinds = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert kinds == ["open", "fsync", "fsync"]
