"""GPT-2: learned positions, layer norms with biases, an MLP without a gate, Conv1D's matrices."""

from m2m.families.family import FUSED, GPT_TRAITS, Family, Stored, joined, of_width

FAMILY = Family(
    "gpt2",
    "GPT-2, Goldfish",
    ("gpt2", "gpt-sw3"),
    "GPT2LMHeadModel",
    activation="activation_function",
    activations=("gelu_new", "gelu", "gelu_pytorch_tanh"),  # Goldfish: "gelu"
    turns_to_tanh=True,
    json={
        "hidden_size": ("n_embd",),
        "intermediate_size": ("n_inner",),
        "num_hidden_layers": ("n_layer",),
        "num_attention_heads": ("n_head",),
        "max_position_embeddings": ("n_positions",),
        "rms_norm_eps": ("layer_norm_epsilon",),
    },
    tensors=FUSED,
    hf={
        "model.embed_tokens": Stored("transformer.wte"),
        "model.embed_positions": Stored("transformer.wpe"),
        "model.norm": Stored("transformer.ln_f"),
        "input_layernorm": Stored("ln_1"),
        **joined(Stored("attn.c_attn", transposed=True)),
        "self_attn.o_proj": Stored("attn.c_proj", transposed=True),
        "post_attention_layernorm": Stored("ln_2"),
        "mlp.up_proj": Stored("mlp.c_fc", transposed=True),
        "mlp.down_proj": Stored("mlp.c_proj", transposed=True),
    },
    hf_layers="transformer.h",
    traits=GPT_TRAITS | {"positions": "learned"},
    defaults={  # GPT2Config
        "rms_norm_eps": 1e-5,
        "activation_function": "gelu_new",
        "tie_word_embeddings": True,
        "intermediate_size": of_width(4),
    },
    stated=lambda values: {
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
    idle=frozenset({"prefix", "reorder_and_upcast_attn"}),
    pico={"num_kv_heads": 4},
)
