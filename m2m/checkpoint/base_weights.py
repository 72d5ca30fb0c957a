"""The model's tensors as base.gguf stores them: one copy on the disk for training and llama.cpp."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint.gguf_config import gguf_shapes
from m2m.checkpoint.model_source import check_finite
from m2m.checkpoint.names import ROPE_FACTORS, gguf_rules, keyed
from m2m.counted import counted
from m2m.errors import InputError, Problems
from m2m.formats.gguf import GGUFFile
from m2m.formats.half import bf16_to_f32, f16_to_f32
from m2m.formats.mapped import release
from m2m.formats.safetensors import SafetensorsFile, TensorSpec, safetensors_sha256
from m2m.nn.config import DecoderConfig
from m2m.nn.memory import TABLES

_DTYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4"}


def open_weights(path: Path, config: DecoderConfig) -> Tensors:
    """Open the file that holds a model's tensors, base.gguf or model.safetensors.

    Raises:
        InputError: a tensor is missing, surplus, or of another shape or type.
    """
    if path.suffix == ".gguf":
        return GGUFWeights(path, config)
    file = SafetensorsFile(path)
    shapes = {name: file.shape(name) for name in file.names}
    compare_shapes(str(path), config.weight_shapes(), shapes)
    return file


def compare_shapes(
    where: str, expected: Mapping[str, Sequence[int]], stored: Mapping[str, Sequence[int]]
) -> None:
    """Raise InputError that lists all tensors that are missing, surplus or of another shape."""
    problems = Problems()
    for name in sorted(expected.keys() - stored.keys()):
        problems.add(f"has no tensor {name}")
    for name in sorted(stored.keys() - expected.keys()):
        problems.add(f"has a tensor {name}, which this architecture does not have")
    for name in sorted(expected.keys() & stored.keys()):
        if tuple(stored[name]) != tuple(expected[name]):
            problems.add(
                f"tensor {name} is {list(stored[name])}, its config says {list(expected[name])}"
            )
    problems.raise_if_any(InputError, where)


def keyed_weights(
    path: Path, config: DecoderConfig, get: Callable[[str], Any]
) -> dict[str, NDArray[np.float32]]:
    """Return the weights that are in keys of a GGUF file, by the model's names."""
    shapes, weights, problems = config.weight_shapes(), {}, Problems()
    for key, names in keyed(config).items():
        value = get(key)
        values = value if isinstance(value, list) else [value] * len(names)
        if len(values) != len(names) or not all(type(x) is float for x in values):
            problems.add(f"{key} is {value!r:.60}, expected {counted(len(names), 'number')}")
            continue
        for name, number in zip(names, values, strict=True):
            weights[name] = np.full(shapes[name], number, np.float32)
            check_finite(path, key, weights[name])
    problems.raise_if_any(InputError, str(path))
    return weights


class GGUFWeights:
    """Tensors by HF name from a GGUF file; the family's rules are undone at each look-up.

    Args:
        path: a base.gguf, whose tensors are F16, BF16 or F32.
        config: the sizes that belong to it.

    Attributes:
        path: the file's path.
        gguf: the file.
        names: the model's tensors.

    Raises:
        InputError: a tensor is missing, surplus, or of another shape or type.
    """

    def __init__(self, path: Path, config: DecoderConfig) -> None:
        self.path = path
        self.gguf, self._rules = GGUFFile(path), gguf_rules(config)
        shapes = {name: tensor.shape for name, tensor in self.gguf.tensors.items()}
        # Factors that scale nothing are in some sources, and in no config.
        unscaled = {name: shapes[name] for name in (ROPE_FACTORS,) if name in shapes}
        compare_shapes(str(path), unscaled | gguf_shapes(config), shapes)
        for name, tensor in self.gguf.tensors.items():
            if tensor.type.name not in _DTYPES:
                raise InputError(
                    f"{path}: tensor {name} is {tensor.type.name}, expected {', '.join(_DTYPES)}",
                    "import the model again with `m2m models add`",
                )
        self._numbers = keyed_weights(path, config, self.gguf.value)
        self._shapes = config.weight_shapes()
        self.names = list(self._shapes)

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

    def dtype(self, name: str) -> str:
        """Return the stored type of a tensor: "F32", "F16" or "BF16"."""
        stored = None if name in self._numbers else self._rules.stored(name)
        return "F32" if stored is None else self.gguf.tensors[stored].type.name

    def raw(self, name: str) -> NDArray[Any]:
        """Return a tensor in its stored type (BF16 as uint16): a view of the file if it can be."""
        if name in self._numbers:
            return self._numbers[name]
        stored = self._rules.stored(name)
        tensor = self.gguf.tensors[stored]
        whole = self.gguf.raw(stored).view(_DTYPES[tensor.type.name]).reshape(tensor.shape)
        return self._rules.part(name, whole)

    def array(self, name: str) -> NDArray[np.float32]:
        """Return a tensor as a new float32 array."""
        raw = self.raw(name)
        if raw.dtype == np.float32:
            array = np.array(raw)
        else:
            array = f16_to_f32(raw) if raw.dtype == np.float16 else bf16_to_f32(raw)
        self._give_back(name)
        return array

    def compact(self, name: str) -> NDArray[Any]:
        """Return a tensor as a new array in its stored type (BF16 as uint16)."""
        array = np.array(self.raw(name))
        self._give_back(name)
        return array

    def _give_back(self, name: str) -> None:
        """Take the pages of a tensor that was copied out of this process's memory."""
        if name not in self._numbers:
            release(self.gguf.raw(self._rules.stored(name)))

    def release(self) -> None:
        """Take the file's pages out of this process's memory; reading them loads them again."""
        self.gguf.release()

    @property
    def sha256(self) -> str:
        """Return the sha256 (hex) of the model.safetensors that an older m2m wrote next to it."""
        specs = [TensorSpec(n, self.dtype(n), shape) for n, shape in self._shapes.items()]
        digest = safetensors_sha256(specs, map(self.raw, self.names), {"format": "pt"})
        self.release()
        return digest


Tensors = SafetensorsFile | GGUFWeights


class BaseWeights(Mapping[str, NDArray[Any]]):
    """Tensors by HF name; each look-up reads the file and returns a new array.

    Args:
        file: the file that holds them.
        narrow: names of tensors that are returned as they are stored, float16 or bfloat16 (as
            uint16); others are float32.
        copied: whether these are new arrays, too, and not views of the file.
    """

    def __init__(self, file: Tensors, narrow: Collection[str] = (), *, copied: bool = True) -> None:
        self.file, self._narrow = file, frozenset(narrow)
        self._stored = file.compact if copied else file.raw

    @classmethod
    def compact(cls, file: Tensors, config: DecoderConfig, *, copied: bool = True) -> BaseWeights:
        """Return the weights with linear maps and tables as they are stored, for a `Decoder`."""
        names = [*TABLES, *(f"{module}.weight" for module in config.linear_shapes())]
        return cls(file, names, copied=copied)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self:
            raise KeyError(name)
        return self._stored(name) if name in self._narrow else self.file.array(name)

    def __contains__(self, name: object) -> bool:
        return name in self.file

    def __iter__(self) -> Iterator[str]:
        return iter(self.file.names)

    def __len__(self) -> int:
        return len(self.file.names)
