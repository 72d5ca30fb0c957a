"""Compute log-likelihoods of continuations: many rows to a batch, nothing decoded twice.

The prefix common to all prompts is decoded once and stays in the cache. The rest of a window is
one tree of tokens: a token that several continuations share (in their prompt) is decoded once and
belongs to all their sequences. The last token of a continuation is predicted, never decoded. Models
with recurrent layers decode each continuation with its own prompt after the common prefix.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import F64
from m2m.errors import LlamaError
from m2m.llamacpp.model import LlamaModel

Ids = Sequence[int]

_LEAST_ROOM = 192  # tokens besides the kept prefix: smaller batches waste the matrix kernels


@dataclass(frozen=True)
class Request:
    """A prompt and the continuations to score after it.

    `skipped` says for each continuation how many of its first tokens do not count: they are a part
    of the prompt that the other continuations do not have. A prompt without tokens needs at least
    one in each of these.
    """

    prompt: Ids
    continuations: Sequence[Ids]
    skipped: Sequence[int] = ()

    def counted(self) -> list[Ids]:
        """Return the tokens of each continuation that count."""
        skipped = self.skipped or [0] * len(self.continuations)
        return [ids[n:] for ids, n in zip(self.continuations, skipped, strict=True)]

    def parts(self) -> Iterator[tuple[Ids, Ids, int]]:
        """Yield for each continuation its prompt, its tokens, and how many of these do not count.

        If all continuations differ from the first token on, that token is the prompt.
        """
        for ids, n in zip(
            self.continuations, self.skipped or [0] * len(self.continuations), strict=True
        ):
            yield (self.prompt, ids, n) if self.prompt else (ids[:1], ids[1:], n - 1)


@dataclass(frozen=True)
class Scored:
    """The result of `score`.

    Attributes:
        loglik: for each request and continuation the log-likelihood in nats (0 or below).
        decoded: number of tokens that the model decoded.
        separate: number of tokens without sharing, one sequence at a time.
        likeliest: for each request and continuation whether each token is the likeliest one.
    """

    loglik: list[list[float]]
    decoded: int
    separate: int
    likeliest: list[list[bool]]


def score(model: LlamaModel, requests: Sequence[Request]) -> Scored:
    """Score all continuations of all requests; equal to one sequence at a time, except rounding.

    The same requests in the same order give the same bits, whatever was scored before. In another
    order, the scores differ because of their places in the cache (`LlamaModel`): within 1e-3 if
    weights and cache are F32.

    Raises:
        InputError: a row is longer than the model's context.
        LlamaError: llama.cpp failed.
    """
    prefix = common_prefix(requests)
    scorer = _Scorer(model, prefix)
    counted = [[(scorer.branch(prompt, c), n) for prompt, c, n in r.parts()] for r in requests]
    branches = [[branch for branch, _ in row] for row in counted]
    scorer.run(branches)
    loglik = [[float(b.nats[n:].sum()) for b, n in row] for row in counted]
    likeliest = [[bool(b.likeliest[n:].all()) for b, n in row] for row in counted]
    separate = sum(len(prefix) + len(b.path) for row in branches for b in row if len(b.nats))
    return Scored(loglik, scorer.decoded, separate, likeliest)


def score_text(
    model: LlamaModel, ids: Ids, *, window: int | None = None, stride: int | None = None
) -> F64:
    """Return the log-likelihood in nats of each token of a text except the first.

    The first token is only context. A text longer than `window` (default: the model's context) is
    cut into windows that start every `stride` tokens (default: half a window). Each token counts
    once, with the most context.

    Returns:
        (len(ids) - 1,) float64.
    """
    window = min(window or model.context_trained, model.context_trained)
    stride = stride or max(1, window // 2)
    parts, done = [np.zeros(0)], 1
    for start in range(0, max(1, len(ids) - 1), stride):
        end = min(start + window, len(ids))
        if end <= done:
            break
        context = ids[start:done]
        scorer = _Scorer(model, ())
        branch = scorer.branch(context, ids[done:end])
        scorer.run([[branch]])
        parts.append(branch.nats)
        done = end
    return np.concatenate(parts)


def common_prefix(requests: Sequence[Request]) -> Ids:
    """Return the longest common prefix of all prompts, without the last token of the shortest."""
    if any(not r.prompt and not (r.skipped and min(r.skipped)) for r in requests):
        raise ValueError("a request needs a prompt of at least one token")
    prompts = [list(r.prompt) for r in requests]
    if not all(prompts) or not prompts:
        return ()
    low = min(prompts)  # a prefix common to the first and last in sorted order is common to all
    return low[: min(min(map(len, prompts)) - 1, _shared(low, max(prompts)))]


def log_normalizer(logits: NDArray[np.float32]) -> F64:
    """Return log(sum(exp(row))) of each row (n, V), summed in float64, row by row in cache.

    It is nan if a row has nan, or its largest value is infinite.
    """
    result = np.empty(len(logits), np.float64)
    scratch = np.empty(logits.shape[1], np.float32)
    for index, row in enumerate(logits):
        top = row.max()
        if not math.isfinite(top):
            result[index] = np.nan
            continue
        np.exp(np.subtract(row, top, out=scratch), out=scratch)
        result[index] = float(top) + math.log(scratch.sum(dtype=np.float64))
    return result


@dataclass(eq=False)
class _Branch:
    """One continuation: the tokens to decode after the kept prefix, and the tokens to predict."""

    path: list[int]
    targets: Ids
    nats: F64 = field(init=False)
    likeliest: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.nats = np.zeros(len(self.targets))
        self.likeliest = np.zeros(len(self.targets), np.bool_)


@dataclass
class _Tree:
    """A tree of tokens in decoding order, parents first, each with the sequences it belongs to."""

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    owners: list[list[int]] = field(default_factory=list)
    asked: list[list[tuple[_Branch, int]]] = field(default_factory=list)
    sequences: int = 0
    shares: bool = True
    _children: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, branch: _Branch) -> None:
        """Give the branch its own sequence along its path; add new tokens only after it forks."""
        first_asked = len(branch.path) - len(branch.targets)
        node = -1
        for depth, token in enumerate(branch.path):
            key = (node, token) if self.shares or node >= 0 else (-1 - len(self.tokens), token)
            child = self._children.setdefault(key, len(self.tokens))
            if child == len(self.tokens):
                self.tokens.append(token)
                self.depths.append(depth)
                self.owners.append([])
                self.asked.append([])
            node = child
            self.owners[node].append(self.sequences)
            if depth >= first_asked:
                self.asked[node].append((branch, depth - first_asked))
        self.sequences += 1


class _Scorer:
    """Pack branches into windows of the cache and read their log-likelihoods."""

    def __init__(self, model: LlamaModel, prefix: Ids) -> None:
        self.model, self.prefix = model, prefix
        self.decoded = 0

    def branch(self, prompt: Ids, continuation: Ids) -> _Branch:
        rest = [*prompt[len(self.prefix) :], *continuation[:-1]]
        return _Branch(rest, continuation)

    def run(self, rows: Iterable[Sequence[_Branch]]) -> None:
        """Write the `nats` of every branch."""
        units = [unit for row in rows for unit in self._units([b for b in row if b.targets])]
        if not units:
            return
        size = len(self.prefix)
        self.model.check_length(size + max(len(b.path) for unit in units for b in unit))
        self.model.reserve(size + max(_LEAST_ROOM, *map(self._size, units)))
        for group in self._windows(units):
            tree = _Tree(shares=not self.model.recurrent)
            for branch in group:
                tree.add(branch)
            self._decode(tree)

    def _units(self, row: list[_Branch]) -> Iterator[list[_Branch]]:
        """Yield the branches of a row, together unless there are more branches than sequences."""
        for start in range(0, len(row), self.model.sequences):
            yield row[start : start + self.model.sequences]

    def _size(self, unit: Sequence[_Branch]) -> int:
        """Return the tokens that branches add to the cache."""
        return sum(len(b.path) for b in unit) if self.model.recurrent else _tree_size(unit)

    def _windows(self, units: Iterable[list[_Branch]]) -> Iterator[list[_Branch]]:
        room = self.model.cells - len(self.prefix)
        group: list[_Branch] = []
        used = 0
        for unit in units:
            size = self._size(unit)
            full = used + size > room or len(group) + len(unit) > self.model.sequences
            if group and full:
                yield group
                group, used = [], 0
            group = [*group, *unit]
            used += size
        if group:
            yield group

    def _decode(self, tree: _Tree) -> None:
        """Decode a window; its first batch includes the prefix if the cache does not hold it yet.

        A separate batch for a few tokens costs as much as ten more tokens in another batch.
        """
        model, size, start = self.model, len(self.prefix), 0
        ahead = () if model.recall(self.prefix) else self.prefix
        if len(ahead) >= model.batch or (model.recurrent and ahead):
            self.decoded += model.keep(ahead)
            ahead = ()
        while start < len(tree.tokens):
            end = self._batch_end(tree, start, model.batch - len(ahead))
            asked = [a for a in tree.asked[start:end] if a]
            logits = model.decode(
                [*ahead, *tree.tokens[start:end]],
                [*range(len(ahead)), *(size + depth for depth in tree.depths[start:end])],
                [*[range(model.sequences)] * len(ahead), *tree.owners[start:end]],
                [False] * len(ahead) + [bool(a) for a in tree.asked[start:end]],
            )
            self.decoded += len(ahead) + end - start
            model.kept, ahead = tuple(self.prefix), ()
            normalizers = log_normalizer(logits)
            if not np.isfinite(normalizers).all():
                raise LlamaError(
                    f"{model.path}: the model computes values that are not finite numbers",
                    "its weights are damaged, or too large for their type: get or make it again",
                )
            for row, normalizer, questions in zip(logits, normalizers, asked, strict=True):
                best = row.max()
                for branch, index in questions:
                    logit = row[branch.targets[index]]
                    branch.nats[index] = float(logit) - normalizer
                    branch.likeliest[index] = logit == best
            start = end

    def _batch_end(self, tree: _Tree, start: int, room: int) -> int:
        """Return the end of one batch: within its space for tokens and its rows of logits."""
        rows = 0
        end = min(start + room, len(tree.tokens))
        for node in range(start, end):
            rows += bool(tree.asked[node])
            if rows > self.model.outputs:
                return node
        return end


def _tree_size(branches: Sequence[_Branch]) -> int:
    """Return the tokens in a tree: each sorted path adds those not shared with the one before."""
    paths = sorted(b.path for b in branches)
    shared = sum(_shared(a, b) for a, b in itertools.pairwise(paths))
    return sum(map(len, paths)) - shared


def _shared(a: Ids, b: Ids) -> int:
    """Return the length of the common beginning of two sequences."""
    size = min(len(a), len(b))
    return next((i for i in range(size) if a[i] != b[i]), size)
