"""Pico models of every family, with every trait that its files can name."""

from __future__ import annotations

from m2m.nn.config import DecoderConfig, RopeScaling
from tests.tiny import pico_config

LLAMA3 = RopeScaling("llama3", 8.0, 1.0, 4.0, 1024)
LINEAR = RopeScaling("linear", 8.0)

VARIANTS: dict[str, DecoderConfig] = {
    "llama": pico_config(),
    "llama untied": pico_config(tie=False),
    "llama 3": pico_config(rope_scaling=LLAMA3, max_position_embeddings=8192),
    "llama linear": pico_config(rope_scaling=LINEAR),
    "mistral": pico_config(architecture="mistral", tie=False),
    "mistral without a window": pico_config(architecture="mistral", sliding_window=0),
    "qwen2": pico_config(architecture="qwen2"),
    "qwen3": pico_config(architecture="qwen3", tie=False),
    "gemma3": pico_config(architecture="gemma3"),
    "gemma3 linear": pico_config(
        architecture="gemma3",
        layers=4,
        rope_scaling=LINEAR,
        layer_is_local=(True, True, False, True),
    ),
}
