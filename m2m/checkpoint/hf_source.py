"""Read a Hugging Face folder (config.json, safetensors, tokenizer) as the source of an import."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint.base_weights import compare_shapes
from m2m.checkpoint.gguf_config import config_to_gguf, gguf_shapes
from m2m.checkpoint.hf_config import config_from_json, spelling_of, unknown_json
from m2m.checkpoint.model_folder import CONFIG, WEIGHTS
from m2m.checkpoint.model_source import TOKEN_IDS, ModelSource, check_finite
from m2m.checkpoint.names import Rules, hf_rules, keyed
from m2m.errors import InputError, Problems
from m2m.families import FAMILIES
from m2m.formats.gguf import GGUFValue, GGUFValueType
from m2m.formats.records import read_object
from m2m.formats.safetensors import SafetensorsFile
from m2m.nn.config import DecoderConfig, stays_wide
from m2m.opening import first_bytes, refuse_links
from m2m.tokenizer.convert import gguf_vocabulary
from m2m.tokenizer.vocabulary_warnings import safe_name

# Copied as they are; m2m itself uses the vocabulary in base.gguf.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
_INDEX = f"{WEIGHTS}.index.json"
_FLOATS = ("F64", "F32", "F16", "BF16")
# Tensors that the text decoder does not need.
_UNUSED = re.compile(
    r"(model\.)?(vision_tower|multi_modal_projector|visual)\..*|mtp\..*|.*rotary_emb\.inv_freq"
    r"|.*\.(attn|attention)\.(masked_)?bias"  # GPT-2's and GPT-NeoX's masks
)

_HEADER = re.compile(r"---\n(.*?)\n---", re.S)
_ROWS = 1 << 12  # of an output head that are compared in one step
_CARD = 1 << 16  # bytes of a model card that are read


_Home = dict[str, tuple[SafetensorsFile, str]]  # by the family's name: the file, the name there


def open_folder(folder: Path) -> ModelSource:
    """Open a model folder that transformers saved.

    Raises:
        InputError: malformed or incomplete files, an unknown family, or sizes that do not fit.
    """
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"{folder}: is a folder without {CONFIG}, so no Hugging Face model",
            "give the folder of a model, or its .gguf file",
        )
    refuse_links(folder, CONFIG, "README.md", _INDEX, "*.safetensors", *TOKENIZER_FILES)
    config = config_from_json(folder / CONFIG)
    files = [SafetensorsFile(path) for path in _weight_files(folder)]
    data = read_object(folder / CONFIG)
    rules = hf_rules(config, spelling_of(data))
    home = _tensors(folder, files, config, rules)
    shapes = {name: file.shape(stored) for name, (file, stored) in home.items()}
    compare_shapes(str(folder), rules.shapes, shapes)
    types = sorted({file.dtype(stored) for file, stored in home.values()})
    dtype = "BF16" if "BF16" in types else "F16"

    def read(name: str) -> NDArray[Any]:
        file, stored = home[rules.stored(name)]
        wide = stays_wide(name, file.shape(stored))
        as_it_is = file.dtype(stored) == dtype and not wide
        array = file.raw(stored) if as_it_is else file.array(stored)
        check_finite(file.path, stored, array)
        return rules.part(name, array)

    warnings = unknown_json(folder / CONFIG, config)
    return ModelSource(
        path=folder,
        config=config,
        dtype=dtype,
        metadata=_metadata(folder, config, warnings) | _keyed(config, read),
        order=list(gguf_shapes(config)),
        token_ids={key: data[key] for key in TOKEN_IDS if _is_ids(data.get(key))},
        types=types,
        files=[file.path for file in files],
        read=read,
        stops=_stops(folder, data, config.vocab_size, warnings),
        warnings=warnings,
    )


def _is_ids(value: Any) -> bool:
    """Return whether a value of config.json can be ids: a number or a list of numbers."""
    return {type(item) for item in (value if isinstance(value, list) else [value])} == {int}


def _stops(folder: Path, config: Mapping[str, Any], size: int, warnings: list[str]) -> list[int]:
    """Return the ids that stop transformers' generate(): generation_config.json, else config.json.

    They may be one number or a list. A warning reports values that are not ids of the `size`
    tokens; these are left out.
    """
    path = folder / "generation_config.json"
    named = read_object(path).get("eos_token_id") if path.is_file() else None
    named = config.get("eos_token_id") if named is None else named
    ids = named if isinstance(named, list) else [named]
    good = [index for index in ids if type(index) is int and 0 <= index < size]
    bad = [index for index in ids if index is not None and not (_is_ids(index) and index in good)]
    if bad:
        named = ", ".join(f"{item!r:.40}" for item in bad[:4])
        warnings.append(
            f"eos_token_id of the model's files names {named}"
            f", which is not a token of the {size}. m2m left it out: answers do not stop there."
        )
    return good


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the model: those of its index, if there is one."""
    if (folder / _INDEX).is_file():
        named = read_object(folder / _INDEX).get("weight_map")
        names = list(named.values()) if isinstance(named, dict) else []
        if not names or not all(isinstance(n, str) and Path(n).name == n for n in names):
            raise InputError(f"{folder / _INDEX}: weight_map does not name files of this folder")
        paths = [folder / name for name in sorted(set(names))]
        there = {path.name for path in folder.iterdir()}
        if missing := [path.name for path in paths if path.name not in there]:
            raise InputError(f"{folder}: {_INDEX} names missing files: {', '.join(missing):.500}")
        return paths
    whole = folder / WEIGHTS
    if paths := [whole] if whole.is_file() else sorted(folder.glob("*.safetensors")):
        return paths
    raise InputError(
        f"{folder}: has no .safetensors file",
        "m2m opens no pickled weights (.bin, .pt): have the model saved as safetensors",
    )


def _tensors(
    folder: Path, files: list[SafetensorsFile], config: DecoderConfig, rules: Rules
) -> _Home:
    """Return where each tensor of the family's folders is; vision models add a prefix to names."""
    home: _Home = {}
    problems = Problems()
    prefix = FAMILIES[config.architecture].hf_layers.partition(".")[0] + "."
    for file in files:
        for stored in file.names:
            name = stored.replace("model.language_model.", "model.", 1)
            name = name.removeprefix("language_model.")
            if _UNUSED.fullmatch(name):
                continue
            if f"{prefix}{name}" in rules.shapes:  # saved without the class that has the head
                name = f"{prefix}{name}"
            if file.dtype(stored) not in _FLOATS:
                problems.add(f"tensor {stored} is {file.dtype(stored)}, expected floats")
            if name in home:
                other = home[name][0].path.name
                problems.add(f"tensor {name} is in {other} and {file.path.name}")
            home[name] = file, stored
    problems.raise_if_any(InputError, str(folder))
    own = FAMILIES[config.architecture].hf.get("lm_head")
    head = home.pop(f"{own.name if own else 'lm_head'}.weight", None)
    if head and config.tie_word_embeddings:
        if embeddings := home.get(rules.stored("model.embed_tokens.weight")):
            _refuse_another_head(folder, head, embeddings)
    elif head:
        home[rules.stored("lm_head.weight")] = head
    return home


def _refuse_another_head(folder: Path, *both: tuple[SafetensorsFile, str]) -> None:
    """Raise if the folder has a trained head but its config says that it equals the embeddings."""
    types = {file.dtype(name) for file, name in both}
    head, embeddings = (
        file.raw(name) if len(types) == 1 else file.array(name) for file, name in both
    )
    same = head.shape == embeddings.shape and all(
        np.array_equal(head[i : i + _ROWS], embeddings[i : i + _ROWS])
        for i in range(0, len(head), _ROWS)
    )
    if not same:
        raise InputError(
            f"{folder}: {both[0][1]} differs from the embeddings, and {CONFIG} says that they "
            "are the same (tie_word_embeddings)",
            f'if the head was trained, set "tie_word_embeddings": false in {CONFIG}; if not, '
            "delete the tensor",
        )


def _metadata(folder: Path, config: DecoderConfig, warnings: list[str]) -> dict[str, GGUFValue]:
    """Return the key-values that convert_hf_to_gguf.py writes, in its order."""
    sizes = config_to_gguf(config)
    plain: dict[str, Any] = {
        "general.architecture": next(iter(sizes)).partition(".")[0],
        "general.type": "model",
        "general.name": safe_name(folder.resolve().name),
        **_licence(folder / "README.md"),
    }
    last = {"general.quantization_version": 2}  # GGML_QNT_VERSION, ggml.h
    vocabulary = gguf_vocabulary(folder, config.vocab_size, warnings)
    return _values(plain) | sizes | _values(vocabulary) | _values(last)


def _keyed(config: DecoderConfig, read: Callable[[str], NDArray[Any]]) -> dict[str, GGUFValue]:
    """Return the keys that hold weights."""
    numbers = {key: [float(read(n).item()) for n in names] for key, names in keyed(config).items()}
    return {k: GGUFValue.array(GGUFValueType.FLOAT32, each) for k, each in numbers.items()}


def _licence(card: Path) -> dict[str, str]:
    """Return the licence keys in the header of a model card, if there are any."""
    if not card.is_file():
        return {}
    text = first_bytes(card, _CARD).decode("utf-8", "replace").replace("\r\n", "\n")
    header = _HEADER.match(text)
    match = re.search(r"^license: *([\w.-]+)", header[1], re.M) if header else None
    return {"general.license": match[1]} if match else {}


def _values(plain: dict[str, Any]) -> dict[str, GGUFValue]:
    return {key: _value(key, value) for key, value in plain.items()}


def _value(key: str, value: Any) -> GGUFValue:
    """Return a plain value with the GGUF type that gguf-py writes."""
    if isinstance(value, str):
        return GGUFValue.string(value)
    if isinstance(value, bool):
        return GGUFValue.boolean(value)
    if isinstance(value, int):
        return GGUFValue.uint32(value)
    if isinstance(value, float):
        return GGUFValue.float32(value)
    if isinstance(value, bytes):
        return GGUFValue.array(GGUFValueType.UINT8, value)
    if key.endswith(".scores"):
        return GGUFValue.array(GGUFValueType.FLOAT32, value)
    texts = key.endswith((".tokens", ".merges"))
    return GGUFValue.array(GGUFValueType.STRING if texts else GGUFValueType.INT32, value)
