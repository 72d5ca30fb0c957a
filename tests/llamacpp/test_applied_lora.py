"""Refusals of the wrapper; that it computes rightly is tested with the exporter's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2m.errors import InputError, LlamaError
from m2m.llamacpp.applied_lora import AdaptedModel


def test_a_missing_adapter_and_one_that_is_none(pico: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.gguf: no such adapter"):
        AdaptedModel(pico, tmp_path / "none.gguf")
    with pytest.raises(LlamaError, match=r"pico\.gguf: llama\.cpp cannot load it on(.|\n)*type"):
        AdaptedModel(pico, pico)  # a model is no adapter
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(pico.read_bytes()[:500])
    with pytest.raises(LlamaError, match="cannot load it on"):
        AdaptedModel(pico, broken)
