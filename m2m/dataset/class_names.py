"""Find the names of a column's classes in the files that the Hugging Face hub puts next to data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from m2m.errors import M2MError
from m2m.formats.records import read_object
from m2m.formats.yaml import parse_yaml
from m2m.opening import SETTINGS, read_text

_INFO = ("dataset_info.json", "dataset_infos.json")
_ABOVE = 2  # folders: the hub puts data into a folder `data/`
_DEEPEST = 12


def class_names(path: Path, column: str) -> dict[str, str]:
    """Return the words of a column's numbers, by number as text; {} if no file says them."""
    for folder in [path.absolute().parent, *path.absolute().parents][: _ABOVE + 1]:
        for name in (*_INFO, "README.md"):
            for names in _found(_read(folder / name), column, _DEEPEST):
                return {str(number): word for number, word in enumerate(names)}
    return {}


def _read(file: Path) -> Any:
    if not file.is_file():
        return None
    try:
        if file.suffix == ".json":
            return read_object(file)
        head = re.match(r"---\n(.*?)\n---", read_text(file, SETTINGS, universal=True), re.DOTALL)
        return parse_yaml(head[1], str(file)) if head else None
    except M2MError:  # the files are only used for a suggestion
        return None


def _found(value: Any, column: str, levels: int) -> Iterator[list[str]]:
    """Yield the names of a ClassLabel called `column`, as JSON and as a card's YAML write it."""
    if isinstance(value, list):
        for item in value if levels else ():
            if isinstance(item, Mapping) and item.get("name") == column:
                yield from _listed(item)
            yield from _found(item, column, levels - 1)
    elif isinstance(value, Mapping) and levels:
        for key, item in value.items():
            if key == column:
                yield from _listed(item)
            yield from _found(item, column, levels - 1)


def _listed(feature: Any) -> Iterator[list[str]]:
    if not isinstance(feature, Mapping):
        return
    dtype = feature.get("dtype")
    if isinstance(dtype, Mapping):
        feature = dtype.get("class_label", {})
    names = feature.get("names") if isinstance(feature, Mapping) else None
    if isinstance(names, Mapping):
        names = [*names.values()]
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        yield names
