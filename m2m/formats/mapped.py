"""A file's bytes as a read-only array: the system reads what is touched, nothing is copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.errors import InputError


def map_file(path: Path, kind: str, least: int) -> NDArray[np.uint8]:
    """Map `path`; `least` is the size in bytes of the smallest possible file of this `kind`.

    Raises:
        InputError: it is missing, no file, unreadable or smaller.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise InputError(f"{path}: is no file, expected a {kind} file")
        if size < least:
            raise InputError(f"{path}: found {size} bytes, a {kind} file has at least {least}")
        return np.memmap(path, np.uint8, mode="r").view(np.ndarray)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
