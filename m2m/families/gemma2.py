"""Gemma 2: Gemma 3 with caps on scores and logits, without norms of heads."""

from m2m.families.family import LAYER, TOP, Family, Field, Stored, Values
from m2m.families.gemma3 import SHIFT, scaling, width

_LAYERS_27B = 46


def _fifty(values: Values) -> float:
    return 50.0  # llama-hparams.h, and Gemma2Config


def _thirty(values: Values) -> float:
    return 30.0


FAMILY = Family(
    "gemma2",
    "Gemma 2",
    ("gemma2",),
    "Gemma2ForCausalLM",
    window="some",
    period=2,
    local_theta=None,
    activation="hidden_activation",
    tensors=LAYER
    | {
        "input_layernorm": Stored("attn_norm", shift=SHIFT),
        "post_attention_layernorm": Stored("post_attention_norm", shift=SHIFT),
        "pre_feedforward_layernorm": Stored("ffn_norm", shift=SHIFT),
        "post_feedforward_layernorm": Stored("post_ffw_norm", shift=SHIFT),
    },
    top=TOP | {"model.norm": Stored("output_norm", shift=SHIFT)},
    traits={"activation": "gelu_tanh", "post_norms": True, "norm_offset": SHIFT},
    derive=lambda values: scaling(values, _LAYERS_27B),
    fields=(
        Field("attention_cap", "attn_logit_softcapping", "attn_logit_softcapping", 50.0, _fifty),
        Field("logit_cap", "final_logit_softcapping", "final_logit_softcapping", 30.0, _thirty),
    ),
    # Gemma2Config. llama.cpp's "gemma2" has no output head of its own.
    defaults={"head_dim": 256, "sliding_window": 4096, "tie_word_embeddings": True},
    stated=lambda values: {"query_pre_attn_scalar": width(values, _LAYERS_27B)},
    pico={
        "embedding_scale": 8.0,
        "head_dim": 32,
        "sliding_window": 6,
        "layer_is_local": (True, False),
        "attention_cap": 2.0,
        "logit_cap": 5.0,
    },
)
