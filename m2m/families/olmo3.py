"""OLMo 3: OLMo 2, but three of four layers have a window and no stretched rotations."""

from m2m.families.family import Family
from m2m.families.olmo2 import TENSORS, TRAITS

FAMILY = Family(
    "olmo3",
    "OLMo 3",
    ("olmo3",),
    "Olmo3ForCausalLM",
    gguf="olmo2",
    window="some",
    period=4,
    local_theta=None,
    tensors=TENSORS,
    traits=TRAITS,
    derive=lambda values: {"local_rope_theta": values["rope_theta"]},
    defaults={"sliding_window": 4096, "rope_theta": 5e5},  # Olmo3Config
    pico={
        "tie_word_embeddings": False,
        "sliding_window": 6,
        "layer_is_local": (True, True, True, False, True),
        "num_layers": 5,
        "rope_theta": 5e5,
        "local_rope_theta": 5e5,
    },
)
