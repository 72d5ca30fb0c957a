"""Streams a merged model: base weights plus the mixture's delta, one tensor at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.adapter import Adapter, check_adapter
from m2m.checkpoint import BaseModel
from m2m.errors import InputError
from m2m.formats.atomic import atomic_folder
from m2m.formats.safetensors import TensorSpec, write_safetensors
from m2m.merge.methods import find_method

Tensor = NDArray[np.float32]


@dataclass(frozen=True)
class MergedTensor:
    """One adapted weight: `base` and `delta`, both (out, in); the merged weight is their sum."""

    name: str
    base: Tensor
    delta: Tensor

    @property
    def merged(self) -> Tensor:
        """The weight of the merged model."""
        return self.base + self.delta


class Merger:
    """Merges weighted adapters into a base model.

    Args:
        base: the model that the adapters were trained on.
        adapters: by dataset name; every one is checked against the base.
        method: a name in `methods.METHODS`.
        scale: factor on the merged delta.

    Raises:
        InputError: an adapter does not fit the base, or the method is unknown.
    """

    def __init__(
        self,
        base: BaseModel,
        adapters: Mapping[str, Adapter],
        method: str = "linear",
        scale: float = 1.0,
    ) -> None:
        for adapter in adapters.values():
            check_adapter(adapter, base.config, base.fingerprint)
        self.base = base
        self.adapters = dict(adapters)
        self.scale = scale
        self._merge = find_method(method)
        adapted = {module for adapter in adapters.values() for module in adapter.pairs}
        # In the base's order; a dict is a set that keeps it.
        self._modules = {m: None for m in base.config.linear_shapes() if m in adapted}

    def adapts(self, module: str) -> bool:
        """Whether some adapter changes this projection."""
        return module in self._modules

    def delta(self, module: str, names: Sequence[str], weights: Sequence[float]) -> Tensor | None:
        """The mixture's delta (out, in) for one projection; None where no adapter touches it.

        Raises:
            InputError: the delta is not finite.
        """
        chosen = [
            (self.adapters[name].pairs[module], weight * self.scale)
            for name, weight in zip(names, weights, strict=True)
            if module in self.adapters[name].pairs
        ]
        if not chosen:
            return None
        pairs, scaled = zip(*chosen, strict=True)
        delta = self._merge(pairs, scaled)
        if not np.isfinite(delta).all():
            raise InputError(
                f"the merged delta of {module} is not finite (datasets {', '.join(names)})",
                "one of these adapters diverged: train it again with a lower learning rate",
            )
        return delta

    def adapted(self, names: Sequence[str], weights: Sequence[float]) -> Iterator[MergedTensor]:
        """The adapted weights of a mixture, one at a time, in the base's order and HF layout."""
        for module in self._modules:
            name = f"{module}.weight"
            delta = self.delta(module, names, weights)
            base = self.base.weights[name]
            yield MergedTensor(name, base, np.zeros_like(base) if delta is None else delta)

    def write_folder(
        self, names: Sequence[str], weights: Sequence[float], folder: Path, dtype: str = "F16"
    ) -> None:
        """Write the merged model as an HF folder: weights, `config.json` and tokenizer files."""
        config = self.base.config
        specs = [
            TensorSpec(name, dtype if len(shape) > 1 else "F32", shape)
            for name, shape in config.weight_shapes().items()
        ]
        with atomic_folder(folder) as made:
            write_safetensors(
                made / "model.safetensors",
                specs,
                (self._weight(spec.name, names, weights) for spec in specs),
                {"format": "pt"},
            )
            for pattern in ("*.json", "*.jinja", "tokenizer.model"):
                for path in sorted(self.base.path.glob(pattern)):
                    if path.name != "m2m-model.json":
                        shutil.copyfile(path, made / path.name)

    def _weight(self, name: str, names: Sequence[str], weights: Sequence[float]) -> Tensor:
        module = name.removesuffix(".weight")
        delta = self.delta(module, names, weights) if self.adapts(module) else None
        base = self.base.weights[name]
        return base if delta is None else base + delta
