"""EXAONE 4 1.2B: OLMo 2's norms after attention and MLP, and Qwen3's norms of heads."""

from __future__ import annotations

from typing import Any

from m2m.families.family import LAYER, Family, Stored, Values

_LOCAL = 64  # exaone4.cpp gives models of so many layers (32B) a window, whatever the file says


def _derive(values: Values) -> dict[str, Any]:
    if values["num_layers"] == _LOCAL:
        raise ValueError("EXAONE 4 32B has layers with a window, which m2m does not compute")
    return {}


FAMILY = Family(
    "exaone4",
    "EXAONE 4 1.2B",
    ("exaone4",),
    "Exaone4ForCausalLM",
    tensors=LAYER
    | {
        "post_attention_layernorm": Stored("post_attention_norm"),
        "post_feedforward_layernorm": Stored("post_ffw_norm"),
    },
    traits={"qk_norm": True, "pre_norms": False, "post_norms": True},
    derive=_derive,
    defaults={"sliding_window": 4096},  # Exaone4Config
    stated=lambda values: {
        "sliding_window": None,
        "layer_types": ["full_attention"] * values["num_layers"],
    },
    neutral={"attention.sliding_window": (0,)},
    llama3=True,
)
