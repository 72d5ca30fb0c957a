"""Chat templates, and the boundary between what a model is given and what it is trained to say.

Training, scoring and generation all go through `Formatter`, so they share that boundary: a prompt
and an answer are tokenised separately, never across their border.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from m2m.errors import InputError
from m2m.tokenizer.bpe import Tokenizer

Message = Mapping[str, Any]

_MAX_RENDERED = 16 * 2**20  # characters; a template from a stranger's file must not fill the memory

# Templates that print today's date would give other tokens every day. This is the date that
# Llama 3's template falls back to where no clock is offered.
_TODAY = datetime.date(2024, 7, 26)

# What an expression of a template may raise when it does not fit the messages.
_TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with a limit on what `*` and `**` may build."""

    intercepted_binops = frozenset(["*", "**"])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Evaluate `left * right` or `left ** right`, or refuse."""
        sizes = [len(side) if hasattr(side, "__len__") else abs(side) for side in (left, right)]
        if operator == "**" or sizes[0] * sizes[1] > _MAX_RENDERED:
            raise SecurityError(f"a chat template may not compute such a large {operator!r}")
        return left * right


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    """Jinja's own `tojson` escapes for HTML; chat templates expect plain JSON."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


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
        environment = _Environment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _TODAY.strftime
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise InputError(
                f"the model's chat template is not valid Jinja: line {error.lineno}: {error}",
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
            InputError: the template refuses these messages, or its text grows beyond 16 MiB.
        """
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(
                messages=[dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                tools=tools,
                bos_token=self.bos,
                eos_token=self.eos,
            ):
                pieces.append(piece)
                size += len(piece)
                if size > _MAX_RENDERED:
                    raise SecurityError("the rendered text is longer than 16 MiB")
        except _TEMPLATE_ERRORS as error:
            roles = ", ".join(str(message.get("role")) for message in messages)
            raise InputError(
                f"the model's chat template refuses a conversation of {roles}: {error}",
                'mend the row, or set template = "plain" in [base]',
            ) from error
        return "".join(pieces)


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
        self._trims = template is not None and self._probe_trimming(template)

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
        answers = [i for i, message in enumerate(messages) if message.get("role") == "assistant"]
        if not answers:
            raise InputError("the conversation has no assistant turn to train on")
        if self.template is None:
            return self._plain_turns(messages)
        return self._join(self._split_ends(_chat_turns(self.template, messages, answers, tools)))

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
        return self._with_bos(self.template.render(messages, add_generation_prompt=True))

    def answer_ids(self, text: str) -> list[int]:
        """Ids of a bare answer, as it would follow `prompt_ids`; no end of turn."""
        return self.tokenizer.encode(text.strip() if self._trims else text)

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

    def _bos_segment(self) -> list[Segment]:
        ids = self._with_bos("")
        return [Segment(tuple(ids), trained=False)] if ids else []

    def _closed(self, text: str) -> Segment:
        """A trained text with EOS after it."""
        eos = self.tokenizer.eos_id
        ids = self.tokenizer.encode(text)
        return Segment((*ids, *(() if eos is None else (eos,))), trained=True)

    def _plain_turns(self, messages: Sequence[Message]) -> list[Segment]:
        segments: list[Segment] = []
        asked: list[Message] = []
        for message in messages:
            if message.get("role") != "assistant":
                asked.append(message)
                continue
            prompt = _plain_prompt(asked)
            ids = self.tokenizer.encode(prompt) if segments else self._with_bos(prompt, False)
            segments += [Segment(tuple(ids), trained=False), self._closed(message["content"])]
            asked = []
        return segments

    def _join(self, pieces: Iterable[tuple[str, bool]]) -> list[Segment]:
        """Encode (text, trained) pieces one by one."""
        segments: list[Segment] = []
        for text, trained in pieces:
            if not text:
                continue
            if segments:
                ids = self.tokenizer.encode(text, special=True)
            elif trained:
                segments += self._bos_segment()
                ids = self.tokenizer.encode(text, special=True)
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

    @staticmethod
    def _probe_trimming(template: ChatTemplate) -> bool:
        """Whether the template strips the white space round an answer."""
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": " b "}]
        return " b " not in template.render(messages)


def _plain_prompt(messages: Sequence[Message]) -> str:
    return "".join(f"{message['content']}\n" for message in messages)


def _chat_turns(
    template: ChatTemplate,
    messages: Sequence[Message],
    answers: Sequence[int],
    tools: Sequence[Any] | None,
) -> list[tuple[str, bool]]:
    """(text, trained) pieces of a rendered conversation.

    Each answer is what the template adds after its generation prompt. Some templates render earlier
    turns differently once later ones follow (they drop the reasoning); then only the last answer is
    trained on.
    """
    pieces: list[tuple[str, bool]] = []
    done = ""
    for i in answers:
        prompt = template.render(messages[:i], add_generation_prompt=True, tools=tools)
        full = template.render(messages[: i + 1], tools=tools)
        if not full.startswith(prompt):
            raise InputError(
                "the model's chat template does not begin an answer with its generation prompt",
                'set template = "plain" in [base] to do without the template',
            )
        if not prompt.startswith(done):
            pieces, done = [], ""
        pieces += [(prompt[len(done) :], False), (full[len(prompt) :], True)]
        done = full
    return pieces
