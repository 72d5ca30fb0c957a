"""Families that m2m refuses, and why: a message that gives the reason saves a search.

Names are those of config.json's model_type and of GGUF's general.architecture.
"""

from __future__ import annotations

_EXPERTS = "it has a mixture of experts, and each token would train other weights"
_STATES = "it has recurrent layers (Mamba, RWKV, convolutions) instead of attention in each layer"
_ENCODER = "it is an encoder or has one, and m2m trains decoders that predict the next token"
_SHARED = "its layers share keys and values and have embeddings of their own"

REFUSED = {
    **dict.fromkeys(
        (
            *("mixtral", "qwen2_moe", "qwen2moe", "qwen3_moe", "qwen3moe", "qwen3_next", "olmoe"),
            *("granitemoe", "granitemoehybrid", "granitehybrid", "phimoe", "deepseek_v2"),
            *("deepseek2", "deepseek_v3", "gpt_oss", "gpt-oss", "ernie4_5_moe", "ernie4_5-moe"),
            *("llama4", "glm4_moe", "hunyuan_v1_moe", "dbrx", "minimax", "jetmoe"),
        ),
        _EXPERTS,
    ),
    **dict.fromkeys(
        (
            *("mamba", "mamba2", "falcon_mamba", "jamba", "rwkv", "rwkv6", "rwkv7", "falcon_h1"),
            *("falcon-h1", "zamba", "zamba2", "bamba", "lfm2", "nemotron_h", "recurrent_gemma"),
            *("qwen3_5", "qwen3_5_text", "qwen35", "xlstm"),
        ),
        _STATES,
    ),
    **dict.fromkeys(
        (
            "t5",
            "mt5",
            "umt5",
            "bart",
            "mbart",
            "m2m_100",
            "marian",
            "bert",
            "roberta",
            "xlm-roberta",
        ),
        _ENCODER,
    ),
    **dict.fromkeys(("gemma3n", "gemma3n_text", "gemma4", "gemma4_text"), _SHARED),
}
