"""Turn somebody's model into a folder under models/, one tensor at a time."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint.families import config_from_gguf, config_to_json
from m2m.checkpoint.model import (
    CONFIG,
    FORMAT_VERSION,
    INFO,
    PATTERN,
    WEIGHTS,
    BaseModel,
    ModelInfo,
    check_name,
    compare_shapes,
    content_fingerprint,
    file_sha256,
    file_stamps,
)
from m2m.checkpoint.names import (
    from_gguf_rows,
    gguf_to_hf_name,
    hf_to_gguf_name,
    to_gguf_rows,
)
from m2m.errors import InputError, ResourceError
from m2m.formats.atomic import atomic_folder, write_json
from m2m.formats.gguf import (
    GGMLQuantizationType,
    GGUFFile,
    GGUFTensorSpec,
    GGUFValue,
    write_gguf,
)
from m2m.formats.safetensors import SafetensorsFile, TensorSpec, write_safetensors
from m2m.nn.config import DecoderConfig
from m2m.tokenizer import Tokenizer

_GGML = {
    "F32": GGMLQuantizationType.F32,
    "F16": GGMLQuantizationType.F16,
    "BF16": GGMLQuantizationType.BF16,
}
_FILE_TYPES = {"F16": 1, "BF16": 32}  # enum llama_ftype, llama.h
_TORCH = {"F16": "float16", "BF16": "bfloat16"}
_TOKEN_IDS = {
    "bos_token_id": "tokenizer.ggml.bos_token_id",
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "pad_token_id": "tokenizer.ggml.padding_token_id",
}


@dataclass(frozen=True)
class _Source:
    """A checked GGUF file and what it becomes: matrices as `dtype`, norms as F32."""

    file: GGUFFile
    config: DecoderConfig
    dtype: str

    def specs(self) -> list[TensorSpec]:
        shapes = self.config.weight_shapes().items()
        return [TensorSpec(n, "F32" if len(s) == 1 else self.dtype, s) for n, s in shapes]


def import_model(
    source: Path, destination: Path, *, name: str, licence: str | None = None
) -> ModelInfo:
    """Import a GGUF file as the model folder `destination`, which appears whole or not at all.

    Args:
        source: a GGUF file of any ggml type. Matrices become F16 (BF16 stays BF16), norms F32.
        destination: the folder to make; an m2m model there is replaced, anything else is not.
        name: the model's name.
        licence: overrides `general.license` of the source.

    Raises:
        InputError: malformed, of an unknown family, of another vocabulary than m2m reads.
        ResourceError: not enough room on the disk.
    """
    check_name(name)
    if destination.exists() and not (destination / INFO).is_file():
        raise InputError(
            f"{destination}: exists and is no m2m model", "choose another name or move it away"
        )
    checked = _checked_gguf(source)
    _check_room(destination, 2 * sum(spec.nbytes for spec in checked.specs()))
    with atomic_folder(destination) as folder:
        _write_weights(checked, folder / WEIGHTS)
        _write_pattern(checked, folder / PATTERN)
        write_json(folder / CONFIG, _config_json(checked))
        write_json(folder / INFO, _described(checked, folder, name, licence))
    return BaseModel.open(destination).info


def _checked_gguf(source: Path) -> _Source:
    if source.is_dir():
        raise InputError(
            f"{source}: is a folder, m2m imports GGUF files",
            "give it the model's .gguf file, or convert the folder with convert_hf_to_gguf.py",
        )
    file = GGUFFile(source)
    config = config_from_gguf(file)
    expected = {hf_to_gguf_name(name): shape for name, shape in config.weight_shapes().items()}
    compare_shapes(
        str(source), expected, {name: tensor.shape for name, tensor in file.tensors.items()}
    )
    vocabulary = Tokenizer.from_metadata(file.value).vocab_size
    if vocabulary != config.vocab_size:
        raise InputError(
            f"{source}: has {vocabulary} tokens and {config.vocab_size} rows of embeddings"
        )
    half = any(tensor.type == GGMLQuantizationType.BF16 for tensor in file.tensors.values())
    return _Source(file, config, "BF16" if half else "F16")


def _check_room(destination: Path, needed: int) -> None:
    folder = next(parent for parent in destination.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ResourceError(
            f"{destination}: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            f"free some space under `{folder}`",
        )


def _write_weights(source: _Source, path: Path) -> None:
    specs = source.specs()
    write_safetensors(path, specs, _tensors(source, specs), {"format": "pt"})


def _tensors(source: _Source, specs: list[TensorSpec]) -> Iterator[NDArray[np.float32]]:
    for spec in specs:
        name = hf_to_gguf_name(spec.name)
        array = source.file.array(name)
        # A sum is not finite where an item is not, and needs no array of flags.
        with np.errstate(invalid="ignore"):
            total = float(np.sum(array, dtype=np.float64))
        if not math.isfinite(total):
            raise InputError(f"{source.file.path}: tensor {name} has values that are not finite")
        yield from_gguf_rows(source.config, spec.name, array)


def _write_pattern(source: _Source, path: Path) -> None:
    """Write what llama.cpp reads, in the source's order, from the tensors just written."""
    weights = SafetensorsFile(path.with_name(WEIGHTS))
    names = {name: gguf_to_hf_name(name) for name in source.file.tensors}
    specs = [
        GGUFTensorSpec(name, weights.shape(hf), _GGML[weights.dtype(hf)])
        for name, hf in names.items()
    ]
    data = (to_gguf_rows(source.config, hf, weights.raw(hf)) for hf in names.values())
    file_type = {"general.file_type": GGUFValue.uint32(_FILE_TYPES[source.dtype])}
    write_gguf(path, source.file.metadata | file_type, specs, data)


def _config_json(source: _Source) -> Any:
    ids = {key: source.file.value(stored) for key, stored in _TOKEN_IDS.items()}
    known = {key: number for key, number in ids.items() if number is not None}
    return config_to_json(source.config, _TORCH[source.dtype], known)


def _described(source: _Source, folder: Path, name: str, licence: str | None) -> dict[str, Any]:
    file = source.file
    return {
        "format_version": FORMAT_VERSION,
        "name": name,
        "architecture": source.config.architecture,
        "parameters": sum(math.prod(tensor.shape) for tensor in file.tensors.values()),
        "dtype": source.dtype,
        "licence": licence or file.value("general.license"),
        "source": file.path.name,
        "source_sha256": file_sha256(file.path),
        "source_types": sorted({tensor.type.name for tensor in file.tensors.values()}),
        "fingerprint": content_fingerprint(folder),
        "files": file_stamps(folder),
    }
