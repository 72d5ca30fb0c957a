"""Measure once how fast this machine scores and loads each type, and keep the result.

llama.cpp copies the weights of some types into layouts for which it has faster kernels. Then each
mixture needs a reload. Without the copy it needs none, but scoring is slower. The faster way
depends on the processor and on llama.cpp's build, so m2m times both once per machine and type.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2m.errors import InputError
from m2m.formats.atomic import write_json
from m2m.formats.records import read_object
from m2m.llamacpp.model import LlamaModel, build_info
from m2m.machine import processor_name

_SCORED = 4096  # least tokens to score per mixture; a reload must save time on these
_TOKENS = 512  # tokens of one timed decode
_ROUNDS = 3  # the best counts: other load can only make a round slower


@dataclass(frozen=True)
class Speed:
    """The speed of scoring and loading one file.

    Attributes:
        tokens_per_second: speed of `llama_decode` with the logits of one token per batch.
        load_seconds: time from the file to a context.
    """

    tokens_per_second: float
    load_seconds: float


class Calibration:
    """Measured speeds, stored in the user's cache folder.

    Args:
        path: the JSON file; None: `calibration.json` in the cache folder of this system.
        threads: threads of llama.cpp; None uses all cores.
    """

    def __init__(self, path: Path | None = None, threads: int | None = None) -> None:
        self.path = path or cache_folder() / "calibration.json"
        self._threads = threads

    def patches(self, file: Path, kind: str) -> bool:
        """Return whether scoring on the mapped `file` without repacking is faster than reloading.

        Args:
            file: a GGUF file of type `kind`.
            kind: name of the type, a part of the key of stored speeds.
        """
        with LlamaModel(file, threads=self._threads) as model:
            if model.mapped:
                return True
        copied, plain = (self.speed(file, kind, repack) for repack in (True, False))
        reload = copied.load_seconds + _SCORED / copied.tokens_per_second
        return _SCORED / plain.tokens_per_second < reload

    def speed(self, file: Path, kind: str, repack: bool) -> Speed:
        """Return the speed of `file`: a stored one, or measured now in a few seconds."""
        threads = f"{self._threads or os.cpu_count()} threads"
        size = f"{kind} {file.stat().st_size} bytes"
        layout = "repacked" if repack else "as it lies"
        key = " | ".join((build_info(), processor_name(), threads, size, layout))
        known = self._read()
        if key not in known:
            known[key] = asdict(_measured(file, self._threads, repack))
            self._write(known)
        return Speed(**known[key])

    def _read(self) -> dict[str, Any]:
        """Return the stored speeds; a missing or damaged file is empty, as this is only a cache."""
        try:
            return read_object(self.path) if self.path.is_file() else {}
        except InputError:
            return {}

    def _write(self, known: dict[str, Any]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, known)
        except OSError:  # no writable cache folder: measure again next time
            pass


def _measured(file: Path, threads: int | None, repack: bool) -> Speed:
    rates, loads = [], []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        with LlamaModel(file, threads=threads, repack=repack) as model:
            loads.append(time.perf_counter() - started)
            raw_seconds(model, model.batch)  # not timed: the first decode also reads the weights
            rates.append(_TOKENS / raw_seconds(model, _TOKENS))
    return Speed(max(rates), min(loads))


def raw_seconds(model: LlamaModel, tokens: int, rows: int = 1) -> float:
    """Return the seconds of `llama_decode` on random tokens, in full batches with `rows` logits."""
    ids = np.random.default_rng(0).integers(0, model.vocab_size, tokens).tolist()
    started = time.perf_counter()
    for first in range(0, tokens, model.batch):
        part = ids[first : first + model.batch]
        model.clear()
        with_logits = [i >= len(part) - rows for i in range(len(part))]
        model.decode(part, range(len(part)), [(0,)] * len(part), with_logits)
    return time.perf_counter() - started


def cache_folder() -> Path:
    """Return this system's folder for files that programs can make again."""
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = str(Path.home() / "Library" / "Caches")
    else:
        root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "m2m"
