"""Qwen3.5 (dense, text): three of four layers are gated DeltaNets, the others gated attention."""

from __future__ import annotations

from typing import Any

from m2m.families.family import LAYER, TOP, Family, Field, Stored, Values

_SHIFT = 1.0  # Qwen3_5RMSNorm computes with 1 + weight, and GGUF stores the sum
_PERIOD = 4  # full_attention_interval, if the files do not say it


def _respelled(data: Values) -> dict[str, Any]:
    """Return a config.json that names the kind of every layer (Qwen3_5TextConfig)."""
    whole, layers = dict(data), data.get("num_hidden_layers")
    period = data.get("full_attention_interval", _PERIOD)
    if data.get("layer_types") is None and type(layers) is type(period) is int and period > 0:
        kinds = ("linear_attention", "full_attention")
        whole["layer_types"] = [kinds[layer % period == 0] for layer in range(1, layers + 1)]
    return whole


FAMILY = Family(
    "qwen3_5",
    "Qwen3.5 (dense, text)",
    ("qwen3_5_text", "qwen3_5"),
    "Qwen3_5ForCausalLM",
    gguf="qwen35",
    partial=True,
    respelled=_respelled,
    mixers={"delta": "linear_attention"},
    mixer_period=_PERIOD,
    tensors=LAYER
    | {
        "input_layernorm": Stored("attn_norm", shift=_SHIFT),
        "post_attention_layernorm": Stored("post_attention_norm", shift=_SHIFT),
        "self_attn.q_norm": Stored("attn_q_norm", shift=_SHIFT),
        "self_attn.k_norm": Stored("attn_k_norm", shift=_SHIFT),
        "linear_attn.in_proj_qkv": Stored("attn_qkv", tiled="values"),
        "linear_attn.in_proj_z": Stored("attn_gate", tiled="rows"),
        "linear_attn.in_proj_b": Stored("ssm_beta", tiled="rows"),
        "linear_attn.in_proj_a": Stored("ssm_alpha", tiled="rows"),
        "linear_attn.conv1d": Stored("ssm_conv1d", tiled="values"),
        "linear_attn.decay": Stored("ssm_a", tiled="rows", bare=True),
        "linear_attn.dt": Stored("ssm_dt", tiled="rows"),
        "linear_attn.norm": Stored("ssm_norm"),
        "linear_attn.out_proj": Stored("ssm_out", tiled="columns"),
    },
    top=TOP | {"model.norm": Stored("output_norm", shift=_SHIFT)},
    hf={
        "linear_attn.conv1d": Stored("linear_attn.conv1d", channels=True),
        "linear_attn.decay": Stored("linear_attn.A_log", bare=True, logarithm=True),
        "linear_attn.dt": Stored("linear_attn.dt_bias", bare=True),
    },
    traits={"qk_norm": True, "norm_offset": _SHIFT, "attention_gate": True},
    fields=(
        Field("conv_taps", "linear_conv_kernel_dim", "ssm.conv_kernel", 4, whole=True),
        Field("delta_heads", "linear_num_value_heads", "ssm.time_step_rank", 32, whole=True),
        Field("delta_keys", "linear_num_key_heads", "ssm.group_count", 16, whole=True),
        Field("delta_dim", "linear_key_head_dim", "ssm.state_size", 128, whole=True),
    ),
    defaults={  # Qwen3_5TextConfig
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "rms_norm_eps": 1e-6,
        "partial_rotary_factor": 0.25,
        "linear_value_head_dim": 128,
    },
    stated=lambda values: {"linear_value_head_dim": values["delta_dim"], "attn_output_gate": True},
    written=lambda values: {
        "ssm.inner_size": values["delta_heads"] * values["delta_dim"],
        "rope.dimension_sections": [11, 11, 10, 0],  # of pictures; llama.cpp needs the key
    },
    idle=frozenset({"full_attention_interval", "mtp_num_hidden_layers"})
    | {"mtp_use_dedicated_embeddings", "mamba_ssm_dtype"},
    pico={
        "num_layers": 4,
        "head_dim": 32,
        "rotary_dim": 8,
        "rms_norm_eps": 1e-6,
        "layer_mixers": ("delta", "delta", "delta", "attention"),
        "conv_taps": 4,
        "delta_heads": 4,
        "delta_keys": 2,
        "delta_dim": 16,
    },
)
