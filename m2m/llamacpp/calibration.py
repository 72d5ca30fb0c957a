"""What this machine is fast at: measured once, kept for the next time.

llama.cpp copies the weights of some types into layouts for which it has faster kernels. Then a
mixture costs a reload; without the copy it costs nothing, but scoring is slower. Which is sooner
done depends on the processor and on llama.cpp's build: both are timed, once per machine and type.
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

_SCORED = 4096  # tokens that a mixture is scored on, at least: what a reload is weighed against
_TOKENS = 512  # of one timed decode
_ROUNDS = 3  # the best counts: what disturbs only ever makes slower


@dataclass(frozen=True)
class Speed:
    """How fast a file is scored and loaded.

    Attributes:
        tokens_per_second: raw `llama_decode`, the logits of one token per batch.
        load_seconds: from the file to a context.
    """

    tokens_per_second: float
    load_seconds: float


class Calibration:
    """Measured speeds, kept in the user's cache folder.

    Args:
        path: the JSON file; None: `calibration.json` in the cache folder of this system.
        threads: that llama.cpp gets; None takes all cores.
    """

    def __init__(self, path: Path | None = None, threads: int | None = None) -> None:
        self.path = path or cache_folder() / "calibration.json"
        self._threads = threads

    def patches(self, file: Path, kind: str) -> bool:
        """Whether mixtures are sooner scored on the mapped `file` as it lies than on reloads.

        Args:
            file: a GGUF file of type `kind`.
            kind: name of the type, under which speeds are kept.
        """
        with LlamaModel(file, threads=self._threads) as model:
            if model.mapped:
                return True
        copied, plain = (self.speed(file, kind, repack) for repack in (True, False))
        reload = copied.load_seconds + _SCORED / copied.tokens_per_second
        return _SCORED / plain.tokens_per_second < reload

    def speed(self, file: Path, kind: str, repack: bool) -> Speed:
        """The speed of `file`, kept from an earlier time or measured now, in a few seconds."""
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
        """What is kept; a file that is missing or torn counts as empty: it is only a cache."""
        try:
            return read_object(self.path) if self.path.is_file() else {}
        except InputError:
            return {}

    def _write(self, known: dict[str, Any]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, known)
        except OSError:  # no home that can be written: measured again next time
            pass


def _measured(file: Path, threads: int | None, repack: bool) -> Speed:
    rates, loads = [], []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        with LlamaModel(file, threads=threads, repack=repack) as model:
            loads.append(time.perf_counter() - started)
            raw_seconds(model, model.batch)  # the first decode also reads the weights
            rates.append(_TOKENS / raw_seconds(model, _TOKENS))
    return Speed(max(rates), min(loads))


def raw_seconds(model: LlamaModel, tokens: int, rows: int = 1) -> float:
    """Seconds of `llama_decode` on random tokens, in full batches with `rows` logits each."""
    ids = np.random.default_rng(0).integers(0, model.vocab_size, tokens).tolist()
    started = time.perf_counter()
    for first in range(0, tokens, model.batch):
        part = ids[first : first + model.batch]
        model.clear()
        wanted = [i >= len(part) - rows for i in range(len(part))]
        model.decode(part, range(len(part)), [(0,)] * len(part), wanted)
    return time.perf_counter() - started


def cache_folder() -> Path:
    """Where this system keeps what programs can make again."""
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = str(Path.home() / "Library" / "Caches")
    else:
        root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "m2m"
