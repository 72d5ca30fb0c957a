"""Hunyuan (dense): heads of q and k are normalised after the rotation."""

from m2m.families.family import LAYER, Family, Stored

FAMILY = Family(
    "hunyuan_v1_dense",
    "Hunyuan (dense)",
    ("hunyuan_v1_dense",),
    "HunYuanDenseV1ForCausalLM",
    gguf="hunyuan-dense",
    alpha=True,
    tensors=LAYER
    | {
        "self_attn.query_layernorm": Stored("attn_q_norm"),
        "self_attn.key_layernorm": Stored("attn_k_norm"),
    },
    traits={"qk_norm": True, "turns_before_norm": True},
    neutral={"rope.scaling.alpha": (0,), "rope.dimension_sections": ()},
    stated=lambda values: {
        "use_qk_norm": True,
        "use_cla": False,
        "norm_type": "rms",
        "num_experts": 1,
    },
    idle=frozenset({"attention_head_dim", "cla_share_factor", "org_vocab_size", "pad_id"}),
    pico={"head_dim": 32},
)
