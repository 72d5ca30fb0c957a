"""LFM2 and LFM2.5 (dense): gated short convolutions, and attention in some layers."""

from __future__ import annotations

from typing import Any

from m2m.families.family import LAYER, TOP, Family, Field, Stored, Values

_SIZES = ("block_multiple_of", "block_ffn_dim_multiplier")


def _respelled(data: Values) -> dict[str, Any]:
    """Return a config.json with the values that Lfm2Config and Lfm2MLP compute."""
    whole = dict(data)
    whole.setdefault("tie_word_embeddings", data.get("tie_embedding", True))
    width = data.get("block_ff_dim", data.get("intermediate_size"))
    if type(width) is int and data.get("block_auto_adjust_ff_dim", True) is True:
        multiple, factor = (
            data.get(key, usual) for key, usual in zip(_SIZES, (256, 1.0), strict=True)
        )
        width, whole["block_auto_adjust_ff_dim"] = 2 * width // 3, False
        if type(multiple) is int and multiple > 0 and isinstance(factor, int | float):
            width = -(-int(factor * width) // multiple) * multiple
    layers, attending = data.get("num_hidden_layers"), data.get("full_attn_idxs")
    if data.get("layer_types") is None and type(layers) is int and isinstance(attending, list):
        kinds = ["full_attention" if layer in attending else "conv" for layer in range(layers)]
        whole["layer_types"] = kinds
    return whole | {"intermediate_size": width}


FAMILY = Family(
    "lfm2",
    "LFM2 and LFM2.5 (dense)",
    ("lfm2",),
    "Lfm2ForCausalLM",
    activation="",
    json={"rms_norm_eps": ("norm_eps",)},
    respelled=_respelled,
    mixers={"conv": "conv"},
    tensors=LAYER
    | {
        "conv.in_proj": Stored("shortconv.in_proj"),
        "conv.conv": Stored("shortconv.conv"),
        "conv.out_proj": Stored("shortconv.out_proj"),
    },
    top=TOP | {"model.norm": Stored("token_embd_norm")},
    hf={
        "model.norm": Stored("model.embedding_norm"),
        "input_layernorm": Stored("operator_norm"),
        "self_attn.o_proj": Stored("self_attn.out_proj"),
        "self_attn.q_norm": Stored("self_attn.q_layernorm"),
        "self_attn.k_norm": Stored("self_attn.k_layernorm"),
        "conv.conv": Stored("conv.conv", channels=True),
        "post_attention_layernorm": Stored("ffn_norm"),
        "mlp.gate_proj": Stored("feed_forward.w1"),
        "mlp.up_proj": Stored("feed_forward.w3"),
        "mlp.down_proj": Stored("feed_forward.w2"),
    },
    traits={"qk_norm": True},
    fields=(Field("conv_taps", "conv_L_cache", "shortconv.l_cache", 3, whole=True),),
    defaults={"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e6},  # Lfm2Config
    stated=lambda values: {"conv_bias": False, "block_auto_adjust_ff_dim": False},
    idle=frozenset(
        f"block_{name}"
        for name in (
            *("dim", "ff_dim", "ffn_dim_multiplier", "multiple_of", "norm_eps", "use_swiglu"),
            *("mlp_init_scale", "out_init_scale", "use_xavier_init"),
        )
    )
    | {"conv_dim", "conv_dim_out", "conv_use_xavier_init", "full_attn_idxs", "num_heads"}
    | {"use_pos_enc", "tie_embedding"},
    pico={
        "num_layers": 3,
        "layer_mixers": ("conv", "attention", "conv"),
        "conv_taps": 3,
    },
)
