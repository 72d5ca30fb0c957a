"""Pico models of every family in m2m/families, as the folders that m2m would write."""

from __future__ import annotations

from pathlib import Path

from m2m.checkpoint.hf_config import config_to_json
from m2m.checkpoint.names import hf_rules
from m2m.families import FAMILIES
from m2m.formats.atomic import write_json
from m2m.formats.safetensors import TensorSpec, write_safetensors
from m2m.nn.config import DecoderConfig, RopeScaling
from tests.tiny import pico_config, pico_weights
from tests.tiny_folder import pico_tokenizer_files

BIASES = {"attention_bias": True, "output_bias": True, "mlp_bias": True}
CONFIGS: dict[str, DecoderConfig] = {name: pico_config(architecture=name) for name in FAMILIES} | {
    f"{name} with biases": pico_config(architecture=name, **BIASES)
    for name, family in FAMILIES.items()
    if family.biases
}


YARN = RopeScaling("yarn", 4.0, original_max_position_embeddings=256)
CONFIGS |= {
    f"{name} yarn": pico_config(architecture=name, rope_scaling=YARN)
    for name in ("llama", "qwen2", "qwen3")
}


LONGROPE = RopeScaling(
    "longrope",
    short_factor=(1.0, 1.25, 1.5),
    long_factor=(2.0, 4.0, 8.0),
    original_max_position_embeddings=256,
    attention_factor=1.25,
)
CONFIGS["phi3 longrope"] = pico_config(
    architecture="phi3", rope_scaling=LONGROPE, rotary_dim=6, sliding_window=512
)
CONFIGS["minicpm longrope"] = pico_config(
    architecture="minicpm",
    head_dim=6,
    rope_scaling=LONGROPE,
    tie_word_embeddings=False,
)
CONFIGS["starcoder of many keys"] = pico_config(architecture="starcoder", num_kv_heads=4)
CONFIGS["gptneox in series"] = pico_config(architecture="gptneox", parallel=False)
CONFIGS["stablelm 12b"] = pico_config(
    architecture="stablelm", attention_bias=False, qk_norm=True, parallel=True, shared_norm=True
)
CONFIGS["olmo3 yarn"] = pico_config(architecture="olmo3", rope_scaling=YARN)


def family_folder(path: Path, config: DecoderConfig, seed: int = 0) -> Path:
    """Write a pico model of any family; transformers reads it in tests/peer."""
    path.mkdir(parents=True)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    write_json(path / "config.json", config_to_json(config, "float32", ids))
    ours, rules = pico_weights(seed, config), hf_rules(config)
    weights = {name: rules.join(name, ours.__getitem__) for name in rules.shapes}
    specs = [TensorSpec(name, "F32", array.shape) for name, array in weights.items()]
    write_safetensors(path / "model.safetensors", specs, weights.values(), {"format": "pt"})
    pico_tokenizer_files(path)
    return path
