"""Our choice of types against llama.cpp's own quantiser, on whole files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m2m.checkpoint import import_model
from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile
from m2m.llamacpp import filetypes as f
from m2m.llamacpp.quantize import tensor_bytes
from tests.families.pico import CONFIGS, family_folder
from tests.llamacpp.conftest import Quantizer
from tests.tiers import rotated

MIXED = [name for name, config in CONFIGS.items() if config.layer_mixers]


def assert_equal_to_llama_quantize(
    source: Path, name: str, pure: bool, llama_quantize: Quantizer
) -> None:
    """Metadata, tensor table and every byte."""
    base, target = GGUFFile(source), f.file_type(name)
    metadata, specs = f.quantized_layout(base, target, pure=pure)
    theirs = GGUFFile(llama_quantize(source, target, pure))
    assert metadata == theirs.metadata
    assert {s.name: s.type.name for s in specs} == {
        t.name: t.type.name for t in theirs.tensors.values()
    }
    for spec in specs:
        np.testing.assert_array_equal(tensor_bytes(base, spec), theirs.raw(spec.name), spec.name)


@pytest.mark.parametrize(
    ("name", "model", "pure"),
    rotated(f.FILE_TYPES, [("pico", False), ("wide", False), ("pico", True), ("wide", True)]),
)
def test_files_equal_llama_quantizes(
    model: str, name: str, pure: bool, llama_quantize: Quantizer, request: pytest.FixtureRequest
) -> None:
    assert_equal_to_llama_quantize(request.getfixturevalue(model), name, pure, llama_quantize)


@pytest.mark.parametrize("architecture", MIXED)
@pytest.mark.parametrize("name", ["q8_0", "q4_k_m"])
def test_files_of_layers_without_attention_equal_llama_quantizes(
    architecture: str, name: str, tmp_path: Path, llama_quantize: Quantizer
) -> None:
    config = replace(CONFIGS[architecture], hidden_size=256, intermediate_size=512)
    import_model(family_folder(tmp_path / "hf", config), tmp_path / "m", name="m")
    assert_equal_to_llama_quantize(tmp_path / "m" / "base.gguf", name, False, llama_quantize)


@pytest.mark.slow  # llama-quantize takes seconds on 135M parameters
@pytest.mark.model
@pytest.mark.parametrize("name", ["q8_0", "q6_k", "q5_k_m", "q4_k_m"])
def test_starter_files_equal_llama_quantizes(
    name: str, starter: Path, llama_quantize: Quantizer
) -> None:
    assert_equal_to_llama_quantize(starter / "base.gguf", name, False, llama_quantize)


def test_the_m_types_give_more_bits_where_llama_cpp_does(wide: Path) -> None:
    _, specs = f.quantized_layout(GGUFFile(wide), f.file_type("Q4_K_M"))
    types = {s.name: int(s.type) for s in specs}
    assert {types[f"blk.{i}.ffn_down.weight"] for i in (0, 7, 8)} == {f.Q6_K}
    assert {types[f"blk.{i}.ffn_down.weight"] for i in (1, 2)} == {f.Q4_K}
    assert types["token_embd.weight"] == f.Q6_K


@pytest.mark.parametrize(
    ("columns", "requested", "expected"),
    [
        (512, f.Q4_K, f.Q4_K),
        (576, f.Q4_K, f.Q5_0),
        (576, f.Q5_K, f.Q5_1),
        (576, f.Q6_K, f.Q8_0),
        (96, f.Q8_0, f.Q8_0),
        (100, f.Q8_0, f.F16),
        (100, f.Q6_K, f.F16),
        (100, f.BF16, f.BF16),
    ],
)
def test_rows_that_do_not_divide_into_blocks_fall_back(
    columns: int, requested: int, expected: int
) -> None:
    assert f.effective_type("blk.0.attn_q.weight", (64, columns), requested) == expected


def test_norms_keep_their_type() -> None:
    assert f.effective_type("blk.0.attn_norm.weight", (64,), f.Q8_0) == f.F32
    assert f.effective_type("blk.0.attn_q_norm.weight", (64, 64), f.Q8_0, kept=f.F16) == f.F16


def test_unknown_names_are_told_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'q3'.*q8_0"):
        f.file_type("q3")
    with pytest.raises(ValueError, match="blocks of q8_0"):
        f.row_bytes(33, f.Q8_0)
