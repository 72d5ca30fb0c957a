"""BLOOM: ALiBi instead of positions, a norm after the embeddings, q, k and v in one tensor."""

from m2m.families.family import FUSED, GPT_TRAITS, Family, Stored, joined, of_width

FAMILY = Family(
    "bloom",
    "BLOOM",
    ("bloom",),
    "BloomForCausalLM",
    activation="",  # BloomGelu is GELU by tanh
    json={
        "hidden_size": ("hidden_size", "n_embed"),
        "num_hidden_layers": ("n_layer",),
        "num_attention_heads": ("n_head", "num_attention_heads"),
        "max_position_embeddings": ("seq_length",),
        "rms_norm_eps": ("layer_norm_epsilon",),
    },
    tensors=FUSED,
    hf={
        "model.embed_tokens": Stored("transformer.word_embeddings"),
        "model.embed_norm": Stored("transformer.word_embeddings_layernorm"),
        "model.norm": Stored("transformer.ln_f"),
        **joined(Stored("self_attention.query_key_value", by_head=True)),
        "self_attn.o_proj": Stored("self_attention.dense"),
        "mlp.up_proj": Stored("mlp.dense_h_to_4h"),
        "mlp.down_proj": Stored("mlp.dense_4h_to_h"),
    },
    hf_layers="transformer.h",
    traits=GPT_TRAITS | {"embedding_norm": True, "positions": "alibi"},
    defaults={  # BloomConfig; the models were trained with 2048 tokens
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "intermediate_size": of_width(4),
    },
    stated=lambda values: {"apply_residual_connection_post_layernorm": False},
    idle=frozenset(
        [
            "attention_softmax_in_fp32",
            "bias_dropout_fusion",
            "masked_softmax_fusion",
            "offset_alibi",
            "skip_bias_add",
            "skip_bias_add_qkv",
            "slow_but_exact",
            "n_inner",
        ]
    ),
    pico={"num_kv_heads": 4, "intermediate_size": 256},
)
