"""Make a mixture's merged model scorable quickly: one scratch file whose adapted tensors change.

All tensors are quantised once. A mixture then rewrites the adapted ones in place, at their fixed
offsets in a mapped file (on a RAM disk if there is one): sum and quantisation of a few rows at a
time, straight into the file. If llama.cpp uses the type without a copy, it keeps its own mapping
and context. If it copies the weights, it reads the file again (`calibration`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.blas import one_blas_thread
from m2m.errors import InputError, ResourceError
from m2m.formats.disk import make_folder
from m2m.formats.gguf import GGUFFile, nbytes_of, plan_gguf
from m2m.formats.mapped import release
from m2m.llamacpp.filetypes import FILE_TYPES, FileType, quantized_layout
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.quantize import MergedQuantizer, Survival, tensor_bytes
from m2m.llamacpp.type_speed import Calibration
from m2m.llamacpp.weight_rows import FloatRows, LowRankRows, StoredRows
from m2m.nn.lora import LoraPair

_RAM_DISK = Path("/dev/shm")
_SCORING_TYPES = ("q8_0", "bf16", "f16")


def scratch_folder(key: Path, size: int) -> Path:
    """Return a folder for scratch files: the RAM disk if `size` bytes fit twice, else `key`.

    The same `key` (the run's own folder) always gives the same folder, so the next process
    overwrites the files of a killed one.
    """
    name = hashlib.sha256(os.fsencode(key.resolve())).hexdigest()[:16]
    folder = _RAM_DISK / f"m2m-{name}"
    try:
        if shutil.disk_usage(_RAM_DISK).free >= 2 * size:
            folder.mkdir(mode=0o700, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    except OSError:  # no RAM disk here, or no permission
        pass
    make_folder(key)
    return key


@dataclass(frozen=True)
class AdaptedTensor:
    """A mixture's change of a weight, (rows, columns): GGUF name, float32, GGUF row order.

    Attributes:
        name: name of the tensor.
        delta: the change itself, or the factors whose product is the change.
    """

    name: str
    delta: NDArray[np.float32] | LoraPair


class Surrogate:
    """The scratch model of a search: takes merged tensors and returns a model to score.

    `survival` holds the `Survival` of the deltas at the last `load`.

    Args:
        base: the base model, F16 or F32 weights.
        type: the type of the quantised surrogates.
        folder: folder for the scratch file (see `scratch_folder`); one surrogate of a type at a
            time.
        threads: for quantising and for the model; None uses all cores.
        patch: True: let llama.cpp use the mapped file without a copy, so a mixture needs no reload;
            False: reload, for types with faster kernels on repacked weights; None: the way that
            is faster on this machine, see `Calibration`.
        gpu_layers: see `LlamaModel`; weights on a GPU are reloaded.
        name: beginning of the scratch file's name.

    Raises:
        ResourceError: not enough space for the scratch file.
    """

    def __init__(
        self,
        base: GGUFFile,
        type: FileType,
        folder: Path,
        *,
        threads: int | None = None,
        patch: bool | None = None,
        gpu_layers: int = 0,
        name: str = "surrogate",
    ) -> None:
        self.base, self.type, self.threads = base, type, threads
        self.gpu_layers = gpu_layers
        self.path = folder / f"{name}-{type.name}.gguf"
        self.survival = Survival()
        self._model: LlamaModel | None = None
        self._changed: set[str] = set()
        metadata, specs = quantized_layout(base, type)
        header, self._offsets, self.size = plan_gguf(metadata, specs)
        self._specs = {spec.name: spec for spec in specs}
        self._bytes: NDArray[np.uint8] | None = mapped_scratch(self.path, self.size)
        self._bytes[: len(header)] = np.frombuffer(header, np.uint8)
        try:
            self._restore(self._specs)
            self.patch = self._best_patch() if patch is None else patch
        except BaseException:
            self.close()
            raise

    def _best_patch(self) -> bool:
        if self.gpu_layers:
            return False
        return Calibration(threads=self.threads).patches(self.path, self.type.name)

    def load(
        self,
        tensors: Iterable[AdaptedTensor],
        **options: Any,
    ) -> LlamaModel:
        """Return the model in which `tensors` replace the base's; all others are the base's.

        The surrogate still owns the model: the next `load` changes or closes it.

        Args:
            tensors: the changed weights, read one at a time.
            options: options of `LlamaModel` when it is opened.

        Raises:
            InputError: an unknown tensor, a wrong shape or a value that is not finite.
        """
        self.write(tensors)
        return self.current(**options)

    def write(self, tensors: Iterable[AdaptedTensor]) -> None:
        """Make the file that of `load`, and leave the rest to `current`: another model can work."""
        if not self.patch:
            self.close_model()
        before, self._changed = self._changed, set()
        try:
            with one_blas_thread(), MergedQuantizer(self.threads) as quantizer:
                done: deque[str] = deque()
                for tensor in tensors:
                    self._add(tensor, quantizer)
                    done.append(tensor.name)
                    if len(done) > 2:  # keeps the waiting work at about one large tensor
                        self._release(done.popleft())
            self.survival = quantizer.survival
            for name in done:
                self._release(name)
            self._restore(before - self._changed)
        except BaseException:
            self._changed |= before
            self.close_model()
            raise

    def _add(self, tensor: AdaptedTensor, quantizer: MergedQuantizer) -> None:
        spec, shape = self._specs.get(tensor.name), tensor.delta.shape
        if spec is None or spec.shape != shape:
            expected = "no tensor of that name" if spec is None else f"one of shape {spec.shape}"
            raise InputError(
                f"tensor {tensor.name} of shape {shape} does not fit {self.base.path}: "
                f"it has {expected}",
                "were the adapters trained on this base model?",
            )
        self._changed.add(tensor.name)
        out = self._place(tensor.name).reshape(shape[0], -1)
        delta = tensor.delta
        change: FloatRows = LowRankRows(delta) if isinstance(delta, LoraPair) else delta
        quantizer.add(tensor.name, self._base_rows(tensor.name), change, int(spec.type), out)

    def _base_rows(self, name: str) -> FloatRows:
        tensor = self.base.tensors[name]
        return StoredRows(self.base.raw(name), int(tensor.type), tensor.shape)

    def _release(self, name: str) -> None:
        """Release a tensor's pages from memory; a later read loads them again."""
        release(self._place(name))
        release(self.base.raw(name))

    def _restore(self, names: Iterable[str]) -> None:
        for name in names:
            place = self._place(name)
            data = tensor_bytes(self.base, self._specs[name], self.threads)
            place[:] = data
            release(place)
            release(data)

    def _place(self, name: str) -> NDArray[np.uint8]:
        if self._bytes is None:
            raise ValueError(f"{self.path}: this surrogate is closed")
        spec = self._specs[name]
        start = self._offsets[name]
        return self._bytes[start : start + nbytes_of(spec.shape, spec.type)]

    def current(self, **options: Any) -> LlamaModel:
        """Return the model of the file as it was written last."""
        if self._model is not None and not self._model.closed:
            self._model.clear()
            return self._model
        settings: dict[str, Any] = {"threads": self.threads, "repack": not self.patch}
        settings |= {"gpu_layers": self.gpu_layers} | options
        self._model = LlamaModel(self.path, **settings)
        return self._model

    def close_model(self) -> None:
        """Free the model; the file stays."""
        if self._model is not None:
            self._model.close()
        self._model = None

    def close(self) -> None:
        """Close the model and delete the scratch file; a second call does nothing."""
        self.close_model()
        self._bytes = None
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Surrogate:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def fastest_type(base: GGUFFile, folder: Path, threads: int | None = None) -> str:
    """Return the fastest type to score here of those that keep a small delta (16 bits and Q8_0).

    Measured once per machine, model size and llama.cpp build; the measurement takes some seconds.
    """
    calibration = Calibration(threads=threads)
    rates = {}
    for kind in _SCORING_TYPES:
        with Surrogate(base, FILE_TYPES[kind], folder, threads=threads) as surrogate:
            speed = calibration.speed(surrogate.path, kind, repack=not surrogate.patch)
            rates[kind] = speed.tokens_per_second
    return max(rates, key=rates.__getitem__)


def mapped_scratch(path: Path, size: int) -> NDArray[np.uint8]:
    """Return a new mapped file of `size` bytes, reserved now: a full disk would kill m2m later."""
    try:
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        return np.memmap(path, np.uint8, mode="r+").view(np.ndarray)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ResourceError(
            f"{path}: cannot make a scratch file of {size / 1e6:.0f} MB: {error.strerror}",
            f"free space in {path.parent} or choose a smaller type",
        ) from error
