"""Read the turns of a conversation, as OpenAI, ShareGPT, Gemini and others write them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from m2m.dataset.conversation import FLAGS, Wrong, kind, read_message
from m2m.dataset.templates import parsed

# Names of speakers: ShareGPT's, two more from LLaMA-Factory, Gemini's, OpenAssistant's and others.
SPEAKERS = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "bard": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}
# The marks before each turn of a chat that is one text: HH-RLHF's and Guanaco's.
_MARKS = (
    re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):"),
    re.compile(r"(?<!\s)\s*### (Human|Assistant):"),
)
_PAIRS = (
    ("input", "output"),
    ("human", "assistant"),
    ("user", "assistant"),
    ("question", "answer"),
)
_CHATS = re.compile(r"conversations?|messages|turns|dialog(ue)?s?|chat|(chat_)?history")
_WORD = re.compile(r"\w+|\W")
_CALL = "function_call"
_BY, _SAID = ("role", "from", "speaker"), ("content", "value", "text", "message")


def is_turns(value: Any) -> bool:
    """Return whether a value is a list of turns, also as JSON text."""
    turns = parsed(value)
    return isinstance(turns, list) and bool(turns) and all(map(_is_turn, turns))


def _is_turn(turn: Any) -> bool:
    if not isinstance(turn, Mapping):
        return False
    speaker = next((turn[key] for key in _BY if key in turn), None)
    return isinstance(speaker, str) and any(
        key in turn for key in (*_SAID, "parts", "tool_calls", "function_call")
    )


def spoken(value: Any) -> Any:
    """Return the turns of a chat written as one text (HH-RLHF, Guanaco), as pairs (Capybara), or
    as texts of which the user's come first (LIMA, UltraChat).

    Another value, or a chat in which the two do not speak in turn, is returned as it is.
    """
    turns = parsed(value)
    if isinstance(turns, list) and turns and all(map(_is_exchange, turns)):
        return [
            {"role": role, "content": text}
            for turn in turns
            for role, text in zip(("user", "assistant"), turn.values(), strict=True)
        ]
    if isinstance(turns, list) and len(turns) > 1 and all(isinstance(t, str) for t in turns):
        return [
            {"role": ("user", "assistant")[place % 2], "content": text}
            for place, text in enumerate(turns)
        ]
    for marks in _MARKS if isinstance(value, str) else ():
        begin, *parts = marks.split(value)
        names, said = parts[::2], [part.strip() for part in parts[1::2]]
        in_turn = all(name == ("Human", "Assistant")[n % 2] for n, name in enumerate(names))
        if len(names) > 1 and in_turn and not begin.strip() and all(said):
            pairs = zip(names, said, strict=True)
            return [{"role": SPEAKERS[name.lower()], "content": text} for name, text in pairs]
    return value


def _is_exchange(turn: Any) -> bool:
    """Return whether an object has a question and its answer, as the turns of Capybara."""
    return (
        isinstance(turn, Mapping)
        and any([*turn][:2] == [*pair] for pair in _PAIRS)
        and len(turn) == 2
        and all(isinstance(text, str) and text.strip() for text in turn.values())
    )


def is_whole(value: Any) -> bool:
    """Return whether a value is a list of turns, of both user and assistant, also as a text."""
    value = spoken(value)
    if not is_turns(value):
        return False
    speakers = [turn[key] for turn in parsed(value) for key in _BY if key in turn]
    return {"user", "assistant"} <= {SPEAKERS.get(str(speaker)) for speaker in speakers}


def is_chat(column: str, value: Any) -> bool:
    """Return whether a value is a conversation; texts and pairs of them need a name that says so.

    A list of texts in `data` (UltraChat) may also be the words of a sentence.
    """
    turns, name = parsed(value), column.strip().lower()
    if not isinstance(turns, list) or is_turns(value):
        return is_whole(value)
    texts = all(isinstance(text, str) for text in turns)
    if texts and name.endswith("history"):
        return False  # the question is in another column
    words = texts and all(map(_WORD.fullmatch, turns))
    return is_whole(value) and bool(_CHATS.fullmatch(name) or (name == "data" and not words))


def read_turns(value: Any, name: str) -> list[dict[str, Any]]:
    """Return the messages of a conversation.

    Args:
        value: a list of turns, or the same as JSON text, or as `spoken` reads it.
        name: of its field, for errors.

    Raises:
        Wrong: it is no list of turns, or a turn cannot be read.
    """
    turns = parsed(spoken(value))
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise Wrong(f'"{name}" must be a list of objects, found {kind(turns)}')
    if not turns:
        raise Wrong(f'"{name}" is empty')
    return [_message(turn, number) for number, turn in enumerate(turns, start=1)]


def _message(turn: Mapping[str, Any], number: int) -> dict[str, Any]:
    if "role" in turn:
        message = dict(turn)
        role = turn["role"]
        if isinstance(role, str):
            message["role"] = SPEAKERS.get(role, role)
            if role == _CALL and isinstance(turn.get("content"), str):
                message = _called(message, number)
        if "content" not in turn:
            if isinstance(parts := turn.get("parts"), list):  # Gemini's name
                del message["parts"]
                message["content"] = parts
            elif said := next((key for key in _SAID if key in turn), None):
                message["content"] = message.pop(said)
        return read_message(message, number)
    by = next((key for key in _BY if key in turn), "from")
    speaker = turn.get(by)
    if not isinstance(speaker, str) or speaker not in SPEAKERS:
        raise Wrong(
            f'turn {number} is "{by}" {speaker!r}, expected one of {", ".join(SPEAKERS)}; of a '
            "chat between people, say which of them the model shall be"
        )
    said = next((key for key in ("value", *_SAID) if key in turn), "value")
    if not isinstance(turn.get(said), str):
        raise Wrong(f'turn {number}: "{said}" must be text, found {kind(turn.get(said))}')
    flags = {key: turn[key] for key in FLAGS if key in turn}
    message = {"role": SPEAKERS[speaker], "content": turn[said], **flags}
    return read_message(_called(message, number) if speaker == _CALL else message, number)


def _called(message: dict[str, Any], number: int) -> dict[str, Any]:
    """Return the turn `function_call` with its JSON as `tool_calls`, as LLaMA-Factory reads it.

    Other text, such as "clock()", is what the model says.

    Raises:
        Wrong: it begins as JSON, and is none.
    """
    text = message["content"].strip()
    if text[:1] not in ("{", "["):
        return message
    try:
        calls = json.loads(text)
    except ValueError:
        raise Wrong(f"turn {number}: the function_call is not JSON: {text!r:.60}") from None
    return {**message, "content": "", "tool_calls": calls if isinstance(calls, list) else [calls]}
