"""Read the messages of a training row for a chat template; refuse any that cannot be trained on."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]
# Fields that say whether a turn is trained on: OpenAI's weight, axolotl's train and training,
# ms-swift's loss.
FLAGS = ("weight", "train", "training", "loss")
_ROLES = ("system", "developer", "user", "assistant", "tool")
# Words that programs and people write for an empty cell; "<noinput>" is that of Alpaca's makers.
NOTHING = frozenset({"None", "nan", "NaN", "NaT", "<NA>", "null", "NULL", "<noinput>"})
NOTHING |= {"NA", "N/A", "#N/A", "n/a", "\\N"}
FAILED = frozenset({"#REF!", "#NAME?", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!"})
NOTHING |= FAILED


# Categories of Unicode without a visible sign, and blank letters (Hangul fillers, Braille).
_UNSEEN = frozenset(("Cc", "Cf", "Zl", "Zp", "Zs"))
_BLANK = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")


def is_blank(text: str) -> bool:
    """Return whether a text has no visible character: white space, U+200B and the like alone."""
    return all(c in _BLANK or unicodedata.category(c) in _UNSEEN for c in text)


def blank_words(text: str) -> str:
    """Say why a blank text is one: "is empty", with the codes of invisible characters."""
    codes = dict.fromkeys(f"U+{ord(character):04X}" for character in text.strip())
    return (
        f"is empty: it has only invisible characters ({', '.join(codes)})" if codes else "is empty"
    )


def is_nothing(text: object) -> bool:
    """Return whether the text of an optional part is empty, or a program's word for that."""
    return isinstance(text, str) and (not text or text.strip() in NOTHING)


def for_nothing(word: str) -> str:
    """Say why a program wrote a word of `NOTHING`."""
    if word in FAILED:
        return f"a spreadsheet wrote {word!r} for a formula that failed"
    return f"a program wrote {word!r} for an empty field"


class Wrong(ValueError):
    """Says in a few words why a row is wrong."""


def kind(value: Any) -> str:
    """Return a user's word for the type of a value."""
    names = {str: "text", bool: "true or false", int: "a number", float: "a number"}
    names |= {list: "a list", dict: "an object", type(None): "nothing (null)"}
    return names.get(type(value), type(value).__name__)


def read_message(item: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return one message without empty fields; `weight` stays only if it is 0.

    Raises:
        Wrong: a template cannot take the role, the content or the tool calls.
    """
    message = {key: value for key, value in item.items() if value is not None}
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        raise Wrong(f"message {number} has role {role!r}, expected one of {', '.join(_ROLES)}")
    if message.get("function_call"):
        raise Wrong(f"message {number} has function_call; write it as tool_calls")
    if unread := [key for key in ("thought", "thoughts", "analysis") if message.get(key)]:
        raise Wrong(f"message {number} has {unread[0]}; write it as reasoning_content")
    if isinstance(content, list):
        content = _joined_parts(content, number)
    if calls := message.get("tool_calls"):
        message["tool_calls"] = [_tool_call(call, number) for call in _listed(calls, number)]
        content = "" if content is None else content
    if not isinstance(content, str):
        raise Wrong(f"message {number}: content must be text, found {kind(content)}")
    return _weighed({**message, "content": content}, number)


def _weighed(message: dict[str, Any], number: int) -> dict[str, Any]:
    weight, *others = (message.pop(name, True) for name in FLAGS)
    if weight not in (0, 1) or not all(isinstance(flag, bool) for flag in others):
        names = ", ".join(FLAGS[1:])
        raise Wrong(f"message {number}: weight must be 0 or 1, and {names} true or false")
    return message if weight and all(others) else {**message, "weight": 0}


def _listed(calls: Any, number: int) -> list[Any]:
    if not isinstance(calls, list):
        raise Wrong(f"message {number}: tool_calls must be a list, found {kind(calls)}")
    return calls


def _tool_call(call: Any, number: int) -> dict[str, Any]:
    """Return a call as OpenAI and transformers write it, with its arguments as an object."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Wrong(f"message {number}: a tool call needs a name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise Wrong(f"message {number}: the arguments of a tool call are not JSON") from None
    if not isinstance(arguments, dict):
        raise Wrong(f"message {number}: the arguments of a tool call must be an object")
    rest = {key: call[key] for key in ("id",) if key in call}
    return {**rest, "type": "function", "function": {**function, "arguments": arguments}}


def _joined_parts(parts: Sequence[Any], number: int) -> str:
    """Join OpenAI's content parts; all of them must be text."""
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    kept = [text for text in texts if isinstance(text, str)]
    if len(kept) < len(texts):
        raise Wrong(f"message {number} has parts that are not text")
    return "".join(kept)


def with_answer(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the messages if every assistant turn has content and one is trained on.

    Raises:
        Wrong: there is no turn to train on, or a turn is empty.
    """
    answers = [(i, m) for i, m in enumerate(messages, 1) if m["role"] == "assistant"]
    if not answers:
        raise Wrong("no assistant turn to train on")
    for number, message in enumerate(messages, 1):
        if (word := message["content"].strip()) in NOTHING and message["role"] != "tool":
            raise Wrong(f"message {number}: {for_nothing(word)}; delete the row")
    for number, message in answers:
        if is_blank(message["content"]) and not message.get("tool_calls"):
            raise Wrong(f"message {number}: the assistant's turn {blank_words(message['content'])}")
    if all(message.get("weight") == 0 for _, message in answers):
        raise Wrong("every assistant turn has weight 0, so there is nothing to train on")
    return tuple(messages)
