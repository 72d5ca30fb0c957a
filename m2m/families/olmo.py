"""OLMo 1B and 7B of 2024: Llama with layer norms that have no weights."""

from m2m.families.family import PAIRED, Family

FAMILY = Family(
    "olmo",
    "OLMo 1B (2024)",
    ("olmo",),
    "OlmoForCausalLM",
    tensors=PAIRED,
    traits={"norm": "layer", "norm_weight": False},
    defaults={"rms_norm_eps": 1e-5},  # OlmoLayerNorm; no key changes it
    stated=lambda values: {"clip_qkv": None},
    neutral={"attention.clamp_kqv": ()},
)
