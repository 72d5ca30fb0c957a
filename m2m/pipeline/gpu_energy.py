"""Measure the energy of GPUs that say what they draw."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from m2m.machine import gpu_watts

_EVERY = 2.0  # seconds between two measurements


class Energy:
    """The energy that all GPUs have drawn; `joules` is None as long as none has said."""

    joules: float | None = None

    def add(self, watts: float | None, seconds: float) -> None:
        """Add some seconds at a power, if it is known."""
        if watts is not None:
            self.joules = (self.joules or 0.0) + watts * seconds


@contextmanager
def measured(wanted: bool) -> Iterator[Energy]:
    """Measure while the block runs, in a thread; `wanted`: whether a GPU works at all."""
    energy, over = Energy(), threading.Event()

    def watch() -> None:
        before = time.monotonic()
        while not over.is_set():
            watts = gpu_watts()
            over.wait(_EVERY)
            now = time.monotonic()
            energy.add(watts, now - before)
            before = now

    watcher = threading.Thread(target=watch, daemon=True)
    if wanted and gpu_watts() is not None:
        watcher.start()
    try:
        yield energy
    finally:
        over.set()
        if watcher.ident is not None:
            watcher.join()
