"""Gemma 3 (text): norms after attention and MLP too, and local layers."""

from __future__ import annotations

from typing import Any

from m2m.families.family import LAYER, TOP, Family, Stored, Values

SHIFT = 1.0  # Gemma3RMSNorm computes with 1 + weight, and GGUF stores the sum
_LAYERS_27B = 62


def width(values: Values, largest: int) -> int:
    """Return the width by whose square root q k' is divided.

    It is head_dim. Only the 27B models have hidden_size // num_heads; llama.cpp recognises them by
    their number of layers, `largest` (f_attention_scale in gemma2.cpp and gemma3.cpp).
    """
    if values["num_layers"] == largest:
        return int(values["hidden_size"]) // int(values["num_heads"])
    return int(values["head_dim"])


def scaling(values: Values, largest: int) -> dict[str, Any]:
    """Return the factors on embeddings and scores."""
    traits = {"embedding_scale": values["hidden_size"] ** 0.5}
    if (size := width(values, largest)) != values["head_dim"]:
        traits["query_scale"] = size**-0.5
    return traits


FAMILY = Family(
    "gemma3",
    "Gemma 3 (text)",
    ("gemma3_text", "gemma3"),
    "Gemma3ForCausalLM",
    window="some",
    activation="hidden_activation",
    tensors=LAYER
    | {
        "input_layernorm": Stored("attn_norm", shift=SHIFT),
        "self_attn.q_norm": Stored("attn_q_norm", shift=SHIFT),
        "self_attn.k_norm": Stored("attn_k_norm", shift=SHIFT),
        "post_attention_layernorm": Stored("post_attention_norm", shift=SHIFT),
        "pre_feedforward_layernorm": Stored("ffn_norm", shift=SHIFT),
        "post_feedforward_layernorm": Stored("post_ffw_norm", shift=SHIFT),
    },
    top=TOP | {"model.norm": Stored("output_norm", shift=SHIFT)},
    traits={
        "activation": "gelu_tanh",
        "qk_norm": True,
        "post_norms": True,
        "norm_offset": SHIFT,
    },
    derive=lambda values: scaling(values, _LAYERS_27B),
    defaults={  # Gemma3TextConfig; the files of the larger models rely on them
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "query_pre_attn_scalar": 256,
        "tie_word_embeddings": True,
    },
    stated=lambda values: {"query_pre_attn_scalar": width(values, _LAYERS_27B)},
    pico={
        "embedding_scale": 8.0,
        "head_dim": 32,
        "sliding_window": 6,
        "layer_is_local": (True, False),
        "local_rope_theta": 100.0,
    },
)
