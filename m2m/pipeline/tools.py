"""The parts on their own, without a recipe: merge adapters, talk to a model."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2m.adapter import load_adapter, save_adapter
from m2m.checkpoint import find_model
from m2m.errors import InputError
from m2m.export.gguf import LOW_SURVIVAL, export_gguf, remedy
from m2m.export.lora import export_lora
from m2m.formats.gguf import GGUFFile
from m2m.llamacpp.adapter import AdaptedModel
from m2m.llamacpp.filetypes import file_type
from m2m.llamacpp.generate import Sampling, generate
from m2m.llamacpp.guard import check_loads
from m2m.llamacpp.model import LlamaModel
from m2m.machine import peak_rss_bytes, usable_threads
from m2m.merge.belonging import TEMPLATE, adapter_doubts, changes_nothing, lora_doubts
from m2m.merge.merger import Merger
from m2m.pipeline.inputs import make_formatter, model_folders
from m2m.recipe import Merge
from m2m.tokenizer import Message

_NO_TEMPLATE = (
    "This model has no chat template. m2m asks it in plain text: a message, a newline, the answer."
)


@dataclass(frozen=True)
class Merged:
    """What `m2m merge` wrote.

    Attributes:
        type: of the file; "lora" for an adapter.
        delta_survival: {"gain", "cosine"} of what quantisation, or an adapter's rank, left of the
            deltas; None for a folder in HF format, and if all deltas are zero.
        remedy: what to do where that is too little, else None.
        warnings: why the result may be wrong, a sentence each.
    """

    out: Path
    type: str
    delta_survival: dict[str, float] | None
    remedy: str | None
    warnings: list[str]
    seconds: float
    peak_rss_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The fields of `m2m merge --json`."""
        return {**vars(self), "out": str(self.out), "seconds": round(self.seconds, 2)}


def merge_adapters(
    model: str, adapters: Sequence[str], options: Merge, kind: str, rank: int | None, out: Path
) -> Merged:
    """Merge adapters, each "DIR" or "DIR=WEIGHT", and write a model, or an adapter.

    Args:
        model: a name under models/, or a folder.
        adapters: PEFT folders; without any weight they count equally, 1/k each.
        options: method and scale.
        kind: type of a model's file; for a folder only f16, bf16 and f32.
        rank: write an adapter of this rank instead of a model.
        out: NAME.gguf, or a folder: in HF format for a model, in PEFT's for an adapter.

    Raises:
        InputError: an adapter does not fit the model, or a weight is no number.
    """
    started = time.perf_counter()
    _refuse_to_replace(out)
    base = find_model(model, model_folders())
    weights = _weights(adapters)
    merger = Merger(base, {name: load_adapter(Path(name)) for name in weights}, options)
    warnings = [doubt for each in merger.adapters.values() for doubt in adapter_doubts(each, base)]
    if not any(weights.values()) or not options.scale:
        warnings.append(changes_nothing("this merge"))
    names, shares = list(weights), list(weights.values())
    survival, advice = None, None
    if rank is not None:
        kind = "lora"
        adapter, survival = merger.adapter(names, shares, rank)
        advice = "a higher --rank keeps more" if min(survival.values()) < LOW_SURVIVAL else None
        if out.suffix == ".gguf":
            export_lora(adapter, base, out)
        else:
            save_adapter(out, adapter)
    elif out.suffix == ".gguf":
        _, found = export_gguf(merger, weights, file_type(kind), out)
        exact = sum(adapter.rank for adapter in merger.adapters.values())
        lora = f"the same command with `--rank {exact} --out NAME.gguf`"
        survival, advice = found.as_json(), remedy(merger, weights, file_type(kind), found, lora)
    elif kind.upper() in ("F16", "BF16", "F32"):
        merger.write_folder(names, shares, out, kind.upper())
    else:
        raise InputError(f"a folder cannot hold {kind}", "use --type f16, or --out NAME.gguf")
    seconds = time.perf_counter() - started
    return Merged(out, kind, survival, advice, warnings, seconds, peak_rss_bytes())


def _refuse_to_replace(folder: Path) -> None:
    """A folder is replaced as a whole: only one that is a model or an adapter may be."""
    known = ("config.json", "adapter_config.json")
    if folder.is_dir() and not any((folder / name).is_file() for name in known):
        raise InputError(
            f"{folder}: exists and is no model or adapter", "choose another name for `--out`"
        )


def _weights(adapters: Sequence[str]) -> dict[str, float]:
    """Folder -> weight."""
    weights: dict[str, float] = {}
    for text in adapters:
        folder, equals, weight = text.rpartition("=") if not Path(text).exists() else (text, "", "")
        try:
            value = float(weight) if equals else 1.0 / len(adapters)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"the weight in {text!r} is no number", "write DIR=0.5")
        name = folder if equals else text
        if Path(name).resolve() in {Path(each).resolve() for each in weights}:
            raise InputError(f"the adapter {name} is given twice", "give it once, with its weight")
        weights[name] = value
    return weights


def gguf_of(model: str) -> Path:
    """The GGUF file that `model` means: a file, or the base.gguf of a model under models/."""
    path = Path(model)
    return path if path.is_file() else find_model(model, model_folders()).gguf.path


def open_model(path: Path, lora: Path | None) -> LlamaModel:
    """A GGUF model in llama.cpp, with a GGUF LoRA on it where one is given.

    Raises:
        LlamaError: llama.cpp cannot load them; a child process has tried before this one does.
    """
    check_loads(path, lora)
    threads = usable_threads()
    return AdaptedModel(path, lora, threads=threads) if lora else LlamaModel(path, threads=threads)


def _is_plain(lora: Path) -> bool:
    """Whether a GGUF LoRA says that it was trained without a chat template."""
    return bool(GGUFFile(lora).value(TEMPLATE) == "plain")


class Chat:
    """A conversation with a model, which remembers what was said as far as its context reaches.

    Args:
        model: a GGUF file, or a name under models/.
        sampling: how tokens are chosen, and how many an answer has at most.
        seed: for temperatures above 0.
        system: the system message.
        lora: a GGUF LoRA that is put on the model; `warnings` says why it may be a wrong one.
    """

    def __init__(
        self,
        model: str,
        sampling: Sampling,
        seed: int = 0,
        *,
        system: str | None = None,
        lora: Path | None = None,
    ) -> None:
        path = gguf_of(model)
        self.warnings = lora_doubts(lora, path) if lora else []
        file, plain = GGUFFile(path), lora is not None and _is_plain(lora)
        if not plain and file.value("tokenizer.chat_template") is None:
            plain = True
            self.warnings.append(_NO_TEMPLATE)
        self._formatter = make_formatter(file, "plain" if plain else "chat")
        self._sampling = sampling
        self._rng = np.random.default_rng(seed)
        self._told: list[Message] = [{"role": "system", "content": system}] if system else []
        self.turns: list[Message] = []
        self._model = open_model(path, lora)

    def answer(self, text: str) -> Iterator[str]:
        """The model's answer to `text`, in pieces as they come.

        An answer that the reader stops is remembered as far as it went.
        """
        self.turns.append({"role": "user", "content": text})
        said = ""
        try:
            pieces = generate(self._model, self._prompt(), self._sampling, self._rng)
            for piece in _after(self._formatter.shown_head, pieces):
                said += piece
                yield piece
        finally:
            self.turns.append({"role": "assistant", "content": self._formatter.said(said)})

    def forget(self) -> None:
        """Begin a new conversation."""
        self.turns.clear()

    def _prompt(self) -> list[int]:
        """The conversation as ids; the oldest turns are forgotten where it grows too long."""
        while True:
            ids = self._formatter.prompt_ids([*self._told, *self.turns])
            room = self._model.context_trained - self._sampling.max_tokens
            if len(ids) <= room or len(self.turns) <= 1:
                return ids
            del self.turns[:2]

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *error: object) -> None:
        self._model.close()


def _after(head: str, pieces: Iterator[str]) -> Iterator[str]:
    """The pieces of an answer without the head that every answer begins with, if it is there."""
    held = ""
    for piece in pieces:
        held += piece
        text = held.lstrip()
        if head and head.startswith(text):
            continue
        yield text.removeprefix(head).lstrip() if head and text.startswith(head) else held
        held = head = ""
    if held:
        yield held


def ask(model: str, questions: Sequence[str], tokens: int = 24) -> list[str]:
    """A model's likeliest answer to each question on its own, on one line.

    Args:
        model: a GGUF file, or a name under models/.
        questions: one conversation each.
        tokens: of the longest answer.
    """
    answers = []
    with Chat(model, Sampling(max_tokens=tokens)) as talk:
        for question in questions:
            talk.forget()
            answers.append(" ".join("".join(talk.answer(question)).split()))
    return answers
