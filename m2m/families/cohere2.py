"""Cohere 2 (Command R7B, Tiny Aya): side by side after one layer norm, three of four layers local.

The other layers have no rotary positions.
"""

from m2m.families.family import Family, Field

FAMILY = Family(
    "cohere2",
    "Cohere 2, Tiny Aya",
    ("cohere2",),
    "Cohere2ForCausalLM",
    window="some",
    period=4,
    local_theta=None,
    json={"rms_norm_eps": ("layer_norm_eps",)},
    traits={
        "norm": "layer",
        "parallel": True,
        "shared_norm": True,
        "rotates_neighbours": True,
    },
    derive=lambda values: {"layer_is_rotated": values["layer_is_local"]},
    fields=(Field("logit_scale", "logit_scale", "logit_scale", 0.0625),),
    defaults={  # Cohere2Config. llama.cpp has no output head of its own here.
        "rms_norm_eps": 1e-5,
        "sliding_window": 4096,
        "tie_word_embeddings": True,
    },
    stated=lambda values: {
        "use_qk_norm": False,
        "tie_word_embeddings": True,
        "use_gated_activation": True,
        "use_parallel_block": True,
        "position_embedding_type": "rope_gptj",
        "rotary_pct": 1.0,
    },
    idle=frozenset(  # layer_types says what the first two do
        [
            "layer_switch",
            "order_of_interleaved_layers",
            "use_embedding_sharing",
            "use_parallel_embedding",
        ]
    ),
    pico={
        "sliding_window": 6,
        "num_layers": 5,
        "layer_is_local": (True, True, True, False, True),
        "layer_is_rotated": (True, True, True, False, True),
        "logit_scale": 0.25,
    },
)
