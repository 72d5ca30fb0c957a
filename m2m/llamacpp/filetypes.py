"""The types of GGUF files: the ggml type that llama-quantize chooses for each tensor of a file.

The choice follows `llama_tensor_get_type` of llama.cpp's src/llama-quant.cpp for dense models.
Tests compare it with `llama_model_quantize` on whole files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from m2m.errors import InputError
from m2m.formats.gguf import GGMLQuantizationType, GGUFFile, GGUFTensorSpec, GGUFValue
from m2m.kernels import blocks

F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 = 0, 1, 2, 3, 6, 7, 8  # enum ggml_type, ggml.h
Q4_K, Q5_K, Q6_K, BF16 = 12, 13, 14, 30


@dataclass(frozen=True)
class FileType:
    """A type of a whole file, as the option `--type` names it.

    Attributes:
        name: name in lower case.
        number: `enum llama_ftype` of llama.h, written as `general.file_type`.
        tensor: the ggml type of most of its weights.
        mixed: whether some tensors get more bits ("M" types and those with 6-bit embeddings).
    """

    name: str
    number: int
    tensor: int
    mixed: bool = True


FILE_TYPES: dict[str, FileType] = {
    t.name: t
    for t in (
        FileType("f32", 0, F32, mixed=False),
        FileType("f16", 1, F16, mixed=False),
        FileType("bf16", 32, BF16, mixed=False),
        FileType("q8_0", 7, Q8_0),
        FileType("q6_k", 18, Q6_K),
        FileType("q5_k_m", 17, Q5_K),
        FileType("q5_0", 8, Q5_0),
        FileType("q4_k_m", 15, Q4_K),
        FileType("q4_1", 3, Q4_1),
        FileType("q4_0", 2, Q4_0),
    )
}

# tensor_type_fallback(): the type for rows whose length is not a multiple of 256
_FALLBACK = {Q4_K: Q5_0, Q5_K: Q5_1, Q6_K: Q8_0}
_NOT_QUANTISED = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|ssm_conv1d|shortconv\.conv\.weight"
)
_LAYER = re.compile(r"blk\.(\d+)\.")


def file_type(name: str) -> FileType:
    """Return the file type `name`, in any case; raise InputError that lists the known ones."""
    try:
        return FILE_TYPES[name.lower()]
    except KeyError:
        known = ", ".join(FILE_TYPES)
        raise InputError(f"unknown type {name!r}, expected one of {known}") from None


def type_name(type: int) -> str:
    """Return a ggml type's name as llama.cpp prints it, such as `q5_0`."""
    return blocks.layout(type)[0]


def row_bytes(columns: int, type: int) -> int:
    """Return the bytes of a row of `columns` values."""
    name, values, size = blocks.layout(type)
    if columns % values:
        raise ValueError(f"rows of {columns} values do not divide into blocks of {name}")
    return columns // values * size


def quantizable(name: str, shape: Sequence[int]) -> bool:
    """Return whether llama-quantize changes a tensor's type: matrices, but not norms or routers."""
    return len(shape) >= 2 and name.endswith("weight") and not _NOT_QUANTISED.search(name)


def effective_type(name: str, shape: Sequence[int], requested: int, kept: int = F32) -> int:
    """Return the type that a tensor gets when `requested` is asked for.

    Args:
        name: GGUF name.
        shape: rows, columns (NumPy order).
        requested: the ggml type asked for.
        kept: its type now, which it keeps if it is not quantised.
    """
    if not quantizable(name, shape):
        return kept
    columns = shape[-1]
    for candidate in (requested, _FALLBACK.get(requested, F16), F16):
        if columns % blocks.layout(candidate)[1] == 0:
            return candidate
    return F16


def choose_types(
    tensors: Mapping[str, tuple[Sequence[int], int]],
    target: FileType,
    *,
    layers: int,
    pure: bool = False,
) -> dict[str, int]:
    """Return the type of every tensor of a file, as llama-quantize would choose it.

    Args:
        tensors: name -> (shape in NumPy order, its type now).
        target: the file type.
        layers: blocks of the model (`block_count`).
        pure: one type for all (`llama-quantize --pure`).
    """
    tied = "output.weight" not in tensors
    chosen: dict[str, int] = {}
    values = downs = 0
    value_count = sum(_has_values(name) for name in tensors)
    for name in sorted(tensors, key=_visiting_order):
        shape, now = tensors[name]
        kind = target.tensor
        if target.mixed and not pure and quantizable(name, shape):
            if name == "output.weight" or (tied and name == "token_embd.weight"):
                kind = _output_type(kind, shape[-1])
            elif _has_values(name):
                kind = _more_bits(target, values, value_count)
                values += 1
            elif "ffn_down" in name:
                kind = _more_bits(target, downs, layers)
                downs += 1
        chosen[name] = effective_type(name, shape, kind, now)
    return {name: chosen[name] for name in tensors}


def _has_values(name: str) -> bool:
    """Return whether a tensor maps to attention's values (category_is_attn_v)."""
    return "attn_v.weight" in name or "attn_qkv.weight" in name


def _visiting_order(name: str) -> tuple[int, str]:
    """Return the sort key of llama.cpp's order: layer, then name (weight_name_comparer)."""
    layer = _LAYER.match(name)
    return (int(layer[1]) if layer else -1, name)


def _output_type(kind: int, columns: int) -> int:
    """Return the type of the output matrix (or of embeddings used as such): 6 bits at least."""
    if columns % blocks.layout(kind)[1]:
        return Q8_0
    return kind if kind == Q8_0 else Q6_K


def _more_bits(target: FileType, index: int, count: int) -> int:
    """Return an "M" type's choice: 6 bits for the first and last eighth, every third in between."""
    if target.name not in ("q4_k_m", "q5_k_m"):
        return target.tensor
    first = count // 8
    chosen = index < first or index >= 7 * count // 8 or (index - first) % 3 == 2
    return Q6_K if chosen else target.tensor


def quantized_layout(
    base: GGUFFile, target: FileType, *, pure: bool = False
) -> tuple[dict[str, GGUFValue], list[GGUFTensorSpec]]:
    """Return the metadata and tensor table of `base` as llama-quantize writes type `target`.

    Tensors keep their order; only `general.file_type` and `general.quantization_version` change.
    """
    architecture = base.value("general.architecture")
    layers = base.value(f"{architecture}.block_count")
    if not isinstance(layers, int):
        raise InputError(f"{base.path}: no number of layers under {architecture}.block_count")
    now = {name: (tensor.shape, int(tensor.type)) for name, tensor in base.tensors.items()}
    types = choose_types(now, target, layers=layers, pure=pure)
    metadata = dict(base.metadata)
    metadata["general.file_type"] = GGUFValue.uint32(target.number)
    metadata["general.quantization_version"] = GGUFValue.uint32(2)  # GGML_QNT_VERSION, ggml.h
    specs = [
        GGUFTensorSpec(name, tensor.shape, GGMLQuantizationType(types[name]))
        for name, tensor in base.tensors.items()
    ]
    return metadata, specs
