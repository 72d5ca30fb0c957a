"""Threads that compute the chunks of one step at the same time, and exchange values.

NumPy releases the interpreter inside every array operation. So threads that each work on their own
tokens use all cores, for element-wise work as well as for products; a thread that has to wait
sleeps. The chunks and the order of every sum are fixed, so the same count gives the same bytes.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, TypeVar

from m2m.blas import can_hold_blas, one_blas_thread

Result = TypeVar("Result")


class PoolBroken(RuntimeError):
    """Another worker failed, so the value that this one waits for will never come."""


class _Board:
    """The values that the workers of one run exchange."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.left: dict[Hashable, Any] = {}
        self.failed = False


class Worker:
    """One of the threads of a run.

    Attributes:
        number: from 0; 0 is the thread that asked for the run.
        count: number of threads in the run.
    """

    def __init__(self, number: int = 0, count: int = 1, board: _Board | None = None) -> None:
        self.number, self.count = number, count
        self._board = board if board is not None else _Board()

    def put(self, key: Hashable, value: Any) -> None:
        """Store `value` for the other workers."""
        with self._board.changed:
            self._board.left[key] = value
            self._board.changed.notify_all()

    def take(self, key: Hashable) -> Any:
        """Wait for the value under `key` and return it; raise PoolBroken if a worker failed."""
        board = self._board
        with board.changed:
            board.changed.wait_for(lambda: key in board.left or board.failed)
            if key not in board.left:
                raise PoolBroken(f"no {key}")
            return board.left[key]

    def gather(self, key: Hashable, value: Any = None) -> list[Any]:
        """Store `value`; return every worker's, by number, after all have stored theirs."""
        self.put((key, self.number), value)
        return [self.take((key, number)) for number in range(self.count)]

    def fail(self) -> None:
        """Mark the run as failed, so that no worker waits any longer."""
        with self._board.changed:
            self._board.failed = True
            self._board.changed.notify_all()


class ThreadPool:
    """The threads of a decoder.

    Args:
        count: number of threads, the caller's included. If NumPy's BLAS cannot be limited to one
            thread, it keeps its own threads and the pool is the caller alone.
    """

    def __init__(self, count: int) -> None:
        self.count = count if can_hold_blas() else 1
        self._pool = ThreadPoolExecutor(max(1, self.count - 1), "m2m-step")

    def run(self, work: Callable[[Worker], Result], count: int | None = None) -> list[Result]:
        """Return the results of `work` for `count` workers (all of the pool), run in parallel.

        Workers get the caller's context variables, such as NumPy's error state and buffer size.
        If a worker raises an exception, the others stop waiting and this method raises it.
        """
        count, board = min(count or self.count, self.count), _Board()
        workers = [Worker(number, count, board) for number in range(count)]

        def guarded(worker: Worker) -> Result:
            try:
                return work(worker)
            except BaseException:
                worker.fail()
                raise

        results: list[Result] = []
        with one_blas_thread():
            others = [
                self._pool.submit(contextvars.copy_context().run, guarded, worker)
                for worker in workers[1:]
            ]
            try:
                with suppress(PoolBroken):  # the failure itself is raised below
                    results.append(guarded(workers[0]))
            finally:
                wait(others)
        errors = [error for other in others if (error := other.exception()) is not None]
        for error in sorted(errors, key=lambda failure: isinstance(failure, PoolBroken)):
            raise error
        return results + [other.result() for other in others]
