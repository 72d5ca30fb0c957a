"""Train adapters side by side, each in a process with threads and a base of its own.

Threads that share one step wait for each other and for Python's lock at every call; adapters need
nothing from each other. The number of threads per adapter depends only on the recipe and the number
of adapters, not on finished adapters or free memory: interrupted training resumes bit for bit.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from m2m.checkpoint import BaseModel
from m2m.counted import counted
from m2m.errors import DeviceError, Interrupted, M2MError, ResourceError, TrainingError
from m2m.formats.disk import watch, watched
from m2m.pipeline.device import give_up
from m2m.pipeline.experts import Job, Tuning, choose, memory_limit, taken
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.kept import make_way
from m2m.pipeline.scorer import threads
from m2m.progress import Progress, Silent
from m2m.recipe import Recipe
from m2m.results.training import Trained
from m2m.tuner.saving import GIB, Saving

_FRESH = 64 << 20  # bytes of a process with NumPy and this package; 57 MiB on Linux
_ROW = 200  # bytes of a sample without its tokens
_ASKED = 0.2  # seconds between two checks whether the user wants to stop


@dataclass(frozen=True)
class _Advance:
    """A step of a worker's progress bar."""

    amount: float
    detail: str
    earlier: bool


@dataclass(frozen=True)
class _Message:
    """A line for the user."""

    text: str
    warning: bool


def train_all(inputs: Inputs, jobs: Sequence[Job], progress: Progress) -> list[Trained]:
    """Train adapters, many of them in as many processes as the recipe's `[limits] workers` says.

    Raises:
        Interrupted: the user asked to stop; the state of all is saved.
        ResourceError: there is not enough memory for one worker.
        TrainingError: one diverged, or its process was killed; the state of the others is saved.
    """
    try:
        return train_jobs(inputs, jobs, progress)
    except DeviceError as error:
        give_up(inputs.recipe, error, progress)
        return train_jobs(inputs, [replace(job, device="") for job in jobs], progress)


def train_jobs(inputs: Inputs, jobs: Sequence[Job], progress: Progress) -> list[Trained]:
    """Train adapters as `train_all` does, but raise DeviceError if a GPU fails."""
    make_way(inputs, jobs)
    count = workers(inputs.recipe, len(jobs))
    trained = {job.folder: known for job in jobs if (known := taken(inputs.base, job))}
    left = [job for job in jobs if job.folder not in trained]
    if trained and left:
        progress.note(f"kept {counted(len(trained), 'adapter')}, {len(left)} to train")
    # A GPU that is lost ends its process, so its training has one of its own.
    if count == 1 and not any(job.device for job in jobs):
        tuning = Tuning(inputs.base, inputs.recipe, progress)
        for number, job in enumerate(left, len(trained) + 1):
            place = f"{number} of {len(jobs)}" if len(jobs) > 1 else ""
            trained[job.folder] = tuning.train(job, place)
    elif left:
        portion = divide(inputs, count, len(left))
        left.sort(key=lambda job: -job.steps)  # so that all end at about the same time
        with _pool(inputs.base, portion) as pool:
            trained |= _JobQueue(pool, left, progress).work()
    return [trained[job.folder] for job in jobs]


def workers(recipe: Recipe, jobs: int) -> int:
    """Return the number of worker processes; 1 if some would soon have nothing to do."""
    count = min(recipe.limits.workers, threads(recipe))
    return count if jobs >= 2 * count else 1


def one_of(inputs: Inputs, jobs: int) -> Inputs:
    """Return the inputs with which one of that many adapters is trained by itself.

    It gets as many threads as `train_all` gives it, so that its bits are the same.
    """
    recipe, count = inputs.recipe, workers(inputs.recipe, jobs)
    if count == 1:
        return inputs
    limits = replace(recipe.limits, threads=threads(recipe) // count, workers=1)
    return replace(inputs, recipe=replace(recipe, limits=limits))


def peak_together(trained: Sequence[Trained], count: int) -> int:
    """Return the most bytes that `count` workers held at once; resumed adapters do not count."""
    peaks = sorted(
        (adapter.peak_rss_bytes for adapter in trained if not adapter.resumed), reverse=True
    )
    return sum(peaks[:count])


@dataclass(frozen=True)
class Portion:
    """The part of the machine that each of several workers gets.

    Attributes:
        recipe: the recipe with a worker's threads and memory.
        at_once: number of workers that fit into memory.
        saving: how a worker keeps within its memory.
    """

    recipe: Recipe
    at_once: int
    saving: Saving


def divide(inputs: Inputs, count: int, jobs: int) -> Portion:
    """Divide a recipe's threads and memory among `count` workers that train as many adapters.

    Raises:
        ResourceError: not even one worker fits.
    """
    recipe, held = inputs.recipe, _held_by_one(inputs)
    limit, at_once = memory_limit(recipe), min(count, jobs)
    own = replace(recipe.limits, threads=threads(recipe) // count, workers=1)
    while True:
        memory = limit / at_once / GIB if limit else "auto"
        shared = replace(recipe, limits=replace(own, memory=memory))
        try:
            saving = choose(inputs.base, shared, held)
        except ResourceError:
            if at_once == 1:
                raise
            at_once -= 1
        else:
            return Portion(shared, at_once, saving)


def _held_by_one(inputs: Inputs) -> int:
    """Return the bytes that a worker holds before it reads the base; this process holds more."""
    corpora = inputs.corpora.values()
    return _FRESH + sum(row.size + _ROW for corpus in corpora for row in corpus.samples)


@dataclass
class _Worker:
    """A process, the pipe to it, and the adapter that it trains."""

    process: BaseProcess
    line: Connection
    job: Job | None = None
    steps: float = 0.0  # steps of the job that the worker has reported


@contextmanager
def _pool(base: BaseModel, portion: Portion) -> Iterator[list[_Worker]]:
    """Start workers; kill them at the end."""
    context = multiprocessing.get_context("spawn")  # the same on all systems, and safe with threads
    pool: list[_Worker] = []
    try:
        for _ in range(portion.at_once):
            ours, theirs = context.Pipe()
            args = (base.path, portion.recipe, watched(), theirs)
            process = context.Process(target=_work, args=args, daemon=True)
            process.start()
            theirs.close()
            pool.append(_Worker(process, ours))
        yield pool
    finally:
        for worker in pool:
            worker.process.kill()
            worker.process.join()
            worker.line.close()


class _JobQueue:
    """Hands jobs to workers, shows their progress, and stops them.

    Args:
        pool: started workers.
        jobs: in the order in which they are started.
        progress: shows one bar for all.
    """

    def __init__(self, pool: Sequence[_Worker], jobs: Sequence[Job], progress: Progress) -> None:
        self._pool, self._progress = pool, progress
        self._jobs = deque(jobs)
        self._trained: dict[Path, Trained] = {}
        self._shown: set[_Message] = set()
        self._stopping = False
        self._stopped: list[Interrupted] = []
        self._error: M2MError | None = None

    def work(self) -> dict[Path, Trained]:
        """Return the trained adapters by folder; raise as `train_all` does."""
        total, steps = len(self._jobs), sum(job.steps for job in self._jobs)
        title = f"training {counted(total, 'adapter')}, {len(self._pool)} at a time"
        self._progress.start(title, steps, "steps")
        for worker in self._pool:
            self._assign(worker)
        while busy := [worker for worker in self._pool if worker.job]:
            ready = wait([worker.line for worker in busy], _ASKED)
            for worker in busy:
                if worker.line in ready:
                    self._receive(worker)
            if self._progress.stop_requested():
                self._stop()
        self._progress.finish()
        if self._error:
            raise self._error
        if self._stopped or len(self._trained) < total:
            reasons = [interrupted.message for interrupted in self._stopped]
            raise Interrupted(
                "\n".join(reasons or [f"stopped after {len(self._trained)} of {total}"])
            )
        return self._trained

    def _assign(self, worker: _Worker) -> None:
        """Hand a worker the next job, or None if there is none."""
        worker.job = self._jobs.popleft() if self._jobs and not self._stopping else None
        worker.steps = 0.0
        with suppress(OSError):  # it has died, and `_receive` notices
            worker.line.send(worker.job)

    def _receive(self, worker: _Worker) -> None:
        """Handle one message of a worker."""
        try:
            word = worker.line.recv()
        except (EOFError, OSError):
            word = self._exit_error(worker)
        job = worker.job
        if isinstance(word, _Advance) and job:
            worker.steps += word.amount
            detail = f"{job.corpus.name}: {word.detail}"
            self._progress.advance(word.amount, detail, earlier=word.earlier)
        elif (
            isinstance(word, _Message) and word not in self._shown
        ):  # all workers send the same messages
            self._shown.add(word)
            (self._progress.warn if word.warning else self._progress.note)(word.text)
        elif isinstance(word, Trained) and job:
            self._progress.advance(job.steps - worker.steps, f"{job.corpus.name}: done")
            self._trained[job.folder] = word
            self._assign(worker)
        elif isinstance(word, M2MError):
            worker.job = None
            if isinstance(word, Interrupted):
                self._stopped.append(word)
            else:
                self._error = self._error or word
                self._stop()

    def _stop(self) -> None:
        """Ask all busy workers to save and stop."""
        if not self._stopping:
            self._stopping = True
            for worker in self._pool:
                if worker.job:
                    with suppress(OSError):
                        worker.line.send(None)

    def _exit_error(self, worker: _Worker) -> M2MError:
        worker.process.join()
        code, job = worker.process.exitcode, worker.job
        name = job.corpus.name if job else "nothing"
        if self._progress.stop_requested():  # it got the signal before it could ignore it
            return Interrupted(f"stopped before {name} was trained")
        hint = "its last checkpoint is kept: run the command again. "
        if job and job.device:
            return DeviceError(
                f"the process that trained {name} on {job.device} ended by itself (code {code})",
                f"{hint}If {job.device} fails again, lower batch_tokens in [train], or set "
                'device = "cpu" in [limits]',
            )
        return TrainingError(
            f"the process that trained {name} ended by itself, with code {code}",
            f"{hint}If memory ran out, set a smaller workers in [limits]",
        )


class _Relay(Silent):
    """The `Progress` of a worker: passes everything to the process that started it."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._stopping = False

    def advance(self, amount: float = 1.0, detail: str = "", *, earlier: bool = False) -> None:
        """Pass finished steps on."""
        self._send(_Advance(amount, detail, earlier))

    def note(self, text: str) -> None:
        """Pass the note on."""
        self._send(_Message(text, warning=False))

    def warn(self, text: str) -> None:
        """Pass the warning on."""
        self._send(_Message(text, warning=True))

    def stop_requested(self) -> bool:
        """Return whether the parent asks to stop, or is gone; a message during a job means stop."""
        self._stopping = self._stopping or self._line.poll()
        return self._stopping

    def _send(self, word: _Advance | _Message) -> None:
        with suppress(OSError):  # the parent is gone: the state is saved first
            self._line.send(word)


def _work(folder: Path, recipe: Recipe, locks: Mapping[Path, bytes], line: Connection) -> None:
    """Run a worker's process: train each job that comes until there are no more."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a whole group gets them; the pipe says when to stop
    watch(locks)
    tuning = Tuning(BaseModel.open(folder), recipe, _Relay(line))
    with suppress(EOFError, OSError):  # the process that started it is gone
        while job := line.recv():
            try:
                word: Trained | M2MError = tuning.train(job)
            except M2MError as error:
                word = error
            line.send(word)
