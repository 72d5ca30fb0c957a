"""Ministral 3 (text): Llama with YaRN, and scores that grow beyond the original length."""

from m2m.families.family import PAIRED, Family, Field

FAMILY = Family(
    "ministral3",
    "Ministral 3 (text)",
    ("ministral3", "mistral3"),
    "Ministral3ForCausalLM",
    gguf="mistral3",
    plain_yarn=True,
    tensors=PAIRED,
    fields=(
        Field("temperature", "llama_4_scaling_beta", "attention.temperature_scale", in_rope=True),
    ),
    defaults={"num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-5},  # Ministral3Config
    stated=lambda values: {"sliding_window": None},
    neutral={"rope.scaling.yarn_beta_fast": (32,), "rope.scaling.yarn_beta_slow": (1,)},
    pico={"head_dim": 32, "temperature": 0.5},
)
