"""Model types that m2m refuses, and why: a message that gives the reason saves a search.

Names are those of config.json's model_type and of GGUF's general.architecture.
"""

from __future__ import annotations

_EXPERTS = "it has a mixture of experts, and each token would train other weights"
_LLAMA4 = (
    "it has a mixture of experts; MobileLLM-R1 has none, but norms of queries and keys without "
    "weights, which m2m does not compute yet"
)
_STATES = "it has recurrent layers (Mamba, RWKV, convolutions) instead of attention in each layer"
_ENCODER = "it is an encoder or has one, and m2m trains decoders that predict the next token"
_SHARED = "its layers share keys and values and have embeddings of their own"
_SENSES = "it reads or writes pictures or sound, and m2m imports models of text"
_LARGE = "its smallest models have 4 billion weights or more"
_NOT_IN_LLAMA = "llama.cpp does not compute it, and m2m scores with llama.cpp"
_LATENT = "its keys and values come from one short vector (latent attention, MLA)"
_TERNARY = "each weight is -1, 0 or 1, and a merge with an adapter could not be stored as that"
_LOOPS = "its layers run several times for each token, and it reads prompts in both directions"
_SINKS = "its heads may attend to nothing (attention sinks), which m2m does not compute"
_UNWRITTEN = "m2m does not have its layers yet"

_NAMES = {
    _EXPERTS: """
        afmoe aria_text axk1 axk2 beam cohere2_moe dbrx deepseek2 deepseek_v2 deepseek_v3
        deepseek_v32 deepseek_v4 doge dots1 dots3_note dots3_note_text ernie4_5-moe ernie4_5_moe
        exaone_moe flex_olmo flint glm4_moe glm4_moe_lite glm_moe_dsa gpt-oss gpt_oss
        granitehybrid granitemoe granitemoe_swa granitemoehybrid granitemoeshared hunyuan_v1_moe
        hy_v3 hy_v4 jetmoe kolibri1 laguna longcat_flash mellum mimo_v2_flash minimax
        minimax_m2 minimax_m3_vl_text mixtral olmoe phimoe qwen2_moe qwen2moe qwen3_moe
        qwen3_next qwen3moe solar_open""",
    _LLAMA4: "llama4 llama4_text",
    _STATES: """
        bailing_hybrid bamba falcon-h1 falcon_h1 falcon_mamba inkling2_text inkling_text jamba
        kimi_linear lfm2_moe lfm2moe lfm3 mamba mamba2 nemotron_h olmo_hybrid qwen35moe
        qwen3_5_moe qwen3_5_moe_text qwen4_exp qwen4_exp_text recurrent_gemma rwkv
        rwkv6 rwkv7 xlstm zamba zamba2 zaya""",
    _ENCODER: """
        bart bert bert-generation big_bird bigbird_pegasus blenderbot blenderbot-small camembert
        data2vec-text electra ernie m2m_100 marian mbart megatron-bert modernbert-decoder mt5 mvp
        pegasus plbart prophetnet reformer rembert roberta roberta-prelayernorm roc_bert roformer
        t5 umt5 xlm xlm-roberta xlm-roberta-xl xlnet xmod""",
    _SHARED: """
        gemma3n gemma3n_text gemma4 gemma4_assistant gemma4_text gemma4_unified
        gemma4_unified_assistant gemma4_unified_text""",
    _SENSES: """
        emu3 fuyu git got_ocr2 mllama moshi moss_transcribe_diarize musicgen musicgen_melody
        phi4_multimodal trocr whisper""",
    _LARGE: "cohere command-r internlm3 persimmon",
    _LATENT: "minicpm3 plm youtu",
    _TERNARY: "bitnet",
    _LOOPS: "hrm_text",
    _SINKS: "granite_swa",
    _NOT_IN_LLAMA: """
        biogpt blt codegen cohere_compass_text cpmant ctrl cwm diffllama gpt_neo
        gpt_neox_japanese gptj helium hyperclovax nanochat openai-gpt opt vaultgemma xglm""",
}
REFUSED = {name: reason for reason, names in _NAMES.items() for name in names.split()}


def reason_for(name: str) -> str:
    """Return why a model type is refused."""
    return REFUSED.get(name, _UNWRITTEN)
