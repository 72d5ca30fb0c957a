"""Jais 2 (Arabic): Llama with layer norms, biases, and an MLP of relu^2 without a gate."""

from m2m.families.family import GPT_TRAITS, Family

FAMILY = Family(
    "jais2",
    "Jais 2",
    ("jais2",),
    "Jais2ForCausalLM",
    json={"rms_norm_eps": ("layer_norm_eps",)},
    traits=GPT_TRAITS | {"activation": "relu2"},
    defaults={"rms_norm_eps": 1e-5},  # Jais2Config
    stated=lambda values: {"attention_bias": True, "mlp_bias": True},
)
