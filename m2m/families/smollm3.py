"""SmolLM3: Llama, but every fourth layer has no rotary positions."""

from __future__ import annotations

from typing import Any

from m2m.families.family import PAIRED, Family, Values

_PERIOD = 4  # n_no_rope_layer_step in src/models/smollm3.cpp, which no key of a GGUF changes


def _derive(values: Values) -> dict[str, Any]:
    layers = range(1, values["num_layers"] + 1)
    return {"layer_is_rotated": tuple(layer % _PERIOD != 0 for layer in layers)}


def _stated(values: Values) -> dict[str, Any]:
    flags = [int(flag) for flag in _derive(values)["layer_is_rotated"]]
    return {"no_rope_layers": flags, "no_rope_layer_interval": _PERIOD}


FAMILY = Family(
    "smollm3",
    "SmolLM3",
    ("smollm3",),
    "SmolLM3ForCausalLM",
    tensors=PAIRED,
    derive=_derive,
    defaults={  # SmolLM3Config
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-6,
        "rope_theta": 2e6,
        "tie_word_embeddings": True,
    },
    stated=_stated,
    pico={"num_layers": 5, "layer_is_rotated": (True, True, True, False, True)},
)
