"""GPT-NeoX, Pythia: attention and MLP side by side, a quarter of each head rotates."""

from m2m.families.family import FUSED, GPT_TRAITS, Family, Flag, Stored, joined

FAMILY = Family(
    "gptneox",
    "GPT-NeoX, Pythia",
    ("gpt_neox",),
    "GPTNeoXForCausalLM",
    activations=("gelu_new", "gelu", "gelu_fast", "gelu_pytorch_tanh"),
    partial=True,
    turns_to_tanh=True,
    json={
        "rms_norm_eps": ("layer_norm_eps",),
        "rope_theta": ("rotary_emb_base",),
        "partial_rotary_factor": ("rotary_pct",),
    },
    tensors=FUSED,
    hf={
        "model.embed_tokens": Stored("gpt_neox.embed_in"),
        "model.norm": Stored("gpt_neox.final_layer_norm"),
        "lm_head": Stored("embed_out"),
        **joined(Stored("attention.query_key_value", by_head=True)),
        "self_attn.o_proj": Stored("attention.dense"),
        "mlp.up_proj": Stored("mlp.dense_h_to_4h"),
        "mlp.down_proj": Stored("mlp.dense_4h_to_h"),
    },
    hf_layers="gpt_neox.layers",
    traits=GPT_TRAITS,
    flags=(Flag("parallel", "use_parallel_residual", True, gguf="use_parallel_residual"),),
    # GPTNeoXConfig. llama.cpp needs an output head of its own.
    defaults={"rms_norm_eps": 1e-5, "partial_rotary_factor": 0.25, "tie_word_embeddings": False},
    stated=lambda values: {"tie_word_embeddings": False},
    pico={
        "parallel": True,
        "rotary_dim": 4,
        "num_kv_heads": 4,
        "tie_word_embeddings": False,
    },
)
