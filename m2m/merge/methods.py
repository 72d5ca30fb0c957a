"""Merge methods: pure functions from one projection's experts to one delta.

A method gets the experts' LoRA pairs of one weight and their mixture weights, and returns the
merged delta (out, in). Reading, streaming, dtypes and memory belong to `merger`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from m2m.errors import InputError
from m2m.nn.lora import LoraPair, concat_pairs, lora_delta

Delta = NDArray[np.float32]
Method = Callable[[Sequence[LoraPair], Sequence[float]], Delta]
METHODS: dict[str, Method] = {}


def merge_method(name: str) -> Callable[[Method], Method]:
    """Enter a method into the registry, once."""

    def register(method: Method) -> Method:
        if name in METHODS:
            raise ValueError(f"the merge method {name!r} is registered twice")
        METHODS[name] = method
        return method

    return register


@merge_method("linear")
def linear(pairs: Sequence[LoraPair], weights: Sequence[float]) -> Delta:
    """The weighted mean of the deltas, sum_i w_i * scale_i * B_i @ A_i (Merge to Mix, 2505.16066).

    The products are averaged, never A and B apart: one product of the concatenated factors,
    [w_1 scale_1 B_1, w_2 scale_2 B_2, ...] @ [A_1; A_2; ...], is that sum exactly.
    """
    return lora_delta(concat_pairs(pairs, weights))


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        InputError: there is none.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise InputError(
            f"unknown merge method {name!r}", f"known are {', '.join(METHODS)}"
        ) from None
