"""Stream a merged model: base weights plus the mixture's delta, one tensor at a time."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.adapter import Adapter, check_adapter
from m2m.arrays import F32
from m2m.blas import one_blas_thread
from m2m.checkpoint import BaseModel, Rules, hf_rules
from m2m.errors import InputError
from m2m.formats.atomic import atomic_folder, write_json
from m2m.formats.records import read_object
from m2m.formats.safetensors import TensorSpec, write_safetensors
from m2m.merge.methods import find_method
from m2m.merge.peft_names import from_peft
from m2m.nn.lora import LoraPair, lora_delta
from m2m.opening import copy_file
from m2m.recipe import Merge

_LINEAR = Merge()
_TORCH = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_TORCH_KEYS = {"torch_dtype", "dtype"}  # before transformers 4.56 and since
_COPIED = ("*.json", "*.jinja", "tokenizer.model", "spiece.model")
_OWN = ("m2m-model.json", "model.safetensors.index.json")


class Merger:
    """Merges weighted adapters into a base model.

    The order of the adapters and of the tensors does not change a bit of the result: adapters are
    taken by name, and random values are drawn from the seed and the tensor's name.

    Args:
        base: the model that the adapters were trained on.
        adapters: by dataset name; each is checked against the base.
        options: method, scale and the rest of the recipe's `[merge]`.
        finetuned: names of adapters that are models to judge, not experts to merge: one of these
            alone is added unchanged, whatever the options say.

    Raises:
        InputError: an adapter does not fit the base, or the method is unknown.
    """

    def __init__(
        self,
        base: BaseModel,
        adapters: Mapping[str, Adapter],
        options: Merge = _LINEAR,
        finetuned: Collection[str] = (),
    ) -> None:
        self.base = base
        self.adapters = {name: from_peft(each, base.config) for name, each in adapters.items()}
        for adapter in self.adapters.values():
            check_adapter(adapter, base.config, base.fingerprint)
        self.options = options
        self._finetuned = frozenset(finetuned)
        self._sound: set[tuple[str, str]] = set()  # (adapter, module) pairs known to be finite
        find_method(options.method)
        adapted = {module for adapter in self.adapters.values() for module in adapter.pairs}
        # In the base's order: a dict is a set that keeps its order.
        self.modules = {m: None for m in base.config.linear_shapes() if m in adapted}

    def adapts(self, module: str) -> bool:
        """Return whether an adapter changes this projection."""
        return module in self.modules

    @one_blas_thread()
    def change(
        self, module: str, names: Sequence[str], weights: Sequence[float]
    ) -> F32 | LoraPair | None:
        """Return the mixture's delta (out, in) for one projection, or two factors of that product.

        Return None if no adapter changes it.

        Raises:
            InputError: the delta is not finite, or the method cannot merge that many adapters.
        """
        options = _LINEAR if len(names) == 1 and names[0] in self._finetuned else self.options
        chosen = [
            (self.adapters[name].pairs[module], weight * options.scale)
            for name, weight in sorted(zip(names, weights, strict=True))
            if weight and module in self.adapters[name].pairs
        ]
        if not chosen:
            return None
        pairs, scaled = zip(*chosen, strict=True)
        merge = find_method(options.method)
        change = merge(pairs, scaled, options, self._rng(module))
        # Check the factors too, once: a vote between signs ignores values that are not numbers.
        used = [name for name, weight in zip(names, weights, strict=True) if weight]
        unseen = [name for name in used if (name, module) not in self._sound]
        unseen_pairs = (self.adapters[name].pairs.get(module) for name in unseen)
        arrays = [array for pair in unseen_pairs if pair is not None for array in (pair.a, pair.b)]
        if not isinstance(change, LoraPair):
            change = np.asarray(change, np.float32)
            arrays.append(change)
        _check_finite(arrays, module, names)
        self._sound.update((name, module) for name in unseen)
        return change

    @one_blas_thread()  # more threads do not speed up products of low rank
    def delta(self, module: str, names: Sequence[str], weights: Sequence[float]) -> F32 | None:
        """Return the mixture's delta (out, in) for one projection; None if no adapter changes it.

        Raises:
            InputError: the delta is not finite, or the method cannot merge that many adapters.
        """
        change = self.change(module, names, weights)
        if isinstance(change, LoraPair):
            change = np.asarray(lora_delta(change), np.float32)
            _check_finite([change], module, names)
        return change

    def _rng(self, module: str) -> np.random.Generator:
        return np.random.default_rng([self.options.seed, zlib.crc32(module.encode())])

    def changes(
        self, names: Sequence[str], weights: Sequence[float]
    ) -> Iterator[tuple[str, F32 | LoraPair]]:
        """Yield each weight that a mixture changes, with its `change`; base's order, HF layout."""
        for module in self.modules:
            change = self.change(module, names, weights)
            if change is not None:
                yield f"{module}.weight", change

    @one_blas_thread()
    def adapter(
        self, names: Sequence[str], weights: Sequence[float], rank: int
    ) -> tuple[Adapter, dict[str, float]]:
        """Return the mixture as one adapter: the nearest matrix of that rank to every delta.

        Returns:
            The adapter, and the {"gain", "cosine"} of the deltas that this rank keeps.

        Raises:
            InputError: the mixture changes nothing.
        """
        pairs, kept, whole = {}, 0.0, 0.0
        for module in self.modules:
            delta = self.delta(module, names, weights)
            if delta is not None:
                pairs[module], values = truncate(delta, rank, self._rng(module))
                kept += float(np.square(values).sum())
                whole += float(np.square(delta, dtype=np.float64).sum())
        if not whole:
            raise InputError("this mixture leaves the base model as it is: all deltas are zero")
        used, base = [self.adapters[name] for name in names], self.base
        known = all(expert.base_fingerprint for expert in used)
        # It is not known whether adapters from other tools were trained on this base.
        trained_on = base.name if known else used[0].base_model
        adapter = Adapter(rank, float(rank), pairs, trained_on, base.fingerprint if known else None)
        # The nearest matrix is a projection of the delta: the gain is its fraction of the square.
        return adapter, {"gain": kept / whole, "cosine": (kept / whole) ** 0.5}

    def write_folder(
        self, names: Sequence[str], weights: Sequence[float], folder: Path, dtype: str = "F16"
    ) -> None:
        """Write the merged model as an HF folder: weights, `config.json` and tokenizer files.

        Args:
            names: of the adapters.
            weights: one for each adapter.
            folder: the folder to create, whole or not at all.
            dtype: of the matrices, F32, F16 or BF16; norms are F32.
        """
        base, rules = self.base, hf_rules(self.base.config)
        specs = [
            TensorSpec(name, dtype if len(shape) > 1 else "F32", shape)
            for name, shape in rules.shapes.items()
        ]
        with atomic_folder(folder) as made:
            write_safetensors(
                made / "model.safetensors",
                specs,
                (self._tensor(rules, spec, names, weights) for spec in specs),
                {"format": "pt"},
            )
            for path in sorted(p for pattern in _COPIED for p in base.path.glob(pattern)):
                if path.name not in _OWN:
                    copy_file(path, made / path.name)
            config = read_object(base.path / "config.json")
            keys = _TORCH_KEYS & config.keys() or _TORCH_KEYS
            write_json(made / "config.json", config | dict.fromkeys(sorted(keys), _TORCH[dtype]))

    def _tensor(
        self, rules: Rules, spec: TensorSpec, names: Sequence[str], weights: Sequence[float]
    ) -> NDArray[Any]:
        """Return a tensor of the merged folder; an unchanged one is a view of the base's file."""
        stored, alone = self.base.weights, len(rules.parts[spec.name]) == 1

        def read(name: str) -> NDArray[Any]:
            module = name.removesuffix(".weight")
            delta = self.delta(module, names, weights) if self.adapts(module) else None
            if delta is not None:
                return stored[name] + delta
            if alone and stored.file.dtype(name) == spec.dtype:
                return stored.file.raw(name)
            return stored[name]

        return rules.join(spec.name, read)


def _check_finite(
    arrays: Iterable[NDArray[np.floating]], module: str, names: Sequence[str]
) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise InputError(
            f"the merged delta of {module} is not finite (datasets {', '.join(names)})",
            "one of these adapters diverged: train it again with a lower learning rate",
        )


_SPARE = 10  # columns beyond the rank, as Halko et al. advise (section 4.2)
_PASSES = 4  # each raises the singular values' power by two, which flat spectra need


def truncate(
    delta: NDArray[np.floating], rank: int, rng: np.random.Generator
) -> tuple[LoraPair, NDArray[np.floating]]:
    """Return the pair of at most `rank` whose product is nearest to `delta` (out, in).

    Randomised subspace iteration (Halko, Martinsson, Tropp 2011, arXiv 0909.4061, algorithm 4.4):
    exact if the rank of the delta is not higher, and a few products instead of a whole SVD.

    Returns:
        The pair, with scale 1 and the singular values shared by its factors; and these values.
    """
    rank = min(rank, *delta.shape)
    width = min(rank + _SPARE, *delta.shape)
    basis = np.linalg.qr(delta @ rng.standard_normal((delta.shape[1], width), np.float32))[0]
    for _ in range(_PASSES):
        other = np.linalg.qr(delta.T @ basis)[0]
        basis = np.linalg.qr(delta @ other)[0]
    left, values, right = np.linalg.svd(basis.T @ delta, full_matrices=False)
    roots = np.sqrt(values[:rank])
    return LoraPair(roots[:, None] * right[:rank], basis @ left[:, :rank] * roots, 1.0), roots**2
