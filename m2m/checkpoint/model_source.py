"""The checked content of a GGUF file or HF folder, in one form for the importer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.errors import InputError
from m2m.formats.gguf import GGUFValue
from m2m.nn.config import DecoderConfig
from m2m.tokenizer import Tokenizer

# Names in config.json, and in GGUF.
TOKEN_IDS = {
    "bos_token_id": "tokenizer.ggml.bos_token_id",
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "pad_token_id": "tokenizer.ggml.padding_token_id",
}
_AT_ONCE = 1 << 20  # values that are checked in one step


@dataclass(frozen=True)
class ModelSource:
    """A checked model, ready to import.

    Attributes:
        path: the file or folder that the user named.
        config: sizes and traits.
        dtype: type of its matrices after the import, "F16" or "BF16".
        metadata: the key-values of base.gguf.
        order: the tensors of base.gguf, by GGUF name.
        token_ids: `bos_token_id` and others, for config.json.
        types: the types of its tensors in the source.
        files: the files that hold its weights.
        stops: ids at which generation stops, as the model's maker set them.
        warnings: differences between llama.cpp or m2m and the maker's own program.
        read: HF name -> (rows, ...) float32, or the stored values if their type is `dtype` (BF16
            as uint16); InputError if a value is not finite.
    """

    path: Path
    config: DecoderConfig
    dtype: str
    metadata: Mapping[str, GGUFValue]
    order: Sequence[str]
    token_ids: Mapping[str, Any]
    types: Sequence[str]
    files: Sequence[Path]
    read: Callable[[str], NDArray[Any]]
    stops: Sequence[int] = ()
    warnings: Sequence[str] = ()

    def check_vocabulary(self) -> None:
        """Raise InputError if m2m cannot read the vocabulary or its size is not the config's."""
        plain = {key: value.value for key, value in self.metadata.items()}
        tokens, rows = Tokenizer.from_metadata(plain.get).vocab_size, self.config.vocab_size
        if tokens != rows:
            raise InputError(f"{self.path}: has {tokens} tokens and {rows} rows of embeddings")


def check_finite(path: Path, name: str, array: NDArray[Any]) -> None:
    """Raise InputError if a tensor (float32, float16, uint16 for BF16) has NaN or infinity."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, _AT_ONCE):
        part = flat[start : start + _AT_ONCE]
        if array.dtype == np.uint16:  # bits 7 to 14 are float32's exponent
            finite = not np.any((part & 0x7F80) == 0x7F80)
        else:
            # The sum is not finite if an item is not; this needs no array of flags.
            with np.errstate(invalid="ignore"):
                finite = math.isfinite(np.sum(part, dtype=np.float64))
        if not finite:
            raise InputError(f"{path}: tensor {name} has values that are not finite")
