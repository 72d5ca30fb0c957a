"""OLMo 2: norms after attention and MLP only; q and k are normalised over all of their heads."""

from m2m.families.family import LAYER, Family, Stored

TENSORS = LAYER | {
    "post_attention_layernorm": Stored("post_attention_norm"),
    "post_feedforward_layernorm": Stored("post_ffw_norm"),
}
TRAITS = {"qk_norm": True, "norms_whole_qk": True, "pre_norms": False, "post_norms": True}

FAMILY = Family(
    "olmo2",
    "OLMo 2",
    ("olmo2",),
    "Olmo2ForCausalLM",
    tensors=TENSORS,
    traits=TRAITS,
    neutral={"attention.sliding_window": (0,)},  # OLMo 3
    pico={"tie_word_embeddings": False},  # llama.cpp needs a head of its own
)
