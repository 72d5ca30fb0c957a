"""Granite 3 and 4 (dense): Llama with factors on embeddings, scores, updates and logits."""

from m2m.families.family import PAIRED, Family, Field, Spelling, Stored, Values


def _one(values: Values) -> float:
    return 1.0


def _by_width(values: Values) -> float:
    return float(values["head_dim"] ** -0.5)


# Granite 4.0 350M and 1B: GraniteMoeHybrid without experts and without Mamba layers.
_DENSE_4 = Spelling(
    sizes={"shared_intermediate_size": "intermediate_size"},
    needed={
        "num_local_experts": (0,),
        "position_embedding_type": ("rope",),
        "normalization_function": (None, "rmsnorm"),
        "layer_types": ("attention", "full_attention"),
    },
    tensors={
        "mlp.gate_proj": Stored("shared_mlp.input_linear"),
        "mlp.up_proj": Stored("shared_mlp.input_linear"),
        "mlp.down_proj": Stored("shared_mlp.output_linear"),
    },
)

FAMILY = Family(
    "granite",
    "Granite 3 and 4 (dense)",
    ("granite",),
    "GraniteForCausalLM",
    spellings={"granitemoehybrid": _DENSE_4},
    biases=True,
    tensors=PAIRED,
    fields=(
        Field("embedding_scale", "embedding_multiplier", "embedding_scale", 1.0, _one),
        Field("residual_scale", "residual_multiplier", "residual_scale", 1.0, _one),
        Field("query_scale", "attention_multiplier", "attention.scale", 1.0, _by_width),
        Field("logit_divisor", "logits_scaling", "logit_scale", 1.0),
    ),
    neutral={
        "rope.scaling.finetuned": (True,),  # false: llama.cpp does not rotate
        "deepstack_mapping": (),  # Granite 4 Vision
        "expert_shared_feed_forward_length": (0,),
    },
    idle=frozenset({"init_method"}),
    pico={
        "embedding_scale": 12.0,
        "residual_scale": 0.22,
        "query_scale": 0.1,
        "logit_divisor": 2.0,
    },
    llama3=True,
)
