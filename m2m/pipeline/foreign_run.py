"""Read a run's folder from somebody else: find the files that count, and check each one.

Only files that m2m itself writes are read, by their names; everything else is left alone. Links are
never followed. The folder may change meanwhile (a network share, a USB stick that somebody has
prepared), so a checked file is identified by its SHA-256, and the copy is compared with it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m2m.adapter import CONFIG, OWN, WEIGHTS, check_adapter
from m2m.checkpoint import BaseModel
from m2m.counted import counted
from m2m.errors import InputError, Problems
from m2m.formats.disk import in_words
from m2m.formats.json_values import as_text
from m2m.formats.records import read_object
from m2m.formats.safetensors import SafetensorsFile
from m2m.opening import copy_file, file_sha256
from m2m.recipe.data_fields import NAME
from m2m.results.folder import RECIPE, RunFolder, parsed
from m2m.results.settings import checked_settings
from m2m.tuner.checkpointing import check_state
from m2m.tuner.result import read_result

_FILES = {CONFIG: 1 << 20, WEIGHTS: 4 << 30, OWN: 64 << 20}  # an adapter's files: most bytes
_JOURNAL = 1 << 30
_ENTRIES = 100_000  # names in a folder, and adapters in a run, at most
_TUNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}")  # "copy+upper", "12-datasets-0a1b2c3d"
_MOST_STATE = 16 << 30  # bytes: an adapter, both averages of AdamW and the mean
_SHARE = re.compile(r"\d{1,6}-of-\d{1,6}")
_SPARE = 16 << 20  # bytes that a header may take in addition to the factors
# A Windows folder that points to another one (a junction); Python does not call it a link.
_JUNCTION = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)


@dataclass(frozen=True)
class ForeignAdapter:
    """A complete, checked adapter folder.

    Attributes:
        source: the checked folder.
        place: its path relative to a run's folder.
        identity: identity of its training.
        sha256: SHA-256 of each of its files, by name.
        bytes: size of all its files.
    """

    source: Path
    place: Path
    identity: str
    sha256: dict[str, str]
    bytes: int

    def copy(self, folder: Path) -> None:
        """Copy the checked files into a new folder.

        Raises:
            InputError: a file has changed since it was checked.
            OSError: `folder` cannot be written.
        """
        folder.mkdir(parents=True)
        for name, expected in self.sha256.items():
            _copy(self.source / name, folder / name, _FILES[name], expected)


@dataclass(frozen=True)
class ForeignState:
    """A checked state, from which a training goes on.

    Attributes:
        source, place, bytes: as of a `ForeignAdapter`; a file.
        sha256: of the file.
    """

    source: Path
    place: Path
    sha256: str
    bytes: int

    def copy(self, path: Path) -> None:
        """Copy the checked file; see `ForeignAdapter.copy`."""
        _copy(self.source, path, _MOST_STATE, self.sha256)


@dataclass
class ForeignRun:
    """The files that count in a run's folder.

    Attributes:
        folder: the run's folder.
        adapters: experts and fine-tunes.
        states: of the trainings that can go on.
        journals: journals of the search and of its shares.
        confirmed: journals of confirmations, one at most.
        recipe: content of `recipe.json`; None without one.
        left_out: names of files that m2m does not know, or does not take from others.
    """

    folder: Path
    adapters: list[ForeignAdapter] = field(default_factory=list)
    states: list[ForeignState] = field(default_factory=list)
    journals: list[Path] = field(default_factory=list)
    confirmed: list[Path] = field(default_factory=list)
    recipe: dict[str, Any] | None = None
    left_out: list[str] = field(default_factory=list)


def read_foreign(folder: Path, base: BaseModel | None, problems: Problems) -> ForeignRun:
    """Find and check the files that count in a run's folder; add each fault to `problems`.

    Args:
        folder: as the user named it; it may be a link to a folder, but not contain links.
        base: the model that adapters with its fingerprint must fit; None if it is not here.
        problems: gets one entry for each file.
    """
    run, files = ForeignRun(folder), RunFolder(folder)
    parts = files.adapters, files.study, files.shares
    if not any(map(os.path.lexists, parts)):
        problems.add(f"{folder} has no {parts[0].name}/, {parts[1].name} or {parts[2].name}/")
        return run
    walk = _Walk(problems, run.left_out)
    try:
        for path in _adapter_folders(files, walk):
            _read_adapter(path, run, base, walk)
        for path in walk.entries(files.states, _TUNED, "file", ".safetensors"):
            run.states += _read_state(path, run, walk)
        run.journals = [
            *walk.files(folder, files.study.name),
            *(path for share in walk.folders(files.shares, _SHARE)
              for path in walk.files(share, files.study.name)),
        ]  # fmt: skip
        run.confirmed = walk.files(folder, files.finetune_scores.name)
        for path in walk.files(folder, RECIPE):
            run.recipe = _read_recipe(path)
    except InputError as error:
        problems.add(error.message)
    except OSError as error:
        problems.add(f"cannot read {error.filename or folder}: {error.strerror or error}")
    return run


@dataclass
class _Walk:
    """Lists names of a folder without following links."""

    problems: Problems
    left_out: list[str]
    seen: int = 0

    def files(self, folder: Path, name: str, limit: int = _JOURNAL) -> list[Path]:
        """Return the file as a list of one; an empty list if it is missing or wrong."""
        path = folder / name
        try:
            status = path.lstat()
        except FileNotFoundError:
            return []
        if _is_link(status):
            self.problems.add(f"{path}: is a link, expected the file itself")
        elif not stat.S_ISREG(status.st_mode):
            self.problems.add(f"{path}: is not a regular file")
        elif status.st_size > limit:
            self.problems.add(
                f"{path}: has {in_words(status.st_size)}, expected at most {in_words(limit)}"
            )
        else:
            return [path]
        return []

    def folders(self, folder: Path, pattern: re.Pattern[str]) -> list[Path]:
        """Return the folders in a folder whose names fit; an empty list if it is missing."""
        return self.entries(folder, pattern, "folder")

    def entries(
        self, folder: Path, pattern: re.Pattern[str], kind: str, ending: str = ""
    ) -> list[Path]:
        """Return the entries of a kind, "folder" or "file", in a folder, as `folders` does."""
        wanted = stat.S_ISDIR if kind == "folder" else stat.S_ISREG
        try:
            status = folder.lstat()
        except FileNotFoundError:
            return []
        if _is_link(status) or not stat.S_ISDIR(status.st_mode):
            self.problems.add(f"{folder}: is not a folder, or is a link to one")
            return []
        paths = []
        with os.scandir(folder) as entries:
            for entry in entries:
                self.seen += 1
                if self.seen > _ENTRIES:
                    raise InputError(f"{folder}: more than {_ENTRIES:,} names")
                path, status = folder / entry.name, entry.stat(follow_symlinks=False)
                stem = entry.name.removesuffix(ending)
                if not (entry.name.endswith(ending) and pattern.fullmatch(stem)):
                    self._leave(path)
                elif _is_link(status):
                    self.problems.add(f"{path}: is a link, expected the {kind} itself")
                elif wanted(status.st_mode):
                    paths.append(path)
                else:
                    self._leave(path)
        return sorted(paths)

    def leave_unknown(self, folder: Path) -> None:
        """Note the files in an adapter's folder that are not part of an adapter."""
        with os.scandir(folder) as entries:
            for entry in entries:
                self.seen += 1
                if self.seen > _ENTRIES:
                    raise InputError(f"{folder}: more than {_ENTRIES:,} names")
                if entry.name not in _FILES:
                    self._leave(folder / entry.name)

    def _leave(self, path: Path) -> None:
        if not path.name.startswith(".m2m-"):  # left by a killed writer
            self.left_out.append(str(path))


def _is_link(status: os.stat_result) -> bool:
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) == _JUNCTION


def _adapter_folders(files: RunFolder, walk: _Walk) -> Iterator[Path]:
    """Find the folders of experts, and of real fine-tunes in a folder of their steps."""
    yield from walk.folders(files.adapters, NAME)
    for steps in walk.folders(files.finetunes, re.compile(r"\d{1,9}")):
        yield from walk.folders(steps, _TUNED)


def _read_adapter(path: Path, run: ForeignRun, base: BaseModel | None, walk: _Walk) -> None:
    walk.leave_unknown(path)
    files = [file for name, most in _FILES.items() for file in walk.files(path, name, most)]
    if len(files) < len(_FILES):
        missing = [name for name in _FILES if not os.path.lexists(path / name)]
        if missing:
            walk.problems.add(f"{path}: has no {', '.join(missing)}")
        return
    try:
        extra = read_object(path / OWN)
        ours = base if base and extra.get("base_fingerprint") == base.fingerprint else None
        _check_size(path, ours)
        sha256 = {file.name: file_sha256(file) for file in files}  # taken before the checks below
        result = read_result(path)
        if ours:
            check_adapter(result.adapter, ours.config)
    except InputError as error:
        walk.problems.add(error.message)
        return
    size = sum(file.stat().st_size for file in files)
    place = path.relative_to(run.folder)
    run.adapters.append(ForeignAdapter(path, place, str(extra["identity"]), sha256, size))


def _read_state(path: Path, run: ForeignRun, walk: _Walk) -> Iterator[ForeignState]:
    for file in walk.files(path.parent, path.name, _MOST_STATE):
        try:
            sha256 = file_sha256(file)  # taken before the checks below
            check_state(file)
        except InputError as error:
            walk.problems.add(error.message)
        else:
            place = file.relative_to(run.folder)
            yield ForeignState(file, place, sha256, file.stat().st_size)


def _copy(source: Path, target: Path, most: int, sha256: str) -> None:
    copy_file(source, target, most)
    if file_sha256(target) != sha256:
        raise InputError(
            f"{source}: changed while it was copied; nothing was merged",
            "wait until no other program writes to it, and run the command again",
        )


def _check_size(path: Path, base: BaseModel | None) -> None:
    """Compare the size of the weights with the rank and the base's shapes, before reading them.

    Raises:
        InputError: the file is larger than such an adapter can be, or has bytes outside tensors.
    """
    file = SafetensorsFile(path / WEIGHTS)
    if file.spare:
        raise InputError(f"{file.path}: {counted(file.spare, 'byte')} of it belong to no tensor")
    if base is None:
        return
    shapes = base.config.linear_shapes().values()
    named = read_object(path / CONFIG).get("r")
    rank = min(named, max(map(max, shapes))) if type(named) is int else 0
    most = rank * sum(map(sum, shapes)) * 8 + _SPARE  # as float64, the largest type
    if (size := file.path.stat().st_size) > most:
        raise InputError(
            f"{file.path}: has {in_words(size)}; an adapter of rank {rank} of {base.name} has at "
            f"most {in_words(most)}"
        )


def _read_recipe(path: Path) -> dict[str, Any]:
    """Read `recipe.json` and check the types that `merge_runs` and a report need."""
    data = read_object(path)
    parsed(path, lambda: checked_settings(data))
    parsed(path, lambda: as_text(data.get("llama", ""), "llama"))
    return data
