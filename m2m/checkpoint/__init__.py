"""Base models: import a GGUF file or HF folder as one config, tensors, tokenizer and pattern."""

from m2m.checkpoint.gguf_config import longrope_keys
from m2m.checkpoint.importer import import_model
from m2m.checkpoint.model_folder import (
    BaseModel,
    ModelInfo,
    find_model,
    is_model,
    list_models,
    remove_model,
)
from m2m.checkpoint.names import Rules, gguf_rules, hf_rules, hf_to_gguf_name

__all__ = [
    "BaseModel",
    "ModelInfo",
    "Rules",
    "find_model",
    "gguf_rules",
    "hf_rules",
    "hf_to_gguf_name",
    "import_model",
    "is_model",
    "list_models",
    "longrope_keys",
    "remove_model",
]
