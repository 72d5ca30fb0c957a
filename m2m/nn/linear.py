"""Frozen linear maps with adapters, several maps of one input fused into one matrix product.

The low-rank products ride in the big one. A map of `in` to `out` channels with adapters of total
rank R is one matrix

    full = [[W,   B],      (out + R, in + R)
            [s A, 0]]

and its input and output arrays are R columns wider than their data:

    forward     ha = s x A',    y = [x | ha] @ [W, B]'
    backward    hb = dy B,      dx = [dy | hb] @ [W; s A],    dA = s hb' x,    dB = dy' ha

so there is no pass that adds `s (x A') B'` to a whole activation, in either direction. The scale
sits in A, whose rows are contiguous here; B is copied as it is. A norm's gain before the map is
multiplied into its input and the gradient of that: weights that are cast at every use would have to
be multiplied at every use, and there are more of them than of activations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from threading import local
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from m2m.nn.functional import Array, widen
from m2m.nn.lora import LoraPair
from m2m.nn.workspace import Workspace


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


class Storage:
    """How frozen weights are kept.

    Args:
        dtype: of the computation.
        half: keep them as float16; a map is cast by every thread that uses it, when it does.
        rank: of the adapter that every part will get; matrices have room for it at once.
    """

    def __init__(self, dtype: DTypeLike, half: bool = False, rank: int = 0) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.half = half
        self.rank = rank
        self._own = local()

    def scratch(self, name: str, *shape: int) -> Array:
        """Return a buffer of the calling thread that all maps use, one after the other."""
        if not hasattr(self._own, "space"):
            self._own.space = Workspace(self.dtype)
        found: Array = self._own.space.get(name, *shape)
        return found


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
        self.rank = storage.rank * len(self._parts)
        self._make_places()
        for part, span, array in zip(self._parts, self._spans(), arrays, strict=True):
            ours = np.ascontiguousarray(part.reorder(array)).reshape(array.shape)
            widen(ours, self._base[span], 1.0 if storage.half else part.factor)
        self._bias = self._load_bias(weights) if bias else None

    def _load_bias(self, weights: Mapping[str, Array]) -> Array:
        bias = np.empty((self.rows, 1), self._storage.dtype)
        for part, span in zip(self._parts, self._spans(), strict=True):
            array = np.asarray(weights[f"{part.module}.bias"])[:, None]
            part.split(bias[span])[...] = part.reorder(array)
            bias[span] *= part.factor
        return bias[:, 0]

    def _make_places(self) -> None:
        """Make room for the matrix, with zeros where adapters come, anything where weights do."""
        dtype, width = self._storage.dtype, self.columns + self.rank
        if self._storage.half:
            # As wide as the matrix, so that it is cast in one run.
            self._stored: Array = np.zeros((self.rows, width), np.float16)
            self._base = self._stored[:, : self.columns]
            self._low = np.zeros((self.rank, self.columns), dtype)
            self._high = np.zeros((self.rows, self.rank), dtype)
            return
        self._full = np.empty((self.rows + self.rank, width), dtype)
        self._base = self._full[: self.rows, : self.columns]
        self._low = self._full[self.rows :, : self.columns]
        self._high = self._full[: self.rows, self.columns :]
        self._full[self.rows :] = 0.0
        self._high[...] = 0.0

    def _spans(self) -> list[slice]:
        ends = np.cumsum([0, *self._sizes]).tolist()
        return [slice(a, b) for a, b in pairwise(ends)]

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
            low = self._low[columns]
            np.multiply(pair.a, low.dtype.type(place.factor), out=low)
            high = self._high[place.rows, columns]
            place.part.split(high)[...] = place.part.reorder(pair.b)

    def _resize(self, rank: int, bound: list[_Bound]) -> None:
        """Make room for `rank` where the adapters' places changed; zeros between them stay."""
        places = [(b.rows, b.columns) for b in bound]
        same = places == [(b.rows, b.columns) for b in self._bound]
        self._bound = bound
        if rank != self.rank:
            self.rank, base = rank, self._base
            self._make_places()
            self._base[...] = base
        elif not same:
            self._low[...] = 0.0
            self._high[...] = 0.0

    def _matrix(self) -> Array:
        """Return the whole matrix; where it is cast now, it is good until this thread's next."""
        if not self._storage.half:
            return self._full
        full = self._storage.scratch("map", self.rows + self.rank, self.columns + self.rank)
        # In one run: threads wait for each other at every call, longer than the caches would save.
        widen(self._stored, full[: self.rows])
        for part, span in zip(self._parts, self._spans(), strict=True):
            if part.factor != 1.0:
                full[span, : self.columns] *= full.dtype.type(part.factor)
        full[: self.rows, self.columns :] = self._high
        full[self.rows :, : self.columns] = self._low
        full[self.rows :, self.columns :] = 0.0
        return full

    def forward(self, x: Array, out: Array) -> Array:
        """Write `out = x W' + sum s (x A') B'`, (T, out); return the ha columns of x, (T, R).

        x: (T, in + R) whose first `in` columns are data; the rest is written here.
        """
        full, low, wide = self._matrix(), x[:, self.columns :], x
        if self._gain is not None:
            wide = self._storage.scratch("input", *x.shape)
            np.multiply(x[:, : self.columns], self._gain, out=wide[:, : self.columns])
        if self.rank:
            np.matmul(
                wide[:, : self.columns],
                full[self.rows :, : self.columns].T,
                out=wide[:, self.columns :],
            )
            if wide is not x:
                low[...] = wide[:, self.columns :]
        np.matmul(wide, full[: self.rows].T, out=out)
        if self._bias is not None:
            out += self._bias
        return low

    def backward_low(self, dout: Array) -> Array:
        """Write `hb = dy B`, (T, R), into the last columns of dout, (T, out + R).

        Returns:
            The matrix as it was used.
        """
        full = self._matrix()
        if self.rank:
            data, low = dout[:, : self.rows], dout[:, self.rows :]
            np.matmul(data, full[: self.rows, self.columns :], out=low)
        return full

    def backward(self, dout: Array, dx: Array) -> None:
        """Write `dx = dy W + sum s (dy B) A`, (T, in), and the last columns of dout."""
        full = self.backward_low(dout)
        np.matmul(dout, full[:, : self.columns], out=dx)
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
        low = dout[:, self.rows :]
        da = np.matmul(low.T, x[:, : self.columns])
        if self._gain is not None:
            da *= self._gain
        for place in self._bound:
            da_out, db_out = into[place.part.module]
            da_out[...] = da[place.columns]
            da_out *= da_out.dtype.type(place.factor)
            db = np.matmul(dout[:, place.rows].T, ha[:, place.columns])
            place.part.reorder(db_out)[...] = place.part.split(db)
