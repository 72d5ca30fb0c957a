"""How an answer ends: what a chat template writes after it, and whether that is an end token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from m2m.tokenizer.template import ChatTemplate
from m2m.tokenizer.tokenizer import Tokenizer

_ASK, _ANSWER = "m2mAsk", "m2mAnswer"  # texts that a template passes on unchanged


@dataclass(frozen=True)
class Ending:
    """What follows an answer.

    Attributes:
        text: what the template writes after the answer, white space around it left out.
        pieces: into how many tokens the vocabulary cuts that text.
        token: the first special token of it, with which a model learns to stop.
    """

    text: str
    pieces: int
    token: int | None


def answer_ending(tokenizer: Tokenizer, template: ChatTemplate) -> Ending:
    """What a chat template writes after an answer.

    Raises:
        InputError: the template refuses a question and its answer.
    """
    messages = [{"role": "user", "content": _ASK}, {"role": "assistant", "content": _ANSWER}]
    text = template.render(messages).rpartition(_ANSWER)[2].strip()
    ids = tokenizer.encode(text, special=True, continues=True)
    token = next((index for index in ids if tokenizer.is_special(index)), None)
    return Ending(text, len(ids), token)


def chat_template(get: Callable[[str], Any], tokenizer: Tokenizer) -> ChatTemplate | None:
    """The chat template in GGUF metadata, None if there is none.

    Raises:
        InputError: it is not valid Jinja.
    """
    source = get("tokenizer.chat_template")
    if not isinstance(source, str):
        return None
    ids = (tokenizer.bos_id, tokenizer.eos_id)
    bos, eos = ("" if index is None else tokenizer.tokens[index] for index in ids)
    return ChatTemplate(source, bos, eos)
