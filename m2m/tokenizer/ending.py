"""How an answer ends: what a chat template writes after it, and whether that is an end token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from m2m.tokenizer.chat import Formatter
from m2m.tokenizer.template import ChatTemplate
from m2m.tokenizer.tokenizer import Tokenizer

_ASK = {"role": "user", "content": "m2mAsk"}
_ANSWER = {"role": "assistant", "content": "m2mAnswer"}


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
    text = template.render([_ASK, _ANSWER]).rpartition(_ANSWER["content"])[2].strip()
    ids = tokenizer.encode(text, special=True, continues=True)
    token = next((index for index in ids if tokenizer.is_special(index)), None)
    return Ending(text, len(ids), token)


def trained_end(formatter: Formatter) -> int | None:
    """The end token with which answers are trained, None if there is none.

    Raises:
        InputError: the template refuses a question and its answer.
    """
    last = formatter.samples([_ASK, _ANSWER])[-1][-1].ids[-1]
    return last if last in formatter.tokenizer.eog_ids else None


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
