"""A run whose experts are trained: everything that search, confirm, validate and export need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from m2m.pipeline.inputs import Inputs
from m2m.progress import Progress
from m2m.results.folder import RunFolder, ShareFolder


@dataclass(frozen=True)
class TrainedRun:
    """The first argument of every stage after training.

    Attributes:
        inputs: the recipe and the files that it names, read.
        experts: adapter folders by dataset name.
        progress: shows bars and messages, and says whether the user wants to stop.
        own: the folder of a share of the work, which other processes may work beside; or None.
    """

    inputs: Inputs
    experts: Mapping[str, Path]
    progress: Progress
    own: Path | None = None

    @property
    def files(self) -> RunFolder:
        """Return the names of the run's files."""
        files = self.inputs.files
        return files if self.own is None else ShareFolder(files.path, self.own)
