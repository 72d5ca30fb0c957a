"""The formats of training rows that other tools use: each makes the same kind of row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from m2m.dataset.conversation import (
    NOTHING,
    Wrong,
    blank_words,
    is_blank,
    is_nothing,
    kind,
    with_answer,
)
from m2m.dataset.row import Row
from m2m.dataset.turns import read_turns

Fields = Mapping[str, Any]
Converter = Callable[[Fields, int], Row]


def _text(fields: Fields, key: str, *, empty: bool = False) -> str:
    value = fields.get(key)
    if value is None and empty:
        return ""
    if not isinstance(value, str):
        raise Wrong(f'"{key}" must be text, found {kind(value)}')
    if not empty and is_blank(value):
        raise Wrong(f'"{key}" {blank_words(value)}')
    return value


def _refuse_nothing(text: str, what: str) -> None:
    if (word := text.strip()) in NOTHING:
        raise Wrong(f"{what}: a program wrote {word!r} for an empty field; delete the row")


def _items(fields: Fields, key: str) -> list[Mapping[str, Any]]:
    value = fields.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Wrong(f'"{key}" must be a list of objects, found {kind(value)}')
    if not value:
        raise Wrong(f'"{key}" is empty')
    return value


def _tools(fields: Fields) -> tuple[Any, ...] | None:
    tools = fields.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except json.JSONDecodeError:
            raise Wrong('"tools" is text, but not JSON') from None
    if not tools:
        return None
    if not isinstance(tools, list):
        raise Wrong(f'"tools" must be a list, found {kind(tools)}')
    return tuple(tools)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _system(fields: Fields) -> list[dict[str, str]]:
    text = _text(fields, "system", empty=True)
    return [] if is_nothing(text) else [_turn("system", text)]


def _from_pair(fields: Fields, line: int) -> Row:
    if isinstance(fields["prompt"], list) and isinstance(fields["completion"], list):
        return _from_two_lists(fields, line)
    return Row(
        line,
        messages=(
            *_system(fields),
            _turn("user", _text(fields, "prompt")),
            _turn("assistant", _text(fields, "completion")),
        ),
    )


def _from_two_lists(fields: Fields, line: int) -> Row:
    """Read TRL's conversations: only the turns of the completion are trained on."""
    asked = read_turns(fields["prompt"], "prompt")
    context = [{**turn, "weight": 0} if turn["role"] == "assistant" else turn for turn in asked]
    messages: list[Mapping[str, Any]] = [*context, *read_turns(fields["completion"], "completion")]
    return Row(line, messages=with_answer(_led(fields, messages)), tools=_tools(fields))


def from_turns(key: str) -> Converter:
    """Return the reader of rows with a conversation in the field `key`."""

    def read(fields: Fields, line: int) -> Row:
        messages: list[Mapping[str, Any]] = [*read_turns(fields.get(key), key)]
        return Row(line, messages=with_answer(_led(fields, messages)), tools=_tools(fields))

    return read


def _led(fields: Fields, messages: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Put the column `system` before the messages, unless they already begin with it."""
    system = _system(fields)
    if not system or messages[0]["role"] != "system":
        return [*system, *messages]
    if messages[0]["content"].strip() != system[0]["content"].strip():
        raise Wrong('"system" and the first message are two system messages; keep one')
    return messages


def _from_text(fields: Fields, line: int) -> Row:
    text = _text(fields, "text")
    _refuse_nothing(text, '"text"')
    return Row(line, text=text)


def _from_alpaca(fields: Fields, line: int) -> Row:
    messages = _system(fields)
    history = fields.get("history") or []
    for pair in history if isinstance(history, list) else [history]:
        if not isinstance(pair, list) or [type(side) for side in pair] != [str, str]:
            raise Wrong('"history" must be a list of [question, answer]')
        for side in pair:
            _refuse_nothing(side, '"history"')
        messages += [_turn("user", pair[0]), _turn("assistant", pair[1])]
    question = _text(fields, "instruction")
    if not is_nothing(more := _text(fields, "input", empty=True)):
        question = f"{question}\n{more}"
    messages += [_turn("user", question), _turn("assistant", _text(fields, "output"))]
    return Row(line, messages=tuple(messages))


def _from_segments(fields: Fields, line: int) -> Row:
    pieces = []
    for number, item in enumerate(_items(fields, "segments"), start=1):
        text, label = item.get("text"), item.get("label")
        if not isinstance(text, str) or not isinstance(label, bool):
            raise Wrong(f'segment {number} needs "text" as text and "label" as true or false')
        _refuse_nothing(text if label else "", f"segment {number}")
        pieces.append((text, label))
    if not any(text and label for text, label in pieces):
        raise Wrong('no segment with "label": true to train on')
    return Row(line, pieces=tuple(pieces))


# A bare text comes last: if there are other columns, one of them may be the intended format.
FORMATS: dict[str, tuple[frozenset[str], Converter]] = {
    "prompt/completion": (frozenset({"prompt", "completion"}), _from_pair),
    "chat": (frozenset({"messages"}), from_turns("messages")),
    "ShareGPT": (frozenset({"conversations"}), from_turns("conversations")),
    "Alpaca": (frozenset({"instruction", "output"}), _from_alpaca),
    "segments": (frozenset({"segments"}), _from_segments),
    "text": (frozenset({"text"}), _from_text),
}
