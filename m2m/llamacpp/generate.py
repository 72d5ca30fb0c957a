"""Generate text: one answer in pieces while it is made, or the greedy answers to many prompts.

An answer ends at the model's end token, at a stop text, or after a number of tokens.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.scoring import Ids, Request, common_prefix

_AT_ONCE = 32  # answers in one batch: the weights are read once for all tokens of a batch
_CELLS = 2048  # cache cells for them, in addition to the prefix that all prompts share


@dataclass(frozen=True)
class Sampling:
    """The way to choose the next token.

    Attributes:
        temperature: 0 chooses the likeliest token.
        top_k: draw among this many of the likeliest tokens; 0: all.
        top_p: of these, keep the fewest that have this much probability together.
        max_tokens: most tokens of one answer.
    """

    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    max_tokens: int = 512


def generate(
    model: LlamaModel,
    prompt: Sequence[int],
    sampling: Sampling | None = None,
    rng: np.random.Generator | None = None,
    stop: Sequence[str] = (),
) -> Iterator[str]:
    """Yield the continuation of a prompt as pieces of text (never half a character).

    Args:
        model: this generation uses its KV cache until it ends.
        prompt: token ids, at least one.
        sampling: settings of the choice; greedy if None.
        rng: generator for a temperature above 0; seeded with 0 if None.
        stop: texts that end the answer; the answer does not contain them.

    Raises:
        InputError: the prompt is longer than the model's context.
    """
    sampling = sampling or Sampling()
    rng = rng or np.random.default_rng(0)
    model.check_length(len(prompt))
    room = min(sampling.max_tokens, model.context_trained - len(prompt) + 1)
    model.reserve(len(prompt) + room)
    text = codecs.getincrementaldecoder("utf-8")("replace")
    held = HeldText(stop)
    for token in _tokens(model, prompt, sampling, rng, room):
        yield from held.add(text.decode(model.piece(token)))
        if held.stopped:
            return
    yield from held.add(text.decode(b"", final=True))
    yield from held.rest()


@dataclass(frozen=True)
class Completed:
    """The answers to some prompts.

    Attributes:
        texts: the text of each answer.
        cut: whether each answer reached its limit of tokens before it ended.
        decoded: number of tokens that the model decoded for all answers.
    """

    texts: list[str]
    cut: list[bool]
    decoded: int


def complete(
    model: LlamaModel, prompts: Sequence[Ids], max_tokens: int, stop: Sequence[str] = ()
) -> Completed:
    """Return the greedy answers to many prompts, decoded in batches; the common prefix only once.

    Args:
        model: uses its KV cache and leaves it empty.
        prompts: token ids, at least one each.
        max_tokens: most tokens of an answer; fewer if the model's context ends.
        stop: texts that end an answer; the answer does not contain them.

    Raises:
        InputError: a prompt is longer than the model's context.
        LlamaError: llama.cpp failed.
    """
    prefix = common_prefix([Request(prompt, ()) for prompt in prompts])
    for prompt in prompts:
        model.check_length(len(prompt))
    answers = [
        _Answer(prompt, min(max_tokens, model.context_trained - len(prompt) + 1), stop)
        for prompt in prompts
    ]
    decoded = 0
    for group in _groups(model, answers, len(prefix)):
        model.reserve(
            len(prefix) + sum(answer.cells for answer in group) - len(group) * len(prefix)
        )
        decoded += model.keep(prefix) + _complete_group(model, group, len(prefix))
    model.clear()
    return Completed(
        [answer.text for answer in answers], [answer.cut for answer in answers], decoded
    )


class _Answer:
    """One answer in progress."""

    def __init__(self, prompt: Ids, room: int, stop: Sequence[str]) -> None:
        self.prompt, self.room = prompt, room
        self.fed: list[int] = list(prompt)
        self.text = ""
        self.done = self.cut = room < 1
        self._held = HeldText(stop)
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def cells(self) -> int:
        """Return the cache cells that it needs; the last token is never fed to the model."""
        return len(self.prompt) + max(self.room - 1, 0)

    def say(self, model: LlamaModel, token: int) -> None:
        """Add a token to the answer, or end it."""
        if model.ends_generation(token):
            self._end()
            return
        self.fed.append(token)
        self.text += "".join(self._held.add(self._bytes.decode(model.piece(token))))
        if self._held.stopped:
            self.done = True
        elif len(self.fed) - len(self.prompt) == self.room:
            self.cut = True
            self._end()

    def _end(self) -> None:
        self.done = True
        self.text += "".join(self._held.add(self._bytes.decode(b"", final=True)))
        self.text += "".join(self._held.rest())


def _groups(model: LlamaModel, answers: Sequence[_Answer], shared: int) -> Iterator[list[_Answer]]:
    """Yield groups of answers to decode together, sorted by length."""
    group: list[_Answer] = []
    used = 0
    for answer in sorted(answers, key=lambda answer: answer.cells):
        cells = answer.cells - shared
        if group and (used + cells > _CELLS or len(group) == min(_AT_ONCE, model.sequences)):
            yield group
            group, used = [], 0
        group, used = [*group, answer], used + cells
    if group:
        yield group


def _complete_group(model: LlamaModel, group: Sequence[_Answer], shared: int) -> int:
    """Answer a group; the cache holds the shared prefix. Return the number of tokens decoded."""
    fed = [(answer, place) for answer in group for place in range(shared, len(answer.fed))]
    sequence = {id(answer): index for index, answer in enumerate(group)}
    decoded = 0
    while fed := [pair for pair in fed if not pair[0].done]:
        for start in range(0, len(fed), model.batch):
            part = fed[start : start + model.batch]
            last = [place + 1 == len(answer.fed) for answer, place in part]
            logits = model.decode(
                [answer.fed[place] for answer, place in part],
                [place for _, place in part],
                [(sequence[id(answer)],) for answer, _ in part],
                last,
            )
            tokens = logits.argmax(axis=1)
            ended = [answer for (answer, _), ends in zip(part, last, strict=True) if ends]
            for answer, token in zip(ended, tokens, strict=True):
                answer.say(model, int(token))
            decoded += len(part)
        fed = [(answer, len(answer.fed) - 1) for answer in group]
    return decoded


def _tokens(
    model: LlamaModel,
    prompt: Sequence[int],
    sampling: Sampling,
    rng: np.random.Generator,
    room: int,
) -> Iterator[int]:
    """Yield up to `room` token ids after the prompt, without the one that ends the answer."""
    model.clear()
    logits = _read(model, prompt)
    position = len(prompt)
    for produced in range(room):
        token = choose(logits, sampling, rng)
        if model.ends_generation(token):
            return
        yield token
        if produced + 1 < room:
            logits = model.decode([token], [position], [(0,)], [True])[0]
            position += 1


def _read(model: LlamaModel, prompt: Sequence[int]) -> NDArray[np.float32]:
    """Return the logits after the whole prompt, decoded a batch at a time."""
    if not prompt:
        raise ValueError("a prompt needs at least one token")
    for start in range(0, len(prompt), model.batch):
        part = prompt[start : start + model.batch]
        last = start + len(part) == len(prompt)
        with_logits = [False] * (len(part) - 1) + [last]
        places = range(start, start + len(part))
        logits = model.decode(part, places, [(0,)] * len(part), with_logits)
    row: NDArray[np.float32] = logits[0]
    return row


def choose(logits: NDArray[np.float32], sampling: Sampling, rng: np.random.Generator) -> int:
    """Return the next token id for (V,) logits: top-k, temperature, top-p, then a draw."""
    if sampling.temperature <= 0:
        return int(logits.argmax())
    count = min(sampling.top_k or len(logits), len(logits))
    best = np.argpartition(-logits, count - 1)[:count]
    best = best[np.argsort(-logits[best], kind="stable")]
    scaled = logits[best].astype(np.float64) / sampling.temperature
    probabilities = np.exp(scaled - scaled[0])
    probabilities /= probabilities.sum()
    kept = int(np.searchsorted(np.cumsum(probabilities), sampling.top_p)) + 1
    probabilities = probabilities[:kept] / probabilities[:kept].sum()
    return int(best[rng.choice(len(probabilities), p=probabilities)])


class HeldText:
    """Hold text back while it may be the beginning of a stop text."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = [s for s in stop if s]
        self._text = ""
        self.stopped = False

    def add(self, text: str) -> Iterator[str]:
        """Yield the part of the text so far that can be shown."""
        self._text += text
        ends = [at for s in self._stop if (at := self._text.find(s)) >= 0]
        if ends:
            self.stopped = True
            shown, self._text = self._text[: min(ends)], ""
        else:
            keep = max((_overlap(self._text, s) for s in self._stop), default=0)
            cut = len(self._text) - keep
            shown, self._text = self._text[:cut], self._text[cut:]
        if shown:
            yield shown

    def rest(self) -> Iterator[str]:
        """Yield the text that was held back and is not a stop text."""
        if self._text:
            yield self._text
        self._text = ""


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that `stop` begins with."""
    return next((n for n in range(min(len(text), len(stop)), 0, -1) if text.endswith(stop[:n])), 0)
