"""Frozen linear maps with adapters; several maps of one input are one matrix product.

The big product includes the low-rank ones. A map of `in` to `out` channels with adapters of total
rank R is one matrix

    full = [[W,   B],      (out + R, in + R)
            [s A, 0]]

and its input and output arrays are R columns wider than their data:

    forward     ha = s x A',    y = [x | ha] @ [W, B]'
    backward    hb = dy B,      dx = [dy | hb] @ [W; s A],    dA = s hb' x,    dB = dy' ha

so no separate pass adds `s (x A') B'` to a whole activation, in either direction. (`Matrix` says
how the matrix is stored.) A contains the scale, because its rows are contiguous here; B is copied
as it is. If there is a norm before the map, its gain is multiplied into the map's input and the
gradient of it, and its offset is added to the input. To multiply it into the weights would cost
more: weights that are cast at every use would need it at every use, and there are more weights
than activations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import Array
from m2m.nn.lora import LoraPair
from m2m.nn.matrix import Storage

Grads = dict[str, tuple[Array, Array]]


@dataclass(frozen=True)
class FusedMap:
    """One map of a fused product.

    Attributes:
        module: path of the map, "model.layers.0.self_attn.q_proj".
        heads: for maps whose output is rotated, the number of heads.
        turned: the number of channels of a head, from the first, that rotate. Those that rotate
            together, j and j + turned / 2 in HF's order, are neighbours here. 0: HF's order.
        factor: factor on the map's output.
        gated: each head has as many rows of a gate after its own; here all gates come first.
    """

    module: str
    heads: int = 0
    turned: int = 0
    factor: float = 1.0
    gated: bool = False

    def _order(self, rows: int) -> NDArray[np.intp] | None:
        """Return the row in HF's order for each row in m2m's order; None if they are the same."""
        if not self.heads or not (self.turned or self.gated):
            return None
        order = np.arange(rows).reshape(self.heads, -1)
        gates = order[:0]
        if self.gated:
            order, gates = (half.copy() for half in np.split(order, 2, axis=1))
        if self.turned:
            pairs = order[:, : self.turned].reshape(self.heads, 2, -1).swapaxes(1, 2)
            order[:, : self.turned] = pairs.reshape(self.heads, -1)
        return np.concatenate([gates.reshape(-1), order.reshape(-1)])

    def ours(self, rows: Array) -> Array:
        """Return rows in HF's order (out, ...) in m2m's order."""
        order = self._order(len(rows))
        return rows if order is None else np.asarray(rows[order])

    def write_theirs(self, rows: Array, out: Array) -> None:
        """Write rows in m2m's order (out, ...) into `out`, in HF's order."""
        order = self._order(len(rows))
        out[slice(None) if order is None else order] = rows


@dataclass
class _Bound:
    """An adapter's place: the rows of its part, its columns among the R, its factor on A."""

    part: FusedMap
    rows: slice
    columns: slice
    factor: float


class FusedLinear:
    """Linear maps of one input as one matrix, with space for their adapters.

    Args:
        parts: the maps, in the order of their rows.
        weights: HF tensors by name, `MODULE.weight` (out, in).
        storage: storage of the weights; shared by all maps of a model.
        gain: (in,) factor on the input channels (of the norm before this map), or None.
        offset: (in,) number that is added to them, or None.
        bias: whether there is also a `MODULE.bias` (out,).
    """

    def __init__(
        self,
        parts: Sequence[FusedMap],
        weights: Mapping[str, Array],
        storage: Storage,
        gain: Array | None = None,
        offset: Array | None = None,
        bias: bool = False,
    ) -> None:
        self._parts, self._storage = list(parts), storage
        self._gain, self._offset = gain, offset
        self._bound: list[_Bound] = []
        arrays = [np.asarray(weights[f"{part.module}.weight"]) for part in self._parts]
        self._sizes = [len(array) for array in arrays]
        self.rows, self.columns = sum(self._sizes), arrays[0].shape[1]
        self._used = storage.rank * len(self._parts)
        self._matrix = storage.matrix(self.rows, self.columns, self._used)
        for part, span, array in zip(self._parts, self._spans(), arrays, strict=True):
            self._matrix.load(span, np.ascontiguousarray(part.ours(array)), part.factor)
        self._bias = self._load_bias(weights) if bias else None

    def _load_bias(self, weights: Mapping[str, Array]) -> Array:
        bias: Array = np.empty(self.rows, self._storage.dtype)
        for part, span in zip(self._parts, self._spans(), strict=True):
            bias[span] = part.ours(np.asarray(weights[f"{part.module}.bias"]))
            bias[span] *= part.factor
        return bias

    def _spans(self) -> list[slice]:
        ends = np.cumsum([0, *self._sizes]).tolist()
        return [slice(a, b) for a, b in pairwise(ends)]

    @property
    def rank(self) -> int:
        """Return R, the number of columns of inputs and outputs after their data."""
        return self._matrix.rank

    @property
    def modules(self) -> list[str]:
        """Return the module paths of the parts."""
        return [part.module for part in self._parts]

    def bind(self, lora: Mapping[str, LoraPair]) -> None:
        """Write the factors of this map's adapters into their places, and remove earlier ones."""
        bound, first = [], 0
        for part, rows in zip(self._parts, self._spans(), strict=True):
            if (pair := lora.get(part.module)) is None:
                continue
            shape = (rows.stop - rows.start, self.columns)
            if pair.shape != shape:
                raise ValueError(f"{part.module}: adapter for {pair.shape}, module is {shape}")
            columns = slice(first, first + pair.rank)
            bound.append(_Bound(part, rows, columns, pair.scale * part.factor))
            first += pair.rank
        self._resize(first, bound)
        for place in bound:
            pair, columns = lora[place.part.module], place.columns
            low = self._matrix.low[columns]
            np.multiply(pair.a, low.dtype.type(place.factor), out=low)
            self._matrix.high[place.rows, columns] = place.part.ours(pair.b)
        self._matrix.settle()

    def _resize(self, rank: int, bound: list[_Bound]) -> None:
        """Make space for `rank` columns; if the adapters' places changed, set all to zero."""
        places = [(b.rows, b.columns) for b in bound]
        same = places == [(b.rows, b.columns) for b in self._bound]
        self._bound, self._used = bound, rank
        if self._matrix.room(rank) != self.rank:
            self._matrix = self._matrix.resized(rank)
        elif not same:
            self._matrix.low[...] = 0.0
            self._matrix.high[...] = 0.0

    def forward(self, x: Array, out: Array) -> Array:
        """Write `out = x W' + sum s (x A') B'`, (T, out); return the ha columns of x, (T, R).

        x: (T, in + R); its first `in` columns are data, this method writes the rest.
        """
        low, wide = x[:, self.columns :], x
        if self._gain is not None:
            wide = self._storage.scratch("input", *x.shape)
            np.multiply(x[:, : self.columns], self._gain, out=wide[:, : self.columns])
            if self._offset is not None:
                wide[:, : self.columns] += self._offset
        if self.rank:
            np.matmul(wide[:, : self.columns], self._matrix.low.T, out=wide[:, self.columns :])
            if wide is not x:
                low[...] = wide[:, self.columns :]
        self._matrix.forward(wide, out)
        if self._bias is not None:
            out += self._bias
        return low

    def backward_low(self, dout: Array) -> None:
        """Write `hb = dy B`, (T, R), into the last columns of dout, (T, out + R)."""
        if self.rank:
            np.matmul(dout[:, : self.rows], self._matrix.high, out=dout[:, self.rows :])

    def backward(self, dout: Array, dx: Array) -> None:
        """Write `dx = dy W + sum s (dy B) A`, (T, in), and the last columns of dout."""
        self.backward_low(dout)
        self._matrix.backward(dout, dx)
        if self._gain is not None:
            dx *= self._gain

    def whole_backward(
        self, x: Array, dout: Array, dx: Array, grads: Mapping[str, tuple[Array, Array]]
    ) -> None:
        """Run `backward` and `grads`; x, (T, in + R), is the input of the forward."""
        self.backward(dout, dx)
        self.grads(x, x[:, self.columns :], dout, grads)

    def grads(
        self, x: Array, ha: Array, dout: Array, into: Mapping[str, tuple[Array, Array]]
    ) -> None:
        """Write the adapters' gradients, dA (R, in) and dB (out, R), into arrays by module.

        x: (T, in) data; ha: (T, R) from `forward`; dout: (T, out + R) after `backward_low`.
        """
        if not self.rank:
            return
        low = dout[:, self.rows : self.rows + self._used]
        da = np.matmul(low.T, x[:, : self.columns])
        if self._gain is not None:
            da *= self._gain
        if self._offset is not None:
            da += np.outer(low.sum(axis=0), self._offset)
        for place in self._bound:
            da_out, db_out = into[place.part.module]
            da_out[...] = da[place.columns]
            da_out *= da_out.dtype.type(place.factor)
            db = np.matmul(dout[:, place.rows].T, ha[:, place.columns])
            place.part.write_theirs(db, db_out)
