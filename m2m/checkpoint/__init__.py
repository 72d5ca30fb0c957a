"""Base models: import a GGUF file or HF folder as one config, tensors, tokenizer and pattern."""

from m2m.checkpoint.importer import import_model
from m2m.checkpoint.model_folder import (
    BaseModel,
    ModelInfo,
    find_model,
    is_model,
    list_models,
    remove_model,
)
from m2m.checkpoint.names import (
    from_gguf_rows,
    gguf_to_hf_name,
    hf_to_gguf_name,
    to_gguf_rows,
)

__all__ = [
    "BaseModel",
    "ModelInfo",
    "find_model",
    "from_gguf_rows",
    "gguf_to_hf_name",
    "hf_to_gguf_name",
    "import_model",
    "is_model",
    "list_models",
    "remove_model",
    "to_gguf_rows",
]
