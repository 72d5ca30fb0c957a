"""Pico models as Hugging Face folders, spelled apart from m2m.checkpoint so that they check it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from m2m.formats.atomic import write_json
from m2m.formats.safetensors import TensorSpec, write_safetensors
from m2m.nn.config import DecoderConfig
from tests.tiny import CHATML, MERGES, SPECIAL, pico_config, pico_tokens, pico_weights

_CLASSES = {
    "llama": ("llama", "LlamaForCausalLM"),
    "mistral": ("mistral", "MistralForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM"),
}


def pico_json(config: DecoderConfig, *, new: bool = False) -> dict[str, Any]:
    """The model's config.json, as transformers 4 or (`new`) 5 writes it."""
    kind, name = _CLASSES[config.architecture]
    data: dict[str, Any] = {
        "architectures": [name],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.rms_norm_eps,
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": 1,
        "eos_token_id": [2, 0],
        "dtype" if new else "torch_dtype": "float32",
    }
    if config.architecture == "gemma3":
        data["hidden_activation"] = "gelu_pytorch_tanh"
        data["query_pre_attn_scalar"] = config.head_dim
        names = ("full_attention", "sliding_attention")
        data["layer_types"] = [names[local] for local in config.layer_is_local]
    if config.sliding_window or config.architecture == "mistral":
        data["sliding_window"] = config.sliding_window or None
    return data | _rope_json(config, new)


def _rope_json(config: DecoderConfig, new: bool) -> dict[str, Any]:
    scaling: dict[str, Any] = {}
    if config.rope_scaling is not None:
        scaling = asdict(config.rope_scaling)
        scaling["rope_type"] = scaling.pop("kind")
        if scaling["rope_type"] == "linear":
            scaling = {key: scaling[key] for key in ("rope_type", "factor")}
        elif scaling["rope_type"] == "llama3":
            for other in ("short_factor", "long_factor", "attention_factor"):
                del scaling[other]
    theta = {"rope_theta": config.rope_theta}
    local = config.local_rope_theta
    if not new:
        old = theta | {"rope_scaling": scaling or None}
        return old if local is None else old | {"rope_local_base_freq": local}
    whole = {"rope_type": "default"} | scaling | theta
    if local is None:
        return {"rope_parameters": whole}
    kinds = {"full_attention": whole, "sliding_attention": {"rope_theta": local}}
    kinds["sliding_attention"]["rope_type"] = "default"
    return {"rope_parameters": kinds}


def pico_folder(
    path: Path,
    config: DecoderConfig | None = None,
    seed: int = 0,
    *,
    dtype: str = "F32",
    shards: int = 1,
    new: bool = False,
) -> Path:
    """Write a pico model as a Hugging Face folder, its tensors in `shards` files."""
    config = config or pico_config()
    path.mkdir(parents=True)
    write_json(path / "config.json", pico_json(config, new=new))
    weights = pico_weights(seed, config)
    where = {name: number % shards for number, name in enumerate(weights)}
    names = [f"model-{n + 1:05}-of-{shards:05}.safetensors" for n in range(shards)]
    if shards == 1:
        names = ["model.safetensors"]
    else:
        index = {name: names[shard] for name, shard in where.items()}
        total = sum(array.nbytes for array in weights.values())
        data = {"metadata": {"total_size": total}, "weight_map": index}
        write_json(path / "model.safetensors.index.json", data)
    for shard, file in enumerate(names):
        mine = {name: array for name, array in weights.items() if where[name] == shard}
        specs = [TensorSpec(name, dtype, array.shape) for name, array in mine.items()]
        write_safetensors(path / file, specs, mine.values(), {"format": "pt"})
    pico_tokenizer_files(path)
    return path


def pico_tokenizer_files(path: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json of the pico vocabulary, as SmolLM2's are."""
    tokens = pico_tokens()
    added = [
        {"id": index, "content": token, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for index, token in enumerate(SPECIAL)
    ]
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    bytes_of |= {"use_regex": True}
    cuts = [{"type": "Digits", "individual_digits": True}, bytes_of]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": {token: index for index, token in enumerate(tokens)},
        "merges": MERGES,
    }
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": cuts},
        "post_processor": None,
        "decoder": bytes_of,
        "model": model,
    }
    write_json(path / "tokenizer.json", whole)
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": SPECIAL[1],
        "eos_token": SPECIAL[2],
        "unk_token": SPECIAL[0],
        "pad_token": SPECIAL[2],
        "chat_template": CHATML,
    }
    write_json(path / "tokenizer_config.json", settings)
