"""The config.json of released models has keys that pico models do not: none may raise a doubt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m2m.checkpoint.hf_config import config_from_json, config_to_json, unknown_json
from m2m.errors import InputError
from m2m.formats.atomic import write_json
from tests.families.pico import CONFIGS

YARN = {"rope_type": "yarn", "factor": 20.0, "original_max_position_embeddings": 128}
# Keys as they are in a release of each family, besides those that m2m writes.
RELEASED: dict[str, dict[str, Any]] = {
    "gpt2": {  # Goldfish
        "activation_function": "gelu",
        "n_ctx": 512,
        "prefix": "[CLS]",
        "reorder_and_upcast_attn": False,
        "summary_type": "cls_index",
    },
    "falcon": {  # Falcon 7B: num_kv_heads does not count, and GELU is by erf
        "activation": "gelu",
        "apply_residual_connection_post_layernorm": False,
        "num_ln_in_parallel_attn": None,
        "num_kv_heads": 4,
    },
    "starcoder": {  # StarCoderBase 1B
        "attention_softmax_in_fp32": True,
        "inference_runner": 0,
        "max_batch_size": None,
        "max_sequence_length": None,
        "pad_key_length": True,
        "pre_allocate_kv_cache": False,
        "scale_attention_softmax_in_fp32": True,
        "summary_use_proj": True,
        "validate_runner_input": True,
    },
    "mpt": {  # MPT 7B
        "attn_config": {
            "alibi": True,
            "alibi_bias_max": 8,
            "attn_impl": "torch",
            "attn_pdrop": 0,
            "attn_type": "multihead_attention",
            "attn_uses_sequence_id": False,
            "clip_qkv": None,
            "prefix_lm": False,
            "qk_ln": False,
            "softmax_scale": None,
        },
        "embedding_fraction": 1.0,
        "emb_pdrop": 0,
        "init_config": {"name": "kaiming_normal_", "verbose": 0},
        "init_device": "cpu",
        "learned_pos_emb": True,
        "norm_type": "low_precision_layernorm",
        "verbose": 0,
    },
    "phi3": {"full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False},  # Phi-4-mini
    "bloom": {  # BLOOM 560M
        "attention_softmax_in_fp32": True,
        "bias_dropout_fusion": True,
        "masked_softmax_fusion": True,
        "n_inner": None,
        "offset_alibi": 100,
        "skip_bias_add": True,
        "skip_bias_add_qkv": False,
        "slow_but_exact": False,
    },
    "apertus": {"post_norm": False, "qk_norm": True},
    "hunyuan_v1_dense": {
        "attention_head_dim": 32,
        "cla_share_factor": 2,
        "norm_type": "rms",
        "num_experts": 1,
        "org_vocab_size": 295,
        "pad_id": 2,
        "use_cla": False,
        "use_qk_norm": True,
    },
    "cohere2": {  # Tiny Aya
        "layer_switch": 4,
        "order_of_interleaved_layers": "local_attn_first",
        "position_embedding_type": "rope_gptj",
        "rotary_pct": 1.0,
        "use_embedding_sharing": True,
        "use_gated_activation": True,
        "use_parallel_block": True,
        "use_parallel_embedding": True,
    },
    "arcee": {"rope_scaling": YARN | {"beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0}},  # AFM
}
OTHERWISE = [
    ("phi3", "lm_head_bias", True),
    ("apertus", "post_norm", True),
    ("hunyuan_v1_dense", "use_cla", True),
    ("cohere2", "position_embedding_type", "absolute"),
    ("falcon", "alibi", True),  # Falcon RW 1B
    ("falcon", "new_decoder_architecture", True),  # Falcon 11B
    ("llama", "rope_scaling", "linear"),
    ("mpt", "attn_config", {"alibi": True, "clip_qkv": 6}),
    ("mpt", "attn_config", {"alibi": True, "sliding_window_size": 4096}),
    ("mpt", "norm_type", "low_precision_rmsnorm"),
    ("arcee", "rope_scaling", YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}),
]


def written(path: Path, name: str, more: dict[str, Any]) -> Path:
    data = config_to_json(CONFIGS[name], "float32", {"bos_token_id": 1, "eos_token_id": 2})
    write_json(path / "config.json", data | more)
    return path / "config.json"


@pytest.mark.parametrize("name", RELEASED)
def test_keys_of_a_release_are_known(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, RELEASED[name])
    config = config_from_json(path)
    if name == "arcee":
        assert config.rope_scaling is not None and config.rope_scaling.factor == 20.0
    else:
        assert config == CONFIGS[name]
    cautions = unknown_json(path, config)
    assert [caution for caution in cautions if "does not know" in caution] == []
    assert ("GELU by erf" in str(cautions)) == (name in ("gpt2", "falcon", "mpt"))


@pytest.mark.parametrize(("name", "key", "value"), OTHERWISE)
def test_other_values_of_these_keys_are_refused(
    tmp_path: Path, name: str, key: str, value: object
) -> None:
    with pytest.raises(InputError, match=key):
        config_from_json(written(tmp_path, name, {key: value}))


def test_ministral_3_is_read_with_its_vision_part(tmp_path: Path) -> None:
    """As Ministral 3 3B's own files are, at pico size."""
    expected = CONFIGS["ministral3"]
    assert expected.rope_scaling is not None
    text = config_to_json(expected, "bfloat16", {})
    rope = text.pop("rope_scaling") | {"type": "yarn", "beta_fast": 32.0, "beta_slow": 1.0}
    text |= {"rope_parameters": rope | {"rope_theta": text.pop("rope_theta")}, "head_dim": 32}
    whole = {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "image_token_index": 10,
        "model_type": "mistral3",
        "multimodal_projector_bias": False,
        "projector_hidden_act": "gelu",
        "spatial_merge_size": 2,
        "text_config": text | {"sliding_window": None, "use_cache": True},
        "vision_config": {"model_type": "pixtral", "hidden_size": 1024, "rope_theta": 10000.0},
        "vision_feature_layer": -1,
    }
    path = tmp_path / "config.json"
    write_json(path, whole)
    assert config_from_json(path) == expected
    assert unknown_json(path, expected) == []
    write_json(path, whole | {"quantization_config": {"quant_method": "fp8"}})
    with pytest.raises(InputError, match="quantization_config"):
        config_from_json(path)


def test_layers_with_and_without_a_window_are_one_up_to_its_length(tmp_path: Path) -> None:
    """Ministral 8B, which older files call a Mistral."""
    config = CONFIGS["mistral"]
    kinds = ["full_attention", "sliding_attention"]
    for name in ("mistral", "ministral"):
        path = written(tmp_path, "mistral", {"model_type": name, "layer_types": kinds})
        assert config_from_json(path) == config
        assert any("texts of up to 8 tokens" in text for text in unknown_json(path, config))
    path = written(tmp_path, "mistral", {"layer_types": kinds[:1] * 2})
    assert config_from_json(path).exact_length == config.max_position_embeddings
