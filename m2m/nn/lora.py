"""Low-rank adapters: a pair of factors per linear map, and the only function of their product."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2m.nn.config import DecoderConfig


@dataclass(frozen=True)
class LoraPair:
    """The two factors of one adapted linear map `y = x W' + scale * (x A') B'`.

    Attributes:
        a: (R, in), the down projection (PEFT's `lora_A.weight`).
        b: (out, R), the up projection (PEFT's `lora_B.weight`).
        scale: alpha / R, or another factor that the adapter's maker chose.
    """

    a: NDArray[np.floating]
    b: NDArray[np.floating]
    scale: float

    def __post_init__(self) -> None:
        if self.a.ndim != 2 or self.b.ndim != 2 or self.a.shape[0] != self.b.shape[1]:
            raise ValueError(f"LoRA factors a {self.a.shape} and b {self.b.shape} share no rank")

    @property
    def rank(self) -> int:
        """Return R, the inner dimension of the product."""
        return int(self.a.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Return (out, in), the shape of the delta."""
        return int(self.b.shape[0]), int(self.a.shape[1])


def lora_delta(pair: LoraPair) -> NDArray[np.floating]:
    """Return an adapter's change of its weight: `scale * b @ a`, (out, in), dtype kept."""
    scaled = pair.b * pair.b.dtype.type(pair.scale)
    return np.asarray(scaled @ pair.a)


def concat_pairs(pairs: Sequence[LoraPair], weights: Iterable[float]) -> LoraPair:
    """Return one pair whose delta is exactly `sum_i weights[i] * delta_i`; the ranks add up.

    Only the columns of b are scaled, so no delta is computed.
    """
    if not pairs:
        raise ValueError("no LoRA pair to concatenate")
    scaled = [
        pair.b * pair.b.dtype.type(weight * pair.scale)
        for pair, weight in zip(pairs, weights, strict=True)
    ]
    return LoraPair(
        a=np.concatenate([pair.a for pair in pairs], axis=0),
        b=np.concatenate(scaled, axis=1),
        scale=1.0,
    )


def init_lora(
    config: DecoderConfig,
    modules: Iterable[str],
    rank: int,
    alpha: float,
    rng: np.random.Generator,
) -> dict[str, LoraPair]:
    """Return new pairs by module path, drawn as PEFT draws them, so that every delta is zero.

    A is `kaiming_uniform(a=sqrt(5))`, that is uniform within `1 / sqrt(in)`; B is zero. float32.
    `modules` are full paths ("model.layers.0.self_attn.q_proj") or their last parts ("q_proj").
    """
    shapes = select_modules(config.linear_shapes(), modules)
    pairs = {}
    for module, (rows, columns) in shapes.items():
        bound = 1.0 / math.sqrt(columns)
        a = rng.random((rank, columns), dtype=np.float32)
        a *= np.float32(2.0 * bound)
        a -= np.float32(bound)
        pairs[module] = LoraPair(a, np.zeros((rows, rank), np.float32), alpha / rank)
    return pairs


# Maps of layers without attention, and those of attention that are in their place.
STANDS_FOR = {"in_proj": "q_proj", "out_proj": "o_proj"}
STANDS_FOR |= {f"in_proj_{name}": "q_proj" for name in ("qkv", "z", "b", "a")}


def select_modules(
    shapes: Mapping[str, tuple[int, int]], modules: Iterable[str]
) -> dict[str, tuple[int, int]]:
    """Return the entries of `shapes` whose path or last part is among `modules`, in model order.

    Some families have no gate_proj; it is then left out. In layers without attention, q_proj also
    selects the maps of the input, and o_proj that of the output.

    Raises ValueError that lists the names without a match.
    """
    asked = set(modules)
    last = {m: m.rsplit(".", 1)[-1] for m in shapes}
    selected = {m: s for m, s in shapes.items() if {m, last[m], STANDS_FOR.get(last[m], m)} & asked}
    known = set(selected) | {m.rsplit(".", 1)[-1] for m in selected}
    if selected:
        known.add("gate_proj")
    if missing := sorted(asked - known):
        raise ValueError(f"no such linear module: {', '.join(missing)}")
    return selected
