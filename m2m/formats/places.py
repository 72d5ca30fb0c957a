"""Where rows are: a file, or something in a file that the user names after it."""

from __future__ import annotations

from pathlib import Path

from m2m.opening import unreadable


def place_of(path: Path) -> tuple[Path, str]:
    """Return the file of a path, and the name inside it that follows: `a.zip/train.csv`.

    Raises:
        InputError: the system refuses to look.
    """
    try:
        if path.exists():
            return path, ""
        for parent in path.parents:
            if parent.exists():
                inner = path.relative_to(parent).as_posix()
                return (parent, inner) if parent.is_file() else (path, "")
    except (OSError, ValueError) as error:  # a name that is too long, or with a zero byte
        raise unreadable(path, error) from error
    return path, ""


def is_there(path: Path) -> bool:
    """Return whether there is a file of rows, or a file in which the rest of the path may be.

    Raises:
        OSError: the system refuses to look.
    """
    return path.is_file() or place_of(path)[1] != ""
