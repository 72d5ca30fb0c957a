"""ERNIE 4.5 (dense): Llama that rotates neighbouring channels, as llama.cpp does."""

from m2m.families.family import Family

FAMILY = Family(
    "ernie4_5",
    "ERNIE 4.5 (dense)",
    ("ernie4_5",),
    "Ernie4_5ForCausalLM",
    gguf="ernie4_5",
    traits={"rotates_neighbours": True},
    defaults={  # Ernie4_5Config
        "num_key_value_heads": 2,
        "head_dim": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5e5,
        "tie_word_embeddings": True,
    },
    stated=lambda values: {"use_bias": False},
    neutral={"rope.dimension_sections": ()},
    pico={"head_dim": 32},
)
