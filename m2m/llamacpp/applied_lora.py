"""Run a base model with a GGUF LoRA on it, as `llama-cli --lora` does."""

from __future__ import annotations

import os
from ctypes import c_float, c_void_p
from pathlib import Path
from typing import Any

from m2m.errors import InputError
from m2m.ggml.log import LOG
from m2m.llamacpp import bindings as c
from m2m.llamacpp.model import LlamaModel


class AdaptedModel(LlamaModel):
    """A `LlamaModel` that adds an adapter's low-rank products to its own.

    Args:
        path: the base model, a GGUF file.
        lora: the adapter, a GGUF file that `export_lora` or llama.cpp's converter wrote.
        scale: factor on the adapter's delta.
        options: options for `LlamaModel`.

    Raises:
        InputError: one of the files is missing.
        LlamaError: llama.cpp cannot load one of them, or they do not fit; the message has its log.
    """

    def __init__(self, path: Path, lora: Path, scale: float = 1.0, **options: Any) -> None:
        if not lora.is_file():
            raise InputError(f"{lora}: no such adapter file")
        self.lora, self.scale = lora, scale
        super().__init__(path, **options)

    def _load(self, repack: bool) -> int:
        model = super()._load(repack)
        mark = LOG.mark()
        adapter: int | None = c.llama_adapter_lora_init(model, os.fsencode(self.lora))
        if not adapter:
            c.llama_model_free(model)
            raise LOG.error(f"{self.lora}: llama.cpp cannot load it on {self.path}", mark)
        self._adapter = adapter
        return model

    def _open_context(self, cells: int) -> None:
        super()._open_context(cells)
        one = (c_void_p * 1)(self._adapter), (c_float * 1)(self.scale)
        if c.llama_set_adapters_lora(self._context, one[0], 1, one[1]) != 0:
            raise LOG.error(f"{self.lora}: llama.cpp cannot use it on {self.path}")
