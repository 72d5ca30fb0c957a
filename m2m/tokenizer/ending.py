"""How an answer ends: the text that a chat template writes after it, and its end tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from m2m.tokenizer.prompt_boundary import Formatter
from m2m.tokenizer.template import ChatTemplate
from m2m.tokenizer.tokenizer import Tokenizer

_ASK = {"role": "user", "content": "m2mAsk"}
_ANSWER = {"role": "assistant", "content": "m2mAnswer"}


def answer_ending(tokenizer: Tokenizer, template: ChatTemplate) -> tuple[str, list[int]]:
    """Return the text that a chat template writes after an answer, stripped, and its ids.

    Raises:
        InputError: the template refuses a question and its answer.
    """
    text = template.render([_ASK, _ANSWER]).rpartition(_ANSWER["content"])[2].strip()
    return text, tokenizer.encode(text, special=True, continues=True)


def trained_ends(formatter: Formatter) -> list[int]:
    """Return the end tokens with which answers are trained, in their order.

    Raises:
        InputError: the template refuses a question and its answer.
    """
    answer = formatter.samples([_ASK, _ANSWER])[-1][-1].ids
    return [index for index in answer if index in formatter.tokenizer.eog_ids]


def chat_template(
    get: Callable[[str], Any], tokenizer: Tokenizer, file: Path
) -> ChatTemplate | None:
    """Return the chat template in GGUF metadata, None if there is none; errors name the file.

    Raises:
        InputError: the template is not valid Jinja.
        LimitError: compiling it takes more memory or time than a stranger's file gets.
    """
    source = get("tokenizer.chat_template")
    if not isinstance(source, str):
        return None
    ids = (tokenizer.bos_id, tokenizer.eos_id)
    bos, eos = ("" if index is None else tokenizer.tokens[index] for index in ids)
    return ChatTemplate(source, bos, eos, str(file))
