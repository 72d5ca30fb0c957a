"""Qwen3: each head of q and k is normalised before the rotation."""

from m2m.families.family import Family

FAMILY = Family(
    "qwen3",
    "Qwen3",
    ("qwen3",),
    "Qwen3ForCausalLM",
    traits={"qk_norm": True},
    pico={"head_dim": 32},
)
