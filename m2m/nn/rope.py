"""Rotary positions: frequencies, their scaling, and the tables for `functional.rotate`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from m2m.nn.config import DecoderConfig, LayerKind, RopeScaling

YARN_FAST, YARN_SLOW = 32.0, 1.0  # turns in the original context; llama.cpp reads no others


def frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None = None
) -> NDArray[np.float64]:
    """Return the D / 2 angles per position, `theta ** (-2 j / D)`, scaled (arXiv 2104.09864)."""
    angles: NDArray[np.float64] = theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if scaling is None:
        return angles
    if scaling.kind == "linear":
        return angles / scaling.factor
    if scaling.kind == "longrope":
        return angles / np.array(scaling.short_factor, np.float64)
    return (_llama3 if scaling.kind == "llama3" else _yarn)(angles, scaling)


def _yarn(angles: NDArray[np.float64], scaling: RopeScaling) -> NDArray[np.float64]:
    """Keep channels that turn fast, divide slow ones by the factor, blend between (YaRN).

    The borders are rounded to whole channels, as in ggml_rope_yarn_corr_dims (ggml.c).
    """
    count = len(angles)
    step = -math.log(angles[1]) if count > 1 else 1.0  # log of the base, over D / 2
    context = scaling.original_max_position_embeddings / (2.0 * math.pi)
    low = max(0, math.floor(math.log(context / YARN_FAST) / step))
    high = min(2 * count - 1, math.ceil(math.log(context / YARN_SLOW) / step))
    ramp = np.clip((np.arange(count) - low) / max(0.001, high - low), 0.0, 1.0)
    return angles * ((1.0 - ramp) + ramp / scaling.factor)


def amplitude(scaling: RopeScaling | None) -> float:
    """Return the factor on rotated q and k: YaRN's, `0.1 ln(factor) + 1`, LongRoPE's, else 1."""
    if scaling is None:
        return 1.0
    if scaling.attention_factor:
        return scaling.attention_factor
    return 0.1 * math.log(scaling.factor) + 1.0 if scaling.kind == "yarn" else 1.0


def _llama3(angles: NDArray[np.float64], scaling: RopeScaling) -> NDArray[np.float64]:
    """Keep short wavelengths, divide long ones by the factor, blend between (Llama 3.1)."""
    turns = scaling.original_max_position_embeddings * angles / (2.0 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return angles * (keep + (1.0 - keep) / scaling.factor)


def rotation(config: DecoderConfig, kind: LayerKind) -> tuple[float, RopeScaling | None]:
    """Return base and scaling of the frequencies of a kind of layer."""
    if kind.local and config.local_rope_theta is not None:
        return config.local_rope_theta, None
    return config.rope_theta, config.rope_scaling


def rotary_table(
    config: DecoderConfig, positions: NDArray[np.integer[Any]], kind: LayerKind, dtype: DTypeLike
) -> NDArray[np.complexfloating[Any, Any]]:
    """Return the rotation factors for a row of [q | k], (T, (H + K) * D / 2) complex.

    The entries of q include the softmax scale, which then costs nothing; if a norm follows, its
    gain includes the scale.
    """
    theta, scaling = rotation(config, kind)
    turn = np.ones((len(positions), config.head_dim // 2), np.result_type(dtype, np.complex64))
    if kind.rotated:
        angles = np.outer(positions, frequencies(config.rotary_size, theta, scaling))
        turn[:, : config.rotary_size // 2] = amplitude(scaling) * np.exp(1j * angles)
    table: NDArray[np.complexfloating[Any, Any]] = np.tile(
        turn, (1, config.num_heads + config.num_kv_heads)
    )
    if not config.turns_before_norm:
        table[:, : config.query_size // 2] *= table.real.dtype.type(config.score_scale)
    if config.temperature and scaling is not None:
        periods = np.asarray(positions) // scaling.original_max_position_embeddings
        factor = 1.0 + config.temperature * np.log1p(periods)[:, None]
        table[:, : config.query_size // 2] *= factor.astype(table.real.dtype)
    return table
