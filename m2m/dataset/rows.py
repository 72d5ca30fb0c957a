"""Reading training rows in the formats that other tools use; a file has one of them.

A row becomes a conversation, a bare text or pieces of text, whatever its format was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.errors import InputError, Problems
from m2m.formats.records import Record, read_records

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One training row; exactly one of `messages`, `text` and `pieces` is set.

    Attributes:
        line: where it begins in its file, counted from 1.
        messages: a conversation of {"role", "content"}; the assistant's turns are trained on.
        text: a bare text, trained on as a whole.
        pieces: (text, trained) stretches written out with their special tokens.
        tools: what a chat template gets as `tools`.
    """

    line: int
    messages: tuple[Mapping[str, Any], ...] | None = None
    text: str | None = None
    pieces: tuple[tuple[str, bool], ...] | None = None
    tools: tuple[Any, ...] | None = None

    @property
    def plain_text(self) -> str:
        """All that people wrote in it, parts on lines of their own."""
        if self.messages is not None:
            return "\n".join(str(message["content"]) for message in self.messages)
        if self.pieces is not None:
            return "".join(text for text, _ in self.pieces)
        return self.text or ""

    @property
    def sides(self) -> tuple[str, str]:
        """What is asked and what is trained on; a bare text asks nothing."""
        if self.messages is not None:
            said: tuple[list[str], list[str]] = ([], [])
            for message in self.messages:
                said[message["role"] == "assistant"].append(str(message["content"]))
            return "\n".join(said[0]), "\n".join(said[1])
        if self.pieces is not None:
            given = "".join(text for text, trained in self.pieces if not trained)
            return given, "".join(text for text, trained in self.pieces if trained)
        return "", self.text or ""


class _Wrong(ValueError):
    """What is wrong with a row, in a few words."""


def load_dataset(path: Path) -> list[Row]:
    """Read a JSONL, JSON, CSV, TSV or text file of training rows.

    The first row decides the format of the file: prompt/completion, messages, text, ShareGPT
    conversations, Alpaca or segments.

    Raises:
        InputError: the file cannot be read or is empty, or rows are wrong; all with their lines.
    """
    _, rows, problems = read_rows(path)
    problems.raise_if_any(InputError, str(path), "mend these rows or take them out")
    return rows


def read_rows(path: Path) -> tuple[str, list[Row], Problems]:
    """As `load_dataset`: the name of the format, the good rows, and what is wrong with the others.

    Raises:
        InputError: the file cannot be read or is empty, or its format is unknown.
    """
    records = read_records(path)
    if not records:
        raise InputError(f"{path} has no rows", "give a file with at least one training row")
    name, keys, convert = _detect(path, records[0])
    problems = Problems()
    rows: list[Row] = []
    for record in records:
        try:
            if not keys <= record.fields.keys():
                raise _Wrong(
                    f"found keys {_listed(record.fields)}, but the file began as {name} rows "
                    f"with {_listed(sorted(keys))}"
                )
            rows.append(convert(record.fields, record.line))
        except _Wrong as wrong:
            problems.add(f"line {record.line}: {wrong}")
    return name, rows, problems


def _detect(path: Path, first: Record) -> tuple[str, frozenset[str], Callable[[Fields, int], Row]]:
    for name, (keys, convert) in FORMATS.items():
        if keys <= first.fields.keys():
            return name, keys, convert
    known = "; ".join(f"{name}: {_listed(sorted(keys))}" for name, (keys, _) in FORMATS.items())
    raise InputError(
        f"{path}:{first.line}: no known row format has the keys {_listed(first.fields)}",
        f"name the keys as one of these does: {known}",
    )


def _listed(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in names) or "none"


def _text(fields: Fields, key: str, *, empty: bool = False) -> str:
    value = fields.get(key)
    if value is None and empty:
        return ""
    if not isinstance(value, str):
        raise _Wrong(f'"{key}" must be text, found {type(value).__name__}')
    if not empty and not value.strip():
        raise _Wrong(f'"{key}" is empty')
    return value


def _items(fields: Fields, key: str) -> list[Mapping[str, Any]]:
    value = fields.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _Wrong(f'"{key}" must be a list of objects, found {type(value).__name__}')
    if not value:
        raise _Wrong(f'"{key}" is empty')
    return value


def _tools(fields: Fields) -> tuple[Any, ...] | None:
    tools = fields.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except json.JSONDecodeError:
            raise _Wrong('"tools" is text, but not JSON') from None
    if not tools:
        return None
    if not isinstance(tools, list):
        raise _Wrong(f'"tools" must be a list, found {type(tools).__name__}')
    return tuple(tools)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _system(fields: Fields) -> list[dict[str, str]]:
    text = _text(fields, "system", empty=True)
    return [_turn("system", text)] if text else []


def _from_pair(fields: Fields, line: int) -> Row:
    return Row(
        line,
        messages=(
            _turn("user", _text(fields, "prompt")),
            _turn("assistant", _text(fields, "completion")),
        ),
    )


_ROLES = ("system", "developer", "user", "assistant", "tool")


def _from_messages(fields: Fields, line: int) -> Row:
    messages = [_message(item, i) for i, item in enumerate(_items(fields, "messages"), start=1)]
    return Row(line, messages=_with_answer(messages), tools=_tools(fields))


def _message(item: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise _Wrong(f"message {number} has role {role!r}, expected one of {', '.join(_ROLES)}")
    if isinstance(content, list):
        content = _joined_parts(content, number)
    if content is None and item.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        raise _Wrong(f"message {number}: content must be text, found {type(content).__name__}")
    return {**item, "content": content}


def _joined_parts(parts: Sequence[Any], number: int) -> str:
    """OpenAI's content parts, as long as they are text."""
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    kept = [text for text in texts if isinstance(text, str)]
    if len(kept) < len(texts):
        raise _Wrong(f"message {number} has parts that are not text")
    return "".join(kept)


def _with_answer(messages: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    answers = [message for message in messages if message["role"] == "assistant"]
    if not answers:
        raise _Wrong("no assistant turn to train on")
    if not any(message["content"].strip() or message.get("tool_calls") for message in answers):
        raise _Wrong("the assistant's turns are empty")
    return tuple(messages)


def _from_text(fields: Fields, line: int) -> Row:
    return Row(line, text=_text(fields, "text"))


# ShareGPT's names of speakers, and LLaMA-Factory's two more.
_SHAREGPT = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}


def _from_sharegpt(fields: Fields, line: int) -> Row:
    messages = _system(fields)
    for number, item in enumerate(_items(fields, "conversations"), start=1):
        speaker, value = item.get("from"), item.get("value")
        if not isinstance(speaker, str) or speaker not in _SHAREGPT:
            raise _Wrong(
                f'turn {number} is "from" {speaker!r}, expected one of {", ".join(_SHAREGPT)}'
            )
        if not isinstance(value, str):
            raise _Wrong(f'turn {number}: "value" must be text, found {type(value).__name__}')
        messages.append(_turn(_SHAREGPT[speaker], value))
    return Row(line, messages=_with_answer(messages), tools=_tools(fields))


def _from_alpaca(fields: Fields, line: int) -> Row:
    messages = _system(fields)
    history = fields.get("history") or []
    for pair in history if isinstance(history, list) else [history]:
        if not isinstance(pair, list) or [type(side) for side in pair] != [str, str]:
            raise _Wrong('"history" must be a list of [question, answer]')
        messages += [_turn("user", pair[0]), _turn("assistant", pair[1])]
    question = _text(fields, "instruction")
    if more := _text(fields, "input", empty=True):
        question = f"{question}\n{more}"
    messages += [_turn("user", question), _turn("assistant", _text(fields, "output"))]
    return Row(line, messages=tuple(messages))


def _from_segments(fields: Fields, line: int) -> Row:
    pieces = []
    for number, item in enumerate(_items(fields, "segments"), start=1):
        text, label = item.get("text"), item.get("label")
        if not isinstance(text, str) or not isinstance(label, bool):
            raise _Wrong(f'segment {number} needs "text" as text and "label" as true or false')
        pieces.append((text, label))
    if not any(text and label for text, label in pieces):
        raise _Wrong('no segment with "label": true to train on')
    return Row(line, pieces=tuple(pieces))


# In the order in which they are looked for: mlx-lm's, then the others.
FORMATS: dict[str, tuple[frozenset[str], Callable[[Fields, int], Row]]] = {
    "prompt/completion": (frozenset({"prompt", "completion"}), _from_pair),
    "chat": (frozenset({"messages"}), _from_messages),
    "text": (frozenset({"text"}), _from_text),
    "ShareGPT": (frozenset({"conversations"}), _from_sharegpt),
    "Alpaca": (frozenset({"instruction", "output"}), _from_alpaca),
    "segments": (frozenset({"segments"}), _from_segments),
}
