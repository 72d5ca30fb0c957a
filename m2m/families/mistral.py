"""Mistral: Llama with a sliding window, which llama.cpp knows as "llama" and does not apply."""

from m2m.families.family import PAIRED, Family

FAMILY = Family(
    "mistral",
    "Mistral",
    ("mistral", "ministral"),
    "MistralForCausalLM",
    gguf="llama",
    window="all",
    tensors=PAIRED,
    defaults={"sliding_window": 4096},  # MistralConfig
    pico={"sliding_window": 8},
    llama3=True,
)
