"""Score a model on a task in one pass; compute every metric afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from m2m.errors import InputError
from m2m.evaluate.answer_filters import filtered, steps_of
from m2m.evaluate.prompts import Prompter
from m2m.evaluate.same import groups, question_keys
from m2m.evaluate.scores import Scores, padded
from m2m.evaluate.tasks import Task, contrasted, requests
from m2m.evaluate.windows import cut_windows
from m2m.llamacpp.generate import Completed, complete
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.scoring import Request, score, score_text
from m2m.tokenizer import Formatter

# A part of the key of all scores: raise it when the same task is read, asked or cut differently.
SCHEMA = 2
# Added to the limit of a written answer: a model may use more tokens for a text than it needs.
_SLACK = 16


class Evaluator:
    """A task prepared for one family of models: tokenised once, scored for each model.

    Args:
        task: the examples, and the form in which a model is asked.
        formatter: the models' tokenizer and template.
        seed: draws the distractors of a task that has answers only.

    Raises:
        InputError: an example cannot be asked; names its line.
    """

    def __init__(self, task: Task, formatter: Formatter, seed: int = 0) -> None:
        self.task = contrasted(task, seed)
        self.seed = seed
        self._tokenizer = formatter.tokenizer
        self._openings: list[list[int]] = []
        self._prompter = Prompter(task.form, formatter)
        self._head = 0 if task.form.prefix else len(formatter.head)
        self._limit = self._longest = 0
        self._stop: tuple[str, ...] = ()
        self._filters = steps_of(task.harness.keys)[0] if task.harness else []
        if task.form.window:
            windows = cut_windows(task, formatter)
            self._requests, self._bytes = windows.requests, windows.bytes
        else:
            self._requests = requests(task, formatter, seed)
            self._bytes = padded(
                [[len(c.encode()) for c in e.choices] for e in self.task.examples],
            )
        if task.kind == "text":
            self._gold = np.zeros(len(self._requests), np.int64)
            if not task.form.window:
                self._refuse_single_tokens()
            if not task.form.window and not task.harness:
                self._bytes -= [[_context_bytes(formatter, r.prompt[0])] for r in self._requests]
        else:
            self._gold = np.array([e.gold for e in self.task.examples], np.int64)
        self._tokens = padded([[len(c) for c in r.counted()] for r in self._requests])
        if task.form.writes:
            self._openings = [self._prompter.opening(example) for example in self.task.examples]
            self._stop = self._prompter.stop(self.task.examples)
            self._longest = self._prompter.longest(self.task.examples)
            self._limit = task.form.max_tokens or _SLACK + self._longest * 3 // 2
        self._same = () if task.form.window else groups(question_keys(self.task))

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
        """Return the SHA-256 of all questions and right answers: all that can change scores."""
        questions = [
            [
                *(
                    list(r.prompt),
                    [list(c) for c in r.continuations],
                    row[np.isfinite(row)].tolist(),
                ),
                *([list(r.skipped)] if r.skipped else []),
            ]
            for r, row in zip(self._requests, self._bytes, strict=True)
        ]
        about = [[e.gold, e.facet, e.references] for e in self.task.examples]
        written = [self._openings, self._stop, self._limit] if self.task.form.writes else []
        written += [self._filters] if written and self._filters else []
        same = [self._same] if self._same else []
        text = json.dumps([SCHEMA, self.task.kind, questions, about, written, *same])
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    @property
    def pieces(self) -> str:
        """Return the SHA-256 of the bytes of each token of the scored texts."""
        spelled = self._tokenizer.token_bytes
        cut = [[[spelled(i).hex() for i in c] for c in r.counted()] for r in self._requests]
        return hashlib.sha256(json.dumps(cut).encode("ascii")).hexdigest()

    def __len__(self) -> int:
        """Return the number of examples; for a text in windows, the number of windows."""
        return len(self._requests)

    def evaluate(self, model: LlamaModel, places: Sequence[int] | None = None) -> Scores:
        """Score examples, and let the model write its answers if the task asks for it.

        Args:
            model: of the family that the formatter is for.
            places: the examples to score, in that order; None: all.

        Raises:
            InputError: an example is longer than the model's context.
            LlamaError: llama.cpp failed.
        """
        rows = list(range(len(self)) if places is None else places)
        chosen = [self._requests[i] for i in rows]
        if self.task.kind == "text":
            loglik, decoded, separate = _texts(model, chosen)
        else:
            scored = score(model, chosen)
            loglik, decoded, separate = scored.loglik, scored.decoded, scored.separate
        written = self._written(model, rows)
        texts = filtered(written.texts, self._filters, str(self.task.path))
        predictions = tuple(map(self._prompter.extract_answer, texts))
        about = [] if self.task.form.window else [self.task.examples[i] for i in rows]
        return Scores(
            kind=self.task.kind,
            loglik=padded(loglik),
            bytes=self._bytes[rows][:, : max(map(len, loglik), default=0)],
            tokens=self._tokens[rows][:, : max(map(len, loglik), default=0)],
            gold=self._gold[rows],
            decoded_tokens=decoded + written.decoded,
            separate_tokens=separate,
            facets=tuple(e.facet for e in about),
            predictions=predictions,
            references=tuple(e.references for e in about) if predictions else (),
            same=tuple(self._same[i] for i in rows) if self._same else (),
            cut=tuple(written.cut),
            limit=self._limit,
            longest=self._longest,
        )

    def answers(self, model: LlamaModel, places: Sequence[int]) -> list[str]:
        """Return the greedy answers at these places, whole: before the filters of a task file."""
        return [*map(self._prompter.extract_answer, self._written(model, places).texts)]

    def _written(self, model: LlamaModel, rows: Sequence[int]) -> Completed:
        """Return the answers that the model writes; empty if it is not asked to write."""
        if not self._openings:
            return Completed([], [], 0)
        openings = [self._openings[i] for i in rows]
        return complete(model, openings, self._limit + self._head, self._stop)


def _texts(model: LlamaModel, texts: Sequence[Request]) -> tuple[list[list[float]], int, int]:
    """Score short texts in shared batches and long ones in windows."""
    lengths = [len(r.prompt) + len(r.continuations[0]) for r in texts]
    short = [n <= model.context_trained for n in lengths]
    scored = score(model, [r for r, s in zip(texts, short, strict=True) if s])
    short_scores = iter(scored.loglik)
    loglik, decoded = [], scored.decoded
    for request, fits in zip(texts, short, strict=True):
        if fits:
            loglik.append(next(short_scores))
        else:
            ids = [*request.prompt, *request.continuations[0]]
            loglik.append([float(score_text(model, ids).sum())])
            decoded += len(ids)
    return loglik, decoded, sum(lengths)


def _context_bytes(formatter: Formatter, first: int) -> int:
    """Return the bytes of a text's first token, which is not predicted; 0 if it is a BOS."""
    tokenizer = formatter.tokenizer
    return 0 if first == tokenizer.bos_id else len(tokenizer.token_bytes(first))
