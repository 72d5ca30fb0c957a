"""How a model's answer begins and ends after the prompt that programs really send.

llama.cpp, llama-cpp-python and Ollama send a conversation with the template's generation prompt,
and the model writes the rest. So training cuts there, and the answer is the text that follows. Most
templates write only the answer's text and its end there. Others write more. `AnswerShape` finds
this by rendering short conversations, and it decides the first part of an answer (its head):

- The template puts an empty thought into the last turn only (Qwen3): no head. It writes earlier
  turns of a conversation without a thought, so a later prompt continues the trained text, and every
  program that serves the model shows clean text.
- It writes a text before every answer (gpt-oss: `<|channel|>final<|message|>`; GLM-4.6: an empty
  thought): this text is the head. The model has to write it, so it is trained on it.
- The generation prompt opens a thought (DeepSeek-R1, Qwen3.5): the head closes it as the template
  does; if the template never shows this, with an empty line on both sides, as Qwen and DeepSeek do.

The head is trained and comes before scored text, but is not scored: all answers have the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m2m.errors import InputError
from m2m.tokenizer.template import ChatTemplate, Message

_MARK = "\N{SECTION SIGN}"
_THOUGHT = "\N{PILCROW SIGN}"
_ASKED: Message = {"role": "user", "content": "a"}
# The marks that open and close a thought in the templates of llama.cpp's models/templates.
_BRACKETS = (
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("[THINK]", "[/THINK]"),
)
# Fields for reasoning in rows: the name of DeepSeek and Qwen, of gpt-oss and Ollama, of OpenRouter.
REASONING = ("reasoning_content", "thinking", "reasoning")
_WRITTEN_OUT = re.compile(r"\s*<think>(.*?)</think>\s*(.*)", re.DOTALL)
_OPEN_TAG = re.compile(r"<[^<>]*$")


@dataclass(frozen=True)
class AnswerShape:
    """The texts that a template writes around answers.

    Attributes:
        dropped: the end of the generation prompt, if the template leaves it out before an answer.
        opening: the text that it writes there instead, up to the answer's text.
        head: the beginning of an answer after the generation prompt.
        ending: the text that it writes after an answer that is the last turn.
        close: the text that it writes between an answer and the next turn.
        field: the message field whose text it writes as a thought, or None.
        open: the closing mark of the thought that the generation prompt opens, or "".
        trims: whether it removes the white space around an answer.
    """

    dropped: str
    opening: str
    head: str
    ending: str
    close: str
    field: str | None
    open: str
    trims: bool

    @classmethod
    def of(cls, template: ChatTemplate) -> AnswerShape:
        """Find the shape of a template by rendering short conversations.

        Raises:
            InputError: the template refuses a question and its answer.
        """
        prompt = template.render([_ASKED], add_generation_prompt=True)
        before, _, ending = template.render([_ASKED, _answer(_MARK)]).partition(_MARK)
        spaced = template.render([_ASKED, _answer(f" {_MARK} ")])
        trims = not spaced.partition(_MARK)[2].startswith(" ")
        common = _common(prompt, before)
        earlier = _earlier(template)
        field, thought = _thought(template, prompt)
        dropped, opening = prompt[len(common) :], before[len(common) :]
        if earlier.startswith(prompt):
            head = earlier.partition(_MARK)[0][len(prompt) :]
        elif not dropped:
            head = opening
        elif thought is not None:
            head = thought
        else:
            head = "" if dropped.endswith(opening) else opening
        question = template.render([_ASKED])
        generated = prompt.removeprefix(question) if prompt.startswith(question) else dropped
        generated = generated or dropped
        mark = _left_open(generated + head)
        if mark:
            head += _closing(generated + head, mark)
        close = earlier.partition(_MARK)[2].partition(_THOUGHT)[0]
        return cls(dropped, opening, head, ending, close, field, _left_open(generated), trims)

    def answer(self, prompt: str, full: str) -> str | None:
        """Return the answer in `full`, a conversation without thoughts, as it follows `prompt`."""
        stem = prompt.removesuffix(self.dropped) + self.opening
        if prompt.endswith(self.dropped) and full.startswith(stem):
            return full[len(stem) :]
        return None

    def call_after_thought(self, prompt: str, full: str) -> str | None:
        """Return a call of tools in `full` as it follows `prompt`, which opens a thought.

        The template writes the call without a thought there, so the answer first closes it.
        """
        starts = [prompt.rfind(opens) for opens, closes in _BRACKETS if closes == self.open]
        start = max(starts, default=-1)
        if start < 0 or not full.startswith(prompt[:start]):
            return None
        return _closing(prompt, self.open) + full[start:]


def parted(message: Message, shape: AnswerShape) -> tuple[Message, str]:
    """Return a turn without its reasoning, and the reasoning from a field or from `<think>`.

    Text in `<think>` stays a part of the answer if the template does not have another place for it.
    """
    fields = dict(message)
    named = [str(text) for name in REASONING if (text := fields.pop(name, None))]
    reasoning = named[0] if named else ""
    written = _WRITTEN_OUT.fullmatch(str(fields.get("content") or ""))
    if written and (shape.field or shape.open or not written[1].strip()):
        fields["content"] = written[2]
        reasoning = reasoning or written[1]
    return fields, reasoning.strip()


def restored(message: Message, reasoning: str, shape: AnswerShape) -> Message:
    """Return the turn with its reasoning in the field that the template reads."""
    return {**message, shape.field: reasoning} if reasoning and shape.field else message


def between(
    template: ChatTemplate, messages: Sequence[Message], full: str, tools: Sequence[Any] | None
) -> str | None:
    """Return the last answer in `full` and the text after it; None if its start is not clear.

    This is for templates that move texts if an answer follows (Mistral's: the system message is in
    the last question, but it is left out if there is an answer after that).
    """
    if not messages[-1].get("content"):
        return None
    marked = template.render([*messages[:-1], {**messages[-1], "content": _MARK}], tools=tools)
    before, mark, _ = marked.partition(_MARK)
    return full[len(before) :] if mark and full.startswith(before) else None


def _answer(text: str, **more: Any) -> Mapping[str, Any]:
    return {"role": "assistant", "content": text, **more}


def _common(one: str, other: str) -> str:
    """Return the common beginning of two texts, without an incomplete tag at its end."""
    pairs = zip(one, other, strict=False)
    size = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
    return one if size == len(one) else _OPEN_TAG.sub("", one[:size])


def _earlier(template: ChatTemplate) -> str:
    """Render an answer with a turn after it; return "" if the template refuses that."""
    asked_again: Message = {"role": "user", "content": _THOUGHT}
    try:
        return template.render([_ASKED, _answer(_MARK), asked_again], add_generation_prompt=True)
    except InputError:
        return ""


def _thought(template: ChatTemplate, prompt: str) -> tuple[str | None, str | None]:
    """Find the field that is written as a thought, and the text between thought and answer."""
    for name in REASONING:
        try:
            full = template.render([_ASKED, _answer(_MARK, **{name: _THOUGHT})])
        except InputError:
            continue
        between = full.partition(_THOUGHT)[2].partition(_MARK)
        if full.startswith(prompt) and between[1]:
            return name, between[0]
    return None, None


def _closing(text: str, mark: str) -> str:
    """Return the mark that closes an empty thought after `text`, with the usual line ends."""
    return f"\n{mark}\n\n" if text.endswith("\n") else mark


def _left_open(text: str) -> str:
    """Return the closing mark of a thought that `text` opens but does not close, or ""."""
    for opens, closes in _BRACKETS:
        if text.rfind(opens) > text.rfind(closes):
            return closes
    return ""


def closing_marks() -> Sequence[str]:
    """Return the marks after which an answer begins if a model wrote a thought first."""
    return [closes for _, closes in _BRACKETS]
