"""Gemma 1: Gemma 3 without norms after the sublayers, norms of heads and local layers."""

from m2m.families.family import LAYER, TOP, Family, Stored

_SHIFT = 1.0  # GemmaRMSNorm computes with 1 + weight, and GGUF stores the sum

FAMILY = Family(
    "gemma",
    "Gemma 1",
    ("gemma",),
    "GemmaForCausalLM",
    tensors=LAYER
    | {
        "input_layernorm": Stored("attn_norm", shift=_SHIFT),
        "post_attention_layernorm": Stored("ffn_norm", shift=_SHIFT),
    },
    top=TOP | {"model.norm": Stored("output_norm", shift=_SHIFT)},
    traits={"activation": "gelu_tanh", "norm_offset": _SHIFT},
    derive=lambda values: {"embedding_scale": values["hidden_size"] ** 0.5},
    # GemmaConfig. llama.cpp's "gemma" has no output head of its own.
    defaults={"head_dim": 256, "num_key_value_heads": 16, "tie_word_embeddings": True},
    stated=lambda values: {"hidden_activation": "gelu_pytorch_tanh"},
    pico={"embedding_scale": 8.0, "head_dim": 32},
)
