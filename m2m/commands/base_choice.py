"""Propose a base model: one that this machine can train, and whose words fit the language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m2m.checkpoint import BaseModel, list_models
from m2m.checkpoint.known import known_models
from m2m.counted import millions
from m2m.dataset.statistics import cost
from m2m.errors import InputError, M2MError, ResourceError
from m2m.machine import free_memory_bytes, usable_threads
from m2m.recipe import Train
from m2m.tuner.saving import GIB, choose_saving, load_of

_SAMPLED = 200_000  # characters of the data that are cut into tokens
_NEAR = 1.25  # a model may need this many times the tokens of the best one
_COSTLY = 3.0  # tokens per word from which a base knows little of a language
_FRACTION = 0.9  # of the free memory, as in training


@dataclass(frozen=True)
class Candidate:
    """An imported model as a base for these data.

    Attributes:
        name: by which a recipe names it.
        path: its folder.
        parameters: number of its weights.
        tokens_per_word: of the data's texts.
        bytes: memory of a training with the defaults, saved as far as this machine needs it.
        fits: whether that is free now.
        chat: whether it has a chat template.
    """

    name: str
    path: Path
    parameters: int
    tokens_per_word: float
    bytes: int
    fits: bool
    chat: bool

    @property
    def sentence(self) -> str:
        """Return its size, memory and tokens in words."""
        fits = "" if self.fits else ", more than is free"
        return (
            f"{self.name}: {millions(self.parameters)} parameters, a word of your datasets is "
            f"{self.tokens_per_word:.1f} tokens on average, training takes "
            f"{self.bytes / GIB:.1f} GiB{fits}"
        )


def candidates(texts: Sequence[str], roots: Sequence[Path]) -> list[Candidate]:
    """Return the imported models, the proposed one first.

    Of those that fit into memory and cut a word of the data into few tokens, the smallest is
    proposed. Models that cannot be opened are left out (`m2m doctor` names them).

    Args:
        texts: of the datasets; some of them are cut into tokens.
        roots: folders of models.
    """
    some, size = list[str](), 0
    for text in texts:
        some.append(text)
        size += len(text)
        if size > _SAMPLED:
            break
    found: dict[str, Candidate] = {}
    for root in roots:
        for info in list_models(root):
            if info.name not in found:
                try:
                    found[info.name] = _candidate(BaseModel.open(info.path), some)
                except M2MError:
                    continue
    fitting = [one for one in found.values() if one.fits] or [*found.values()]
    fewest = min((one.tokens_per_word for one in fitting), default=0.0)
    return sorted(
        found.values(),
        key=lambda one: (not one.fits, one.tokens_per_word > _NEAR * fewest, one.parameters),
    )


def _candidate(base: BaseModel, texts: Sequence[str]) -> Candidate:
    load = load_of(Train(), usable_threads())
    limit = int(_FRACTION * free_memory_bytes())
    try:
        need, fits = choose_saving(base.config, load, limit, held=0).bytes, True
    except ResourceError:
        need, fits = choose_saving(base.config, load, 0, held=0).bytes, False
    spent = cost(texts, base.tokenizer)
    chat = isinstance(base.gguf.value("tokenizer.chat_template"), str)
    base.release()
    return Candidate(
        base.name, base.path, base.info.parameters, spent.tokens_per_word, need, fits, chat
    )


def advice(proposed: Candidate) -> list[str]:
    """Return warnings about a proposed base, with models that may be better."""
    notes = []
    if not proposed.fits:
        notes.append(
            f"training {proposed.name} takes more memory than is free now: close programs, or set "
            "[limits] memory"
        )
    if proposed.tokens_per_word > _COSTLY:
        notes.append(
            f"{proposed.name} cuts a word of your datasets into {proposed.tokens_per_word:.1f} "
            f"tokens on average (above {_COSTLY:g}), so it knows little of them. {_others()}"
        )
    return notes


def _others() -> str:
    """Name known models for many languages that this machine has the memory for."""
    free = _FRACTION * free_memory_bytes() / GIB
    many = [m for m in known_models() if m.languages.startswith(("many", "over"))]
    fitting = [m.hub for m in many if not free or m.memory[1] <= free]
    if not fitting:
        return "No model for many languages fits into the memory that is free now."
    return (
        f"Models for many languages that fit here: {', '.join(fitting)} "
        "(`m2m models known` says how to get them)."
    )


def proposal(texts: Sequence[str], roots: Sequence[Path]) -> list[Candidate]:
    """Return the candidates, of which there is at least one.

    Raises:
        InputError: there is none; the hint says how to get one.
    """
    if found := candidates(texts, roots):
        return found
    raise InputError(
        "there is no base model on this machine yet",
        "`m2m models known` lists small ones and says how to bring one here; of the starter model "
        "(English, 135 M) scripts/fetch-starter fetches the file and `m2m models add starter` "
        f"imports it. {_others()}",
    )
