"""Save and load the state of a training run, in one file that is whole or absent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.errors import InputError
from m2m.formats.json_values import as_object, as_whole
from m2m.formats.safetensors import SafetensorsFile, TensorSpec, write_safetensors

# Increased when an older file could no longer be resumed bit for bit.
SCHEMA = 3
_KEY = "m2m_training"

Arrays = Mapping[str, NDArray[np.float32]]


def checkpoint_path(folder: Path) -> Path:
    """Return the path of a run's checkpoint; `folder` is the adapter that the run will write."""
    return folder.with_name(f"{folder.name}.checkpoint.safetensors")


def save_checkpoint(path: Path, identity: str, progress: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a state atomically.

    Args:
        path: from `checkpoint_path`.
        identity: identity of the run; another run never resumes from this state.
        progress: JSON values; floats keep every bit.
        arrays: parameters and optimiser state.
    """
    header = {"schema": SCHEMA, "identity": identity, "progress": progress}
    write_safetensors(
        path,
        [TensorSpec(name, "F32", array.shape) for name, array in arrays.items()],
        arrays.values(),
        {_KEY: json.dumps(header)},
    )


def saved_step(path: Path, identity: str) -> int:
    """Return the step of a training's state; 0 if no readable state is of exactly this run."""
    try:
        header = json.loads(SafetensorsFile(path).metadata[_KEY])
        if header["schema"] != SCHEMA or header["identity"] != identity:
            return 0
        return as_whole(header["progress"]["step"], "step")
    except (InputError, ValueError, KeyError, TypeError, RecursionError):
        return 0  # `load_checkpoint` explains a damaged file


def saved_identity(path: Path) -> str | None:
    """Return the identity of the training whose state a file is; None if it is not readable."""
    try:
        identity = json.loads(SafetensorsFile(path).metadata[_KEY])["identity"]
    except (InputError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return identity if isinstance(identity, str) and identity.isalnum() else None


def check_state(path: Path) -> None:
    """Check a state that comes from somebody else.

    Raises:
        InputError: the file is not a state as m2m writes it.
    """
    file = SafetensorsFile(path)
    identity = saved_identity(path)
    if identity is None or not saved_step(path, identity):
        raise InputError(f"{path}: is not the state of a training that this version can go on from")
    if file.spare:
        raise InputError(f"{path}: {file.spare} bytes of it belong to no tensor")
    for name in file.names:
        if file.raw(name).dtype != np.float32 or not np.isfinite(file.raw(name)).all():
            raise InputError(f"{path}: {name} is not of finite numbers of 32 bits")


def load_checkpoint(path: Path, identity: str, into: Arrays) -> dict[str, Any] | None:
    """Read a state back into the arrays that it was saved from.

    Returns:
        the progress, or None if there is no state of exactly this run.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return None
    hint = f"delete {path} to start this training again"
    try:
        file = SafetensorsFile(path)
        header = json.loads(file.metadata[_KEY])
        if header["schema"] != SCHEMA or header["identity"] != identity:
            return None
        progress = as_object(header["progress"], "progress")
        for name, array in into.items():
            stored = file.raw(name)
            if stored.shape != array.shape or stored.dtype != array.dtype:
                raise InputError(f"{path}: tensor {name} does not fit")
            array[...] = stored
    except (InputError, ValueError, KeyError, TypeError, RecursionError) as error:
        message = error.message if isinstance(error, InputError) else f"{path}: not a checkpoint"
        raise InputError(message, hint) from error
    return progress


def pass_on(source: Path, identity: str, path: Path, later: str) -> None:
    """Write a training's state as the beginning of another one, which starts with its first row.

    Args:
        source: the state of the training `identity`.
        identity: identity of the training that ends.
        path: the new state.
        later: identity of the training that goes on, with other rows.

    Raises:
        InputError: the file is damaged, or of another training.
    """
    file = SafetensorsFile(source)
    arrays = {name: np.array(file.array(name)) for name in file.names}
    progress = load_checkpoint(source, identity, arrays)
    if progress is None:
        raise InputError(f"{source}: not the state of this training", f"delete {source}")
    save_checkpoint(path, later, {**progress, "position": [0, 0]}, arrays)
