"""Ask a model an example: instruction, solved examples, prompt, and the frame of the answer.

Three styles: "chat" (the model's own chat template, solved examples as earlier turns), "plain"
(prompt, newline, answer; as in training without a template) and "raw" (the unchanged texts with
nothing between them), which is how lm-evaluation-harness asks. In "plain" and "raw" an empty line
separates solved examples; it also ends a written answer unless another end is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m2m.counted import are
from m2m.dataset.examples import Example
from m2m.dataset.sameness import normalize
from m2m.errors import InputError
from m2m.llamacpp.scoring import Request
from m2m.tokenizer import Formatter, Message

SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Form:
    """How to ask the examples of a task, and the limits of a written answer.

    Attributes:
        style: "auto" (as the formatter does: chat or plain), "chat", "plain" or "raw".
        instruction: comes first; in a chat it is the system message.
        shots: number of solved examples before the question.
        pool: the examples to draw these from; one with the same question is never drawn.
        seed: of the draw; None takes the pool's first ones.
        prefix: words before every answer. They are part of the prompt: given, never scored.
        suffix: words after every solved example's answer; a written answer ends there.
        delimiter: text before every choice, scored with it, in style "raw": the
            `target_delimiter` of lm-evaluation-harness; None if the task is not one of its tasks.
        separator: the text between solved examples, outside a chat.
        writes: whether answers are written too, not only scored.
        stop: texts that end a written answer.
        max_tokens: limit of a written answer; 0: set by the longest right answer.
        window: tokens of the windows in which a text is scored; 0: every row by itself.
    """

    style: str = "auto"
    instruction: str = ""
    shots: int = 0
    pool: tuple[Example, ...] = ()
    seed: int | None = 0
    prefix: str = ""
    suffix: str = ""
    delimiter: str | None = None
    separator: str = SEPARATOR
    writes: bool = False
    stop: tuple[str, ...] = ()
    max_tokens: int = 0
    window: int = 0

    @property
    def ends(self) -> tuple[str, ...]:
        """Return the texts that end a written answer according to the recipe."""
        return (*self.stop, *((self.suffix,) if self.suffix else ()))


class Prompter:
    """Makes the token ids of examples, for one family of models.

    Args:
        form: how to ask.
        formatter: the models' tokenizer and template.

    Raises:
        InputError: "chat" is asked for and there is no template.
    """

    def __init__(self, form: Form, formatter: Formatter) -> None:
        self.form = form
        self._raw = form.style == "raw"
        self._formatter = formatter
        if form.style == "plain":
            self._formatter = Formatter(formatter.tokenizer)
        if form.style == "chat" and formatter.template is None:
            raise InputError(
                "a target asks in the chat template, and the base model is used without one",
                'set template = "chat" in [base], or another template for the target',
            )
        self._chats = not self._raw and self._formatter.template is not None
        order = np.arange(len(form.pool))
        if form.seed is not None:
            order = np.random.default_rng(form.seed).permutation(len(form.pool))
        self._pool = [(normalize(form.pool[i].prompt), form.pool[i]) for i in order]

    def request(self, example: Example) -> Request:
        """Return the scoring request: prompt and prefix as context, each choice as a continuation.

        White space at the prefix's end belongs to the choice, because it is part of the choice's
        first token. Apart from that, choices are tokenised after the prefix as they are after a
        bare prompt: as one text in style "raw", by themselves in the others.
        """
        prefix, head = self.form.prefix, self.form.prefix.rstrip()
        if self._raw:
            choices = [(self.form.delimiter or "") + choice for choice in example.choices]
            texts = [text + prefix for text in self._contexts(example)]
            return self._raw_request(texts * (len(choices) if len(texts) == 1 else 1), choices)
        follow = self._formatter.rest_ids if head else self._formatter.answer_ids
        choices = [prefix[len(head) :] + choice for choice in example.choices]
        return Request(self._begun(example), [follow(choice) for choice in choices])

    def opening(self, example: Example) -> list[int]:
        """Return the ids before a written answer: the prompt, and the words of the prefix."""
        head = self.form.prefix.rstrip()
        if self._raw:
            text = self._contexts(example)[0] + head
            # The harness lets models continue after the white space too.
            ids = self._raw_ids(text.rstrip() if self.form.delimiter is None else text)
            return ids or [self._start()]
        if not head:  # unchanged: the model itself writes the words before every answer
            return self._formatter.prompt_ids(self._asked(example))
        return self._begun(example)

    def _begun(self, example: Example) -> list[int]:
        """Return the ids before a scored answer: prompt, words before every answer, prefix."""
        formatter, head = self._formatter, self.form.prefix.rstrip()
        prompt = formatter.prompt_ids(self._asked(example))
        return [*prompt, *formatter.head, *(formatter.answer_ids(head) if head else ())]

    def extract_answer(self, written: str) -> str:
        """Extract the answer from the text that a model wrote."""
        return written.strip() if self._raw else self._formatter.extract_answer(written)

    def stop(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Return the texts that end the written answers to some examples.

        An empty line ends them if no other end is set, unless a right answer contains one.
        """
        ends = self.form.ends
        gap = self.form.separator
        if (
            ends
            or self._chats
            or any(gap in text for example in examples for text in example.references)
        ):
            return ends
        return (gap,)

    def longest(self, examples: Sequence[Example]) -> int:
        """Return how many tokens the longest right answer has as a model writes it, with suffix."""
        form, head = self.form, self.form.prefix.rstrip()
        follow = self._formatter.rest_ids if head else self._formatter.answer_ids
        encode = self._raw_ids if self._raw else follow
        texts = {text for example in examples for text in example.references or example.choices[:1]}
        return max(len(encode(form.prefix[len(head) :] + text + form.suffix)) for text in texts)

    def shots(self, example: Example) -> list[Example]:
        """Return the solved examples before this one: the same for all, except its own question.

        Raises:
            InputError: the pool has too few examples.
        """
        if not self.form.shots:
            return []
        question = normalize(example.prompt)
        others = (other for form, other in self._pool if form != question)
        chosen = [other for other, _ in zip(others, range(self.form.shots), strict=False)]
        if len(chosen) < self.form.shots:
            raise InputError(
                f"{are(self.form.shots, 'solved example')} asked for, and only "
                f"{are(len(chosen), 'row')} neither the example itself nor in the test set",
                "lower shots, or name a larger file in shots_from",
            )
        return chosen

    def _framed(self, answer: str) -> str:
        return (self.form.delimiter or "") + self.form.prefix + answer + self.form.suffix

    def _asked(self, example: Example) -> str | Sequence[Message]:
        """Return the turns of a chat, or the text of a plain prompt."""
        turns: list[Message] = []
        if not self._chats:
            if not example.system:
                return self._text(example)
            system: Message = {"role": "system", "content": example.system}
            return [system, {"role": "user", "content": self._text(example)}]
        if head := self.form.separator.join(filter(None, [self.form.instruction, example.system])):
            turns.append({"role": "system", "content": head})
        for shot in self.shots(example):
            turns.append({"role": "user", "content": shot.prompt})
            turns.append({"role": "assistant", "content": self._framed(shot.answer)})
        turns.append({"role": "user", "content": example.prompt})
        if self._formatter.template is not None:
            self._formatter.template.check(turns)
        return turns

    def _text(self, example: Example) -> str:
        """Return instruction, solved examples and prompt as one text."""
        form, gap = self.form, "" if self._raw else "\n"
        solved = [s.prompt + gap + self._framed(s.answer) for s in self.shots(example)]
        head = form.instruction + (form.separator if form.instruction and not self._raw else "")
        if self._raw and example.system:
            head += example.system + form.separator
        return head + form.separator.join([*solved, example.prompt])

    def _contexts(self, example: Example) -> Sequence[str]:
        """Return the texts before the choices: those of a task file, or one for all choices."""
        return example.contexts or (self._text(example),)

    def _start(self) -> int:
        """Return the token before an empty prompt of a task file: BOS, or else the end of texts.

        Raises:
            InputError: the model has neither, or the target is no task file.
        """
        tokenizer = self._formatter.tokenizer
        start = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
        if start is None or self.form.delimiter is None:
            raise InputError("a raw prompt is empty", "give the row something to ask")
        return start

    def _raw_ids(self, text: str) -> list[int]:
        return [i for part in self._formatter.segments([(text, False)]) for i in part.ids]

    def _raw_request(self, texts: Sequence[str], answers: Sequence[str]) -> Request:
        """Tokenise each text with its answer, and cut after the text's own tokens.

        White space at a prompt's end belongs to the answer, and an empty prompt becomes one token
        (lm_eval/api/model.py, _encode_pair and loglikelihood).
        """
        heads = [self._raw_ids(text.rstrip()) for text in texts]
        wholes = [self._raw_ids(text + answer) for text, answer in zip(texts, answers, strict=True)]
        if not all(heads):
            start = self._start()
            heads = [[start]] * len(heads)
            wholes = [ids if ids[:1] == [start] else [start, *ids] for ids in wholes]
        if any(len(whole) <= len(head) for head, whole in zip(heads, wholes, strict=True)):
            raise InputError(
                "an answer vanishes in the prompt's last token, so there is nothing to score",
                "put a space between prompt and answer, or use another template",
            )
        low, high = min(heads), max(heads)
        same = next(
            (i for i, pair in enumerate(zip(low, high, strict=False)) if pair[0] != pair[1]),
            len(low),
        )
        skipped = [len(head) - same for head in heads]
        rest = [whole[same:] for whole in wholes]
        return Request(low[:same], rest, skipped if any(skipped) else ())
