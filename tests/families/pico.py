"""Pico models of every family in m2m/families, as the folders that m2m would write."""

from __future__ import annotations

from pathlib import Path

from m2m.checkpoint.hf_config import config_to_json
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


def family_folder(path: Path, config: DecoderConfig, seed: int = 0) -> Path:
    """Write a pico model of any family; transformers reads it in tests/peer."""
    path.mkdir(parents=True)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    write_json(path / "config.json", config_to_json(config, "float32", ids))
    weights = pico_weights(seed, config)
    specs = [TensorSpec(name, "F32", array.shape) for name, array in weights.items()]
    write_safetensors(path / "model.safetensors", specs, weights.values(), {"format": "pt"})
    pico_tokenizer_files(path)
    return path
