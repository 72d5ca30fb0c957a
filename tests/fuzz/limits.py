"""One case at a time under limits that the kernel keeps.

Before a case is read, this process's soft limits are set to what it has used so far and a little
more: RLIMIT_AS ends too large an allocation with a MemoryError, also inside C code, and RLIMIT_CPU
and the real-time timer end the process. Whoever started it finds the case in the file `current` and
the stack in `stack.txt`. macOS does not keep RLIMIT_AS, and Windows has neither limit.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SECONDS = 2  # of processor time; a busy neighbour is no hang
WALL = 90  # seconds; for a case that sleeps or waits for a pipe
MEMORY = 192 << 20  # bytes beyond what the process has when a case begins

POSIX = sys.platform != "win32"


def report_ends(folder: Path) -> None:
    """Write the stack to `folder` when a limit ends this process."""
    file = (folder / "stack.txt").open("w", encoding="utf-8")
    faulthandler.enable(file)
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in (signal.SIGXCPU, signal.SIGALRM):
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

    _, hard_seconds = resource.getrlimit(resource.RLIMIT_CPU)
    _, hard_bytes = resource.getrlimit(resource.RLIMIT_AS)
    most = math.ceil(time.process_time()) + SECONDS * slack
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (most, hard_seconds))
        signal.setitimer(signal.ITIMER_REAL, WALL)
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (_used() + MEMORY, hard_bytes))
        yield
    finally:
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (hard_bytes, hard_bytes))
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (hard_seconds, hard_seconds))


def _used() -> int:
    """Bytes of address space that this process has."""
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()
