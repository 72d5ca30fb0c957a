"""Nemotron-Mini and Minitron 4B: layer norms around one, a squared ReLU, half of a head rotates."""

from m2m.families.family import LAYER, TOP, Family, Stored

_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}

FAMILY = Family(
    "nemotron",
    "Nemotron-Mini, Minitron 4B",
    ("nemotron",),
    "NemotronForCausalLM",
    biases=True,
    activations=("relu2",),
    partial=True,
    json={"rms_norm_eps": ("norm_eps",)},
    tensors=LAYER | {name: Stored(own, shift=1.0) for name, own in _NORMS.items()},
    top=TOP | {"model.norm": Stored("output_norm", shift=1.0)},
    traits={
        "activation": "relu2",
        "gated": False,
        "norm": "layer",
        "norm_bias": True,
        "norm_offset": 1.0,
    },
    # NemotronConfig. llama.cpp needs an output head of its own.
    defaults={"rms_norm_eps": 1e-5, "partial_rotary_factor": 0.5, "tie_word_embeddings": False},
    stated=lambda values: {"tie_word_embeddings": False},
    pico={"rotary_dim": 4, "tie_word_embeddings": False},
)
