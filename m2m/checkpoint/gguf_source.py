"""Read a GGUF file, or a model split into several, as the source of an import."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint.base_weights import compare_shapes, keyed_weights
from m2m.checkpoint.gguf_config import config_from_gguf, gguf_shapes
from m2m.checkpoint.gguf_keys import unknown_keys
from m2m.checkpoint.model_source import TOKEN_IDS, ModelSource, check_finite
from m2m.checkpoint.names import LONG_FACTORS, ROPE_FACTORS, gguf_rules
from m2m.counted import counted
from m2m.errors import InputError, Problems
from m2m.families import FAMILIES
from m2m.formats.gguf import GGUFFile
from m2m.nn.config import stays_wide
from m2m.tokenizer.vocabulary_warnings import vocabulary_warnings

# llama_split_path() of llama.cpp: "%s-%05d-of-%05d.gguf"
PART = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<count>\d{5})\.gguf")
_HALVES = {"F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


def open_gguf(path: Path) -> ModelSource:
    """Open a GGUF file, or all parts of the split model that it belongs to.

    Raises:
        InputError: a malformed or incomplete file, an unknown family, or sizes that do not fit.
    """
    parts = _parts(path)
    first = parts[0]
    home = {name: file for file in parts for name in file.tensors}
    tensors = {name: file.tensors[name] for name, file in home.items()}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    factors = {n: home[n].array(n) for n in (ROPE_FACTORS, *LONG_FACTORS) if n in home}
    config = config_from_gguf(str(path), first.value, shapes, factors)
    expected = gguf_shapes(config)
    if ROPE_FACTORS in factors:  # a file may have factors that are all 1 and scale nothing
        expected[ROPE_FACTORS] = (config.rotary_size // 2,)
    rules = gguf_rules(config)
    compare_shapes(str(path), expected, shapes)
    numbers = keyed_weights(path, config, first.value)
    types = sorted({tensor.type.name for tensor in tensors.values()})
    dtype = "BF16" if "BF16" in types else "F16"

    def read(name: str) -> NDArray[Any]:
        if name in numbers:
            return numbers[name]
        stored = rules.stored(name)
        file, tensor = home[stored], tensors[stored]
        array: NDArray[Any]
        if tensor.type.name == dtype and not stays_wide(name, tensor.shape):
            array = file.raw(stored).view(_HALVES[dtype]).reshape(tensor.shape)
        else:
            array = file.array(stored)
        check_finite(file.path, stored, array)
        return rules.part(name, array)

    ids = {key: first.value(stored) for key, stored in TOKEN_IDS.items()}
    return ModelSource(
        path=path,
        config=config,
        dtype=dtype,
        metadata={k: v for k, v in first.metadata.items() if not k.startswith("split.")},
        order=list(tensors),
        token_ids={key: number for key, number in ids.items() if number is not None},
        types=types,
        files=[file.path for file in parts],
        read=read,
        warnings=[
            *vocabulary_warnings(first.value),
            *unknown_keys(first.metadata, FAMILIES[config.architecture]),
        ],
    )


def _parts(path: Path) -> list[GGUFFile]:
    """Return the file, or all parts of its model in order."""
    file = GGUFFile(path)
    count = file.value("split.count") or 1
    if count == 1:
        return [file]
    match = PART.fullmatch(path.name)
    if match is None or int(match["count"]) != count:
        raise InputError(
            f"{path}: is one part of a model that is split into {count}",
            "keep all parts in one folder, named as in NAME-00001-of-00002.gguf",
        )
    numbers = range(1, count + 1)
    paths = [path.with_name(f"{match['name']}-{n:05}-of-{count:05}.gguf") for n in numbers]
    if missing := [part.name for part in paths if not part.is_file()]:
        raise InputError(
            f"{path}: {len(missing)} of {count} parts are missing, such as {missing[0]}",
            "keep all parts in one folder",
        )
    parts = [GGUFFile(part) for part in paths]
    _check_parts(path, parts)
    return parts


def _check_parts(path: Path, parts: list[GGUFFile]) -> None:
    problems = Problems()
    for number, part in enumerate(parts):
        numbers = part.value("split.no"), part.value("split.count")
        if numbers != (number, len(parts)):
            problems.add(f"{part.path.name} says that it is number {numbers[0]} of {numbers[1]}")
    count = sum(len(part.tensors) for part in parts)
    expected = parts[0].value("split.tensors.count", count)
    if expected != count or len({name for part in parts for name in part.tensors}) != count:
        problems.add(f"{counted(count, 'tensor')} in all parts, expected {expected} different ones")
    problems.raise_if_any(InputError, str(path), "are these the parts of one and the same model?")
