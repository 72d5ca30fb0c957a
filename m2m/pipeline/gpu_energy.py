"""Measure the energy of GPUs that report their power."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from m2m.machine import gpu_watts

_EVERY = 2.0  # seconds between two measurements


@contextmanager
def measured(wanted: bool) -> Iterator[list[float]]:
    """Yield a list that gets joules while the block runs; empty if no GPU reports its power.

    `wanted`: whether a GPU works at all.
    """
    joules, over = list[float](), threading.Event()

    def watch() -> None:
        before = time.monotonic()
        while not over.is_set():
            watts = gpu_watts()
            over.wait(_EVERY)
            now = time.monotonic()
            joules.append((watts or 0.0) * (now - before))
            before = now

    watcher = threading.Thread(target=watch, daemon=True)
    if wanted and gpu_watts() is not None:
        watcher.start()
    try:
        yield joules
    finally:
        over.set()
        if watcher.ident is not None:
            watcher.join()
