"""Scores a model on a task: one pass, every metric afterwards."""

from __future__ import annotations

import numpy as np

from m2m.errors import InputError
from m2m.evaluate.scores import Scores, padded
from m2m.evaluate.tasks import Task, contrasted, requests
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.scoring import score, score_text
from m2m.tokenizer import Formatter


class Evaluator:
    """A task made ready for one family of models: tokenised once, scored for each model.

    Args:
        task: the examples.
        formatter: the models' tokenizer and template.
        seed: draws the distractors of a task with answers only.
    """

    def __init__(self, task: Task, formatter: Formatter, seed: int = 0) -> None:
        self.task = contrasted(task, seed)
        self.seed = seed
        self._requests = requests(self.task, formatter)
        self._gold = np.array([e.gold for e in self.task.examples], np.int64)
        self._tokens = padded([[len(c) for c in r.continuations] for r in self._requests])
        self._bytes = padded(
            [[len(c.encode()) for c in e.choices] for e in self.task.examples],
        )
        if task.kind == "text":
            self._refuse_single_tokens()
            self._bytes -= [[_context_bytes(formatter, r.prompt[0])] for r in self._requests]

    def _refuse_single_tokens(self) -> None:
        for request, example in zip(self._requests, self.task.examples, strict=True):
            if not request.continuations[0]:
                raise InputError(
                    f"{self.task.path}:{example.line}: the text is one token long, so there is "
                    "nothing to predict",
                    "join it with the next row or remove it",
                )

    @property
    def fingerprint(self) -> str:
        """The task's file and what was drawn from it; the formatter has its own."""
        return f"{self.task.fingerprint}:{self.seed}"

    def evaluate(self, model: LlamaModel) -> Scores:
        """Score every example.

        Raises:
            InputError: an example is longer than the model's context.
            LlamaError: llama.cpp failed.
        """
        if self.task.kind == "text":
            loglik, decoded, separate = self._texts(model)
        else:
            scored = score(model, self._requests)
            loglik, decoded, separate = scored.loglik, scored.decoded, scored.separate
        return Scores(
            kind=self.task.kind,
            loglik=padded(loglik),
            bytes=self._bytes,
            tokens=self._tokens,
            gold=self._gold,
            decoded_tokens=decoded,
            separate_tokens=separate,
            facets=tuple(e.facet for e in self.task.examples),
        )

    def _texts(self, model: LlamaModel) -> tuple[list[list[float]], int, int]:
        """Short texts in shared batches, long ones in windows."""
        whole = [len(r.prompt) + len(r.continuations[0]) for r in self._requests]
        short = [n <= model.context_trained for n in whole]
        scored = score(model, [r for r, s in zip(self._requests, short, strict=True) if s])
        found = iter(scored.loglik)
        loglik, decoded = [], scored.decoded
        for request, fits in zip(self._requests, short, strict=True):
            if fits:
                loglik.append(next(found))
            else:
                ids = [*request.prompt, *request.continuations[0]]
                loglik.append([float(score_text(model, ids).sum())])
                decoded += len(ids)
        return loglik, decoded, sum(whole)


def _context_bytes(formatter: Formatter, first: int) -> int:
    """Bytes of a text's first token, which is not predicted; a BOS stands for none of them."""
    tokenizer = formatter.tokenizer
    return 0 if first == tokenizer.bos_id else len(tokenizer.token_bytes(first))
