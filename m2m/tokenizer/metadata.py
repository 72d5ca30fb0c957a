"""Reads and checks vocabulary lists and ids from a GGUF file's metadata."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.errors import InputError

_DAMAGED = "the file is damaged: get it again"


def texts(get: Callable[[str], Any], key: str) -> list[str]:
    """Return the list of texts under `key`.

    Raises:
        InputError: there is no list, or it holds values that are not texts in UTF-8.
    """
    values = get(key)
    if not isinstance(values, list):
        raise InputError(f"the file has no list {key}", "use a GGUF file with its vocabulary")
    if not set(map(type, values)) <= {str}:
        raise InputError(f"{key} must hold texts", _DAMAGED)
    try:
        "".join(values).encode("utf-8")
    except UnicodeEncodeError as error:  # bytes of the file that are not UTF-8
        number = next(i for i, text in enumerate(values) if error.object[error.start] in text)
        raise InputError(f"{key}: entry {number} is not UTF-8", _DAMAGED) from error
    return values


def numbers(values: Any, key: str, count: int) -> NDArray[Any]:
    """Return the `values` of `key` as an array of `count` finite numbers.

    Raises:
        InputError: they are not a list of numbers, or the list has another length.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # a ragged list
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "iuf" or array.ndim != 1 or not np.isfinite(array).all():
        raise InputError(f"{key} must hold numbers", _DAMAGED)
    if len(array) != count:
        raise InputError(
            f"{key} has {len(array)} entries, tokenizer.ggml.tokens has {count}", _DAMAGED
        )
    return array


def token_id(get: Callable[[str], Any], role: str, size: int) -> int | None:
    """Return the id of a role such as "bos"; None if the file does not name one.

    Raises:
        InputError: it is no id of the vocabulary.
    """
    key = f"tokenizer.ggml.{role}_token_id"
    value = get(key)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < size:
        raise InputError(
            f"{key} is {value!r:.40}, expected a whole number below {size}, the number of tokens",
            _DAMAGED,
        )
    return value
