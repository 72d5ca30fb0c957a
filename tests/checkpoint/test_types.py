"""Import of GGUF files of every type that m2m reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import quants

from m2m.checkpoint import BaseModel, import_model
from m2m.errors import InputError
from m2m.formats.gguf import GGMLQuantizationType, GGUFFile, GGUFTensorSpec, nbytes_of, write_gguf
from tests.tiny import encode, gguf_name, pico_config, pico_metadata, pico_weights

F32 = GGMLQuantizationType.F32
CONFIG = pico_config(layers=1, hidden_size=256, intermediate_size=256, head_dim=64)


def random_file(path: Path, kind: GGMLQuantizationType) -> Path:
    """A file whose matrices are random bytes, small enough that any scale is finite."""
    rng = np.random.default_rng(0)
    specs, data = [], []
    for name, array in pico_weights(0, CONFIG).items():
        type = F32 if array.ndim == 1 else kind
        specs.append(GGUFTensorSpec(gguf_name(name), array.shape, type))
        raw = rng.integers(0, 0x3C, nbytes_of(array.shape, type)).astype(np.uint8)
        data.append(encode(array, F32) if type == F32 else raw)
    write_gguf(path, pico_metadata(CONFIG), specs, data)
    return path


def widened(file: GGUFFile, name: str) -> Any:
    """A tensor as the gguf package reads it."""
    tensor = file.tensors[name]
    raw = file.raw(name).reshape(tensor.shape[0], -1)
    return gguf.dequantize(raw, gguf.GGMLQuantizationType(tensor.type))


@pytest.mark.parametrize(
    "kind", [GGMLQuantizationType(t) for t in quants._type_traits if t.name != "BF16"]
)
def test_matrices_are_what_ggml_reads(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    source = GGUFFile(random_file(tmp_path / "x.gguf", kind))
    import_model(source.path, tmp_path / "m", name="m")
    model = BaseModel.open(tmp_path / "m")
    assert model.info.source_types == tuple(sorted(("F32", kind.name)))
    for name, tensor in source.tensors.items():
        if tensor.type == kind:
            expected = widened(source, name)
            assert np.std(expected) > 0
            np.testing.assert_allclose(model.gguf.array(name), expected, rtol=1e-3, atol=1e-7)


def test_other_types_are_refused_by_name(tmp_path: Path) -> None:
    source = random_file(tmp_path / "x.gguf", GGMLQuantizationType.Q8_K)
    with pytest.raises(InputError, match=r"token_embd\.weight has type Q8_K"):
        import_model(source, tmp_path / "m", name="m")
    assert not (tmp_path / "m").exists()
