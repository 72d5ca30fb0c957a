"""StarCoder 1 and SantaCoder (GPTBigCode): GPT-2 whose heads share one key and value."""

from m2m.families.family import GPT_TRAITS, Family, Stored, joined, of_width, one_key
from m2m.families.gpt2 import FAMILY as GPT2

FAMILY = Family(
    "starcoder",
    "StarCoder 1, SantaCoder",
    ("gpt_bigcode",),
    "GPTBigCodeForCausalLM",
    activation="activation_function",
    activations=("gelu_pytorch_tanh", "gelu_new", "gelu"),
    turns_to_tanh=True,
    json=GPT2.json,
    tensors=GPT2.tensors,
    hf={
        **GPT2.hf,
        **joined(Stored("attn.c_attn", by_head=True)),
        "self_attn.o_proj": Stored("attn.c_proj"),
        "mlp.up_proj": Stored("mlp.c_fc"),
        "mlp.down_proj": Stored("mlp.c_proj"),
    },
    hf_layers="transformer.h",
    traits=GPT_TRAITS | {"positions": "learned"},
    respelled=one_key("num_key_value_heads"),
    defaults={  # GPTBigCodeConfig
        "rms_norm_eps": 1e-5,
        "activation_function": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
        "intermediate_size": of_width(4),
    },
    stated=lambda values: {
        "multi_query": values["num_kv_heads"] == 1,
        "scale_attn_weights": True,
        "add_cross_attention": False,
    },
    idle=frozenset(
        [
            "attention_softmax_in_fp32",
            "scale_attention_softmax_in_fp32",
            "inference_runner",
            "max_batch_size",
            "max_sequence_length",
            "pad_key_length",
            "pre_allocate_kv_cache",
            "validate_runner_input",
        ]
    ),
    pico={"num_kv_heads": 1},
)
