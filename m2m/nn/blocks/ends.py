"""Both ends of the decoder: the stream that embeddings start, and the norm before the head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import Array
from m2m.nn.blocks.norm import norm_gain
from m2m.nn.config import DecoderConfig
from m2m.nn.functional import NORMS, widen
from m2m.nn.layout import Layout

Weights = Mapping[str, NDArray[Any]]


class FirstStream:
    """The stream before the first layer; nothing here is trainable, so it has no backward.

    Args:
        config: traits of the family.
        weights: tensors by name.
        embedding: (V, C), shared with the head if they are tied.
        dtype: type of the computation.
    """

    def __init__(
        self, config: DecoderConfig, weights: Weights, embedding: NDArray[Any], dtype: np.dtype[Any]
    ) -> None:
        self._embedding, self._scale = embedding, dtype.type(config.embedding_scale)
        self._positions: Array | None = None
        if config.positions == "learned":
            self._positions = np.array(weights["model.embed_positions.weight"], dtype)
        self._norm: _Affine | None = None
        if config.embedding_norm:
            self._norm = _Affine(config, weights, "model.embed_norm", dtype)

    def write(self, layout: Layout, x: Array) -> None:
        """Write the embeddings of a layout's tokens, (T, C)."""
        widen(self._embedding[layout.tokens], x)
        if self._scale != 1.0:
            x *= self._scale
        if self._positions is not None:
            if len(layout.positions) and layout.positions.max() >= len(self._positions):
                raise ValueError(f"a text is longer than {len(self._positions)} tokens")
            x += self._positions[layout.positions]
        if self._norm is not None:
            x[...] = self._norm.forward(x)[0]


class LastNorm:
    """The norm after the last layer; the divisor of the logits is part of it."""

    def __init__(self, config: DecoderConfig, weights: Weights, dtype: np.dtype[Any]) -> None:
        self._affine = _Affine(config, weights, "model.norm", dtype)
        self._affine.divide(config.logit_divisor / config.logit_scale)

    def forward(self, x: Array) -> tuple[Array, tuple[Array, Array]]:
        """Return the input of the head, (T, C), and the arrays for the backward."""
        return self._affine.forward(x)

    def backward(self, dh: Array, saved: tuple[Array, Array], dx: Array) -> None:
        """Write dx, (T, C), from dh; overwrites dh."""
        self._affine.backward(dh, saved, dx)


class _Affine:
    """A norm with its gain and offset."""

    def __init__(
        self, config: DecoderConfig, weights: Weights, name: str, dtype: np.dtype[Any]
    ) -> None:
        self._norm, self._norm_backward = NORMS[config.norm]
        self._eps = config.rms_norm_eps
        self._gain: Array = norm_gain(config, weights, name, dtype)
        self._offset: Array | None = None
        if config.norm_bias:
            self._offset = np.array(weights[f"{name}.bias"], dtype)

    def divide(self, divisor: float) -> None:
        """Divide all later results."""
        self._gain /= divisor
        if self._offset is not None:
            self._offset /= divisor

    def forward(self, x: Array) -> tuple[Array, tuple[Array, Array]]:
        """Return the result, (T, C), and the arrays for the backward."""
        xhat = np.empty_like(x)
        inv = self._norm(x, self._eps, xhat, None)
        h = xhat * self._gain
        if self._offset is not None:
            h += self._offset
        return h, (xhat, inv)

    def backward(self, dh: Array, saved: tuple[Array, Array], dx: Array) -> None:
        """Write dx from dh; overwrites dh."""
        dh *= self._gain
        dx[...] = 0.0
        self._norm_backward(dh, *saved, dx)
