"""Rotary positions: frequencies, their scaling, and the tables for `functional.rotate`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from m2m.nn.config import DecoderConfig, LayerKind, RopeScaling


def frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None = None
) -> NDArray[np.float64]:
    """Return the D / 2 angles per position, `theta ** (-2 j / D)`, scaled (arXiv 2104.09864)."""
    angles: NDArray[np.float64] = theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if scaling is None:
        return angles
    if scaling.kind == "linear":
        return angles / scaling.factor
    return _llama3(angles, scaling)


def _llama3(angles: NDArray[np.float64], scaling: RopeScaling) -> NDArray[np.float64]:
    """Keep short wavelengths, divide long ones by the factor, blend between (Llama 3.1)."""
    turns = scaling.original_max_position_embeddings * angles / (2.0 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return angles * (keep + (1.0 - keep) / scaling.factor)


def rotary_table(
    config: DecoderConfig, positions: NDArray[np.integer[Any]], kind: LayerKind, dtype: DTypeLike
) -> NDArray[np.complexfloating[Any, Any]]:
    """Return the rotation factors for a row of [q | k], (T, (H + K) * D / 2) complex.

    The entries of q include the softmax scale, which then costs nothing.
    """
    theta, scaling = config.rope_theta, config.rope_scaling
    if kind.local:
        scaling = None if config.local_rope_theta is not None else scaling
        theta = config.local_rope_theta or theta
    angles = np.outer(positions, frequencies(config.head_dim, theta, scaling))
    if not kind.rotated:
        angles = np.zeros_like(angles)
    turn = np.exp(1j * angles).astype(np.result_type(dtype, np.complex64))
    scale = config.query_scale if config.query_scale is not None else config.head_dim**-0.5
    table = np.tile(turn, (1, config.num_heads + config.num_kv_heads))
    table[:, : config.query_size // 2] *= table.real.dtype.type(scale)
    return table
