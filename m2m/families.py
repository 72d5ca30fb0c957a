"""The names of the model families, for messages; `m2m.checkpoint.families` reads each of them."""

from __future__ import annotations

FAMILIES = {
    "llama": "Llama 2 and 3, SmolLM2",
    "mistral": "Mistral",
    "qwen2": "Qwen2 and 2.5",
    "qwen3": "Qwen3",
    "gemma3": "Gemma 3 (text)",
}
KNOWN = ", ".join(FAMILIES.values())
USE_KNOWN = f"use a base model of a known family: {KNOWN}"
