"""MPT: ALiBi instead of positions, layer norms without biases, q, k and v in one tensor."""

from m2m.families.family import FUSED, Family, Field, Stored, Values, joined, of_width

# The settings of MptAttentionConfig that change scores. llama.cpp also clips q, k and v.
_NEUTRAL = {"attn_type": "multihead_attention", "alibi": True, "qk_ln": False, "prefix_lm": False}
_NEUTRAL |= {"clip_qkv": None, "softmax_scale": None}
_NEUTRAL |= {"rope": False, "qk_gn": False, "sliding_window_size": -1}  # llm-foundry
_NORM = "low_precision_layernorm"  # transformers reads none of norm_type's values


def _flat(data: Values) -> dict[str, object]:
    """Return config.json with the slope of ALiBi outside, and unusual settings inside."""
    if "layernorm" in str(data.get("norm_type", _NORM)):
        data = {**data, "norm_type": _NORM}
    inside = data.get("attn_config")
    if not isinstance(inside, dict):
        return dict(data)
    odd = {key: inside[key] for key, value in _NEUTRAL.items() if inside.get(key, value) != value}
    flat = {**data, "attn_config": odd or None}
    return {"alibi_bias_max": inside.get("alibi_bias_max", 8), **flat}


FAMILY = Family(
    "mpt",
    "MPT",
    ("mpt",),
    "MptForCausalLM",
    activation="",  # always GELU by erf
    turns_to_tanh=True,
    json={
        "hidden_size": ("d_model",),
        "num_hidden_layers": ("n_layers",),
        "num_attention_heads": ("n_heads",),
        "max_position_embeddings": ("max_seq_len",),
        "rms_norm_eps": ("layer_norm_epsilon",),
    },
    tensors=FUSED,
    hf={
        "model.embed_tokens": Stored("transformer.wte"),
        "model.norm": Stored("transformer.norm_f"),
        "input_layernorm": Stored("norm_1"),
        **joined(Stored("attn.Wqkv")),
        "self_attn.o_proj": Stored("attn.out_proj"),
        "post_attention_layernorm": Stored("norm_2"),
        "mlp.up_proj": Stored("ffn.up_proj"),
        "mlp.down_proj": Stored("ffn.down_proj"),
    },
    hf_layers="transformer.blocks",
    traits={"norm": "layer", "gated": False, "activation": "gelu_tanh", "positions": "alibi"},
    respelled=_flat,
    fields=(Field("alibi_bias", "alibi_bias_max", "attention.max_alibi_bias", 8.0),),
    defaults={"rms_norm_eps": 1e-5, "tie_word_embeddings": True, "intermediate_size": of_width(4)},
    stated=lambda values: {
        "attn_config": {"alibi": True, "alibi_bias_max": int(values["alibi_bias"])},
        "no_bias": True,
        "norm_type": _NORM,
        "logit_scale": None,
        "expansion_ratio": 4,
    },
    idle=frozenset(
        {
            "learned_pos_emb",
            "embedding_fraction",
            "init_config",
            "init_device",
            "verbose",
        }
    ),
    neutral={"attention.clamp_kqv": ()},
    pico={"num_kv_heads": 4, "intermediate_size": 256},
)
