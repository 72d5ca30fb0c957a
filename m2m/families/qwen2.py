"""Qwen2 and 2.5: q, k and v have biases."""

from m2m.families.family import Family

FAMILY = Family(
    "qwen2", "Qwen2 and 2.5", ("qwen2",), "Qwen2ForCausalLM", traits={"attention_bias": True}
)
