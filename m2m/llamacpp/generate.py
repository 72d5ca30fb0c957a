"""Text from a model, token by token: greedy or sampled, ending where the model ends its answer."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.llamacpp.model import LlamaModel


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: 0 takes the likeliest token.
        top_k: draw among so many of the likeliest; 0: all.
        top_p: of these, the fewest that hold this much probability.
        max_tokens: at most so many in one answer.
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
    """Continue a prompt, in pieces of text as they come (never half a character).

    Args:
        model: its KV cache is this generation's until it ends.
        prompt: token ids, at least one.
        sampling: greedy if None.
        rng: for a temperature above 0; seeded with 0 if None.
        stop: texts that end the answer and are left out of it.

    Raises:
        InputError: the prompt is longer than the model's context.
    """
    sampling = sampling or Sampling()
    rng = rng or np.random.default_rng(0)
    model.check_length(len(prompt))
    room = min(sampling.max_tokens, model.context_trained - len(prompt) + 1)
    model.reserve(len(prompt) + room)
    text = codecs.getincrementaldecoder("utf-8")("replace")
    held = _Held(stop)
    for token in _tokens(model, prompt, sampling, rng, room):
        yield from held.add(text.decode(model.piece(token)))
        if held.stopped:
            return
    yield from held.add(text.decode(b"", final=True))
    yield from held.rest()


def _tokens(
    model: LlamaModel,
    prompt: Sequence[int],
    sampling: Sampling,
    rng: np.random.Generator,
    room: int,
) -> Iterator[int]:
    """Up to `room` token ids after the prompt, without the one that ends the answer."""
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
    """Logits after the whole prompt, decoded a batch at a time."""
    if not prompt:
        raise ValueError("a prompt needs at least one token")
    for start in range(0, len(prompt), model.batch):
        part = prompt[start : start + model.batch]
        last = start + len(part) == len(prompt)
        wanted = [False] * (len(part) - 1) + [last]
        places = range(start, start + len(part))
        logits = model.decode(part, places, [(0,)] * len(part), wanted)
    row: NDArray[np.float32] = logits[0]
    return row


def choose(logits: NDArray[np.float32], sampling: Sampling, rng: np.random.Generator) -> int:
    """The next token id from (V,) logits: top-k, then temperature, then top-p, then a draw."""
    if sampling.temperature <= 0:
        return int(logits.argmax())
    count = min(sampling.top_k or len(logits), len(logits))
    best = np.argpartition(-logits, count - 1)[:count]
    best = best[np.argsort(-logits[best], kind="stable")]
    scaled = logits[best].astype(np.float64) / sampling.temperature
    share = np.exp(scaled - scaled[0])
    share /= share.sum()
    kept = int(np.searchsorted(np.cumsum(share), sampling.top_p)) + 1
    share = share[:kept] / share[:kept].sum()
    return int(best[rng.choice(len(share), p=share)])


class _Held:
    """Holds text back while it may be the beginning of a stop text."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = [s for s in stop if s]
        self._text = ""
        self.stopped = False

    def add(self, text: str) -> Iterator[str]:
        """What of the text so far can be shown."""
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
        """What was held back and turned out to be no stop text."""
        if self._text:
            yield self._text
        self._text = ""


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    return next((n for n in range(min(len(text), len(stop)), 0, -1) if text.endswith(stop[:n])), 0)
