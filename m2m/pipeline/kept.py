"""Keep the trainings of other settings, and find those of the same settings.

An adapter has one place in a run's folder. If another training is to have that place, the adapter
that is there moves to `earlier/`, named after its fingerprint, and comes back when its settings do.
Other runs in the same folder may have made the same training; then its adapter is copied.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from m2m.adapter import CONFIG, OWN, WEIGHTS, read_extra
from m2m.errors import InputError
from m2m.formats.atomic import atomic_file, atomic_folder
from m2m.formats.disk import make_folder
from m2m.opening import copy_file, open_file
from m2m.pipeline.experts import Job, expert_job, given_experts, made
from m2m.pipeline.inputs import Inputs
from m2m.recipe import run_folder
from m2m.results.folder import RunFolder
from m2m.tuner.checkpointing import checkpoint_path, saved_identity, saved_step

_FILES = {CONFIG: 1 << 20, WEIGHTS: 4 << 30, OWN: 64 << 20}  # an adapter's files: most bytes
_PART = 1 << 20
_NAME = 24  # digits of a fingerprint in a name


def make_way(inputs: Inputs, jobs: Sequence[Job]) -> None:
    """Prepare the places of trainings: other trainings move away, finished ones come back.

    Raises:
        ResourceError: the disk is full.
    """
    for job in jobs:
        mark, identity = job.mark(inputs.base), job.identity(inputs.base)
        if _mark_at(job.folder) != mark:
            _bring(inputs, job, mark)
        states = [checkpoint_path(job.folder), *([job.state] if job.state else [])]
        for state in states:
            _bring_state(inputs, state, identity)
        if job.state and not job.state.exists():
            _copy_state(inputs, job, identity)


def made_where(inputs: Inputs, job: Job) -> Path | None:
    """Return the folder of a job's finished adapter, in this run or in another one; or None."""
    if made(inputs.base, job):
        return job.folder
    return next(_elsewhere(inputs, job, job.mark(inputs.base)), None)


def trained_experts(inputs: Inputs) -> dict[str, Path]:
    """Return the folders of all adapters.

    Raises:
        InputError: some adapters are not trained, or were trained with other settings.
    """
    folders = finished_experts(inputs)
    if missing := [name for name in inputs.expert_names if name not in folders]:
        raise InputError(
            f"{inputs.recipe.path}: not trained yet: {', '.join(missing)}",
            "run `m2m train` first, or all shares of it",
        )
    return folders


def finished_experts(inputs: Inputs) -> dict[str, Path]:
    """Return the folders of the adapters that are trained as the recipe says, here or elsewhere."""
    known = given_experts(inputs)
    jobs = {name: expert_job(inputs, name) for name in inputs.untrained_names}
    found = {name: folder for name, job in jobs.items() if (folder := made_where(inputs, job))}
    return {name: trained.path for name, trained in known.items()} | found


def _bring(inputs: Inputs, job: Job, mark: str) -> None:
    """Fill a place with the adapter of this training, if it exists; keep the one that is there."""
    kept = inputs.files.earlier
    if (other := _mark_at(job.folder)) is not None:
        _move(job.folder, kept / other[:_NAME])
    for found in _elsewhere(inputs, job, mark):
        if found.parent == kept:
            _move(found, job.folder)
        else:
            _copy_adapter(found, job.folder)
        if made(inputs.base, job):
            return


def _elsewhere(inputs: Inputs, job: Job, mark: str) -> Iterator[Path]:
    """Find adapters of this training outside their place: kept ones first, then other runs'."""
    place = job.folder.relative_to(inputs.files.path)
    own = inputs.files.earlier / mark[:_NAME]
    for folder in [own, *(path for run in _others(inputs) for path in (
        run.path / place, run.earlier / mark[:_NAME],
    ))]:  # fmt: skip
        if _mark_at(folder) == mark:
            yield folder


def _others(inputs: Inputs) -> list[RunFolder]:
    """Return the other runs next to this one, and those of the recipe's folder."""
    recipe = inputs.recipe
    homes = dict.fromkeys([recipe.folder.parent, run_folder(recipe.path).parent])
    found = []
    for home in homes:
        with suppress(OSError):
            found += [
                RunFolder(path)
                for path in sorted(home.iterdir())
                if path != recipe.folder and path.is_dir() and not path.is_symlink()
            ]
    return found


def _bring_state(inputs: Inputs, state: Path, identity: str) -> None:
    """Fill the place of a state, which is also kept if it is of another training."""
    there, kept = saved_identity(state), inputs.files.earlier
    if there == identity:
        return
    if there is not None:
        _move(state, kept / _state_name(there, state))
    if (own := kept / _state_name(identity, state)).is_file():
        _move(own, state)


def _copy_state(inputs: Inputs, job: Job, identity: str) -> None:
    """Copy the state of the same training from another run, to go on from it."""
    if job.state is None:
        return
    place = job.state.relative_to(inputs.files.path)
    for run in _others(inputs):
        source = run.path / place
        if 0 < saved_step(source, identity) <= job.steps:
            with suppress(InputError), open_file(source) as file, atomic_file(job.state) as target:
                while part := file.read(_PART):
                    target.write(part)
            if saved_step(job.state, identity):
                return
            job.state.unlink(missing_ok=True)  # it changed while it was copied


def _state_name(identity: str, state: Path) -> str:
    kind = "checkpoint" if state.name.endswith(".checkpoint.safetensors") else "state"
    return f"{identity[:_NAME]}.{kind}.safetensors"


def _copy_adapter(source: Path, place: Path) -> None:
    with suppress(InputError, FileNotFoundError), atomic_folder(place) as folder:
        for name, most in _FILES.items():
            copy_file(source / name, folder / name, most)


def _mark_at(folder: Path) -> str | None:
    """Return the mark of an adapter's folder; None if there is none, or it is damaged."""
    try:
        mark = read_extra(folder).get("identity")
    except InputError:
        return None
    return mark if isinstance(mark, str) and mark.isalnum() else None


def _move(source: Path, target: Path) -> None:
    """Move a folder or file; if the target is there already, it is the same, and stays."""
    make_folder(target.parent)
    with suppress(FileExistsError, FileNotFoundError):  # another share was quicker
        if target.exists():
            return
        os.rename(source, target)  # noqa: PTH104 (the name that tests interrupt)
