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
    assert ("GELU by erf" in str(cautions)) == (name == "gpt2")


@pytest.mark.parametrize(("name", "key", "value"), OTHERWISE)
def test_other_values_of_these_keys_are_refused(
    tmp_path: Path, name: str, key: str, value: object
) -> None:
    with pytest.raises(InputError, match=key):
        config_from_json(written(tmp_path, name, {key: value}))
