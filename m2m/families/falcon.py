"""Falcon 7B: attention and MLP side by side after one norm, one key and value for all heads."""

from m2m.families.family import FUSED, Family, Stored, joined, of_width, one_key

FAMILY = Family(
    "falcon",
    "Falcon 7B",
    ("falcon",),
    "FalconForCausalLM",
    activation="activation",
    activations=("gelu_pytorch_tanh", "gelu_new", "gelu"),
    turns_to_tanh=True,
    json={
        "intermediate_size": ("ffn_hidden_size",),
        "num_key_value_heads": ("num_kv_heads",),
        "head_dim": ("_head_dim",),  # FalconConfig computes it, and cannot be told
        "rms_norm_eps": ("layer_norm_epsilon",),
    },
    tensors=FUSED,
    hf={
        "model.embed_tokens": Stored("transformer.word_embeddings"),
        "model.norm": Stored("transformer.ln_f"),
        **joined(Stored("self_attention.query_key_value", by_head=True)),
        "self_attn.o_proj": Stored("self_attention.dense"),
        "mlp.up_proj": Stored("mlp.dense_h_to_4h"),
        "mlp.down_proj": Stored("mlp.dense_4h_to_h"),
    },
    hf_layers="transformer.h",
    traits={
        "norm": "layer",
        "norm_bias": True,
        "parallel": True,
        "shared_norm": True,
        "gated": False,
        "activation": "gelu_tanh",
    },
    respelled=one_key("num_kv_heads"),
    defaults={  # FalconConfig
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "intermediate_size": of_width(4),
    },
    # llama.cpp rotates always: Falcon RW 1B has ALiBi. 11B and 40B have two norms a layer.
    stated=lambda values: {
        "multi_query": values["num_kv_heads"] == 1,
        "alibi": False,
        "bias": False,
        "parallel_attn": True,
        "new_decoder_architecture": False,
    },
    idle=frozenset({"apply_residual_connection_post_layernorm", "num_ln_in_parallel_attn"}),
    pico={"num_kv_heads": 1, "intermediate_size": 256},
)
