"""Pico models and data, made and never downloaded: real files, small enough for every test."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.families import FAMILIES
from m2m.formats.gguf import (
    GGMLQuantizationType,
    GGUFTensorSpec,
    GGUFValue,
    GGUFValueType,
    encode,
    write_gguf,
)
from m2m.merge.merger import Merger
from m2m.nn.config import DecoderConfig, RopeScaling
from m2m.progress import Silent

F32 = NDArray[np.float32]

# What a row's place in the cache may change in its log-likelihood, in nats, with a pico model: by
# the type of the weights, whose products round activations (docs/scoring.md).
PLACE_NATS = {"f32": 1e-3, "f16": 0.01, "bf16": 0.1, "q8_0": 0.1, "q4_0": 0.1}

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# In rank order; every left and right side is a byte or an earlier merge.
MERGES = [
    "Ġ t", "Ġ a", "i n", "h e", "r e", "o n", "e r", "Ġt he", "a t",
    "o r", "Ġ s", "Ġ o", "e n", "Ġ w", "a n", "i s", "e s", "Ġ c",
    "Ġa n", "o u", "i t", "Ġ b", "a l", "in g", "Ġ f", "Ġ m", "Ġ p",
    "Ġan d", "Ġo f", "s t", "u s", "a r", "Ġt o", "us er", "a s", "as s",
]  # fmt: skip
_BLOCKS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def byte_letters() -> list[str]:
    """The 256 printable stand-ins for bytes of GPT-2's byte-level BPE, by byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]


def pico_tokens() -> list[str]:
    """Three special tokens, 256 bytes, then one token a merge."""
    return [*SPECIAL, *byte_letters(), *(merge.replace(" ", "") for merge in MERGES)]


# What makes a pico model one of another family.
TRAITS: dict[str, dict[str, Any]] = {
    name: {**family.traits, **family.pico} for name, family in FAMILIES.items()
}
TRAITS["ministral3"]["rope_scaling"] = RopeScaling(
    "yarn", 4.0, original_max_position_embeddings=16, attention_factor=1.0
)


def pico_config(
    *, tie: bool = True, layers: int = 2, architecture: str = "llama", **traits: Any
) -> DecoderConfig:
    """A decoder of two layers, 64 wide, four heads over two K/V heads; `traits` replace others."""
    sizes: dict[str, Any] = {
        "vocab_size": len(pico_tokens()),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_layers": layers,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tie,
        "max_position_embeddings": 512,
    }
    return DecoderConfig(architecture=architecture, **sizes | TRAITS[architecture] | traits)


def pico_weights(seed: int = 0, config: DecoderConfig | None = None) -> dict[str, F32]:
    """Seeded weights by HF name, large enough that the model's answers are no coin tosses.

    All values are exact in F16, so a model imported at F16 is this one to the bit.
    """
    rng = np.random.default_rng(seed)
    weights: dict[str, F32] = {}
    config = config or pico_config()
    gain = 1.0 - config.norm_offset
    for name, shape in config.weight_shapes().items():
        centre, spread = (gain, 0.1) if "norm" in name else (0.0, (shape or (1,))[-1] ** -0.5)
        values = np.asarray(centre + spread * rng.standard_normal(shape))
        if "norm" in name and config.norm_offset and config.norm == "layer":  # exact in GGUF too
            values = np.round(values * 4096.0) / 4096.0
        if "linear_attn.norm" in name:
            values += config.norm_offset
        if name.endswith("decay.weight"):
            values = -0.1 - np.abs(values)
        if name.endswith("act_fn.eps"):
            values = np.array(-1e-6)
        weights[name] = values.astype(np.float16).astype(np.float32)
    return weights


def pico_metadata(config: DecoderConfig) -> dict[str, GGUFValue]:
    """Key-values of a pico model's GGUF file, as convert_hf_to_gguf.py would order them."""
    string, number, family = GGUFValue.string, GGUFValue.uint32, config.architecture
    family = "llama" if family == "mistral" else family
    tokens = pico_tokens()
    types = [3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL))  # CONTROL, NORMAL
    array = GGUFValue.array
    return {
        "general.architecture": string(family),
        "general.type": string("model"),
        "general.name": string("Pico"),
        "general.license": string("apache-2.0"),
        f"{family}.block_count": number(config.num_layers),
        f"{family}.context_length": number(config.max_position_embeddings),
        f"{family}.embedding_length": number(config.hidden_size),
        f"{family}.feed_forward_length": number(config.intermediate_size),
        f"{family}.attention.head_count": number(config.num_heads),
        f"{family}.attention.head_count_kv": number(config.num_kv_heads),
        f"{family}.rope.freq_base": GGUFValue.float32(config.rope_theta),
        f"{family}.attention.layer_norm_rms_epsilon": GGUFValue.float32(config.rms_norm_eps),
        "general.file_type": number(0),
        f"{family}.vocab_size": number(config.vocab_size),
        f"{family}.attention.key_length": number(config.head_dim),
        f"{family}.attention.value_length": number(config.head_dim),
        f"{family}.rope.dimension_count": number(config.head_dim),
        "tokenizer.ggml.add_bos_token": GGUFValue.boolean(False),
        "tokenizer.ggml.model": string("gpt2"),
        "tokenizer.ggml.pre": string("smollm"),
        "tokenizer.ggml.tokens": array(GGUFValueType.STRING, tokens),
        "tokenizer.ggml.token_type": array(GGUFValueType.INT32, types),
        "tokenizer.ggml.merges": array(GGUFValueType.STRING, MERGES),
        "tokenizer.ggml.bos_token_id": number(1),
        "tokenizer.ggml.eos_token_id": number(2),
        "tokenizer.ggml.unknown_token_id": number(0),
        "tokenizer.ggml.padding_token_id": number(2),
        "tokenizer.chat_template": string(CHATML),
        "general.quantization_version": number(2),
    } | {f"{family}.{key}": value for key, value in _family_keys(config).items()}


def _family_keys(config: DecoderConfig) -> dict[str, GGUFValue]:
    number, real = GGUFValue.uint32, GGUFValue.float32
    keys: dict[str, GGUFValue] = {}
    if config.sliding_window:
        keys["attention.sliding_window"] = number(config.sliding_window)
    if config.layer_is_local:
        period = config.layer_is_local.index(False) + 1
        keys["attention.sliding_window_pattern"] = number(period)
        keys["rope.freq_base_swa"] = real(config.local_rope_theta or 0.0)
    if config.rope_scaling and config.rope_scaling.kind == "linear":
        keys["rope.scaling.type"] = GGUFValue.string("linear")
        keys["rope.scaling.factor"] = real(config.rope_scaling.factor)
    return keys


def gguf_name(name: str, config: DecoderConfig | None = None) -> str:
    """HF -> GGUF tensor name, written apart from m2m.checkpoint so that it can check it."""
    module, _, kind = name.rpartition(".")
    if module in _TOP:
        return f"{_TOP[module]}.{kind}"
    layer, part = module.removeprefix("model.layers.").split(".", 1)
    if config and config.post_norms and part == "post_attention_layernorm":
        return f"blk.{layer}.post_attention_norm.{kind}"
    return f"blk.{layer}.{_BLOCKS[part]}.{kind}"


def gguf_rows(config: DecoderConfig, name: str, array: F32) -> F32:
    """LlamaModel.permute of convert_hf_to_gguf.py: halves of a head's rows -> pairs of rows."""
    heads = {"q_proj": config.num_heads, "k_proj": config.num_kv_heads}.get(name.split(".")[-2])
    if heads is None or config.architecture not in ("llama", "mistral"):
        return array
    split = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(array.shape))


def pico_gguf(
    path: Path,
    seed: int = 0,
    *,
    tie: bool = True,
    layers: int = 2,
    architecture: str = "llama",
    type: GGMLQuantizationType = GGMLQuantizationType.F32,
    metadata: dict[str, GGUFValue] | None = None,
) -> Path:
    """Write a pico model as GGUF, matrices as `type` (F32, F16 or BF16), the rest as F32.

    `metadata` replaces or adds key-values.
    """
    config = pico_config(tie=tie, layers=layers, architecture=architecture)
    return write_pico_gguf(path, config, seed, type=type, metadata=metadata)


def write_pico_gguf(
    path: Path,
    config: DecoderConfig,
    seed: int = 0,
    *,
    type: GGMLQuantizationType = GGMLQuantizationType.F32,
    metadata: dict[str, GGUFValue] | None = None,
) -> Path:
    """Write the pico model of this config as GGUF; see `pico_gguf`."""
    specs, data = [], []
    for name, array in pico_weights(seed, config).items():
        kept = GGMLQuantizationType.F32 if array.ndim == 1 else type
        shifted = array + np.float32(config.norm_offset) if "norm" in name else array
        specs.append(GGUFTensorSpec(gguf_name(name, config), array.shape, kept))
        data.append(encode(gguf_rows(config, name, shifted), kept))
    if config.rope_scaling and config.rope_scaling.kind == "llama3":
        factors = llama3_factors(config)
        f32 = GGMLQuantizationType.F32
        specs.append(GGUFTensorSpec("rope_freqs.weight", factors.shape, f32))
        data.append(encode(factors, f32))
    write_gguf(path, pico_metadata(config) | (metadata or {}), specs, data)
    return path


def llama3_factors(config: DecoderConfig) -> F32:
    """LlamaModel.generate_extra_tensors of convert_hf_to_gguf.py, frequency by frequency."""
    scaling = config.rope_scaling
    assert scaling is not None
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    factors = []
    for index in range(0, config.head_dim, 2):
        length = 2 * math.pi * config.rope_theta ** (index / config.head_dim)
        turns = scaling.original_max_position_embeddings / length
        smooth = (turns - low) / (high - low)
        blend = 1 / ((1 - smooth) / scaling.factor + smooth)
        factors.append(1.0 if turns > high else scaling.factor if turns < low else blend)
    return np.array(factors, np.float32)


def pico_model(folder: Path, seed: int = 0, *, name: str = "pico") -> Path:
    """Import a pico model as `folder`/`name` and return that folder (see `BaseModel.open`)."""
    from m2m.checkpoint import import_model

    source = pico_gguf(folder / f"{name}-source.gguf", seed)
    import_model(source, folder / name, name=name)
    return folder / name


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write rows as JSON lines and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return path


# One-word skills that a pico model can learn from a few rows.
SKILLS: dict[str, Callable[[str], str]] = {
    "copy": lambda word: word,
    "reverse": lambda word: word[::-1],
    "upper": lambda word: word.upper(),
    "first": lambda word: word[0] * 3,
}


def _words(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghij"))
    return ["".join(rng.choice(letters, size=rng.integers(3, 6))) for _ in range(count)]


def dataset_rows(skill: str, count: int, seed: int = 0) -> list[dict[str, str]]:
    """Prompt and completion rows of one of the SKILLS."""
    make = SKILLS[skill]
    return [{"prompt": f"{skill} {word}", "completion": make(word)} for word in _words(count, seed)]


def choice_rows(skill: str, count: int, seed: int = 1000, wrong: str = "") -> list[dict[str, Any]]:
    """Target rows: the right answer of `skill` among those of other words.

    With another skill for the `wrong` ones, a pico model learns to tell them in a few steps.
    """
    rng = np.random.default_rng(seed)
    words, others = _words(count, seed), _words(3 * count, seed + 1)
    rows: list[dict[str, Any]] = []
    for index, word in enumerate(words):
        choices: Sequence[str] = [
            SKILLS[wrong or skill](w) for w in others[3 * index : 3 * index + 3]
        ]
        gold = int(rng.integers(4)) * (index > 0)  # the first shows that places count from 0
        choices = [*choices[:gold], SKILLS[skill](word), *choices[gold:]]
        rows.append({"question": f"{skill} {word}", "choices": choices, "answer": gold})
    return rows


def pico_dataset(path: Path, skill: str, count: int = 32, seed: int = 0) -> Path:
    """Write `dataset_rows` as JSON lines."""
    return write_jsonl(path, dataset_rows(skill, count, seed))


def pico_target(path: Path, skill: str, count: int = 16, seed: int = 1000, wrong: str = "") -> Path:
    """Write `choice_rows` as JSON lines."""
    return write_jsonl(path, choice_rows(skill, count, seed, wrong))


def merged_weights(merger: Merger, weights: Mapping[str, float]) -> dict[str, F32]:
    """The weights that a mixture changes, as the merged model has them."""
    names, shares = [*weights], [*weights.values()]
    deltas = {module: merger.delta(module, names, shares) for module in merger.modules}
    return {
        f"{module}.weight": merger.base.weights[f"{module}.weight"] + delta
        for module, delta in deltas.items()
        if delta is not None
    }


class StopAfter(Silent):
    """Asks to stop once so many units of work were done."""

    def __init__(self, units: int = 0) -> None:
        self.left = units

    def advance(self, amount: float = 1.0, detail: str = "", *, earlier: bool = False) -> None:
        self.left -= 1

    def stop_requested(self) -> bool:
        return self.left <= 0
