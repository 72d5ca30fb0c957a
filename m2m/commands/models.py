"""Find the GGUF models that a command names, and open them in llama.cpp."""

from __future__ import annotations

from pathlib import Path

from m2m.checkpoint import find_model
from m2m.llamacpp.applied_lora import AdaptedModel
from m2m.llamacpp.guard import check_loads
from m2m.llamacpp.model import LlamaModel
from m2m.machine import usable_threads
from m2m.pipeline.inputs import model_folders


def gguf_of(model: str) -> Path:
    """Return the GGUF file of `model`: a file, or the base.gguf of a model under models/."""
    path = Path(model)
    return path if path.is_file() else find_model(model, model_folders()).gguf.path


def open_model(path: Path, lora: Path | None) -> LlamaModel:
    """Open a GGUF model in llama.cpp, with a GGUF LoRA if one is given.

    Raises:
        LlamaError: llama.cpp cannot load them; a child process has tried it first.
    """
    check_loads(path, lora)
    threads = usable_threads()
    return AdaptedModel(path, lora, threads=threads) if lora else LlamaModel(path, threads=threads)
