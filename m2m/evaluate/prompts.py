"""How an example is put to a model: instruction, solved examples, prompt, and the answer's frame.

Three styles: "chat" (the model's own chat template, solved examples as earlier turns), "plain"
(prompt, newline, answer; as in training without a template) and "raw" (the texts as they stand,
nothing between them), which is how lm-evaluation-harness asks. In "plain" and "raw" solved examples
are parted by an empty line, which also ends a written answer where nothing else is said to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m2m.dataset.sameness import normalize
from m2m.errors import InputError
from m2m.evaluate.examples import Example
from m2m.llamacpp.scoring import Request
from m2m.tokenizer import Formatter, Message

SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Form:
    """How the examples of a task are put to a model, and what it may write.

    Attributes:
        style: "auto" (as the formatter does: chat or plain), "chat", "plain" or "raw".
        instruction: comes first; in a chat it is the system message.
        shots: solved examples before the question.
        pool: where they are drawn from; never one that asks the same question.
        seed: of the draw; None takes the pool's first.
        prefix: words before every answer. They are part of the prompt: given, never scored.
        suffix: words after every solved example's answer; a written answer ends there.
        delimiter: text before every choice that is scored with it, in style "raw": the
            `target_delimiter` of lm-evaluation-harness; None: not one of its tasks.
        separator: between solved examples, outside a chat.
        writes: whether answers are written too, not only scored.
        stop: texts that end a written answer.
        max_tokens: at which a written answer is cut; 0: by the longest right answer.
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
        """The texts that the recipe says end a written answer."""
        return (*self.stop, *((self.suffix,) if self.suffix else ()))


class Prompter:
    """Token ids of examples, for one family of models.

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
        """What to score: prompt and prefix as given, and each choice as what may follow them.

        White space at the prefix's end goes with the choice, whose first token it is a part of.
        Apart from that, choices are tokenised after the prefix as they are after a bare prompt: as
        one text in style "raw", by themselves in the others.
        """
        prefix, head = self.form.prefix, self.form.prefix.rstrip()
        if self._raw:
            choices = [(self.form.delimiter or "") + choice for choice in example.choices]
            return self._raw_request(self._text(example) + prefix, choices)
        follow = self._formatter.rest_ids if head else self._formatter.answer_ids
        choices = [prefix[len(head) :] + choice for choice in example.choices]
        return Request(self._begun(example), [follow(choice) for choice in choices])

    def opening(self, example: Example) -> list[int]:
        """What a written answer goes on from: the prompt, and the prefix's words."""
        head = self.form.prefix.rstrip()
        if self._raw:
            text = self._text(example) + head
            # The harness lets models go on after the white space too.
            return self._raw_ids(text.rstrip() if self.form.delimiter is None else text)
        if not head:  # as it is sent: the model writes the words before every answer itself
            return self._formatter.prompt_ids(self._asked(example))
        return self._begun(example)

    def _begun(self, example: Example) -> list[int]:
        """What a scored answer follows: the prompt, the words before every answer, the prefix."""
        formatter, head = self._formatter, self.form.prefix.rstrip()
        prompt = formatter.prompt_ids(self._asked(example))
        return [*prompt, *formatter.head, *(formatter.answer_ids(head) if head else ())]

    def said(self, written: str) -> str:
        """The answer in what a model wrote."""
        return written.strip() if self._raw else self._formatter.said(written)

    def stop(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """The texts that end the written answers to some examples.

        An empty line ends them if nothing else is said, unless a right answer has one.
        """
        said = self.form.ends
        gap = self.form.separator
        if said or self._chats or any(gap in text for each in examples for text in each.references):
            return said
        return (gap,)

    def longest(self, examples: Sequence[Example]) -> int:
        """Tokens of the longest right answer as a model would write it, with the suffix."""
        form, head = self.form, self.form.prefix.rstrip()
        follow = self._formatter.rest_ids if head else self._formatter.answer_ids
        encode = self._raw_ids if self._raw else follow
        texts = {text for each in examples for text in each.references or each.choices[:1]}
        return max(len(encode(form.prefix[len(head) :] + text + form.suffix)) for text in texts)

    def shots(self, example: Example) -> list[Example]:
        """The solved examples before this one: the same for all, but for its own question.

        Raises:
            InputError: the pool has too few.
        """
        if not self.form.shots:
            return []
        asked = normalize(example.prompt)
        others = (each for form, each in self._pool if form != asked)
        found = [each for each, _ in zip(others, range(self.form.shots), strict=False)]
        if len(found) < self.form.shots:
            raise InputError(
                f"{self.form.shots} solved examples are asked for, and only {len(found)} rows are "
                "neither the example itself nor in the test set",
                "lower shots, or name a larger file in shots_from",
            )
        return found

    def _framed(self, answer: str) -> str:
        return (self.form.delimiter or "") + self.form.prefix + answer + self.form.suffix

    def _asked(self, example: Example) -> str | Sequence[Message]:
        """The turns of a chat, or the text of a plain prompt."""
        if not self._chats:
            return self._text(example)
        turns: list[Message] = []
        if self.form.instruction:
            turns.append({"role": "system", "content": self.form.instruction})
        for shot in self.shots(example):
            turns.append({"role": "user", "content": shot.prompt})
            turns.append({"role": "assistant", "content": self._framed(shot.answer)})
        turns.append({"role": "user", "content": example.prompt})
        if self._formatter.template is not None:
            self._formatter.template.check(turns)
        return turns

    def _text(self, example: Example) -> str:
        """Instruction, solved examples and prompt as one text."""
        form, gap = self.form, "" if self._raw else "\n"
        solved = [s.prompt + gap + self._framed(s.answer) for s in self.shots(example)]
        head = form.instruction + (form.separator if form.instruction and not self._raw else "")
        return head + form.separator.join([*solved, example.prompt])

    def _raw_ids(self, text: str) -> list[int]:
        return [i for part in self._formatter.segments([(text, False)]) for i in part.ids]

    def _raw_request(self, text: str, answers: Sequence[str]) -> Request:
        """Prompt and answer tokenised as one text and cut after the prompt's own tokens.

        White space at the prompt's end goes with the answer (lm_eval/api/model.py, _encode_pair).
        """
        prompt = text.rstrip()
        ids = self._raw_ids(prompt)
        if not ids:
            raise InputError("a raw prompt is empty", "give the row something to ask")
        rest = [self._raw_ids(text + answer)[len(ids) :] for answer in answers]
        if not all(rest):
            raise InputError(
                "an answer vanishes in the prompt's last token, so there is nothing to score",
                "put a space between prompt and answer, or use another template",
            )
        return Request(ids, rest)
