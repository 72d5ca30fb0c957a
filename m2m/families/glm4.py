"""GLM-4 0414 and GLM-Z1: GLM-4 with norms after attention and MLP too."""

from m2m.families.family import Family, Flag, Stored
from m2m.families.glm import JOINED, TENSORS

FAMILY = Family(
    "glm4",
    "GLM-4 0414, GLM-Z1",
    ("glm4",),
    "Glm4ForCausalLM",
    partial=True,
    tensors=TENSORS
    | {
        "post_attention_layernorm": Stored("post_attention_norm"),
        "pre_feedforward_layernorm": Stored("ffn_norm"),
        "post_feedforward_layernorm": Stored("post_ffw_norm"),
    },
    hf=JOINED
    | {
        "post_attention_layernorm": Stored("post_self_attn_layernorm"),
        "pre_feedforward_layernorm": Stored("post_attention_layernorm"),
        "post_feedforward_layernorm": Stored("post_mlp_layernorm"),
    },
    traits={"rotates_neighbours": True, "post_norms": True},
    flags=(Flag("attention_bias", "attention_bias", False, tensor="attn_q.bias"),),
    defaults={"partial_rotary_factor": 0.5},  # Glm4Config
    neutral={"rope.dimension_sections": ()},  # GLM-4.1V, whose positions are those of pictures too
    pico={"rotary_dim": 4},
)
