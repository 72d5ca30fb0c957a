"""GLM-Edge, GLM-4 9B: half of each head rotates, in neighbouring pairs; gate and up are one map."""

from m2m.families.family import LAYER, Family, Flag, Stored

JOINED = {f"mlp.{part}_proj": Stored("mlp.gate_up_proj") for part in ("gate", "up")}
TENSORS = LAYER | {f"mlp.{part}_proj": Stored("ffn_up") for part in ("gate", "up")}

FAMILY = Family(
    "glm",
    "GLM-Edge, GLM-4",
    ("glm",),
    "GlmForCausalLM",
    gguf="chatglm",
    partial=True,
    tensors=TENSORS,
    hf=JOINED,
    traits={"rotates_neighbours": True},
    flags=(Flag("attention_bias", "attention_bias", False, tensor="attn_q.bias"),),
    defaults={"partial_rotary_factor": 0.5},  # GlmConfig
    pico={"attention_bias": True, "rotary_dim": 4},
)
