"""Find the names of a column's classes in the files that the Hugging Face hub puts next to data."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from m2m.errors import M2MError
from m2m.formats.records import read_object
from m2m.formats.yaml import front_matter
from m2m.opening import SETTINGS, read_text

_INFO = ("dataset_info.json", "dataset_infos.json")
_ABOVE = 2  # folders: the hub puts data into a folder `data/`
_DEEPEST = 12


def class_names(path: Path, column: str) -> tuple[dict[str, str], str]:
    """Return the words of a column's numbers, by number as text; {} if no file has them.

    A card can have several configurations whose classes have different orders: those of the
    configuration that has this file count (by `data_files`, then by the names of folders).

    Returns:
        The words, and why there are none although a file has some; or "".
    """
    path = path.absolute() / "data" if path.is_dir() else path.absolute()  # of a folder: in it
    for folder in [*path.parents][: _ABOVE + 1]:
        for name in (*_INFO, "README.md"):
            value = _read(folder / name)
            names = [
                (config, tuple(words))
                for config, part in _configs(value)
                for words in _found(part, column, _DEEPEST)
            ]
            if not names:
                continue
            place = path.relative_to(folder).as_posix()
            names = _meant(names, value, place)
            if len({words for _, words in names}) == 1:
                return {str(number): word for number, word in enumerate(names[0][1])}, ""
            shown = [f"{config or 'one'} {', '.join(words)}" for config, words in names[:2]]
            doubt = f"{name} has several lists of words for it ({'; '.join(shown):.200})"
            return {}, doubt if names else f"{name} has words only for other configurations"
    return {}, ""


def _configs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the configurations of a card or of an info file, with their names ("" for one)."""
    if isinstance(value, Mapping) and "dataset_info" in value:
        value = value["dataset_info"]
    if isinstance(value, list):
        for part in value:
            yield str(part.get("config_name", "")) if isinstance(part, Mapping) else "", part
    elif isinstance(value, Mapping) and "features" not in value:  # dataset_infos.json
        yield from ((str(name), part) for name, part in value.items())
    elif isinstance(value, Mapping):
        yield str(value.get("config_name", "")), value


def _meant(
    names: list[tuple[str, tuple[str, ...]]], card: Any, place: str
) -> list[tuple[str, tuple[str, ...]]]:
    """Return the lists of the configuration that has the file at `place`; all if none is named."""
    configs = card.get("configs") if isinstance(card, Mapping) else None
    owners = {
        str(config.get("config_name", ""))
        for config in (configs if isinstance(configs, list) else ())
        if isinstance(config, Mapping)
        and any(fnmatch.fnmatchcase(place, pattern) for pattern in _patterns(config))
    }
    known = {config for config, _ in names}
    if not owners:
        *folders, file = place.split("/")
        owners = known & {*folders} or {
            config
            for config in known
            if config and re.match(rf"{re.escape(config)}(?![^\W_])", file)
        }
        longest = max(owners, key=len, default="")  # hau-pidgin, not hau
        owners = {longest} if all(longest.startswith(owner) for owner in owners) else owners
    if known <= {"", "default"} or not any(owners):
        return names
    return [(config, words) for config, words in names if config in owners]


def _patterns(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the patterns of the files of a card's configuration."""
    waiting = [config.get("data_files")]
    folder = config.get("data_dir")
    start = f"{folder.strip('/')}/" if isinstance(folder, str) else ""
    if start and waiting == [None]:
        yield f"{start}*"
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield start + value.removeprefix("./").replace("**/", "*")
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, Mapping):  # {split, path}, or {train: path}
            waiting += [item for key, item in value.items() if key != "split"]


def _read(file: Path) -> Any:
    if not file.is_file():
        return None
    try:
        if file.suffix == ".json":
            return read_object(file)
        return front_matter(read_text(file, SETTINGS, universal=True), str(file))
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
