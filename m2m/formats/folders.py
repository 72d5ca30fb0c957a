"""Folders of rows: saved by `datasets.save_to_disk`, of the Hugging Face hub, or plain."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.formats.archives import has_rows, is_beside
from m2m.formats.rowfile import Fault
from m2m.opening import SETTINGS, read_text, refuse_links

_DEPTH = 3  # folders below each other, as CONFIGURATION/data/train-00000-of-00001.parquet
_MOST_FILES = 10_000
# The words by which `datasets` sees a split in a name.
_SPLIT = re.compile(
    r"(?<![a-z0-9])(train|training|validation|valid|val|dev|development|test|testing|eval)(?![a-z])"
)
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_OTHERS = {"dataset_infos.json", "dataset_info.json", "state.json", "dataset_dict.json"}
NO_ROWS = "it has no files of rows"


@dataclass(frozen=True)
class FolderSplit:
    """Files of a folder that belong together: the shards of one split.

    Attributes:
        name: the words that the user writes after the folder.
        files: in order.
    """

    name: str
    files: tuple[Path, ...]


def folder_part(folder: Path, inner: str) -> FolderSplit:
    """Return the files of a folder that are meant.

    Args:
        folder: the folder.
        inner: the part that the user named after it, or "".

    Raises:
        Fault: the folder has no rows, or several parts.
        InputError: it has links that lead out of it.
    """
    refuse_links(folder, *("/".join("*" * depth) for depth in range(1, _DEPTH + 1)))
    if (folder / "state.json").is_file() and not inner:
        return FolderSplit("", _saved(folder))
    if (folder / "dataset_dict.json").is_file():
        parts = [
            FolderSplit(state.parent.name, _saved(state.parent))
            for state in sorted(folder.glob("*/state.json"))
        ]
    else:
        parts = _parts(folder)
    chosen = [part for part in parts if inner in ("", part.name)]
    if len(chosen) == 1:
        return chosen[0]
    if not parts:
        raise Fault(f"is a folder, expected a file ({NO_ROWS})", "give the file")
    shown = ", ".join(part.name for part in parts[:8]) + (" ..." if len(parts) > 8 else "")
    wrong = f"has nothing called {inner!r:.60}" if inner else "is a folder with several parts"
    raise Fault(f"{wrong}: {shown}", members=[part.name for part in parts])


def _saved(folder: Path) -> tuple[Path, ...]:
    """Return the Arrow files of a dataset that `save_to_disk` wrote, in their order."""
    state: Any = _json(folder / "state.json")
    try:
        names = [str(entry["filename"]) for entry in state["_data_files"]]
        chosen = state.get("_indices_files")
    except (KeyError, TypeError, AttributeError):
        raise Fault("state.json does not name its files", "save the dataset again") from None
    if chosen:
        raise Fault("has rows that were chosen by number", "save it with `flatten_indices()`")
    if away := [name for name in names if name != Path(name).name or name in ("", "..")]:
        raise Fault(
            f"state.json names a file outside the folder: {away[0]!r:.60}", "do not trust it"
        )
    return tuple(folder / name for name in names)


def _json(path: Path) -> Any:
    try:
        return json.loads(read_text(path, SETTINGS))
    except (ValueError, RecursionError):
        raise Fault(f"{path.name} is not JSON", "get the folder again") from None


def _parts(folder: Path) -> list[FolderSplit]:
    """Return the parts of a folder by configuration, split and kind of file."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for file in _files(folder):
        place = file.relative_to(folder)
        plain = _SHARD.sub("", place.name)
        above = [name for name in place.parts[:-1] if name != "data"]
        split = _SPLIT.search(plain.lower())
        if split and plain[: split.start()].strip("-_. ") in ("", *above[-1:]):
            named = "/".join([*above, split[1]])
        elif split is None and above and (_SPLIT.fullmatch(above[-1].lower())):
            named = "/".join(above)
        else:
            named = place.as_posix() if plain == place.name else "/".join([*above, plain])
        kind = "".join(Path(plain).suffixes)
        groups.setdefault((named, kind), []).append(file)
    named_once = len({name for name, _ in groups}) == len(groups)
    parts = []
    for (name, _), files in groups.items():
        sharded = all(_SHARD.search(file.name) for file in files)
        if named_once and (sharded or len(files) == 1):
            parts.append(FolderSplit(name, tuple(files)))
        else:  # files that are not said to be parts of one
            parts += [FolderSplit(file.relative_to(folder).as_posix(), (file,)) for file in files]
    return parts


def _files(folder: Path) -> list[Path]:
    files: list[Path] = []
    for depth in range(1, _DEPTH + 1):
        for path in folder.glob("/".join("*" * depth)):
            place = path.relative_to(folder).as_posix()
            is_data = has_rows(path.name) and path.name not in _OTHERS and not is_beside(place)
            if is_data and path.is_file():
                files.append(path)
            if len(files) > _MOST_FILES:
                raise Fault(f"has more than {_MOST_FILES:,} files", "give a folder of one dataset")
    return sorted(files)


def mark_of(hashes: Sequence[tuple[str, str]]) -> str:
    """Return the hash of several files by their names and hashes, in their order."""
    return hashlib.sha256(json.dumps(hashes).encode("utf-8")).hexdigest()
