"""The types of columns that a set's card gives, as `datasets` casts rows to them.

A card (README.md) may have `dataset_info` with the features of each configuration. Then the text of
a class label becomes its number, whatever the kind of file is (datasets/features/features.py and
datasets/table.py). A type that is not known here leaves values as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m2m.errors import InputError
from m2m.evaluate.task_files import TaskFiles
from m2m.formats.yaml import front_matter, parse_yaml

Features = Mapping[str, Mapping[str, Any]]


def features_of(reader: TaskFiles, folder: Path, config: str) -> Features:
    """Return the features of a configuration by the names of the columns.

    Args:
        reader: reads the card.
        folder: of the set.
        config: the name of the configuration.

    Raises:
        InputError: the card is malformed.
    """
    card = folder / "README.md"
    text = reader.text(card).text if card.is_file() else ""
    # A card may describe hundreds of configurations: read one.
    start = rf"^( *)- config_name: *(['\"]?){re.escape(config)}\2 *\r?\n"
    entries = re.finditer(start + r"(?:\1 +.*\n)*", text, re.MULTILINE)
    infos = [info for entry in entries for info in parse_yaml(entry[0], str(card))]
    if not infos and not re.search(r"^dataset_info:\s*- config_name:", text, re.MULTILINE):
        head = front_matter(text, str(card), "dataset_info")
        whole = head.get("dataset_info") if isinstance(head, Mapping) else None
        infos = whole if isinstance(whole, list) else [whole]
    for info in infos:
        named = isinstance(info, Mapping) and info.get("config_name", "default") == config
        if named and "features" in info:
            return _named(info["features"])
    return {}


def cast(rows: Sequence[dict[str, Any]], features: Features, name: str) -> list[dict[str, Any]]:
    """Return rows with the types of their features.

    Raises:
        InputError: a text is none of the class labels; names the column.
    """
    casts = {column: _cast_of(feature, f"{name}: {column}") for column, feature in features.items()}
    return [
        {
            column: casts[column](value) if column in casts else value
            for column, value in row.items()
        }
        for row in rows
    ]


def _named(listed: Any) -> Features:
    items = listed if isinstance(listed, list) else []
    return {
        str(item["name"]): item for item in items if isinstance(item, Mapping) and "name" in item
    }


def _cast_of(feature: Any, where: str) -> Callable[[Any], Any]:
    """Return the function that casts the values of a feature."""
    feature = {"dtype": feature} if isinstance(feature, str) else feature
    if not isinstance(feature, Mapping):
        return _same
    dtype = feature.get("dtype")
    labels = (dtype if isinstance(dtype, Mapping) else feature).get("class_label")
    if isinstance(labels, Mapping):
        names = labels.get("names")
        return _label([*(names.values() if isinstance(names, Mapping) else names or ())], where)
    inner = feature.get("sequence", feature.get("list"))
    if isinstance(inner, list):  # an object of lists
        parts = {key: {"list": part} for key, part in _named(inner).items()}
        return _object({key: _cast_of(part, where) for key, part in parts.items()})
    if inner is not None:
        one = _cast_of(inner, where)
        return lambda value: [*map(one, value)] if isinstance(value, list) else value
    if isinstance(feature.get("struct"), list):
        fields = _named(feature["struct"])
        return _object({key: _cast_of(part, where) for key, part in fields.items()})
    return _plain(str(dtype))


def _same(value: Any) -> Any:
    return value


def _object(casts: Mapping[str, Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def cast_object(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: casts.get(key, _same)(item) for key, item in value.items()}

    return cast_object


def _label(names: Sequence[Any], where: str) -> Callable[[Any], Any]:
    places = {str(name): place for place, name in enumerate(names)}

    def number(value: Any) -> Any:
        if isinstance(value, str):
            place = int(value) if value.isascii() and value.isdigit() else -1
            if value not in places and not 0 <= place < len(places):
                raise InputError(
                    f"{where} has {value!r:.60}, and the card has the labels "
                    f"{', '.join(places):.200}",
                    "correct the data, or take `dataset_info` out of README.md",
                )
            return places.get(value, place)
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return number


def _plain(dtype: str) -> Callable[[Any], Any]:
    """Return the function that casts numbers, and makes texts of them as Arrow does."""
    if dtype in ("string", "large_string"):
        return lambda value: value if value is None or isinstance(value, str) else _text(value)
    if re.fullmatch(r"u?int(8|16|32|64)", dtype):
        return lambda v: int(v) if isinstance(v, float) and v.is_integer() else v
    if re.fullmatch(r"float(16|32|64)", dtype):
        kind = np.dtype(dtype).type
        return lambda v: float(kind(v)) if isinstance(v, int | float) else v
    return _same


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).removesuffix(".0").replace("e-0", "e-")
    return str(value) if isinstance(value, int) else value
