"""Fit tool calls to the form that a template writes; refuse parts that plain text cannot hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from m2m.errors import InputError
from m2m.tokenizer import ChatTemplate, Message

_REASONING = ("reasoning_content", "thinking", "reasoning")
_CALL = {"role": "assistant", "content": ""}
_ASKED = {"role": "user", "content": "a"}


def refuse_unplain(messages: Sequence[Message], tools: Sequence[Any] | None) -> None:
    """Refuse parts of messages that cannot be written without a chat template.

    Raises:
        InputError: names the part.
    """
    names = ("tool_calls", *_REASONING)
    unplain = [name for name in names if any(message.get(name) for message in messages)]
    if unplain := [*unplain, *(["tools"] if tools else [])]:
        raise InputError(
            f"without a chat template there is no place for {', '.join(unplain)}: "
            'set template = "chat" in [base], or delete it'
        )


def fit_arguments(messages: Sequence[Message], template: ChatTemplate) -> Sequence[Message]:
    """Return the messages with call arguments in the template's form: an object or JSON text.

    Most templates encode an object themselves; some (like OpenAI's interface) expect JSON as text.
    """
    if not any(message.get("tool_calls") for message in messages):
        return messages
    return messages if _writes_objects(template) else [_as_text(message) for message in messages]


def _writes_objects(template: ChatTemplate) -> bool:
    """Return whether the template writes an object of arguments in another form than Python's."""
    call = {"type": "function", "id": "call00001"}
    turn = {**_CALL, "tool_calls": [
        {**call, "function": {"name": "f", "arguments": {"m2mKey": "m2mValue"}}}
    ]}  # fmt: skip
    try:
        written = template.render([_ASKED, turn])
    except InputError:
        return False
    return "'m2mKey'" not in written and '\\"m2mKey' not in written


def _as_text(message: Message) -> Mapping[str, Any]:
    calls = [
        {
            **call,
            "function": {
                **function,
                "arguments": json.dumps(function["arguments"], ensure_ascii=False),
            },
        }
        for call in message.get("tool_calls") or ()
        for function in [call["function"]]
    ]
    return {**message, "tool_calls": calls} if calls else message
