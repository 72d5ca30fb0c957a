"""Where rows are: a file or a folder, or something in it that the user names after it."""

from __future__ import annotations

from pathlib import Path

from m2m.errors import InputError

# Files and folders of a dataset whose parts have names of their own, such as a split.
_SIGNS = ("dataset_dict.json", "README.md", "data")
_DEPTH = 2  # names of a part: CONFIGURATION/SPLIT


def place_of(path: Path) -> tuple[Path, str]:
    """Return the file or folder of a path, and the name in it that follows: `a.zip/train.csv`.

    A path that is there has nothing that follows, and neither has one that is simply missing.

    Raises:
        InputError: the system refuses to look.
    """
    try:
        if path.exists():
            return path, ""
        for place in path.parents:
            inner = path.relative_to(place).as_posix()
            if place.is_file() or (inner.count("/") < _DEPTH and _has_part(place, inner)):
                return place, inner
        return path, ""
    except (OSError, ValueError) as error:  # a name that is too long, or with a zero byte
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read {str(path)!r:.200}: {reason}", "check the path") from error


def is_there(path: Path) -> bool:
    """Return whether there is a file or folder, or a file in which the rest of the path may be.

    Raises:
        InputError: the system refuses to look.
    """
    return place_of(path)[0].exists()


def _has_part(folder: Path, inner: str) -> bool:
    """Return whether a folder is a dataset in which a split of this name may be."""
    return "." not in inner and any((folder / sign).exists() for sign in _SIGNS)
