"""Convert tensors between the model and its files, by the rules of the family's own module.

The model's tensors have the names and shapes of `DecoderConfig.weight_shapes`. In GGUF, and in the
Hugging Face folders of some families, a tensor has another name, another order of rows or another
offset, is transposed, or holds several of the model's tensors as its rows. Every rule can be
undone, and applies to weights, to their changes and to a LoRA's factors alike. Code outside this
module does not know the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.errors import InputError
from m2m.families import FAMILIES, Spelling, Stored
from m2m.nn.config import DecoderConfig
from m2m.nn.lora import LoraPair, lora_delta

# In GGUF; config.json holds the settings that give them.
ROPE_FACTORS = "rope_freqs.weight"
LONG_FACTORS = ("rope_factors_short.weight", "rope_factors_long.weight")

Array = NDArray[Any]  # of floats, or BF16 as uint16
Change = Array | LoraPair


@dataclass(frozen=True)
class _Place:
    """One of the model's tensors in a file: the stored tensor, its rule and its rows there."""

    stored: str
    rule: Stored
    rows: slice | Array


class Rules:
    """The tensors of a file, and how those of the model are stored in them.

    Args:
        config: the model's sizes.
        layers: the prefix of a layer's tensors, "blk".
        table: the rule of each of the model's modules; layers' modules without their prefix.
        renames: whether a module that is not in the table is unknown; else it keeps its name.

    Attributes:
        parts: the model's tensors in each stored one, in the order of its rows.
        shapes: the shape of each stored tensor.
    """

    def __init__(
        self, config: DecoderConfig, layers: str, table: Mapping[str, Stored], renames: bool
    ) -> None:
        self._config = config
        self._shapes = config.weight_shapes()
        rules: dict[str, Stored] = {}
        self.parts: dict[str, list[str]] = {}
        for name in self._shapes:
            module, _, kind = name.rpartition(".")
            begin = ""
            if module.startswith("model.layers."):
                _, _, number, module = module.split(".", 3)
                begin = f"{layers}.{number}."
            if renames and f"{module}.{kind}" in FAMILIES[config.architecture].keyed:
                continue
            rule = table.get(module) or table.get(f"{module.rpartition('.')[0]}.*")
            if rule is None:
                if renames:
                    raise InputError(f"tensor {name!r} is none that m2m knows")
                rule = Stored(module)
            rules[name] = rule
            stored = rule.name if rule.bare else f"{rule.name}.{kind}"
            self.parts.setdefault(f"{begin}{stored}", []).append(name)
        self._places = {
            name: _Place(stored, rules[name], rows)
            for stored, names in self.parts.items()
            for name, rows in zip(names, self._rows(names, rules[names[0]]), strict=True)
        }
        self.shapes = {stored: self._shape(stored) for stored in self.parts}

    def stored(self, name: str) -> str:
        """Return the stored tensor that holds one of the model's.

        Raises:
            InputError: the model has no such tensor.
        """
        if name not in self._places:
            raise InputError(f"tensor {name!r} is none that m2m knows")
        return self._places[name].stored

    def join(self, stored: str, read: Callable[[str], Array]) -> Array:
        """Return a stored tensor, made from the model's; `read` returns one of these by name."""
        names = self.parts[stored]
        if len(names) > 1:
            whole = self.join_changes(stored, {name: read(name) for name in names})
        else:
            whole = self._rows_to_file(names[0], read(names[0]))
        rule = self._places[names[0]].rule
        if rule.shift and stored.endswith(".weight"):
            whole = whole + np.float32(rule.shift)
        whole = np.log(-whole) if rule.logarithm else whole
        whole = whole.reshape(self.shapes[stored]) if rule.stacked else whole
        whole = whole[:, None] if rule.channels else whole
        return np.ascontiguousarray(whole.T) if rule.transposed and whole.ndim == 2 else whole

    def part(self, name: str, whole: Array) -> Array:
        """Return one of the model's tensors from the stored one (inverse of `join`)."""
        rule = self._places[name].rule
        whole = whole.T if rule.transposed and whole.ndim == 2 else whole
        whole = whole.reshape(-1) if rule.stacked else whole
        whole = whole[:, 0] if rule.channels else whole
        rows = np.asarray(self._rows_of(name, whole), order="C")
        if rule.tiled == "columns":
            rows = np.ascontiguousarray(rows[:, self._tiles(name, rows.shape[1]).argsort()])
        rows = -np.exp(rows) if rule.logarithm else rows
        return rows - np.float32(rule.shift) if rule.shift and name.endswith(".weight") else rows

    def map_shape(self, stored: str) -> tuple[int, ...]:
        """Return (out, in) of a stored map."""
        shape = self.shapes[stored]
        return shape[::-1] if self._places[self.parts[stored][0]].rule.transposed else shape

    def split_pair(self, stored: str, pair: LoraPair) -> dict[str, LoraPair]:
        """Return the pairs of a stored map's parts; ranks that a part does not use are left out."""
        parts = {}
        for name in self.parts[stored]:
            b = self._rows_of(name, pair.b)
            used = np.flatnonzero((b != 0).sum(axis=0))
            if not len(used) or len(self.parts[stored]) == 1:
                used = np.arange(pair.rank)
            parts[name] = LoraPair(pair.a[used], b[:, used], pair.scale)
        return parts

    def _rows_of(self, name: str, whole: Array) -> Array:
        """Return the rows of one tensor in those of the stored one, in the model's order."""
        place = self._places[name]
        rows = whole[place.rows] if len(self.parts[place.stored]) > 1 else whole
        if place.rule.tiled in ("rows", "values"):
            return rows[self._tiles(name, len(rows)).argsort()]
        heads = self._heads(name)
        return _swapped(rows, heads, len(rows) // heads // 2, 2) if heads else rows

    def changes(self, changes: Iterable[tuple[str, Change]]) -> Iterator[tuple[str, Change]]:
        """Yield the change of each stored tensor from those of the model's, in the model's order.

        A change is an array, or a pair with that product; a stored tensor of several maps gets a
        pair if all changes in it are pairs.
        """
        for stored, group in groupby(changes, key=lambda change: self.stored(change[0])):
            mine = dict(group)
            if len(self.parts[stored]) == 1:
                ((name, change),) = mine.items()
                yield stored, self._changed(name, change)
            else:
                yield stored, self._joined(stored, mine)

    def join_changes(self, stored: str, changes: Mapping[str, Array]) -> Array:
        """Return the rows of several tensors as those of one; rows of missing ones are zero."""
        some = next(iter(changes.values()))
        count = sum(self._shapes[name][0] for name in self.parts[stored])
        whole = np.zeros((count, *some.shape[1:]), some.dtype)
        for name, array in changes.items():
            whole[self._places[name].rows] = self._rows_to_file(name, array)
        return whole

    def _changed(self, name: str, change: Change) -> Change:
        if isinstance(change, LoraPair):
            a = change.a
            if self._places[name].rule.tiled == "columns":
                return LoraPair(a[:, self._tiles(name, a.shape[1])], change.b, change.scale)
            return LoraPair(a, self._rows_to_file(name, change.b), change.scale)
        return self._rows_to_file(name, change)

    def _joined(self, stored: str, mine: Mapping[str, Change]) -> Change:
        pairs = {name: pair for name, pair in mine.items() if isinstance(pair, LoraPair)}
        if len(pairs) < len(mine):
            whole = {n: lora_delta(c) if isinstance(c, LoraPair) else c for n, c in mine.items()}
            return self.join_changes(stored, whole)
        ranks = np.cumsum([0, *(pair.rank for pair in pairs.values())]).tolist()
        blocks = {}
        for (name, pair), first in zip(pairs.items(), ranks, strict=False):
            block = np.zeros((len(pair.b), ranks[-1]), pair.b.dtype)
            block[:, first : first + pair.rank] = pair.b * pair.b.dtype.type(pair.scale)
            blocks[name] = block
        a = np.concatenate([pair.a for pair in pairs.values()])
        return LoraPair(a, self.join_changes(stored, blocks), 1.0)

    def _rows_to_file(self, name: str, array: Array) -> Array:
        """Return rows in the file's order: `array` itself if the order is the same."""
        if tiled := self._places[name].rule.tiled:
            axis = int(tiled == "columns")
            return np.take(array, self._tiles(name, array.shape[axis]), axis)
        heads = self._heads(name)
        return _swapped(array, heads, 2, len(array) // heads // 2) if heads else array

    def _tiles(self, name: str, count: int) -> Array:
        """Return the row (or column) of the model for each of the file, in `tiled` tensors."""
        config = self._config
        values = self._places[name].rule.tiled == "values"
        own = config.delta_heads * config.delta_dim if values else count
        shape = (config.delta_keys, config.delta_heads // config.delta_keys, -1)
        tiles = np.arange(count - own, count).reshape(shape).swapaxes(0, 1).reshape(-1)
        return np.concatenate([np.arange(count - own), tiles])

    def _heads(self, name: str) -> int:
        heads = self._places[name].rule.heads
        return int(getattr(self._config, heads)) if heads else 0

    def _rows(self, names: list[str], rule: Stored) -> list[slice | Array]:
        """Return the rows of each of `names` in the tensor that holds them."""
        sizes = [(*self._shapes[name], 1)[0] for name in names]
        heads = self._config.num_kv_heads if rule.by_head else 1
        ends = (np.cumsum([0, *sizes]) // heads).tolist()
        places = [slice(*pair) for pair in pairwise(ends)]
        if not rule.by_head:
            return list(places)
        every = np.arange(sum(sizes)).reshape(heads, -1)
        return [every[:, place].reshape(-1) for place in places]

    def _shape(self, stored: str) -> tuple[int, ...]:
        names = self.parts[stored]
        if not self._shapes[names[0]]:
            return ()
        rest = self._shapes[names[0]][1:]
        shape = (sum(self._shapes[name][0] for name in names), *rest)
        if self._places[names[0]].rule.stacked:
            return (len(names), *self._shapes[names[0]])
        if self._places[names[0]].rule.channels:
            return (shape[0], 1, *rest)
        return shape[::-1] if self._places[names[0]].rule.transposed else shape


@lru_cache(maxsize=8)
def gguf_rules(config: DecoderConfig) -> Rules:
    """Return the rules of a model's GGUF file."""
    family = FAMILIES[config.architecture]
    return Rules(config, "blk", {**family.top, **family.tensors}, renames=True)


def hf_rules(config: DecoderConfig, spelling: Spelling | None = None) -> Rules:
    """Return the rules of a model's Hugging Face folder."""
    family = FAMILIES[config.architecture]
    table = family.hf if spelling is None else spelling.tensors
    return Rules(config, family.hf_layers, table, renames=False)


def keyed(config: DecoderConfig) -> dict[str, list[str]]:
    """Return the GGUF keys of a model that hold weights: their names, one for each layer."""
    return {
        key: [f"model.layers.{layer}.{module}" for layer in range(config.num_layers)]
        for module, key in FAMILIES[config.architecture].keyed.items()
    }


def hf_to_gguf_name(name: str, config: DecoderConfig) -> str:
    """Return the GGUF name: "model.layers.0.self_attn.q_proj.weight" is "blk.0.attn_q.weight".

    Raises:
        InputError: the model has no such tensor.
    """
    return gguf_rules(config).stored(name)


def _swapped(array: Array, heads: int, outer: int, inner: int) -> Array:
    split = array.reshape(heads, outer, inner, *array.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(array.shape)
