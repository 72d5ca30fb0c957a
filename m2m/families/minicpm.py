"""MiniCPM 1, 2 and 4 (dense): Granite's layers; config.json spells the factors in another way."""

from m2m.families.family import PAIRED, Family, Field, Values


def _depth(value: float, values: Values) -> float:
    return float(value / values["num_layers"] ** 0.5)


def _from_depth(value: float, values: Values) -> float:
    return float(value * values["num_layers"] ** 0.5)


def _width(value: float, values: Values) -> float:
    return float(values["hidden_size"] / value)


FAMILY = Family(
    "minicpm",
    "MiniCPM 1, 2 and 4 (dense)",
    ("minicpm",),
    "MiniCPMForCausalLM",
    longrope=True,
    tensors=PAIRED,
    fields=(
        Field("embedding_scale", "scale_emb", "embedding_scale"),
        Field("residual_scale", "scale_depth", "residual_scale", read=_depth, write=_from_depth),
        Field("logit_divisor", "dim_model_base", "logit_scale", read=_width, write=_width),
    ),
    defaults={"tie_word_embeddings": True},  # configuration_minicpm.py
    # InfLLM's attention to chosen blocks; nothing reads mup_denominator.
    stated=lambda values: {"sparse_config": None},
    neutral={"expert_shared_feed_forward_length": (0,), "deepstack_mapping": ()},
    pico={"embedding_scale": 12.0, "residual_scale": 0.5, "logit_divisor": 2.0},
    llama3=True,
)
