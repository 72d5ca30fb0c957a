"""ggml's types, compared with its own table and with the gguf package."""

from __future__ import annotations

import subprocess
import sys

import gguf
import numpy as np
import pytest
from gguf import quants
from numpy.typing import NDArray

from m2m.errors import LlamaError
from m2m.formats.ggml import GGMLQuantizationType, dequantize, nbytes_of
from m2m.formats.gguf import GGUFValueType
from m2m.kernels import blocks, library
from m2m.llamacpp import bindings as c
from tests.conftest import REPOSITORY

PEER = {gguf.GGMLQuantizationType(t): quants._type_traits[t] for t in quants._type_traits}
SHAPE = (3, 512)


def random_bytes(type: GGMLQuantizationType, seed: int = 0) -> NDArray[np.uint8]:
    """All that a damaged file may hold: scales that are infinite or no numbers, too."""
    return np.random.default_rng(seed).integers(0, 256, nbytes_of(SHAPE, type)).astype(np.uint8)


@pytest.mark.parametrize("type", GGMLQuantizationType)
def test_sizes_are_those_of_ggml(type: GGMLQuantizationType) -> None:
    name, values, size = blocks.layout(type)
    assert (name.upper(), values, size) == (type.name, type.values_per_block, type.block_bytes)


def test_no_type_of_ggml_is_missing() -> None:
    known = {number for number in range(max(GGMLQuantizationType) + 1) if blocks.layout(number)[1]}
    assert known == set(GGMLQuantizationType)


def test_names_and_numbers_are_those_of_the_peer() -> None:
    for kind in gguf.GGMLQuantizationType:
        assert GGMLQuantizationType[kind.name] == kind
        if kind.name != "Q8_1":  # the package has the size of an older version
            ours = GGMLQuantizationType(kind)
            assert (ours.values_per_block, ours.block_bytes) == gguf.GGML_QUANT_SIZES[kind]
    assert {t.name: int(t) for t in GGUFValueType} == {t.name: int(t) for t in gguf.GGUFValueType}


@pytest.mark.parametrize("kind", PEER, ids=lambda kind: kind.name)
def test_values_are_the_peers_bit_for_bit(kind: gguf.GGMLQuantizationType) -> None:
    type = GGMLQuantizationType(kind)
    for seed in range(20):
        raw = random_bytes(type, seed)
        with np.errstate(all="ignore"):
            expected = np.asarray(gguf.dequantize(raw.reshape(3, -1), kind), np.float32)
        found = dequantize(raw, type, SHAPE)
        numbers = ~np.isnan(expected)
        np.testing.assert_array_equal(np.isnan(found), ~numbers)
        np.testing.assert_array_equal(
            found.view(np.uint32)[numbers], expected.view(np.uint32)[numbers]
        )


@pytest.mark.parametrize("name", ["Q1_0", "Q2_0"])
def test_types_that_the_peer_does_not_read(name: str) -> None:
    """What ggml quantised comes back with the signs that it had."""
    type = GGMLQuantizationType[name]
    array = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    raw = np.empty(nbytes_of(SHAPE, type), np.uint8)
    c.ggml_quantize_chunk(int(type), array.ctypes.data, raw.ctypes.data, 0, *SHAPE, None)
    found = dequantize(raw, type, SHAPE)
    assert np.mean(found * array) > 0.5
    assert len(np.unique(np.abs(found))) <= 2 * raw.size // type.block_bytes + 1


@pytest.mark.parametrize("name", ["Q8_1", "Q8_K", "I32", "F64"])
def test_a_type_that_ggml_does_not_read(name: str) -> None:
    type = GGMLQuantizationType[name]
    with pytest.raises(NotImplementedError, match=f"ggml does not read {name.lower()[:3]}"):
        dequantize(random_bytes(type), type, SHAPE)


@pytest.mark.parametrize("type", [GGMLQuantizationType.Q4_K, GGMLQuantizationType.BF16])
def test_bytes_may_begin_anywhere(type: GGMLQuantizationType) -> None:
    raw = random_bytes(type)
    shifted = np.empty(raw.size + 3, np.uint8)[3:]
    shifted[:] = raw
    np.testing.assert_array_equal(dequantize(shifted, type, SHAPE), dequantize(raw, type, SHAPE))


def test_sizes_that_do_not_fit_are_refused() -> None:
    type = GGMLQuantizationType.Q4_0
    with pytest.raises(ValueError, match="no Q4_0 tensor"):
        dequantize(random_bytes(type)[:-1], type, SHAPE)
    with pytest.raises(ValueError, match="multiple of 32"):
        dequantize(random_bytes(type), type, (3, 33))
    with pytest.raises(ValueError, match="cannot widen"):
        blocks.widen(random_bytes(type), type, np.empty(7, np.float32))


def test_without_the_library_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    type = GGMLQuantizationType.Q4_0
    for cached in (blocks._table, blocks._traits):
        cached.cache_clear()
    monkeypatch.setattr(library, "load", lambda name: None)
    with pytest.raises(LlamaError, match="ggml-base is missing") as caught:
        dequantize(random_bytes(type), type, SHAPE)
    assert "pip install llama-cpp-python" in str(caught.value.hint)


@pytest.mark.slow
def test_files_are_read_without_the_peer() -> None:
    code = "import sys, m2m.formats.gguf, m2m.pipeline.run; print('gguf' in sys.modules)"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
