"""A merged model as GGUF, in any supported type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint import gguf_to_hf_name, to_gguf_rows
from m2m.formats.gguf import GGUFFile, GGUFTensorSpec, GGUFValue, write_gguf
from m2m.llamacpp.filetypes import FileType, file_type, quantized_layout, row_bytes, type_name
from m2m.llamacpp.quantize import Survival, quantize_merged, tensor_bytes
from m2m.merge.merger import Merger


@dataclass(frozen=True)
class Provenance:
    """What an exported model says about itself.

    Attributes:
        name: shown by llama.cpp and Ollama.
        base: name of the model that was fine-tuned.
        datasets: (name, description) of what it was trained on.
    """

    name: str
    base: str
    datasets: tuple[tuple[str, str], ...]

    def metadata(self) -> dict[str, GGUFValue]:
        """The standard keys of GGUF for it (gguf-py's `Keys.General`)."""
        values: dict[str, Any] = {
            "general.name": self.name,
            "general.base_model.count": 1,
            "general.base_model.0.name": self.base,
            "general.dataset.count": len(self.datasets),
        }
        for index, (name, description) in enumerate(self.datasets):
            values[f"general.dataset.{index}.name"] = name
            values[f"general.dataset.{index}.description"] = description
        return {
            key: GGUFValue.uint32(value) if isinstance(value, int) else GGUFValue.string(value)
            for key, value in values.items()
        }


def export_gguf(
    merger: Merger,
    weights: Mapping[str, float],
    target: FileType,
    out: Path,
    provenance: Provenance | None = None,
) -> tuple[dict[str, int], Survival]:
    """Write a merged model as GGUF: the base's metadata and vocabulary with new weights.

    Args:
        merger: base and adapters.
        weights: of the adapters, by name.
        target: the type; as llama-quantize does, some tensors get another.
        out: the file; whole or absent.
        provenance: written to `general.*`.

    Returns:
        How many tensors have each ggml type, and what quantisation left of the deltas.
    """
    base = merger.base.gguf
    metadata, specs = quantized_layout(base, target)
    if provenance is not None:
        metadata |= provenance.metadata()
    writer = _MergedTensors(merger, weights)
    write_gguf(out, metadata, specs, (writer.bytes_of(spec) for spec in specs))
    return _count(specs), writer.survival


def requantize(source: Path, out: Path, kind: str) -> dict[str, int]:
    """Write a GGUF in another type; returns how many tensors have each ggml type.

    Raises:
        InputError: the source is malformed or the type unknown.
    """
    file = GGUFFile(source)
    metadata, specs = quantized_layout(file, file_type(kind))
    write_gguf(out, metadata, specs, (tensor_bytes(file, spec) for spec in specs))
    return _count(specs)


class _MergedTensors:
    """Makes the bytes of one tensor after the other, and adds up what survives."""

    def __init__(self, merger: Merger, weights: Mapping[str, float]) -> None:
        self._merger = merger
        self._names, self._weights = list(weights), list(weights.values())
        self.survival = Survival()

    def bytes_of(self, spec: GGUFTensorSpec) -> NDArray[np.uint8]:
        base = self._merger.base
        name = gguf_to_hf_name(spec.name)
        module = name.removesuffix(".weight")
        if not self._merger.adapts(module):
            return tensor_bytes(base.gguf, spec)
        delta = self._merger.delta(module, self._names, self._weights)
        if delta is None:
            return tensor_bytes(base.gguf, spec)
        rows, change = (to_gguf_rows(base.config, name, x) for x in (base.weights[name], delta))
        out = np.empty((rows.shape[0], row_bytes(rows.shape[1], int(spec.type))), np.uint8)
        self.survival += quantize_merged(rows, change, int(spec.type), out=out)
        return out.reshape(-1)


def _count(specs: list[GGUFTensorSpec]) -> dict[str, int]:
    return dict(Counter(type_name(int(spec.type)) for spec in specs).most_common())
