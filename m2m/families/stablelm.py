"""StableLM 2: Llama with layer norms, and a quarter of each head rotates.

The 12B has attention and MLP side by side after one norm, and a norm for each head of q and k.
"""

from m2m.families.family import LAYER, Family, Flag, Stored

FAMILY = Family(
    "stablelm",
    "StableLM 2 1.6B and 12B",
    ("stablelm",),
    "StableLmForCausalLM",
    partial=True,
    json={"rms_norm_eps": ("layer_norm_eps",)},
    tensors=LAYER
    | {
        "self_attn.q_layernorm.norms.*": Stored("attn_q_norm", stacked=True),
        "self_attn.k_layernorm.norms.*": Stored("attn_k_norm", stacked=True),
    },
    traits={"norm": "layer", "norm_bias": True, "norms_by_head": True},
    derive=lambda values: {"shared_norm": values["parallel"]},
    flags=(
        Flag("attention_bias", "use_qkv_bias", False, tensor="attn_q.bias"),
        Flag("qk_norm", "qk_layernorm", False, tensor="attn_q_norm.weight"),
        Flag("parallel", "use_parallel_residual", False, tensor="ffn_norm.weight", absent=True),
    ),
    # StableLmConfig. llama.cpp needs an output head of its own.
    defaults={"rms_norm_eps": 1e-5, "partial_rotary_factor": 0.25, "tie_word_embeddings": False},
    stated=lambda values: {"tie_word_embeddings": False},
    neutral={"use_parallel_residual": (False, True)},  # stablelm.cpp looks at the tensors instead
    pico={"attention_bias": True, "rotary_dim": 4, "tie_word_embeddings": False},
)
