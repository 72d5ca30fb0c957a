"""Import a model as a folder under models/, one tensor at a time.

A killed import leaves nothing under the model's name. It starts from the beginning, in seconds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from m2m.checkpoint.base_weights import GGUFWeights
from m2m.checkpoint.endings import model_endings, settle_ends
from m2m.checkpoint.gguf_config import extra_tensors, longrope_keys
from m2m.checkpoint.gguf_keys import quiet_keys
from m2m.checkpoint.gguf_source import open_gguf
from m2m.checkpoint.hf_config import config_to_json
from m2m.checkpoint.hf_source import TOKENIZER_FILES, open_folder
from m2m.checkpoint.model_folder import (
    CONFIG,
    CONTENTS,
    FORMAT_VERSION,
    INFO,
    PATTERN,
    BaseModel,
    ModelInfo,
    check_name,
    content_fingerprint,
    file_stamps,
)
from m2m.checkpoint.model_source import ModelSource
from m2m.checkpoint.names import gguf_rules
from m2m.errors import InputError, LimitError, LlamaError
from m2m.formats.atomic import atomic_folder, write_json
from m2m.formats.disk import check_room
from m2m.formats.gguf import GGMLQuantizationType, GGUFTensorSpec, GGUFValue, write_gguf
from m2m.formats.safetensors import TensorSpec, packed
from m2m.nn.config import stays_wide
from m2m.opening import copy_file, file_sha256
from m2m.tokenizer.vocabulary_warnings import safe_name

_FILE_TYPES = {"F16": 1, "BF16": 32}  # enum llama_ftype, llama.h
_TORCH = {"F16": "float16", "BF16": "bfloat16"}


def import_model(
    source: Path,
    destination: Path,
    *,
    name: str,
    licence: str | None = None,
    check: Callable[[Path], None] | None = None,
) -> ModelInfo:
    """Import a model as the folder `destination`, which appears whole or not at all.

    Args:
        source: a GGUF file of any ggml type, any part of a split one, or a Hugging Face folder.
            Matrices become F16 (BF16 stays BF16), norms F32.
        destination: the folder to make; an m2m model there is replaced, anything else is not.
        name: the model's name.
        licence: overrides `general.license` of the source.
        check: gets the path of the finished base.gguf, and raises if it must not be kept.

    Raises:
        InputError: a malformed file, an unknown family, or a vocabulary that m2m does not read.
        ResourceError: not enough space on the disk.
    """
    check_name(name)
    if destination.exists() and not (destination / INFO).is_file():
        raise InputError(
            f"{destination}: exists and is not an m2m model", "choose another name or move it away"
        )
    with _naming(source):
        model = open_folder(source) if source.is_dir() else open_gguf(source)
        model.check_vocabulary()
        model = _settled(model)
    specs = {
        weight: TensorSpec(weight, "F32" if stays_wide(weight, shape) else model.dtype, shape)
        for weight, shape in model.config.weight_shapes().items()
    }
    check_room(destination, sum(spec.nbytes for spec in specs.values()))
    with atomic_folder(destination) as folder:
        _write_pattern(model, specs, folder / PATTERN)
        config = config_to_json(model.config, _TORCH[model.dtype], model.token_ids)
        write_json(folder / CONFIG, config)
        for path in (source / file for file in TOKENIZER_FILES):
            if path.is_file():
                copy_file(path, folder / path.name)
        if check is not None:
            with _naming(source, folder / PATTERN):
                check(folder / PATTERN)
        write_json(folder / INFO, _described(model, folder, name, licence))
    return BaseModel.open(destination).info


@contextmanager
def _naming(source: Path, made: Path | None = None) -> Iterator[None]:
    """Make errors name the user's file, not the unfinished file `made` from it."""
    try:
        yield
    except (InputError, LimitError, LlamaError) as error:
        message = error.message
        for path in (made.absolute(), made) if made else ():
            message = message.replace(str(path), str(source))
        if str(source) not in message:
            message = f"{source}: {message}"
        raise type(error)(message, error.hint) from error


def _settled(model: ModelSource) -> ModelSource:
    """Return the model with the end tokens and name that make llama.cpp behave as m2m does."""
    ends, warnings = settle_ends(model.path, model.metadata, model.stops)
    quiet, asked = quiet_keys(model.metadata)
    metadata = {**model.metadata, **ends, **quiet, **longrope_keys(model.config)}
    if name := metadata.get("general.name"):
        metadata["general.name"] = GGUFValue.string(safe_name(str(name.value)))
    return dataclasses.replace(
        model, metadata=metadata, warnings=[*model.warnings, *warnings, *asked]
    )


def _write_pattern(model: ModelSource, weights: Mapping[str, TensorSpec], path: Path) -> None:
    """Write base.gguf in the source's order."""
    rules, extra = gguf_rules(model.config), extra_tensors(model.config)

    def spec(name: str) -> GGUFTensorSpec:
        if name in extra:
            return GGUFTensorSpec(name, extra[name].shape, GGMLQuantizationType.F32)
        kind = GGMLQuantizationType[weights[rules.parts[name][0]].dtype]
        return GGUFTensorSpec(name, rules.shapes[name], kind)

    def read(name: str) -> NDArray[Any]:
        return packed(weights[name], model.read(name))

    def data(name: str) -> NDArray[Any]:
        return extra[name] if name in extra else rules.join(name, read)

    file_type = {"general.file_type": GGUFValue.uint32(_FILE_TYPES[model.dtype])}
    specs = [spec(name) for name in model.order]
    write_gguf(path, {**model.metadata, **file_type}, specs, map(data, model.order))


def _described(model: ModelSource, folder: Path, name: str, licence: str | None) -> dict[str, Any]:
    stated = model.metadata.get("general.license")
    weights = GGUFWeights(folder / PATTERN, model.config)
    return {
        "format_version": FORMAT_VERSION,
        "name": name,
        "architecture": model.config.architecture,
        "parameters": sum(math.prod(shape) for shape in model.config.weight_shapes().values()),
        "dtype": model.dtype,
        "licence": licence or (stated.value if stated else None),
        "source": model.path.resolve().name,
        "source_sha256": _sha256(model.files),
        "source_types": list(model.types),
        "cautions": list(model.warnings),
        "warnings": [*model.warnings, *model_endings(weights.gguf, weights)],
        "fingerprint": content_fingerprint(folder, weights),
        "files": file_stamps(folder, CONTENTS[FORMAT_VERSION]),
    }


def _sha256(files: Sequence[Path]) -> str:
    """Return the hash of a file; for several, the hash of their hashes."""
    hashes = [file_sha256(path) for path in files]
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
