"""Adapters under the names of a Hugging Face model, if these are not m2m's own.

GPT-2 has one map for q, k and v, and PEFT one pair of factors for it. m2m has a pair for each. A
pair of the joined map is those of its parts: A is theirs, one below the other, and B has theirs in
blocks. Taken apart, each part keeps the ranks that it uses.
"""

from __future__ import annotations

from dataclasses import replace

from m2m.adapter import Adapter
from m2m.checkpoint import hf_rules
from m2m.nn.config import DecoderConfig
from m2m.nn.lora import LoraPair

_WEIGHT = ".weight"


def to_peft(adapter: Adapter, config: DecoderConfig) -> Adapter:
    """Return an adapter with the maps of the family's Hugging Face class."""
    ordered = [
        (m + _WEIGHT, adapter.pairs[m]) for m in config.linear_shapes() if m in adapter.pairs
    ]
    pairs = {
        name.removesuffix(_WEIGHT): pair
        for name, pair in hf_rules(config).changes(ordered)
        if isinstance(pair, LoraPair)
    }
    return replace(adapter, pairs=pairs)


def from_peft(adapter: Adapter, config: DecoderConfig) -> Adapter:
    """Return an adapter with m2m's maps; maps that the family does not have keep their names."""
    rules, pairs = hf_rules(config), {}
    for module, pair in adapter.pairs.items():
        parts = rules.parts.get(module + _WEIGHT, [])
        if not parts or pair.shape != rules.map_shape(module + _WEIGHT):
            pairs[module] = pair
        else:
            split = rules.split_pair(module + _WEIGHT, pair)
            pairs |= {name.removesuffix(_WEIGHT): part for name, part in split.items()}
    return replace(adapter, pairs=pairs)
