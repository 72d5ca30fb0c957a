"""The boundary between what a model is given and what it is trained to say.

Training, scoring and generation all go through `Formatter`. What it gives a model is what programs
send later: the conversation so far with the template's generation prompt, tokenised as a whole. An
answer is what follows, tokenised on its own, since the model writes it token by token
(m2m.tokenizer.answers says what belongs to it).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from m2m.errors import InputError
from m2m.tokenizer.answers import Shape, between, closing_marks, parted, restored
from m2m.tokenizer.template import ChatTemplate, Message
from m2m.tokenizer.tokenizer import Tokenizer

# Raised when the same template would give other ids than before.
_SCHEMA = 2


@dataclass(frozen=True)
class Segment:
    """A stretch of ids that is either trained on or only read."""

    ids: tuple[int, ...]
    trained: bool


class Formatter:
    """Turns conversations and texts into ids, for training, scoring and generation alike.

    Args:
        tokenizer: the base model's.
        template: its chat template, or None for plain text: prompt, newline, answer, EOS.

    Attributes:
        head: ids that every answer begins with; the model writes them, and they are not scored.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self._ends = [tokenizer.tokens[i] for i in sorted(tokenizer.eog_ids)]
        self._shape = Shape.of(template) if template else None
        self._trims = self._shape is not None and self._shape.trims
        head = self._shape.head if self._shape else ""
        # A mere space must stay with the answer, whose first token it is a part of.
        self._head, self._lead = (head, "") if head.strip() else ("", head)
        asked = self.prompt_ids("a")
        self.head = tokenizer.encode(self._head, True, continues=self._is_text(asked))
        self._continues = self._is_text([*asked, *self.head])

    @property
    def identity(self) -> str:
        """SHA-256 over everything here that decides ids, the vocabulary apart."""
        template = self.template
        parts: list[Any] = [_SCHEMA, "plain"]
        if template is not None:
            parts = [_SCHEMA, "chat", template.source, template.bos, template.eos]
        return hashlib.sha256(json.dumps(parts).encode("utf-8")).hexdigest()

    def samples(
        self, messages: Sequence[Message], tools: Sequence[Any] | None = None
    ) -> list[list[Segment]]:
        """A conversation as sequences that train each of the assistant's turns and its end once.

        One sequence holds all turns as long as a later prompt goes on from what was trained before.
        If the template writes earlier turns differently once later ones follow (it drops their
        reasoning), the next turn begins a sequence of its own, with the context that is sent.

        Raises:
            InputError: no assistant turn, or the template refuses the conversation or leaves a
                part of it out.
        """
        if not any(message.get("role") == "assistant" for message in messages):
            raise InputError("the conversation has no assistant turn to train on")
        found: list[list[Segment]] = []
        done: list[int] = []
        for prompt, answer in self._turns(messages, tools):
            if not found or prompt[: len(done)] != done:
                found.append([])
                done = []
            found[-1] += [Segment(tuple(prompt[len(done) :]), False), Segment(tuple(answer), True)]
            done = [*prompt, *answer]
        return found

    def document(self, text: str) -> list[Segment]:
        """A bare text, trained on as a whole and closed with EOS."""
        return [*self._bos_segment(), Segment(tuple(self._closed(text)), trained=True)]

    def segments(self, pieces: Iterable[tuple[str, bool]]) -> list[Segment]:
        """Text written out with its special tokens, in pieces of (text, trained)."""
        return self._join(pieces)

    def prompt_ids(
        self, prompt: str | Sequence[Message], tools: Sequence[Any] | None = None
    ) -> list[int]:
        """Ids of a question (or conversation) up to where the model's answer begins."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if self.template is None:
            return self._plain_ids(messages)
        return self._with_bos(self.template.render(messages, True, tools))

    def answer_ids(self, text: str) -> list[int]:
        """Ids of a bare answer, as it would follow `prompt_ids` and `head`; no end of turn."""
        answer = self._lead + self._as_written(text)
        return self.tokenizer.encode(answer, continues=self._continues)

    def _as_written(self, text: str) -> str:
        """An answer as the template writes it: some take white space off one end or both."""
        if self.template is None or self._shape is None or text == text.strip():
            return text
        talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": text}]
        found = between(self.template, talk, self.template.render(talk), None)
        return text.strip() if found is None else found.removesuffix(self._shape.ending)

    def rest_ids(self, text: str) -> list[int]:
        """Ids of the rest of an answer whose first words `answer_ids` gave; no end of turn."""
        return self.tokenizer.encode(text.rstrip() if self._trims else text, continues=True)

    def text_ids(self, text: str) -> list[int]:
        """Ids of a bare text, after BOS where the model wants one."""
        return self._with_bos(text, special=False)

    @cached_property
    def shown_head(self) -> str:
        """What of the head a reader sees, without the white space round it."""
        shown = [i for i in self.head if not self.tokenizer.is_special(i)]
        return self.tokenizer.decode(shown).strip()

    def said(self, text: str) -> str:
        """The answer in what a model wrote: without its head, and without a thought before it."""
        text = text.strip().removeprefix(self.shown_head)
        marks = closing_marks() if self._shape and (self._shape.field or self._shape.open) else ()
        for mark in marks:
            text = text.rpartition(mark)[2]
        return text.strip()

    def _with_bos(self, text: str, special: bool = True) -> list[int]:
        """Encode the beginning of a sequence; a BOS that the template wrote is not doubled."""
        ids = self.tokenizer.encode(text, special)
        bos = self.tokenizer.bos_id
        if self.tokenizer.adds_bos and bos is not None and ids[:1] != [bos]:
            return [bos, *ids]
        return ids

    def _is_text(self, ids: Sequence[int]) -> bool:
        """Whether what follows `ids` goes on with their text, not after a special token."""
        return bool(ids) and not self.tokenizer.is_special(ids[-1])

    def _bos_segment(self) -> list[Segment]:
        ids = self._with_bos("")
        return [Segment(tuple(ids), trained=False)] if ids else []

    def _closed(self, text: str, continues: bool = False) -> list[int]:
        """A text with EOS after it."""
        eos = self.tokenizer.eos_id
        ids = self.tokenizer.encode(text, continues=continues)
        return ids if eos is None else [*ids, eos]

    def _plain_ids(self, messages: Sequence[Message]) -> list[int]:
        """Turns as text: a line each, but an answer ends with EOS."""
        ids: list[int] = []
        text = ""
        for message in messages:
            if message.get("role") != "assistant":
                text += f"{message['content']}\n"
                continue
            ids += self._plain_part(text, ids)
            ids += self._closed(message["content"], self._is_text(ids))
            text = ""
        return ids + self._plain_part(text, ids)

    def _plain_part(self, text: str, before: Sequence[int]) -> list[int]:
        if not before:
            return self._with_bos(text, special=False)
        return self.tokenizer.encode(text, continues=self._is_text(before))

    def _turns(
        self, messages: Sequence[Message], tools: Sequence[Any] | None
    ) -> Iterable[tuple[list[int], list[int]]]:
        """For each of the assistant's turns the ids of its prompt and of the answer."""
        template, shape = self.template, self._shape
        if template is None or shape is None:
            for i, message in enumerate(messages):
                if message.get("role") == "assistant":
                    ids = self._plain_ids(messages[:i])
                    yield ids, self._closed(message["content"], self._is_text(ids))
            return
        roles = [message.get("role") for message in messages]
        messages = messages[: len(roles) - roles[::-1].index("assistant")]
        template.check(messages, tools)
        sides = [parted(each, shape) if _answers(each) else (each, "") for each in messages]
        whole = [restored(message, thought, shape) for message, thought in sides]
        for i, (message, thought) in enumerate(sides):
            if not _answers(message):
                continue
            prompt = template.render(whole[:i], True, tools)
            full = template.render(whole[: i + 1], tools=tools)
            text = shape.answer(prompt, full)
            if text is None and not full.startswith(prompt):
                text = between(template, whole[: i + 1], full, tools)
            head, text = self._written((prompt, full, text), message, thought)
            ids = self._with_bos(prompt)
            answer = self.tokenizer.encode(head, True, continues=self._is_text(ids))
            after = self._is_text([*ids, *answer])
            yield ids, answer + self.tokenizer.encode(self._ended(text), True, continues=after)

    def _written(
        self, rendered: tuple[str, str, str | None], message: Message, thought: str
    ) -> tuple[str, str]:
        """Head and text of the answer that ends `full`, as they follow `prompt`."""
        (prompt, full, text), shape = rendered, self._shape
        if shape is None:
            raise AssertionError("only a template has a shape")
        _refuse_lost(message, thought, full)
        if thought and shape.field and full.startswith(prompt) and thought in full[len(prompt) :]:
            return "", full[len(prompt) :]
        if thought and shape.open and text is not None:
            gap = "\n" if prompt.endswith("\n") else ""
            return "", f"{thought}{gap}{shape.open}{2 * gap}{text}"
        if thought:
            raise InputError(
                "the model's chat template leaves out the reasoning of an answer: take it out of "
                "the row, or choose a base model whose template writes it"
            )
        if text is not None:
            return self._head, self._lead + text
        if full.startswith(prompt):  # a tool call, say, which has another head
            return "", full[len(prompt) :]
        raise InputError(
            "the model's chat template does not begin an answer with its generation prompt",
            'set template = "plain" in [base] to do without the template',
        )

    def _ended(self, text: str) -> str:
        """An answer with its end of turn, and without what the template writes after that.

        Some templates write the end only when a turn follows: then that one is taken.
        """
        ends = [text.rfind(mark) + len(mark) for mark in self._ends if mark in text]
        if ends or self._shape is None:
            return text[: max(ends, default=len(text))]
        close, ending = self._shape.close, self._shape.ending
        ends = [close.find(mark) + len(mark) for mark in self._ends if mark in close]
        return text.removesuffix(ending) + close[: min(ends)] if ends else text

    def _join(self, pieces: Iterable[tuple[str, bool]]) -> list[Segment]:
        """Encode (text, trained) pieces one by one."""
        segments: list[Segment] = []
        for text, trained in pieces:
            if not text:
                continue
            if trained and not segments:
                segments += self._bos_segment()
            if segments:
                continues = self._is_text(segments[-1].ids)
                ids = self.tokenizer.encode(text, special=True, continues=continues)
            else:
                ids = self._with_bos(text)
            segments.append(Segment(tuple(ids), trained))
        return segments


def _answers(message: Message) -> bool:
    return message.get("role") == "assistant"


def _refuse_lost(message: Message, thought: str, full: str) -> None:
    """Refuse an answer of which a thought or nothing is left.

    Raises:
        InputError: it is only a thought, or the template leaves a part of it out.
    """
    content = str(message.get("content") or "").strip()
    if thought and not content and not message.get("tool_calls"):
        raise InputError("an answer has reasoning and nothing after it", "delete the row")
    if ("<think>" in content or "</think>" in content) and content not in full:
        raise InputError(
            "the model's chat template leaves out a part of an answer with <think> or </think>: "
            "write the reasoning at the start of the answer, from <think> to </think>, or delete it"
        )
