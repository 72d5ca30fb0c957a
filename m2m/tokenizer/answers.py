"""How a model's answer begins and ends after the prompt that is really sent.

llama.cpp, llama-cpp-python and Ollama send a conversation with the template's generation prompt,
and the model writes the rest. So that is where training cuts, and an answer is what follows. Most
templates write an answer's text there and its end. Others do more; `Shape` finds out by rendering
short conversations, and this is what an answer begins with then (its head):

- The template puts an empty thought into the last turn only (Qwen3): no head. Earlier turns of a
  conversation are written without one, so a later prompt goes on from what was trained, and every
  program that serves the model shows clean text.
- It writes something before every answer (gpt-oss: `<|channel|>final<|message|>`; GLM-4.6: an empty
  thought): that is the head. The model has to write it, so it is trained on it.
- The generation prompt opens a thought (DeepSeek-R1, Qwen3.5): the head closes it, as the template
  does or, if it never shows that, with an empty line on both sides, as Qwen and DeepSeek do.

The head is trained and conditioned on, but not scored: it is the same for all answers.
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
# What opens and closes a thought in the templates of llama.cpp's models/templates.
_BRACKETS = (
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("[THINK]", "[/THINK]"),
)
# Where rows keep reasoning: DeepSeek's and Qwen's name, gpt-oss' and Ollama's, OpenRouter's.
REASONING = ("reasoning_content", "thinking", "reasoning")
_WRITTEN_OUT = re.compile(r"\s*<think>(.*?)</think>\s*(.*)", re.DOTALL)
_OPEN_TAG = re.compile(r"<[^<>]*$")


@dataclass(frozen=True)
class Shape:
    """How a template frames answers.

    Attributes:
        dropped: end of the generation prompt that the template leaves out before a given answer.
        opening: what it writes there instead, up to the answer's text.
        head: what an answer begins with after the generation prompt.
        ending: what it writes after an answer that is the last turn.
        close: what it writes after one before the next turn.
        field: the message field whose text it writes as a thought, if any.
        open: closing mark of the thought that the generation prompt opens, or "".
        trims: whether it strips the white space around an answer.
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
    def of(cls, template: ChatTemplate) -> Shape:
        """Find out by rendering.

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
        asked = template.render([_ASKED])
        generated = prompt.removeprefix(asked) if prompt.startswith(asked) else dropped
        generated = generated or dropped
        mark = _left_open(generated + head)
        if mark:
            head += f"\n{mark}\n\n" if (generated + head).endswith("\n") else mark
        close = earlier.partition(_MARK)[2].partition(_THOUGHT)[0]
        return cls(dropped, opening, head, ending, close, field, _left_open(generated), trims)

    def answer(self, prompt: str, full: str) -> str | None:
        """The answer in `full`, a conversation without thoughts, as it follows `prompt`."""
        stem = prompt.removesuffix(self.dropped) + self.opening
        if prompt.endswith(self.dropped) and full.startswith(stem):
            return full[len(stem) :]
        return None


def parted(message: Message, shape: Shape) -> tuple[Message, str]:
    """A turn without its reasoning, and the reasoning: of a field, or written out as `<think>`.

    Text in `<think>` stays a part of the answer if the template has no other place for it.
    """
    fields = dict(message)
    named = [str(text) for name in REASONING if (text := fields.pop(name, None))]
    reasoning = named[0] if named else ""
    written = _WRITTEN_OUT.fullmatch(str(fields.get("content") or ""))
    if written and (shape.field or shape.open or not written[1].strip()):
        fields["content"] = written[2]
        reasoning = reasoning or written[1]
    return fields, reasoning.strip()


def restored(message: Message, reasoning: str, shape: Shape) -> Message:
    """The turn with its reasoning where the template looks for it."""
    return {**message, shape.field: reasoning} if reasoning and shape.field else message


def between(
    template: ChatTemplate, messages: Sequence[Message], full: str, tools: Sequence[Any] | None
) -> str | None:
    """The last answer in `full` with what follows it; None if it cannot be told from the rest.

    For templates that move things when an answer is added (Mistral's: the system message is in the
    last question, and nowhere if there is an answer after it).
    """
    if not messages[-1].get("content"):
        return None
    marked = template.render([*messages[:-1], {**messages[-1], "content": _MARK}], tools=tools)
    before, found, _ = marked.partition(_MARK)
    return full[len(before) :] if found and full.startswith(before) else None


def _answer(text: str, **more: Any) -> Mapping[str, Any]:
    return {"role": "assistant", "content": text, **more}


def _common(one: str, other: str) -> str:
    """What two texts begin with, up to a whole tag."""
    pairs = zip(one, other, strict=False)
    size = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
    return one if size == len(one) else _OPEN_TAG.sub("", one[:size])


def _earlier(template: ChatTemplate) -> str:
    """An answer with a turn after it; "" if the template refuses that."""
    asked_again: Message = {"role": "user", "content": _THOUGHT}
    try:
        return template.render([_ASKED, _answer(_MARK), asked_again], add_generation_prompt=True)
    except InputError:
        return ""


def _thought(template: ChatTemplate, prompt: str) -> tuple[str | None, str | None]:
    """The field that is written as a thought, and what stands between thought and answer."""
    for name in REASONING:
        try:
            full = template.render([_ASKED, _answer(_MARK, **{name: _THOUGHT})])
        except InputError:
            continue
        between = full.partition(_THOUGHT)[2].partition(_MARK)
        if full.startswith(prompt) and between[1]:
            return name, between[0]
    return None, None


def _left_open(text: str) -> str:
    """The closing mark of a thought that `text` opens and does not close."""
    for opens, closes in _BRACKETS:
        if text.rfind(opens) > text.rfind(closes):
            return closes
    return ""


def closing_marks() -> Sequence[str]:
    """The marks after which an answer begins, if a model wrote a thought first."""
    return [closes for _, closes in _BRACKETS]
