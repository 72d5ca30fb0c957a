from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.checkpoint.gguf_config import (
    config_from_gguf,
    config_to_gguf,
    extra_tensors,
    gguf_shapes,
)
from m2m.checkpoint.hf_config import config_from_json, config_to_json, unknown_json
from m2m.checkpoint.sizes import local_layers, period_of
from m2m.errors import InputError
from m2m.families import FAMILIES
from m2m.nn.config import DecoderConfig, RopeScaling
from tests.checkpoint.families import LLAMA3, VARIANTS
from tests.tiny import TRAITS, llama3_factors, pico_config, pico_metadata
from tests.tiny_folder import pico_json


@pytest.fixture(params=VARIANTS)
def config(request: pytest.FixtureRequest) -> DecoderConfig:
    return VARIANTS[request.param]


def read_json(tmp_path: Path, data: dict[str, Any]) -> DecoderConfig:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return config_from_json(path)


def read_gguf(config: DecoderConfig, changes: dict[str, Any] | None = None) -> DecoderConfig:
    metadata = {key: value.value for key, value in pico_metadata(config).items()}
    shapes = gguf_shapes(config)
    name = "rope_freqs.weight"
    factors = {name: llama3_factors(config)} if name in shapes else None
    return config_from_gguf("x.gguf", (metadata | (changes or {})).get, shapes, factors)


def test_every_family_is_here() -> None:
    assert {config.architecture for config in VARIANTS.values()} <= set(FAMILIES) == set(TRAITS)


@pytest.mark.parametrize("new", [False, True], ids=["old", "new"])
def test_config_json_in_both_spellings(tmp_path: Path, config: DecoderConfig, new: bool) -> None:
    assert read_json(tmp_path, pico_json(config, new=new)) == config


def test_our_config_json_says_the_same(tmp_path: Path, config: DecoderConfig) -> None:
    data = config_to_json(config, "float16", {"eos_token_id": [2, 0]})
    assert read_json(tmp_path, data) == config
    expected = pico_json(config) | {"torch_dtype": "float16"}
    assert {key: data[key] for key in expected if key != "bos_token_id"} == {
        key: value for key, value in expected.items() if key != "bos_token_id"
    }


def test_gguf_metadata(config: DecoderConfig) -> None:
    # GGUF does not tell a Mistral without its window from a Llama, and they are the same.
    same = config.architecture == "mistral" and not config.sliding_window
    expected = dataclasses.replace(config, architecture="llama") if same else config
    assert read_gguf(config) == expected
    wanted = pico_metadata(config)
    for key, value in config_to_gguf(config).items():
        assert wanted[key] == value
    architecture = FAMILIES[config.architecture].architecture
    assert {key for key in wanted if key.startswith(f"{architecture}.")} == set(
        config_to_gguf(config)
    )


def test_rope_factors_are_those_of_the_converter() -> None:
    for factor, theta, context in ((8.0, 5e5, 8192), (32.0, 5e5, 8192), (4.0, 1e4, 1024)):
        scaling = RopeScaling("llama3", factor, 1.0, 4.0, context)
        config = pico_config(rope_scaling=scaling, rope_theta=theta, head_dim=64)
        expected = llama3_factors(config)
        assert np.median(expected[expected > 1.0]) > 1.0
        np.testing.assert_allclose(extra_tensors(config)["rope_freqs.weight"], expected, rtol=1e-6)
        assert read_gguf(config).rope_scaling == scaling


def test_rope_factors_that_scale_nothing_or_are_strange() -> None:
    config = VARIANTS["llama 3"]
    metadata = {key: value.value for key, value in pico_metadata(config).items()}

    def read(factors: Any) -> DecoderConfig:
        tensors = {"rope_freqs.weight": np.float32(factors)}
        return config_from_gguf("x", metadata.get, gguf_shapes(config), tensors)

    assert read([1.0] * 8).rope_scaling is None
    assert read(llama3_factors(config)).rope_scaling == LLAMA3
    for strange in ([1.0, 2.0] * 4, [1.0] * 7 + [np.nan], [2.0] * 4):
        with pytest.raises(InputError, match=r"rope_freqs\.weight"):
            read(strange)


def test_the_old_key_of_linear_scaling() -> None:
    found = read_gguf(pico_config(), {"llama.rope.scale_linear": 4.0})
    assert found.rope_scaling == RopeScaling("linear", 4.0)
    assert read_gguf(pico_config(), {"llama.rope.scaling.type": "none"}).rope_scaling is None


def test_periods_of_local_layers() -> None:
    assert local_layers(5, 2) == (True, False, True, False, True)
    for period in range(7):
        flags = local_layers(6, period)
        assert period_of(flags) == (period if period <= 6 else 0)
    assert period_of((False, True)) is None


def test_gemma_files_without_a_pattern_have_one_of_six(tmp_path: Path) -> None:
    config = pico_config(
        architecture="gemma3", layers=7, layer_is_local=(True,) * 5 + (False, True)
    )
    data = pico_json(config)
    del data["layer_types"]
    assert read_json(tmp_path, data) == config
    assert read_gguf(config, {"gemma3.attention.sliding_window_pattern": None}) == config
    theta = read_gguf(config, {"gemma3.rope.freq_base_swa": None}).local_rope_theta
    assert theta == 10000.0


def test_gemma_with_eyes_leaves_out_what_is_usual(tmp_path: Path) -> None:
    """As google/gemma-3-4b-it's config.json does."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    config = read_json(tmp_path, {"model_type": "gemma3", "text_config": text})
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (8, 4, 256)
    assert (config.vocab_size, config.rope_theta, config.local_rope_theta) == (262208, 1e6, 1e4)
    assert (config.tie_word_embeddings, config.rms_norm_eps) == (True, 1e-6)
    assert config.rope_scaling == RopeScaling("linear", 8.0)
    assert config.layer_is_local.index(False) == 5
    assert config.embedding_scale == 2560**0.5


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}


def test_a_fixed_alpha_is_another_base(tmp_path: Path) -> None:
    """As Hunyuan-0.5B-Instruct's config.json has it; convert_hf_to_gguf.py names the result."""
    scaling = {"type": "dynamic", "alpha": 1000.0, "factor": 1.0, "beta_fast": 32, "beta_slow": 1}
    data = pico_json(pico_config(head_dim=128)) | {"rope_scaling": scaling}
    config = read_json(tmp_path, data | {"model_type": "hunyuan_v1_dense"})
    assert config.rope_theta == pytest.approx(11158839.9251)
    assert config.rope_scaling is None


def test_lfm2s_first_config_files(tmp_path: Path) -> None:
    """As LFM2-350M's config.json has it; llama.cpp knows the model by its MLP of 4608."""
    data: dict[str, Any] = {
        "model_type": "lfm2",
        "block_auto_adjust_ff_dim": True,
        "block_dim": 1024,
        "block_ff_dim": 6656,
        "block_ffn_dim_multiplier": 1.0,
        "block_multiple_of": 256,
        "block_norm_eps": 1e-5,
        "block_use_swiglu": True,
        "conv_L_cache": 3,
        "conv_bias": False,
        "conv_dim": 1024,
        "full_attn_idxs": [2, 5, 8, 10, 12, 14],
        "hidden_size": 1024,
        "max_position_embeddings": 128000,
        "norm_eps": 1e-5,
        "num_attention_heads": 16,
        "num_heads": 16,
        "num_hidden_layers": 16,
        "num_key_value_heads": 8,
        "rope_theta": 1e6,
        "use_pos_enc": True,
        "vocab_size": 65536,
    }
    config = read_json(tmp_path, data)
    assert (config.intermediate_size, config.conv_taps, config.tie_word_embeddings) == (
        4608,
        3,
        True,
    )
    attending = [n for n, mixer in enumerate(config.layer_mixers) if mixer == "attention"]
    assert attending == data["full_attn_idxs"]
    assert not unknown_json(tmp_path / "config.json", config)


def test_qwen3_5s_period_and_what_its_heads_need(tmp_path: Path) -> None:
    config = pico_config(architecture="qwen3_5")
    data = config_to_json(config, "float16", {})
    del data["layer_types"]
    assert read_json(tmp_path, data | {"full_attention_interval": 4}) == config
    mixers = read_json(tmp_path, data | {"full_attention_interval": 2}).layer_mixers
    assert mixers == ("delta", "attention") * 2
    with pytest.raises(InputError, match="linear_value_head_dim is 32"):
        read_json(tmp_path, data | {"linear_value_head_dim": 32})
    with pytest.raises(InputError, match="do not share"):
        read_json(tmp_path, data | {"linear_num_key_heads": 3})
    metadata = {key: value.value for key, value in config_to_gguf(config).items()}
    metadata["general.architecture"] = "qwen35"
    for key, bad in (
        ("attention.recurrent_layers", [True] * 3),
        ("attention.recurrent_layers", "x"),
        ("ssm.inner_size", 32),
    ):
        odd = metadata | {f"qwen35.{key}": bad}
        with pytest.raises(InputError, match=key):
            config_from_gguf("x.gguf", odd.get, gguf_shapes(config))
    del metadata["qwen35.attention.recurrent_layers"]  # then the last of four has attention
    assert config_from_gguf("x.gguf", metadata.get, gguf_shapes(config)) == config


_REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "another family": ("llama", {"model_type": "mamba"}, "'mamba'"),
    "no family": ("llama", {"model_type": ["llama"]}, "model_type"),
    "a dense Llama 4": ("llama", {"model_type": "llama4_text"}, "MobileLLM-R1 .* without weights"),
    "longrope": ("qwen2", {"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}, "longrope"),
    "yarn of another slope": (
        "qwen2",
        {"rope_scaling": YARN | {"beta_fast": 16}},
        r"rope_scaling\.beta_fast is 16",
    ),
    "yarn without a context": (
        "qwen2",
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        "original_max_position_embeddings",
    ),
    "dynamic scaling with an alpha": (
        "llama",
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0, "alpha": 2.0}},
        "dynamic",
    ),
    "dynamic scaling without a factor": (
        "llama",
        {"rope_scaling": {"rope_type": "dynamic"}},
        r"rope_scaling\.factor",
    ),
    "no factor": ("llama", {"rope_scaling": {"rope_type": "linear"}}, "rope_scaling.factor"),
    "no type": ("llama", {"rope_scaling": {"factor": 2.0}}, "rope_scaling"),
    "no factor in rope_parameters": (
        "llama",
        {"rope_parameters": {"type": "linear", "rope_theta": 10000.0}},
        "rope_scaling.factor",
    ),
    "two scalings": (
        "llama",
        {
            "rope_scaling": {"type": "linear", "factor": 2.0},
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "rope_scaling and rope_parameters differ",
    ),
    "biases": ("gemma3", {"attention_bias": True}, "attention_bias"),
    "biases of the MLP": ("qwen3", {"mlp_bias": True}, "mlp_bias"),
    "another activation": ("llama", {"hidden_act": "gelu"}, "hidden_act"),
    "Qwen's window": ("qwen2", {"use_sliding_window": True}, "use_sliding_window"),
    "a window by layer": ("qwen3", {"layer_types": ["sliding_attention"] * 2}, "layer_types"),
    "soft caps": ("gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    "another scale of q": ("gemma3", {"query_pre_attn_scalar": 168}, "query_pre_attn_scalar"),
    "an encoder": ("gemma3", {"use_bidirectional_attention": True}, "bidirectional"),
    "no period": ("gemma3", {"layer_types": ["full_attention", "sliding_attention"]}, "n-th"),
    "unknown layers": ("gemma3", {"layer_types": ["chunked_attention"] * 2}, "layer_types"),
    "no window": ("gemma3", {"sliding_window": None}, "sliding_window"),
    "packed weights": ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
    "partial rotation": ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    "odd heads": ("llama", {"head_dim": 15}, "odd"),
    "a size that is not a number": ("llama", {"hidden_size": "64"}, "hidden_size is '64'"),
}


@pytest.mark.parametrize("case", _REFUSED)
def test_what_m2m_cannot_compute_is_refused_by_name(tmp_path: Path, case: str) -> None:
    architecture, change, said = _REFUSED[case]
    data = pico_json(pico_config(architecture=architecture)) | change
    with pytest.raises(InputError, match=said):
        read_json(tmp_path, data)


def test_the_families_are_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_json(tmp_path, {"model_type": "rwkv"})
    families = FAMILIES.values()
    kinds = sorted(kind for f in families for kind in {*f.model_types, *f.spellings})
    assert caught.value.hint == f"it knows: {', '.join(kinds)}"
    assert "recurrent layers" in caught.value.message


@pytest.mark.parametrize(
    ("architecture", "change", "said"),
    [
        ("gemma3", {"gemma3.final_logit_softcapping": 30.0}, "softcapping"),
        ("gemma3", {"gemma3.attention.sliding_window": None}, "sliding_window"),
        ("gemma3", {"gemma3.attention.sliding_window_pattern": -1}, "pattern"),
        ("llama", {"llama.attention.value_length": 8}, "value_length"),
        ("qwen3", {"qwen3.rope.scaling.factor": "x"}, "rope.scaling.factor"),
    ],
)
def test_what_gguf_says_and_m2m_cannot_compute(
    architecture: str, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        read_gguf(pico_config(architecture=architecture), change)
