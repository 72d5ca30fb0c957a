"""`m2m merge-runs`: parts of one run, made on several machines, brought together."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from m2m.adapter import CONFIG, load_adapter, read_extra
from m2m.errors import InputError, Problems
from m2m.formats.atomic import atomic_folder, write_json
from m2m.formats.records import read_object
from m2m.pipeline.sharing import join_journals
from m2m.results.folder import RECIPE
from m2m.store import run_lock

ADAPTERS, CONFIRM, SHARES, STUDY = "adapters", "confirm", "shares", "study.jsonl"


@dataclass
class MergedRuns:
    """What came over.

    Attributes:
        adapters: names of adapters that were copied.
        mixtures: lines of scored mixtures that were new.
        confirmed: the same of confirmed models.
        warnings: what does not fit together.
    """

    into: Path
    adapters: list[str] = field(default_factory=list)
    mixtures: int = 0
    confirmed: int = 0
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The fields of `m2m merge-runs --json`."""
        return {**asdict(self), "into": str(self.into)}


def merge_runs(into: Path, folders: Sequence[Path]) -> MergedRuns:
    """Copy adapters and journal lines that `into` has not.

    An adapter that is there stays; where another folder has a different one of that name, its
    scores stay unused and a warning says so. Nothing in `folders` is changed.

    Raises:
        InputError: a folder is no run, or a file in it is damaged; nothing was copied.
        BusyError: a run is going on in `into`.
    """
    _check(folders)
    found = MergedRuns(into)
    with run_lock(into):
        for folder in folders:
            for part in (ADAPTERS, CONFIRM):
                _copy_adapters(folder / part, into / part, found)
            journals = [folder / STUDY, *sorted((folder / SHARES).glob(f"*-of-*/{STUDY}"))]
            found.mixtures += join_journals(into / STUDY, journals)
            found.confirmed += join_journals(into / "confirm.jsonl", [folder / "confirm.jsonl"])
            _compare(folder, into, found)
            if not (into / RECIPE).exists() and (folder / RECIPE).exists():
                write_json(into / RECIPE, read_object(folder / RECIPE))
    return found


def _check(folders: Sequence[Path]) -> None:
    """Read everything once before anything is written."""
    problems = Problems()
    for folder in folders:
        if not any((folder / name).exists() for name in (ADAPTERS, STUDY, SHARES)):
            problems.add(f"{folder} has no {ADAPTERS}/, {STUDY} or {SHARES}/")
            continue
        for path in _adapters(folder / ADAPTERS) + _adapters(folder / CONFIRM):
            try:
                load_adapter(path)
            except InputError as error:
                problems.add(error.message)
    problems.raise_if_any(
        InputError, "nothing was merged", "give folders like m2m-runs/RECIPE, whole copies of them"
    )


def _adapters(folder: Path) -> list[Path]:
    """All below `folder`: experts lie in it, real fine-tunes a folder of their steps deeper."""
    return sorted(path.parent for path in folder.rglob(CONFIG))


def _copy_adapters(source: Path, target: Path, found: MergedRuns) -> None:
    for path in _adapters(source):
        place = target / path.relative_to(source)
        if not place.exists():
            with atomic_folder(place) as temporary:
                shutil.copytree(path, temporary, dirs_exist_ok=True)
            found.adapters.append(path.name)
        elif read_extra(place).get("identity") != read_extra(path).get("identity"):
            found.warnings.append(
                f"{path} was trained otherwise than {place}, which stays: what was scored with it "
                "is not used"
            )


def _compare(folder: Path, into: Path, found: MergedRuns) -> None:
    """Warn of another base model or build of llama.cpp: their scores are not mixed with ours."""
    if not all((each / RECIPE).is_file() for each in (folder, into)):
        return
    theirs, ours = read_object(folder / RECIPE), read_object(into / RECIPE)
    marks = {each.get("inputs", {}).get("base", {}).get("fingerprint") for each in (theirs, ours)}
    if len(marks - {None}) > 1:
        found.warnings.append(
            f"{folder} was made on another base model: its adapters and scores are not used here"
        )
    if theirs.get("llama") != ours.get("llama"):
        found.warnings.append(
            f"{folder} was scored by another llama.cpp or CPU ({theirs.get('llama')}): a search "
            "here scores its mixtures anew"
        )
