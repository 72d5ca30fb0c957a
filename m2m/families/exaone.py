"""EXAONE 3 and 3.5: Llama's layers under GPT-2's names."""

from m2m.families.family import Family, Stored

FAMILY = Family(
    "exaone",
    "EXAONE 3.5",
    ("exaone",),
    "ExaoneForCausalLM",
    activation="activation_function",
    json={
        "num_hidden_layers": ("num_layers", "num_hidden_layers"),
        "rms_norm_eps": ("layer_norm_epsilon",),
    },
    hf={
        "model.embed_tokens": Stored("transformer.wte"),
        "model.norm": Stored("transformer.ln_f"),
        "input_layernorm": Stored("ln_1"),
        "self_attn.q_proj": Stored("attn.attention.q_proj"),
        "self_attn.k_proj": Stored("attn.attention.k_proj"),
        "self_attn.v_proj": Stored("attn.attention.v_proj"),
        "self_attn.o_proj": Stored("attn.attention.out_proj"),
        "post_attention_layernorm": Stored("ln_2"),
        "mlp.gate_proj": Stored("mlp.c_fc_0"),
        "mlp.up_proj": Stored("mlp.c_fc_1"),
        "mlp.down_proj": Stored("mlp.c_proj"),
    },
    hf_layers="transformer.h",
    defaults={"rms_norm_eps": 1e-5, "tie_word_embeddings": True},  # configuration_exaone.py
    llama3=True,
)
