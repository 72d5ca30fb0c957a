"""Llama 2 and 3, and the many models with its layers: SmolLM2, TinyLlama, InkubaLM, EuroLLM."""

from m2m.families.family import PAIRED, Family

FAMILY = Family(
    "llama",
    "Llama 2 and 3, SmolLM2",
    ("llama", "iquestcoder"),
    "LlamaForCausalLM",
    biases=True,
    tensors=PAIRED,
    llama3=True,
)
