"""Phi-1, 1.5 and 2: attention and MLP side by side after one layer norm; the head has a bias."""

from m2m.families.family import GPT_TRAITS, LAYER, Family, Stored

FAMILY = Family(
    "phi",
    "Phi-1, Phi-1.5, Phi-2",
    ("phi",),
    "PhiForCausalLM",
    gguf="phi2",
    activations=("gelu_new", "gelu_pytorch_tanh", "gelu_fast"),
    partial=True,
    json={"rms_norm_eps": ("layer_norm_eps",)},
    tensors=LAYER,
    hf={
        "model.norm": Stored("model.final_layernorm"),
        "self_attn.o_proj": Stored("self_attn.dense"),
        "mlp.up_proj": Stored("mlp.fc1"),
        "mlp.down_proj": Stored("mlp.fc2"),
    },
    traits=GPT_TRAITS | {"parallel": True, "shared_norm": True, "head_bias": True},
    defaults={  # PhiConfig. llama.cpp needs an output head of its own.
        "rms_norm_eps": 1e-5,
        "partial_rotary_factor": 0.5,
        "tie_word_embeddings": False,
    },
    stated=lambda values: {"qk_layernorm": False, "tie_word_embeddings": False},
    pico={"rotary_dim": 4, "tie_word_embeddings": False},
)
