"""StableLM 2: Llama with layer norms, and a quarter of each head rotates."""

from m2m.families.family import Family, Flag

FAMILY = Family(
    "stablelm",
    "StableLM 2 1.6B",
    ("stablelm",),
    "StableLmForCausalLM",
    partial=True,
    json={"rms_norm_eps": ("layer_norm_eps",)},
    traits={"norm": "layer", "norm_bias": True},
    flags=(Flag("attention_bias", "use_qkv_bias", False, tensor="attn_q.bias"),),
    # StableLmConfig. llama.cpp needs an output head of its own.
    defaults={"rms_norm_eps": 1e-5, "partial_rotary_factor": 0.25, "tie_word_embeddings": False},
    stated=lambda values: {
        "qk_layernorm": False,  # StableLM 2 12B
        "use_parallel_residual": False,
        "tie_word_embeddings": False,
    },
    neutral={"use_parallel_residual": (False, True)},  # stablelm.cpp looks at the tensors instead
    pico={"attention_bias": True, "rotary_dim": 4, "tie_word_embeddings": False},
)
