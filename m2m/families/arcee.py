"""Arcee (AFM 4.5B): Llama, but the MLP has no gate, and squares what is above zero."""

from m2m.families.family import PAIRED, Family

FAMILY = Family(
    "arcee",
    "Arcee AFM",
    ("arcee",),
    "ArceeForCausalLM",
    activations=("relu2",),
    tensors=PAIRED,
    traits={"activation": "relu2", "gated": False},
    defaults={"rms_norm_eps": 1e-5},  # ArceeConfig
    llama3=True,
)
