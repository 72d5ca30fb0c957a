"""Chat templates, and the boundary between what a model is given and what it is trained to say.

Training, scoring and generation all go through `Formatter`, so they share that boundary: a prompt
and an answer are tokenised separately, never across their border.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m2m.errors import InputError
from m2m.tokenizer.sandbox import COMPILE_ERRORS, RENDER_ERRORS, Sandbox
from m2m.tokenizer.tokenizer import Tokenizer

Message = Mapping[str, Any]

_MARK = "\N{SECTION SIGN}"


class ChatTemplate:
    """A model's Jinja chat template, rendered in a sandbox as transformers and llama.cpp do.

    Args:
        source: the template, from a GGUF's `tokenizer.chat_template`.
        bos: text of the BOS token, "" where there is none.
        eos: text of the EOS token.

    Raises:
        InputError: the template is not valid Jinja.
    """

    def __init__(self, source: str, bos: str = "", eos: str = "") -> None:
        self.source = source
        self.bos = bos
        self.eos = eos
        self._sandbox = Sandbox()
        try:
            self._template = self._sandbox.from_string(source)
        except COMPILE_ERRORS as error:
            line = getattr(error, "lineno", None)
            place = f"line {line}: " if line else ""
            raise InputError(
                f"the model's chat template is not valid Jinja: {place}{error}",
                'set template = "plain" in [base] to do without it',
            ) from error

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = False,
        tools: Sequence[Any] | None = None,
    ) -> str:
        """The text of a conversation.

        Raises:
            InputError: the template refuses these messages, or it does not come to an end.
        """
        try:
            return self._sandbox.render(
                self._template,
                messages=[dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                tools=tools,
                bos_token=self.bos,
                eos_token=self.eos,
            )
        except RENDER_ERRORS as error:
            roles = ", ".join(str(message.get("role")) for message in messages)
            raise InputError(
                f"the model's chat template refuses a conversation of {roles}: {error}",
                'mend the row, or set template = "plain" in [base]',
            ) from error


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
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self._ends = [tokenizer.tokens[i] for i in sorted(tokenizer.eog_ids)]
        self._trims, self._lead = (False, "") if template is None else _probe(template)
        # Words that the template puts before every answer (an empty <think> block) belong to the
        # prompt; a mere space must stay with the answer, whose first token it is a part of.
        self._head = self._lead if self._lead.strip() else ""
        self._continues = self._is_text(self.prompt_ids("a"))

    @property
    def identity(self) -> str:
        """SHA-256 over everything here that decides ids, the vocabulary apart."""
        template = self.template
        parts = ["plain"]
        if template is not None:
            parts = ["chat", template.source, template.bos, template.eos]
        return hashlib.sha256(json.dumps(parts).encode("utf-8")).hexdigest()

    def turns(
        self, messages: Sequence[Message], tools: Sequence[Any] | None = None
    ) -> list[Segment]:
        """A conversation as segments; the assistant's turns, each with its end, are trained.

        Raises:
            InputError: no assistant turn, or the template refuses the conversation.
        """
        if not any(message.get("role") == "assistant" for message in messages):
            raise InputError("the conversation has no assistant turn to train on")
        if self.template is None:
            return self._plain_turns(messages)
        return self._join(self._split_ends(self._chat_turns(self.template, messages, tools)))

    def document(self, text: str) -> list[Segment]:
        """A bare text, trained on as a whole and closed with EOS."""
        return [*self._bos_segment(), self._closed(text)]

    def segments(self, pieces: Iterable[tuple[str, bool]]) -> list[Segment]:
        """Text written out with its special tokens, in pieces of (text, trained)."""
        return self._join(pieces)

    def prompt_ids(self, prompt: str | Sequence[Message]) -> list[int]:
        """Ids of a question (or conversation) up to where the model's answer begins."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if self.template is None:
            return self._with_bos(_plain_prompt(messages), special=False)
        rendered = self.template.render(messages, add_generation_prompt=True)
        return self._with_bos(rendered + self._head)

    def answer_ids(self, text: str) -> list[int]:
        """Ids of a bare answer, as it would follow `prompt_ids`; no end of turn."""
        lead = "" if self._head else self._lead
        answer = lead + (text.strip() if self._trims else text)
        return self.tokenizer.encode(answer, continues=self._continues)

    def rest_ids(self, text: str) -> list[int]:
        """Ids of the rest of an answer whose first words `answer_ids` gave; no end of turn."""
        return self.tokenizer.encode(text.rstrip() if self._trims else text, continues=True)

    def text_ids(self, text: str) -> list[int]:
        """Ids of a bare text, after BOS where the model wants one."""
        return self._with_bos(text, special=False)

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

    def _closed(self, text: str, continues: bool = False) -> Segment:
        """A trained text with EOS after it."""
        eos = self.tokenizer.eos_id
        ids = self.tokenizer.encode(text, continues=continues)
        return Segment((*ids, *(() if eos is None else (eos,))), trained=True)

    def _plain_turns(self, messages: Sequence[Message]) -> list[Segment]:
        segments: list[Segment] = []
        asked: list[Message] = []
        for message in messages:
            if message.get("role") != "assistant":
                asked.append(message)
                continue
            prompt = _plain_prompt(asked)
            if segments:
                ids = self.tokenizer.encode(prompt, continues=self._is_text(segments[-1].ids))
            else:
                ids = self._with_bos(prompt, special=False)
            answer = self._closed(message["content"], continues=self._is_text(ids))
            segments += [Segment(tuple(ids), trained=False), answer]
            asked = []
        return segments

    def _chat_turns(
        self,
        template: ChatTemplate,
        messages: Sequence[Message],
        tools: Sequence[Any] | None,
    ) -> list[tuple[str, bool]]:
        """(text, trained) pieces of a rendered conversation.

        Each answer is what the template adds after its generation prompt. Some templates render
        earlier turns differently once later ones follow (they drop the reasoning); then only the
        last answer is trained on.
        """
        pieces: list[tuple[str, bool]] = []
        done = ""
        for i, message in enumerate(messages):
            if message.get("role") != "assistant":
                continue
            prompt = template.render(messages[:i], add_generation_prompt=True, tools=tools)
            full = template.render(messages[: i + 1], tools=tools)
            if not full.startswith(prompt):
                raise InputError(
                    "the model's chat template does not begin an answer with its generation prompt",
                    'set template = "plain" in [base] to do without the template',
                )
            if not prompt.startswith(done):
                pieces, done = [], ""
            start = len(prompt)
            start += len(self._head) if full.startswith(self._head, start) else 0
            pieces += [(full[len(done) : start], False), (full[start:], True)]
            done = full
        return pieces

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

    def _split_ends(self, pieces: Iterable[tuple[str, bool]]) -> Iterable[tuple[str, bool]]:
        """Move what a template writes after an end of turn (a newline) out of the trained part."""
        rest = ""
        for text, trained in pieces:
            if not trained:
                yield rest + text, False
                rest = ""
                continue
            ends = [text.rfind(mark) + len(mark) for mark in self._ends if mark in text]
            end = max(ends, default=len(text))
            yield text[:end], True
            rest = text[end:]


def _probe(template: ChatTemplate) -> tuple[bool, str]:
    """Whether a template strips the white space round an answer, and what it puts before it."""
    asked = {"role": "user", "content": "a"}
    prompt = template.render([asked], add_generation_prompt=True)
    answer = {"role": "assistant", "content": f" {_MARK} "}
    before, _, after = template.render([asked, answer]).partition(_MARK)
    trims = not after.startswith(" ")
    lead = before[len(prompt) :] if before.startswith(prompt) else ""
    return trims, lead if trims else lead.removesuffix(" ")


def _plain_prompt(messages: Sequence[Message]) -> str:
    return "".join(f"{message['content']}\n" for message in messages)
