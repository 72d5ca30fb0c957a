"""Pico GGUF files and llama.cpp's own quantiser to compare with."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from m2m.checkpoint import BaseModel, import_model
from m2m.formats.gguf import GGMLQuantizationType, GGUFTensorSpec, encode, write_gguf
from m2m.llamacpp import bindings as c
from m2m.llamacpp.filetypes import FileType, file_type
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.scratch_model import Surrogate
from tests.families.pico import family_folder
from tests.tiny import gguf_name, gguf_rows, pico_config, pico_gguf, pico_metadata, pico_weights

Quantizer = Callable[[Path, FileType, bool], Path]


@pytest.fixture(scope="session")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pico model, F32 weights."""
    return pico_gguf(tmp_path_factory.mktemp("pico") / "pico.gguf")


@pytest.fixture(scope="session")
def exact(pico: Path) -> Iterator[LlamaModel]:
    """The pico model with F32 weights and F32 cache: nothing rounds to less."""
    with LlamaModel(pico, threads=1, exact_cache=True) as model:
        yield model


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """F16, rows of 256 and 512 values, so K-quants fit; nine layers, so the "M" types mix."""
    config = replace(
        pico_config(layers=9), hidden_size=256, intermediate_size=512, num_kv_heads=2, head_dim=64
    )
    specs, data = [], []
    for name, array in pico_weights(1, config).items():
        kept = GGMLQuantizationType.F32 if array.ndim == 1 else GGMLQuantizationType.F16
        specs.append(GGUFTensorSpec(gguf_name(name), array.shape, kept))
        data.append(encode(gguf_rows(config, name, array), kept))
    path = tmp_path_factory.mktemp("wide") / "wide.gguf"
    write_gguf(path, pico_metadata(config), specs, data)
    return path


@pytest.fixture
def llama_quantize(tmp_path: Path) -> Quantizer:
    """llama.cpp's llama_model_quantize, the peer of ours."""

    def run(source: Path, target: FileType, pure: bool = False) -> Path:
        out = tmp_path / f"llama-{target.name}-{pure}.gguf"
        params = c.llama_model_quantize_default_params()
        params.ftype, params.nthread, params.pure = target.number, 2, pure
        assert (
            c.llama_model_quantize(os.fsencode(source), os.fsencode(out), ctypes.byref(params)) == 0
        )
        return out

    return run


@pytest.fixture(scope="session", params=["lfm2", "qwen3_5"])
def recurrent(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LlamaModel]:
    """A pico model whose convolutions or delta rules keep a state; F32 weights and cache."""
    folder = tmp_path_factory.mktemp(request.param)
    import_model(
        family_folder(folder / "hf", pico_config(architecture=request.param)),
        folder / "m",
        name="m",
    )
    base = BaseModel.open(folder / "m").gguf
    with Surrogate(base, file_type("f32"), folder, threads=1) as surrogate:
        yield surrogate.load([], exact_cache=True)
