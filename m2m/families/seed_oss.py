"""Seed-OSS: q, k and v have biases, and heads need not fill the width."""

from m2m.families.family import LAYER, Family, Stored

FAMILY = Family(
    "seed_oss",
    "Seed-OSS",
    ("seed_oss",),
    "SeedOssForCausalLM",
    tensors=LAYER | {"post_attention_layernorm": Stored("post_attention_norm")},
    traits={"attention_bias": True},
    defaults={"num_key_value_heads": 8, "head_dim": 128, "attention_bias": True},  # SeedOssConfig
    stated=lambda values: {"attention_out_bias": False},  # llama.cpp loads no such tensor
    pico={"head_dim": 32},
)
