"""A file's bytes as a read-only array, without a copy: the system reads a page when it is used."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.errors import InputError
from m2m.opening import open_file, unreadable

# Smaller views stay in memory: they are used again soon, and each page would cost a page fault.
_LARGE = 4 << 20


def map_file(path: Path, kind: str, least: int) -> NDArray[np.uint8]:
    """Map `path`; `least` is the size in bytes of the smallest possible file of this `kind`.

    Raises:
        InputError: the file is missing, not a file, unreadable or smaller than `least`.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size < least:
            raise InputError(f"{path}: found {size} bytes, a {kind} file has at least {least}")
        try:
            return np.memmap(file, np.uint8, mode="r").view(np.ndarray)
        except (OSError, ValueError) as error:  # ValueError: the file is empty by now
            raise unreadable(path, error) from error


def release(view: NDArray[Any]) -> None:
    """Take the pages of a large contiguous view of a mapped file out of this process's memory.

    They stay in the system's cache or on the disk, and using them loads them again. So code that
    goes through a file holds one tensor in memory, not all. This does nothing to other arrays, or
    if the system has no such call.
    """
    owner: Any = view
    while isinstance(owner, np.ndarray) and not isinstance(owner.base, mmap.mmap):
        owner = owner.base
    # The pages of a private map ("c") hold changes that exist only there.
    if view.nbytes < _LARGE or not isinstance(owner, np.memmap) or owner.mode == "c":
        return
    pages: Any = owner.base
    if hasattr(pages, "madvise"):
        start = view.ctypes.data - np.frombuffer(pages, np.uint8).ctypes.data
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        pages.madvise(mmap.MADV_DONTNEED, first, start + view.nbytes - first)
