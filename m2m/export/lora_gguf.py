"""An adapter as GGUF, which llama.cpp applies to the unchanged base (`llama-cli --lora FILE`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m2m.adapter import Adapter, check_adapter, uniform_pairs
from m2m.checkpoint import BaseModel, gguf_rules
from m2m.formats.gguf import GGMLQuantizationType, GGUFTensorSpec, GGUFValue, write_gguf
from m2m.merge.belonging import FINGERPRINT, TEMPLATE, VARIABLES
from m2m.nn.lora import LoraPair


def export_lora(
    adapter: Adapter,
    base: BaseModel,
    out: Path,
    template: str = "chat",
    variables: Mapping[str, Any] | None = None,
) -> None:
    """Write a GGUF LoRA: tensors NAME.lora_a (rank, in) and NAME.lora_b (out, rank), float32.

    llama.cpp scales each product by alpha / rank with one alpha for the file (llama-adapter.h,
    `get_scale`). m2m puts the scales into B and writes the rank as alpha, so every reader gets the
    scale 1.

    Args:
        adapter: the adapter to write.
        base: the model that it belongs to; its family decides the order of B's rows.
        out: the file; it is whole or absent.
        template: the template of the training, "chat" or "plain"; `m2m chat --lora` uses it.
        variables: fixed variables of the chat template, for the same reader.

    Raises:
        InputError: the adapter does not fit the base.
    """
    check_adapter(adapter, base.config, base.fingerprint)
    ours = {
        f"{m}.weight": adapter.pairs[m] for m in base.config.linear_shapes() if m in adapter.pairs
    }
    stored = gguf_rules(base.config).changes(ours.items())
    joined = {name: pair for name, pair in stored if isinstance(pair, LoraPair)}
    pairs, tensors = uniform_pairs(joined, 1.0, adapter.rank), {}
    for name, pair in pairs.items():
        tensors[f"{name}.lora_a"] = pair.a
        tensors[f"{name}.lora_b"] = pair.b
    metadata = {
        "general.architecture": base.gguf.metadata["general.architecture"],
        "general.type": GGUFValue.string("adapter"),
        "general.name": GGUFValue.string(adapter.name or f"{base.name} adapter"),
        "adapter.type": GGUFValue.string("lora"),
        "adapter.lora.alpha": GGUFValue.float32(max(pair.rank for pair in pairs.values())),
    }
    if adapter.base_model:  # an adapter from elsewhere: only the name that it gives
        metadata["general.base_model.count"] = GGUFValue.uint32(1)
        metadata["general.base_model.0.name"] = GGUFValue.string(adapter.base_model)
    if adapter.base_fingerprint:
        metadata[FINGERPRINT] = GGUFValue.string(adapter.base_fingerprint)
    if template == "plain":
        metadata[TEMPLATE] = GGUFValue.string(template)
    if variables:
        metadata[VARIABLES] = GGUFValue.string(json.dumps(variables, sort_keys=True))
    float32 = GGMLQuantizationType.F32
    specs = [GGUFTensorSpec(name, array.shape, float32) for name, array in tensors.items()]
    write_gguf(out, metadata, specs, tensors.values())
