"""Score a model on a task in one pass; compute every metric afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.arrays import F64
from m2m.dataset.examples import Example
from m2m.errors import InputError
from m2m.evaluate.answer_filters import exact_matches, filtered
from m2m.evaluate.prompts import Prompter
from m2m.evaluate.same import groups, question_keys
from m2m.evaluate.scores import Scores, padded
from m2m.evaluate.tasks import Task, contrasted, requests
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
        self._chars: F64 | None = None
        self._stop: tuple[str, ...] = ()
        if task.form.window:
            windows = cut_windows(task, formatter)
            self._requests, self._bytes = windows.requests, windows.bytes
        else:
            self._requests = requests(task, formatter, seed)
            self._bytes = padded(
                [[len(c.encode()) for c in e.choices] for e in self.task.examples],
            )
            chars = padded([[len(c) for c in e.choices] for e in self.task.examples])
            if task.kind != "text" and not np.array_equal(chars, self._bytes, equal_nan=True):
                self._chars = chars
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
        self._rolls = task.kind == "text" and task.harness is not None
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
        if written and (config := self.task.harness):
            written += [config.pipelines[0].steps, dict(config.exact)]
        more: list[Any] = [self._same] if self._same else []
        more += [{"windows": "rolling"}] if self._rolls else []
        more += [{"chars": self._chars.tolist()}] if self._chars is not None else []
        text = json.dumps([SCHEMA, self.task.kind, questions, about, written, *more])
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    @property
    def pieces(self) -> str:
        """Return the SHA-256 of the bytes of each token of the scored texts."""
        spelled = self._tokenizer.token_bytes
        cut = [[[spelled(i).hex() for i in c] for c in r.counted()] for r in self._requests]
        return hashlib.sha256(json.dumps(cut).encode("ascii")).hexdigest()

    def asked(self, row: int) -> list[tuple[str, Any]]:
        """Return the texts that the model reads for an example: prompt and answer, for each answer.

        If it is to write, the second part says how.
        """
        if self._openings:
            options = {"until": list(self._stop), "max_gen_toks": self._limit, "do_sample": False}
            return [(self._spelled(self._openings[row]), options)]
        request = self._requests[row]
        return [
            (self._spelled([*request.prompt, *ids[:skip]]), self._spelled(ids[skip:]))
            for ids, skip in zip(
                request.continuations,
                request.skipped or [0] * len(request.continuations),
                strict=True,
            )
        ]

    def _spelled(self, ids: Sequence[int]) -> str:
        return b"".join(map(self._tokenizer.token_bytes, ids)).decode("utf-8", "replace")

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
        likeliest: list[list[bool]] = []
        if self.task.kind == "text":
            score_all = _rolled if self._rolls else _texts
            loglik, decoded, separate = score_all(model, chosen)
        else:
            scored = score(model, chosen)
            loglik, decoded, separate = scored.loglik, scored.decoded, scored.separate
            likeliest = scored.likeliest
        written = self._written(model, rows)
        about = [] if self.task.form.window else [self.task.examples[i] for i in rows]
        answers, exact = self._judged(written.texts, about)
        width = max(map(len, loglik), default=0)
        return Scores(
            kind=self.task.kind,
            loglik=padded(loglik),
            bytes=self._bytes[rows][:, :width],
            tokens=self._tokens[rows][:, :width],
            gold=self._gold[rows],
            decoded_tokens=decoded + written.decoded,
            separate_tokens=separate,
            facets=tuple(e.facet for e in about),
            predictions=tuple(map(self._prompter.extract_answer, answers)),
            references=tuple(e.references for e in about) if answers else (),
            same=tuple(self._same[i] for i in rows) if self._same else (),
            cut=tuple(written.cut),
            limit=self._limit,
            longest=self._longest,
            chars=None if self._chars is None else self._chars[rows][:, :width],
            exact=exact,
            likeliest=padded([[*map(float, row)] for row in likeliest]) == 1 if likeliest else None,
            written=tuple(written.texts) if self.task.harness else (),
        )

    def answers(self, model: LlamaModel, places: Sequence[int]) -> list[str]:
        """Return the greedy answers at these places, whole: before the filters of a task file."""
        return [*map(self._prompter.extract_answer, self._written(model, places).texts)]

    def _judged(
        self, texts: Sequence[str], about: Sequence[Example]
    ) -> tuple[Sequence[str], tuple[bool, ...]]:
        """Return written answers after a task file's filters, and which are exactly right."""
        config = self.task.harness
        if config is None or not texts:
            return texts, ()
        rows, name = [example.fields for example in about], str(self.task.path)
        answers = filtered(texts, rows, config.pipelines[0].steps, name)
        right = [example.references for example in about]
        return answers, exact_matches(answers, right, config.exact, name)

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


def _rolled(model: LlamaModel, texts: Sequence[Request]) -> tuple[list[list[float]], int, int]:
    """Score the texts of a task file in the windows of lm-evaluation-harness."""
    windows = [list(rolling(text, model.context_trained)) for text in texts]
    scored = score(model, [window for each in windows for window in each])
    nats = iter(scored.loglik)
    loglik = [[sum(next(nats)[0] for _ in each)] for each in windows]
    return loglik, scored.decoded, scored.separate


def _context_bytes(formatter: Formatter, first: int) -> int:
    """Return the bytes of a text's first token, which is not predicted; 0 if it is a BOS."""
    tokenizer = formatter.tokenizer
    return 0 if first == tokenizer.bos_id else len(tokenizer.token_bytes(first))


@dataclass(frozen=True, eq=False)
class Windows:
    """The requests of n windows: the first half is context, the rest is predicted.

    Attributes:
        bytes: (n, 1) UTF-8 bytes that are predicted.
    """

    requests: list[Request]
    bytes: NDArray[np.float64]


def cut_windows(task: Task, formatter: Formatter) -> Windows:
    """Return the windows of a task that is one text (llama.cpp, tools/perplexity/perplexity.cpp).

    They follow each other without overlap; the rest at the end does not count. In a window of
    n tokens those after place n / 2 are predicted, n - n / 2 - 1 of them, so that each has half a
    window of context. If the model begins texts with a BOS, it takes the place of every window's
    first token.

    Raises:
        InputError: the text does not fill two windows.
    """
    (example,) = task.examples
    tokenizer, size = formatter.tokenizer, task.form.window
    ids = formatter.text_ids(example.answer)
    if len(ids) < 2 * size:
        raise InputError(
            f"{task.path}: {len(ids)} tokens are less than two windows of {size}",
            f"set window to {len(ids) // 2} or less, or give more text",
        )
    requests, sizes = [], []
    first = size // 2 + 1
    for start in range(0, len(ids) // size * size, size):
        window = ids[start : start + size]
        if tokenizer.adds_bos and tokenizer.bos_id is not None:
            window = [tokenizer.bos_id, *window[1:]]
        requests.append(Request(window[:first], [window[first:]]))
        sizes.append([float(sum(len(tokenizer.token_bytes(i)) for i in window[first:]))])
    return Windows(requests, np.array(sizes))


def rolling(text: Request, size: int) -> Iterator[Request]:
    """Yield the windows of a text of a task file (`get_rolling_token_windows`, context_len 1).

    The model reads at most `size` tokens of a window and predicts as many. The last window is
    filled up with the tokens before it.

    Args:
        text: the first token, which is not predicted, and all others as one continuation.
        size: of a window: tokens of the model's context.
    """
    (ids,) = text.continuations
    yield Request(text.prompt, [ids[:size]])
    for start in range(size, len(ids), size):
        end = min(start + size, len(ids))
        yield Request(ids[end - size - 1 : start], [ids[start:end]])
