"""The boundary between a model's prompt and the answer that it is trained to write.

Training, scoring and generation all use `Formatter`. It gives a model the same prompt that programs
send later: the conversation so far with the template's generation prompt, tokenised as a whole. The
answer is the text that follows. It is tokenised by itself, because the model writes it token by
token (m2m.tokenizer.answer_frame says which text belongs to it).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from m2m.errors import InputError
from m2m.tokenizer.answer_frame import AnswerShape, between, closing_marks, parted, restored
from m2m.tokenizer.template import ChatTemplate, Message
from m2m.tokenizer.tokenizer import Tokenizer

# Increase this number if the same template gives other ids than before.
_SCHEMA = 2


@dataclass(frozen=True)
class Segment:
    """A stretch of ids that is either trained on or only read."""

    ids: tuple[int, ...]
    trained: bool


class Formatter:
    """Turns conversations and texts into ids, the same for training, scoring and generation.

    Args:
        tokenizer: the base model's tokenizer.
        template: its chat template, or None for plain text: prompt, newline, answer, EOS.

    Attributes:
        head: the first ids of every answer; the model writes them, but they are not scored.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self._ends = [tokenizer.tokens[i] for i in sorted(tokenizer.eog_ids)]
        self._shape = AnswerShape.of(template) if template else None
        self._trims = self._shape is not None and self._shape.trims
        head = self._shape.head if self._shape else ""
        # A head of only spaces stays with the answer: it is a part of the answer's first token.
        self._head, self._lead = (head, "") if head.strip() else ("", head)
        prompt = self.prompt_ids("a")
        self.head = tokenizer.encode(self._head, True, continues=self._is_text(prompt))
        self._continues = self._is_text([*prompt, *self.head])

    @property
    def identity(self) -> str:
        """SHA-256 over everything here that decides ids, except the vocabulary."""
        template = self.template
        parts: list[Any] = [_SCHEMA, "plain"]
        if template is not None:
            parts = [_SCHEMA, "chat", template.source, template.bos, template.eos]
        return hashlib.sha256(json.dumps(parts).encode("utf-8")).hexdigest()

    def samples(
        self, messages: Sequence[Message], tools: Sequence[Any] | None = None
    ) -> list[list[Segment]]:
        """Turn a conversation into sequences that train each assistant turn and its end once.

        Turns share one sequence as long as a later prompt continues the ids of the earlier turns.
        If the template changes earlier turns when later ones follow (it drops their reasoning), the
        next turn begins a new sequence, with the context that programs send.

        Raises:
            InputError: there is no assistant turn, or the template refuses the conversation or
                leaves a part of it out.
        """
        if not any(message.get("role") == "assistant" for message in messages):
            raise InputError("the conversation has no assistant turn to train on")
        sequences: list[list[Segment]] = []
        done: list[int] = []
        for prompt, answer in self._turns(messages, tools):
            if not sequences or prompt[: len(done)] != done:
                sequences.append([])
                done = []
            sequences[-1] += [
                Segment(tuple(prompt[len(done) :]), False),
                Segment(tuple(answer), True),
            ]
            done = [*prompt, *answer]
        return sequences

    def document(self, text: str) -> list[Segment]:
        """Turn a plain text into segments: all of it is trained, and EOS follows."""
        return [*self._bos_segment(), Segment(tuple(self._closed(text)), trained=True)]

    def segments(self, pieces: Iterable[tuple[str, bool]]) -> list[Segment]:
        """Turn pieces of (text, trained) into segments; texts may spell out special tokens."""
        return self._join(pieces)

    def prompt_ids(
        self, prompt: str | Sequence[Message], tools: Sequence[Any] | None = None
    ) -> list[int]:
        """Return the ids of a question or conversation, up to the start of the model's answer."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if self.template is None:
            return self._plain_ids(messages)
        return self._with_bos(self.template.render(messages, True, tools))

    def answer_ids(self, text: str) -> list[int]:
        """Return the ids of an answer after `prompt_ids` and `head`, without an end of turn."""
        answer = self._lead + self._as_written(text)
        return self.tokenizer.encode(answer, continues=self._continues)

    def _as_written(self, text: str) -> str:
        """Return an answer as the template writes it: some remove white space at its ends."""
        if self.template is None or self._shape is None or text == text.strip():
            return text
        talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": text}]
        written = between(self.template, talk, self.template.render(talk), None)
        return text.strip() if written is None else written.removesuffix(self._shape.ending)

    def rest_ids(self, text: str) -> list[int]:
        """Return the ids of the rest of an answer after `answer_ids`, without an end of turn."""
        return self.tokenizer.encode(text.rstrip() if self._trims else text, continues=True)

    def text_ids(self, text: str) -> list[int]:
        """Return the ids of a plain text, after BOS if the model wants one."""
        return self._with_bos(text, special=False)

    @cached_property
    def shown_head(self) -> str:
        """The part of the head that a reader sees, without the white space around it."""
        shown = [i for i in self.head if not self.tokenizer.is_special(i)]
        return self.tokenizer.decode(shown).strip()

    def extract_answer(self, text: str) -> str:
        """Return the answer in a model's text, without its head and without a thought before it."""
        text = text.strip().removeprefix(self.shown_head)
        marks = closing_marks() if self._shape and (self._shape.field or self._shape.open) else ()
        for mark in marks:
            text = text.rpartition(mark)[2]
        return text.strip()

    def _with_bos(self, text: str, special: bool = True) -> list[int]:
        """Encode the beginning of a sequence; a BOS that the template wrote is not added again."""
        ids = self.tokenizer.encode(text, special)
        bos = self.tokenizer.bos_id
        if self.tokenizer.adds_bos and bos is not None and ids[:1] != [bos]:
            return [bos, *ids]
        return ids

    def _is_text(self, ids: Sequence[int]) -> bool:
        """Return whether text after `ids` continues their text; false after a special token."""
        return bool(ids) and not self.tokenizer.is_special(ids[-1])

    def _bos_segment(self) -> list[Segment]:
        ids = self._with_bos("")
        return [Segment(tuple(ids), trained=False)] if ids else []

    def _closed(self, text: str, continues: bool = False) -> list[int]:
        """Return the ids of a text with EOS after it."""
        eos = self.tokenizer.eos_id
        ids = self.tokenizer.encode(text, continues=continues)
        return ids if eos is None else [*ids, eos]

    def _plain_ids(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of turns as plain text: one line each, but an answer ends with EOS."""
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
        """Yield the ids of the prompt and of the answer, for each assistant turn."""
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
        sides = [
            parted(message, shape) if _answers(message) else (message, "") for message in messages
        ]
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
        """Return the head and the text of the answer that ends `full`, as they follow `prompt`."""
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
        if full.startswith(prompt):  # for example a tool call, which has another head
            return "", full[len(prompt) :]
        if message.get("tool_calls") and (call := shape.call_after_thought(prompt, full)):
            return "", call
        raise InputError(
            "the model's chat template does not begin an answer with its generation prompt",
            'set template = "plain" in [base] to do without the template',
        )

    def _ended(self, text: str) -> str:
        """Return an answer with its end of turn, but without the template's text after that.

        Some templates write the end only if a turn follows: then it is taken from there.
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
    """Raise if an answer is only a thought, or if the template leaves a part of it out.

    Raises:
        InputError: one of these holds.
    """
    content = str(message.get("content") or "").strip()
    if thought and not content and not message.get("tool_calls"):
        raise InputError("an answer has reasoning and nothing after it", "delete the row")
    if ("<think>" in content or "</think>" in content) and content not in full:
        raise InputError(
            "the model's chat template leaves out a part of an answer with <think> or </think>: "
            "write the reasoning at the start of the answer, from <think> to </think>, or delete it"
        )
