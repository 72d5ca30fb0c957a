"""The parts on their own, without a recipe: merge adapters, score a model, talk to it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from m2m.adapter import load_adapter
from m2m.checkpoint import find_model
from m2m.errors import InputError
from m2m.evaluate.evaluator import Evaluator
from m2m.evaluate.metrics import measure_all
from m2m.evaluate.tasks import load_task
from m2m.export.gguf import export_gguf
from m2m.formats.gguf import GGUFFile
from m2m.llamacpp.filetypes import file_type
from m2m.llamacpp.generate import Sampling, generate
from m2m.llamacpp.model import LlamaModel
from m2m.machine import peak_rss_bytes, usable_threads
from m2m.merge.merger import Merger
from m2m.pipeline.inputs import make_formatter, model_folders
from m2m.tokenizer import Message


@dataclass(frozen=True)
class Merged:
    """What `m2m merge` wrote; a folder in HF format has no quantisation to survive."""

    out: Path
    type: str
    delta_survival: dict[str, float] | None
    seconds: float
    peak_rss_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The fields of `m2m merge --json`."""
        return {**vars(self), "out": str(self.out), "seconds": round(self.seconds, 2)}


def merge_adapters(
    model: str, adapters: Sequence[str], method: str, kind: str, out: Path
) -> Merged:
    """Merge adapters, each "DIR" or "DIR=WEIGHT", into a model and write it.

    Args:
        model: a name under models/, or a folder.
        adapters: PEFT folders; without any weight they count equally, 1/k each.
        method: merge method.
        kind: type of the file; for a folder only f16, bf16 and f32.
        out: NAME.gguf, or a folder in HF format.

    Raises:
        InputError: an adapter does not fit the model, or a weight is no number.
    """
    started = time.perf_counter()
    base = find_model(model, model_folders())
    weights = _weights(adapters)
    loaded = {folder: load_adapter(Path(folder)) for folder in weights}
    merger = Merger(base, loaded, method)
    survival = None
    if out.suffix == ".gguf":
        _, found = export_gguf(merger, weights, file_type(kind), out)
        survival = found.as_json()
    elif kind.upper() in ("F16", "BF16", "F32"):
        merger.write_folder(list(weights), list(weights.values()), out, kind.upper())
    else:
        raise InputError(f"a folder cannot hold {kind}", "use --type f16, or --out NAME.gguf")
    return Merged(out, kind, survival, time.perf_counter() - started, peak_rss_bytes())


def _weights(adapters: Sequence[str]) -> dict[str, float]:
    """Folder -> weight."""
    weights: dict[str, float] = {}
    for text in adapters:
        folder, equals, weight = text.rpartition("=") if not Path(text).exists() else (text, "", "")
        try:
            value = float(weight) if equals else 1.0 / len(adapters)
        except ValueError:
            raise InputError(f"the weight in {text!r} is no number", "write DIR=0.5") from None
        name = folder if equals else text
        if name in weights:
            raise InputError(f"the adapter {name} is given twice", "give it once, with its weight")
        weights[name] = value
    return weights


def gguf_of(model: str) -> Path:
    """The GGUF file that `model` means: a file, or the base.gguf of a model under models/."""
    path = Path(model)
    return path if path.is_file() else find_model(model, model_folders()).gguf.path


def evaluate_model(model: str, task: Path, template: str) -> dict[str, Any]:
    """Score a model on a task with every metric that fits.

    Raises:
        InputError: model or task cannot be read.
    """
    path = gguf_of(model)
    evaluator = Evaluator(load_task(task), make_formatter(GGUFFile(path), template))
    with LlamaModel(path, threads=usable_threads()) as loaded:
        scores = evaluator.evaluate(loaded)
    return {
        "model": str(path),
        "task": str(task),
        "examples": len(scores),
        "metrics": measure_all(scores),
    }


class Chat:
    """A conversation with a model, which remembers what was said.

    Args:
        model: a GGUF file, or a name under models/.
        temperature: 0 takes the likeliest token.
        tokens: of the longest answer.
        seed: for temperatures above 0.
    """

    def __init__(self, model: str, temperature: float, tokens: int, seed: int) -> None:
        path = gguf_of(model)
        self._formatter = make_formatter(GGUFFile(path), "chat")
        self._sampling = Sampling(temperature=temperature, max_tokens=tokens)
        self._rng = np.random.default_rng(seed)
        self._messages: list[Message] = []
        self._model = LlamaModel(path, threads=usable_threads())

    def answer(self, text: str) -> Iterator[str]:
        """The model's answer to `text`, in pieces as they come."""
        self._messages.append({"role": "user", "content": text})
        prompt = self._formatter.prompt_ids(self._messages)
        said = ""
        for piece in generate(self._model, prompt, self._sampling, self._rng):
            said += piece
            yield piece
        self._messages.append({"role": "assistant", "content": said})

    def __enter__(self) -> Chat:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._model.close()
