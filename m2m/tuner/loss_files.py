"""Losses as files that grow while a training runs: JSON lines, and TensorBoard's event files."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2m.errors import InputError, ResourceError
from m2m.formats.atomic import write_bytes
from m2m.formats.disk import make_folder
from m2m.formats.json_text import json_text
from m2m.opening import open_to_append, read_bytes
from m2m.tuner.callbacks import Step

if TYPE_CHECKING:
    from m2m.tuner.result import TrainResult


class LossFile:
    """Appends a JSON line for each step; lines of steps that are made again are cut off.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_start(self, total_steps: int, done_steps: int) -> None:
        """Keep the lines of the steps that are done; none if another file has them."""
        kept: list[bytes] = []
        with suppress(OSError, InputError):
            if done_steps and self._path.exists():
                lines = read_bytes(self._path).splitlines(keepends=True)
                kept = [line for line in lines if 0 < _number(line) <= done_steps]
            write_bytes(self._path, b"".join(kept))

    def on_step(self, step: Step) -> None:
        """Append the step; a training never fails because its losses cannot be written."""
        about = {"tokens": step.tokens, "seconds": round(step.seconds, 3)}
        with suppress(OSError, InputError), open_to_append(self._path) as file:
            file.write(json_text({"step": step.number, **_numbers(step), **about}).encode() + b"\n")

    def on_end(self, result: TrainResult) -> None:
        """Do nothing: the file is complete."""

    def stop_requested(self) -> bool:
        """Never ask to stop."""
        return False


class EventFile:
    """Writes the same numbers for TensorBoard, with its package.

    Args:
        folder: gets a file for each process that trains; TensorBoard joins them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def on_start(self, total_steps: int, done_steps: int) -> None:
        """Open a file, and void the steps of earlier files that are made again."""
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        make_folder(self._folder)
        self._writer = EventFileWriter(str(self._folder))
        self._add(done_steps + 1, session_log=SessionLog(status=SessionLog.START))

    def on_step(self, step: Step) -> None:
        """Write the step's numbers."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        numbers = _numbers(step).items()
        values = [Summary.Value(tag=name, simple_value=number) for name, number in numbers]
        self._add(step.number, summary=Summary(value=values))

    def on_end(self, result: TrainResult) -> None:
        """Close the file."""
        self._writer.close()

    def stop_requested(self) -> bool:
        """Never ask to stop."""
        return False

    def _add(self, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        with suppress(OSError):
            self._writer.add_event(Event(wall_time=time.time(), step=step, **content))
            self._writer.flush()  # a process that is killed keeps its steps


def check_tensorboard(wanted: bool) -> None:
    """Raise ResourceError if event files are wanted and TensorBoard's package is not installed."""
    if wanted and find_spec("tensorboard") is None:
        raise ResourceError(
            'tensorboard = "yes" in [report], and the package tensorboard is not installed',
            "type `pip install 'm2m[tensorboard]'`, or leave it out: the same numbers are in "
            "losses/*.jsonl of the run's folder",
        )


def _numbers(step: Step) -> dict[str, float]:
    """Return the numbers of a step that are drawn as curves."""
    held_out = {} if step.held_out is None else {"held_out": step.held_out}
    drawn = {name: getattr(step, name) for name in ("learning_rate", "gradient_norm")}
    return {"loss": step.loss, **held_out, **drawn}


def _number(line: bytes) -> int:
    """Return the step of a line; 0 if a kill has cut the line."""
    with suppress(ValueError, KeyError, TypeError):
        return int(json.loads(line)["step"]) if line.endswith(b"\n") else 0
    return 0
