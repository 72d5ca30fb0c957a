"""A merge holds a few tensors, never a model."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from m2m.checkpoint import BaseModel, import_model
from m2m.export.merged_gguf import export_gguf
from m2m.formats.gguf import GGMLQuantizationType, GGUFTensorSpec, encode, write_gguf
from m2m.llamacpp.filetypes import file_type
from m2m.merge.merger import Merger
from m2m.recipe import Merge
from tests.merge.conftest import adapter
from tests.tiny import gguf_name, gguf_rows, pico_config, pico_metadata, pico_weights


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A base of 6 million values whose largest tensor has 262 thousand."""
    config = replace(
        pico_config(layers=8),
        hidden_size=256,
        intermediate_size=1024,
        num_heads=16,
        num_kv_heads=2,
    )
    folder = tmp_path_factory.mktemp("deep")
    specs, data = [], []
    for name, array in pico_weights(0, config).items():
        kind = GGMLQuantizationType.F16 if array.ndim > 1 else GGMLQuantizationType.F32
        specs.append(GGUFTensorSpec(gguf_name(name), array.shape, kind))
        data.append(encode(gguf_rows(config, name, array), kind))
    write_gguf(folder / "deep.gguf", pico_metadata(config), specs, data)
    import_model(folder / "deep.gguf", folder / "deep", name="deep")
    return BaseModel.open(folder / "deep")


def peak(work: Callable[[], object]) -> int:
    """Most bytes that NumPy and Python held at once, beyond what they held before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("method", "tensors"), [("linear", 8), pytest.param("della", 18, marks=pytest.mark.slow)]
)
def test_merging_holds_a_few_tensors(
    deep: BaseModel, tmp_path: Path, method: str, tensors: int
) -> None:
    names = ["a", "b", "c"]
    weights = dict.fromkeys(names, 1 / 3)
    adapters = {name: adapter(deep, seed) for seed, name in enumerate(names)}
    merger = Merger(deep, adapters, Merge(method))
    model, largest = 4 * deep.info.parameters, 4 * 256 * 1024
    assert model > 20 * largest

    def folder() -> None:
        merger.write_folder(names, [*weights.values()], tmp_path / "folder")

    def gguf() -> None:
        export_gguf(merger, weights, file_type("q8_0"), tmp_path / "m.gguf")

    def small() -> None:
        merger.adapter(names, [*weights.values()], 8)

    for work in (folder, gguf, small):
        assert peak(work) < tensors * largest, work.__name__
