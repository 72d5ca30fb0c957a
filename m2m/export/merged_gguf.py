"""A merged model as GGUF, in any supported type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint import gguf_rules, hf_to_gguf_name, longrope_keys
from m2m.export.serving import as_trained
from m2m.formats.gguf import GGUFFile, GGUFTensorSpec, GGUFValue, write_gguf
from m2m.llamacpp.asking import own_template
from m2m.llamacpp.filetypes import FileType, file_type, quantized_layout, row_bytes, type_name
from m2m.llamacpp.quantize import Survival, quantize_merged, tensor_bytes
from m2m.merge.merger import Merger
from m2m.tokenizer.vocabulary_warnings import safe_name

_TEMPLATE = "tokenizer.chat_template"
LOW_SURVIVAL = 0.8  # below this gain or cosine, rounding destroys much of the delta
_FINER = ("q5_k_m", "q6_k", "q8_0", "f16", "f32")  # from small to large
_TRIED = 8  # projections in the middle of the model on which a finer type is tried


@dataclass(frozen=True)
class Provenance:
    """The origin of an exported model, as it is written into its file.

    Attributes:
        name: llama.cpp and Ollama show it.
        base: name of the model that was fine-tuned.
        datasets: (name, description) of the training datasets.
        template: the chat template of the training, if it is not the base's.
    """

    name: str
    base: str
    datasets: tuple[tuple[str, str], ...]
    template: str | None = None

    def metadata(self) -> dict[str, GGUFValue]:
        """Return the origin under the standard keys of GGUF (gguf-py's `Keys.General`)."""
        values: dict[str, Any] = {
            "general.name": safe_name(self.name),
            "general.base_model.count": 1,
            "general.base_model.0.name": self.base,
            "general.dataset.count": len(self.datasets),
        }
        for index, (name, description) in enumerate(self.datasets):
            values[f"general.dataset.{index}.name"] = name
            values[f"general.dataset.{index}.description"] = description
        if self.template is not None:
            values[_TEMPLATE] = self.template
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

    The chat template is changed so that programs ask as in training (`as_trained`).

    Args:
        merger: base and adapters.
        weights: the adapters' weights, by name.
        target: the file's type; some tensors get another type, as with llama-quantize.
        out: the file; it is whole or absent.
        provenance: written to `general.*`.

    Returns:
        How many tensors have each ggml type, and how much of the deltas is left after quantisation.
    """
    base = merger.base.gguf
    metadata, specs = quantized_layout(base, target)
    metadata |= longrope_keys(merger.base.config, export=True)
    if isinstance(template := base.value(_TEMPLATE), str):
        metadata[_TEMPLATE] = GGUFValue.string(own_template(as_trained(template)))
    if provenance is not None:
        metadata |= provenance.metadata()
    writer = _MergedTensors(merger, weights)
    write_gguf(out, metadata, specs, (writer.bytes_of(spec) for spec in specs))
    return _count(specs), writer.survival


def requantize(source: Path, out: Path, kind: str) -> dict[str, int]:
    """Write a GGUF in another type, and return how many tensors have each ggml type.

    Raises:
        InputError: the source is malformed, or the type is unknown.
    """
    file = GGUFFile(source)
    metadata, specs = quantized_layout(file, file_type(kind))
    write_gguf(out, metadata, specs, (tensor_bytes(file, spec) for spec in specs))
    return _count(specs)


def remedy(
    merger: Merger, weights: Mapping[str, float], target: FileType, survival: Survival, lora: str
) -> str | None:
    """Return advice if `target` kept too little of the delta; None if it kept enough.

    The advice names the first finer type that keeps enough in the projections in the middle of the
    model. It ends with `lora`, which says how to put the adapter on the unchanged base.
    """
    if not min(survival.gain, survival.cosine) < LOW_SURVIVAL:
        return None
    adapters = [merger.adapters[name] for name in weights]
    changed = [m for m in merger.modules if any(m in adapter.pairs for adapter in adapters)]
    first = max(0, (len(changed) - _TRIED) // 2)
    tried, config = changed[first : first + _TRIED], merger.base.config
    names = {hf_to_gguf_name(f"{module}.weight", config) for module in tried}
    finer = _FINER[_FINER.index(target.name) + 1 :] if target.name in _FINER else _FINER
    for kind in finer:
        writer = _MergedTensors(merger, weights)
        for spec in quantized_layout(merger.base.gguf, file_type(kind))[1]:
            if spec.name in names:
                writer.bytes_of(spec)
        kept = min(writer.survival.gain, writer.survival.cosine)
        if kept >= LOW_SURVIVAL:
            break
    return f"{kind} keeps {kept:z.2f}; or put the adapter on the unchanged base: {lora}"


class _MergedTensors:
    """Makes the bytes of one tensor after the other, and adds up how much of the deltas is left."""

    def __init__(self, merger: Merger, weights: Mapping[str, float]) -> None:
        self._merger = merger
        self._names, self._weights = list(weights), list(weights.values())
        self.survival = Survival()

    def bytes_of(self, spec: GGUFTensorSpec) -> NDArray[np.uint8]:
        base, rules = self._merger.base, gguf_rules(self._merger.base.config)
        modules = [name.removesuffix(".weight") for name in rules.parts.get(spec.name, ())]
        deltas = {
            f"{module}.weight": self._merger.delta(module, self._names, self._weights)
            for module in modules
            if self._merger.adapts(module)
        }
        changes = {name: delta for name, delta in deltas.items() if delta is not None}
        if not changes:
            return tensor_bytes(base.gguf, spec)
        rows = rules.join(spec.name, base.weights.__getitem__)
        change = rules.join_changes(spec.name, changes)
        out = np.empty((rows.shape[0], row_bytes(rows.shape[1], int(spec.type))), np.uint8)
        self.survival += quantize_merged(rows, change, int(spec.type), out=out)
        return out.reshape(-1)


def _count(specs: list[GGUFTensorSpec]) -> dict[str, int]:
    return dict(Counter(type_name(int(spec.type)) for spec in specs).most_common())
