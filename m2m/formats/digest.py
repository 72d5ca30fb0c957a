"""The sha256 of a file, which identifies inputs and results."""

from __future__ import annotations

import hashlib
from pathlib import Path

from m2m.opening import open_file


def file_sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes.

    Raises:
        InputError: the file cannot be opened, see `m2m.opening.open_file`.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
