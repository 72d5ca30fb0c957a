"""The types of columns that a set's card gives, as `datasets` casts rows to them.

A card (README.md) may have `dataset_info` with the features of each configuration. Then the text of
a class label becomes its number, whatever the kind of file is (datasets/features/features.py and
datasets/table.py). A type that is not known here leaves values as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m2m.errors import InputError
from m2m.evaluate.task_files import TaskFiles
from m2m.formats.yaml import front_matter, parse_yaml

Features = Mapping[str, Mapping[str, Any]]
_FLOATS = ("float16", "float32", "float64")


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
    return [_object(row, features, name) for row in rows] if features else [*rows]


def _named(listed: Any) -> Features:
    items = listed if isinstance(listed, list) else []
    return {
        str(item["name"]): item for item in items if isinstance(item, Mapping) and "name" in item
    }


def _object(value: Mapping[str, Any], features: Mapping[str, Any], where: str) -> dict[str, Any]:
    return {
        key: _value(item, features[key], f"{where}: {key}") if key in features else item
        for key, item in value.items()
    }


def _value(value: Any, feature: Any, where: str) -> Any:
    """Return a value with the type of its feature."""
    feature = feature if isinstance(feature, Mapping) else {"dtype": feature}
    dtype, inner = feature.get("dtype"), feature.get("sequence", feature.get("list"))
    labels = (dtype if isinstance(dtype, Mapping) else feature).get("class_label")
    if isinstance(labels, Mapping):
        names = labels.get("names")
        return _place(
            value, [*(names.values() if isinstance(names, Mapping) else names or ())], where
        )
    if isinstance(value, list) and inner is not None:
        return [_value(item, inner, where) for item in value]
    if isinstance(value, dict):  # a sequence of objects is an object of lists
        fields = _named(inner or feature.get("struct"))
        return _object(value, {k: {"list": f} if inner else f for k, f in fields.items()}, where)
    return _plain(value, str(dtype))


def _place(value: Any, names: Sequence[Any], where: str) -> Any:
    """Return the number of a class label."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str) or value in names:
        return names.index(value) if isinstance(value, str) else value
    if value.isascii() and value.isdigit() and int(value) < len(names):
        return int(value)
    shown = ", ".join(map(str, names))
    raise InputError(
        f"{where} has {value!r:.60}, and the card has the labels {shown:.200}",
        "correct the data, or take `dataset_info` out of README.md",
    )


def _plain(value: Any, dtype: str) -> Any:
    """Return a number with its type, or its text as Arrow writes it."""
    if not isinstance(value, int | float):
        return value
    if dtype in ("string", "large_string"):
        if isinstance(value, bool):
            return str(value).lower()
        return repr(value).removesuffix(".0").replace("e-0", "e-")
    if dtype.startswith(("int", "uint")) and isinstance(value, float) and value.is_integer():
        return int(value)
    return float(np.dtype(dtype).type(value)) if dtype in _FLOATS else value
