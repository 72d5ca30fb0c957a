"""Phi-3, Phi-3.5 mini, Phi-4-mini: Llama with q, k and v, and gate and up, in one tensor each."""

from m2m.families.family import LAYER, Family, Stored

_JOINED = {
    **{f"self_attn.{part}_proj": "self_attn.qkv_proj" for part in "qkv"},
    **{f"mlp.{part}_proj": "mlp.gate_up_proj" for part in ("gate", "up")},
}
_GGUF = {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}

FAMILY = Family(
    "phi3",
    "Phi-3, Phi-3.5 mini, Phi-4-mini",
    ("phi3",),
    "Phi3ForCausalLM",
    window="all",  # llama.cpp does not apply it
    partial=True,
    longrope=True,
    tensors=LAYER | {own: Stored(_GGUF[joined]) for own, joined in _JOINED.items()},
    hf={own: Stored(joined) for own, joined in _JOINED.items()},
    defaults={"rms_norm_eps": 1e-5},  # Phi3Config
    stated=lambda values: {"lm_head_bias": False},
    idle=frozenset({"full_attn_mod", "interpolate_factor"}),
    pico={"sliding_window": 8},
)
