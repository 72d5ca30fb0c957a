"""Apertus: Qwen3's norms of heads, and an MLP without a gate whose xIELU has trained numbers."""

from m2m.families.family import Family, Stored

# What transformers computes if config.json has no rope settings (ApertusConfig).
_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "original_max_position_embeddings": 8192,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}

FAMILY = Family(
    "apertus",
    "Apertus",
    ("apertus",),
    "ApertusForCausalLM",
    hf={
        "input_layernorm": Stored("attention_layernorm"),
        "post_attention_layernorm": Stored("feedforward_layernorm"),
    },
    keyed={f"mlp.act_fn.{name}": f"xielu.{name}" for name in ("alpha_p", "alpha_n", "beta", "eps")},
    traits={"activation": "xielu", "gated": False, "qk_norm": True},
    defaults={  # llama.cpp needs an output head of its own
        "rms_norm_eps": 1e-5,
        "rope_theta": 12e6,
        "rope_scaling": lambda values: _ROPE,
        "tie_word_embeddings": False,
    },
    stated=lambda values: {"tie_word_embeddings": False, "post_norm": False, "qk_norm": True},
    pico={"tie_word_embeddings": False},
    llama3=True,
)
