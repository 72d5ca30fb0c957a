"""Frozen linear maps with adapters, several maps of one input fused into one matrix product.

The low-rank products ride in the big one. A map of `in` to `out` channels with adapters of total
rank R is one matrix

    full = [[W,   B],      (out + R, in + R)
            [s A, 0]]

and its input and output arrays are R columns wider than their data:

    forward     ha = s x A',    y = [x | ha] @ [W, B]'
    backward    hb = dy B,      dx = [dy | hb] @ [W; s A],    dA = s hb' x,    dB = dy' ha

so there is no pass that adds `s (x A') B'` to a whole activation, in either direction (`Matrix`
says how it is kept). The scale
sits in A, whose rows are contiguous here; B is copied as it is. A norm's gain before the map is
multiplied into its input and the gradient of that: weights that are cast at every use would have to
be multiplied at every use, and there are more of them than of activations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from m2m.nn.functional import Array
from m2m.nn.lora import LoraPair
from m2m.nn.matrix import Storage


@dataclass(frozen=True)
class Part:
    """One map of a fused product.

    Attributes:
        module: its path, "model.layers.0.self_attn.q_proj".
        heads: for maps whose output is rotated, how many heads that is; channels that rotate
            together, j and j + D / 2 of a head in HF's order, lie side by side here.
        factor: what its output is multiplied with here.
    """

    module: str
    heads: int = 0
    factor: float = 1.0

    def reorder(self, rows: Array) -> Array:
        """View rows in HF's order (out, X) in ours, as (heads, D / 2, 2, X)."""
        if not self.heads:
            return rows
        return rows.reshape(self.heads, 2, -1, rows.shape[-1]).swapaxes(1, 2)

    def split(self, rows: Array) -> Array:
        """View rows in our order (out, X) as `reorder` shapes them."""
        return rows.reshape(self.heads, -1, 2, rows.shape[-1]) if self.heads else rows


@dataclass
class _Bound:
    """An adapter in its place: the rows of its part, its columns among the R, its factor on A."""

    part: Part
    rows: slice
    columns: slice
    factor: float


class FusedLinear:
    """Linear maps of one input as one matrix, with room for their adapters.

    Args:
        parts: the maps, in the order of their rows.
        weights: HF tensors by name, `MODULE.weight` (out, in).
        storage: how the weights are kept; shared by all maps of a model.
        gain: (in,) factor on the input channels (of the norm before this map), or None.
        bias: whether there is a `MODULE.bias` (out,) as well.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        weights: Mapping[str, Array],
        storage: Storage,
        gain: Array | None = None,
        bias: bool = False,
    ) -> None:
        self._parts, self._storage, self._gain = list(parts), storage, gain
        self._bound: list[_Bound] = []
        arrays = [np.asarray(weights[f"{part.module}.weight"]) for part in self._parts]
        self._sizes = [len(array) for array in arrays]
        self.rows, self.columns = sum(self._sizes), arrays[0].shape[1]
        self._used = storage.rank * len(self._parts)
        self._matrix = storage.matrix(self.rows, self.columns, self._used)
        for part, span, array in zip(self._parts, self._spans(), arrays, strict=True):
            ours = np.ascontiguousarray(part.reorder(array)).reshape(array.shape)
            self._matrix.load(span, ours, part.factor)
        self._bias = self._load_bias(weights) if bias else None

    def _load_bias(self, weights: Mapping[str, Array]) -> Array:
        bias = np.empty((self.rows, 1), self._storage.dtype)
        for part, span in zip(self._parts, self._spans(), strict=True):
            array = np.asarray(weights[f"{part.module}.bias"])[:, None]
            part.split(bias[span])[...] = part.reorder(array)
            bias[span] *= part.factor
        return bias[:, 0]

    def _spans(self) -> list[slice]:
        ends = np.cumsum([0, *self._sizes]).tolist()
        return [slice(a, b) for a, b in pairwise(ends)]

    @property
    def rank(self) -> int:
        """R, the columns that inputs and outputs need beside their data."""
        return self._matrix.rank

    @property
    def modules(self) -> list[str]:
        """The module paths of the parts."""
        return [part.module for part in self._parts]

    def bind(self, lora: Mapping[str, LoraPair]) -> None:
        """Write the factors of this map's adapters into their places; others have none."""
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
            high = self._matrix.high[place.rows, columns]
            place.part.split(high)[...] = place.part.reorder(pair.b)
        self._matrix.settle()

    def _resize(self, rank: int, bound: list[_Bound]) -> None:
        """Make room for `rank` where the adapters' places changed; zeros between them stay."""
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

        x: (T, in + R) whose first `in` columns are data; the rest is written here.
        """
        low, wide = x[:, self.columns :], x
        if self._gain is not None:
            wide = self._storage.scratch("input", *x.shape)
            np.multiply(x[:, : self.columns], self._gain, out=wide[:, : self.columns])
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
        for place in self._bound:
            da_out, db_out = into[place.part.module]
            da_out[...] = da[place.columns]
            da_out *= da_out.dtype.type(place.factor)
            db = np.matmul(dout[:, place.rows].T, ha[:, place.columns])
            place.part.reorder(db_out)[...] = place.part.split(db)
