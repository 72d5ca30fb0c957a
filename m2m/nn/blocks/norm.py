"""The norm before or after a sublayer; a family may lack either of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import Array
from m2m.nn.config import DecoderConfig
from m2m.nn.functional import NORMS
from m2m.nn.matrix import Storage
from m2m.nn.workspace import Workspace

Normalised = tuple[Array, Array]  # the result without its gain, and inv


class Norm:
    """An RMS norm or a layer norm of the stream, (T, C); without a name it changes nothing.

    Before a map, the map's product includes `gain` and `offset`.

    Attributes:
        gain: (C,) factor on the result, or None without a norm.
        offset: (C,) number added to the result, or None.
    """

    def __init__(
        self,
        config: DecoderConfig,
        weights: Mapping[str, NDArray[Any]],
        name: str | None,
        storage: Storage,
    ) -> None:
        self._norm, self._norm_backward = NORMS[config.norm]
        self._eps = config.rms_norm_eps
        self.gain: Array | None = None
        self.offset: Array | None = None
        if name is not None:
            self.gain = norm_gain(config, weights, name, storage.dtype)
            if config.norm_bias:
                self.offset = np.array(weights[f"{name}.bias"], storage.dtype)

    def before(self, x: Array, out: Array, update: Array | None) -> Array | None:
        """Add `update` to x and write the input of a map; return inv, or None without a norm."""
        if self.gain is not None:
            return self._norm(x, self._eps, out, update)
        if update is not None:
            x += update
        out[...] = x
        return None

    def before_backward(self, dout: Array, out: Array, inv: Array | None, dx: Array) -> None:
        """Add the gradient of `before` to dx; overwrites dout."""
        if inv is None:
            dx += dout
        else:
            self._norm_backward(dout, out, inv, dx)

    def after(self, change: Array, space: Workspace, name: str) -> Normalised | None:
        """Normalise an update in place; return the result and inv, or None without a norm."""
        if self.gain is None:
            return None
        xhat = space.get(name, *change.shape)
        inv = self._norm(change, self._eps, xhat, None)
        np.multiply(xhat, self.gain, out=change)
        if self.offset is not None:
            change += self.offset
        return xhat, inv

    def after_backward(
        self, dx: Array, saved: Normalised | None, width: int, space: Workspace
    ) -> Array:
        """Return the gradient of an update before its norm, (T, width); dx without a norm."""
        if self.gain is None or saved is None:
            return dx[:, :width]
        channels = len(self.gain)
        dout = space.get("dpost", len(dx), width)
        data = dout[:, :channels]
        data[...] = 0.0
        self._norm_backward(dx[:, :channels] * self.gain, *saved, data)
        return dout


def norm_gain(
    config: DecoderConfig, weights: Mapping[str, NDArray[Any]], name: str, dtype: np.dtype[Any]
) -> Array:
    """Return a norm's gain with the family's offset added."""
    if not config.norm_weight:
        return np.ones(config.hidden_size, dtype)
    gain = np.array(weights[f"{name}.weight"], dtype)
    gain += config.norm_offset
    return gain
