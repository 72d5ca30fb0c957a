"""StarCoder2: Llama's layers with layer norms, biases and an MLP without a gate."""

from m2m.families.family import GPT_TRAITS, Family, Stored

FAMILY = Family(
    "starcoder2",
    "StarCoder2",
    ("starcoder2",),
    "Starcoder2ForCausalLM",
    window="all",  # llama.cpp does not apply it
    json={"rms_norm_eps": ("norm_epsilon",)},
    hf={"mlp.up_proj": Stored("mlp.c_fc"), "mlp.down_proj": Stored("mlp.c_proj")},
    traits=GPT_TRAITS,
    defaults={"rms_norm_eps": 1e-5, "tie_word_embeddings": True},  # Starcoder2Config
    stated=lambda values: {"use_bias": True},
    pico={"sliding_window": 8},
)
