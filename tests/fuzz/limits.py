"""One case at a time under limits that the kernel keeps.

Before a case is read, RLIMIT_AS is set to what this process has and a little more: too large an
allocation ends with a MemoryError, also inside C code. Two timers of the kernel end the process,
one of processor time and one of real time; RLIMIT_CPU counts whole seconds since the start by a
clock that runs ahead of the others, so it cannot limit one case among thousands. Whoever started
the process finds the case in the file `current` and the stack in `stack.txt`. macOS does not keep
RLIMIT_AS, and Windows has none of this.
"""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

SECONDS = 2  # of processor time; a busy neighbour is no hang
WALL = 300  # seconds; for a case that sleeps or waits; a busy machine makes others wait, too
MEMORY = 192 << 20  # bytes beyond what the process has when a case begins

POSIX = sys.platform != "win32"


def report_ends(folder: Path) -> None:
    """Write the stack to `folder` when a limit ends this process."""
    file = (folder / "stack.txt").open("w", encoding="utf-8")
    faulthandler.enable(file)
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in (signal.SIGPROF, signal.SIGALRM):
            faulthandler.register(number, file, chain=True)


@contextlib.contextmanager
def bounded(slack: int = 1) -> Iterator[None]:
    """What is done inside has SECONDS of processor time, WALL seconds and MEMORY bytes.

    Args:
        slack: that many times the processor time, for code that is watched while it runs.
    """
    if sys.platform == "win32":
        yield
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS * slack)
        signal.setitimer(signal.ITIMER_REAL, WALL)
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (_used() + MEMORY, most))
        yield
    finally:
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)


def _used() -> int:
    """Bytes of address space that this process has."""
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()
