from __future__ import annotations

import dataclasses

import gguf
import numpy as np
import pytest

from m2m.checkpoint import from_gguf_rows, gguf_to_hf_name, hf_to_gguf_name, to_gguf_rows
from m2m.errors import InputError
from m2m.families import FAMILIES
from tests.tiny import gguf_name, gguf_rows, pico_config


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3", "gemma3"])
def test_names_are_those_of_gguf_py_and_go_both_ways(architecture: str) -> None:
    config = pico_config(tie=False, architecture=architecture)
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    peer = gguf.get_tensor_name_map(kinds[FAMILIES[architecture].architecture], config.num_layers)
    for name in config.weight_shapes():
        stored = hf_to_gguf_name(name, config)
        assert stored == gguf_name(name, config) == peer.get_name(name, (".weight", ".bias"))
        assert gguf_to_hf_name(stored, config) == name


@pytest.mark.parametrize(
    "name", ["model.layers.0.lm_head.weight", "model.norm", "blk.0.attn_q.weight", "", "x.weight"]
)
def test_names_of_no_tensor_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="none that m2m knows"):
        hf_to_gguf_name(name, pico_config())


@pytest.mark.parametrize("columns", [(), (5,)], ids=["bias", "matrix"])
@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_row_order_is_that_of_the_converter_and_is_undone(
    columns: tuple[int, ...], architecture: str
) -> None:
    config = pico_config(architecture=architecture)
    rng = np.random.default_rng(0)
    for module, (rows, _) in config.linear_shapes().items():
        name = f"{module}.weight"
        array = rng.standard_normal((rows, *columns), np.float32)
        permuted = to_gguf_rows(config, name, array)
        np.testing.assert_array_equal(permuted, gguf_rows(config, name, array))
        np.testing.assert_array_equal(from_gguf_rows(config, name, permuted), array)
        assert (permuted is array) == (module[-6:-5] not in "qk")
    other = dataclasses.replace(config, architecture="qwen2")
    assert to_gguf_rows(other, "model.layers.0.self_attn.q_proj.weight", array) is array
