"""Read training rows in the formats that other tools use; each file has one format.

Every format gives the same rows: a conversation, a bare text or pieces of text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.dataset.conversation import FLAGS, Wrong, kind, read_message, with_answer
from m2m.dataset.fields import (
    READ,
    refuse_other_answers,
    refuse_rejected,
    refuse_same_question,
    refuse_unread,
)
from m2m.dataset.plain_text import refuse_no_prose
from m2m.errors import InputError, Problems
from m2m.formats.records import Record, read_records
from m2m.opening import Text

Fields = Mapping[str, Any]
_KEPT = 100_000  # faulty rows of which `m2m data check` counts each kind


@dataclass(frozen=True)
class Row:
    """One training row; exactly one of `messages`, `text` and `pieces` is set.

    Attributes:
        line: its first line in the file, counted from 1.
        messages: a conversation of {"role", "content"}; the assistant's turns are trained on.
        text: a bare text, trained on as a whole.
        pieces: (text, trained) stretches written out with their special tokens.
        tools: the value of `tools` for a chat template.
    """

    line: int
    messages: tuple[Mapping[str, Any], ...] | None = None
    text: str | None = None
    pieces: tuple[tuple[str, bool], ...] | None = None
    tools: tuple[Any, ...] | None = None

    @property
    def plain_text(self) -> str:
        """Return all text that people wrote in it, each part on its own line."""
        if self.messages is not None:
            return "\n".join(str(message["content"]) for message in self.messages)
        if self.pieces is not None:
            return "".join(text for text, _ in self.pieces)
        return self.text or ""

    @property
    def sides(self) -> tuple[str, str]:
        """Return the question and the text that is trained on; a bare text has the question ""."""
        if self.messages is not None:
            texts: tuple[list[str], list[str]] = ([], [])
            for message in self.messages:
                texts[message["role"] == "assistant"].append(str(message["content"]))
            return "\n".join(texts[0]), "\n".join(texts[1])
        if self.pieces is not None:
            question = "".join(text for text, trained in self.pieces if not trained)
            return question, "".join(text for text, trained in self.pieces if trained)
        return "", self.text or ""


def load_dataset(source: Path | Text) -> list[Row]:
    """Read a JSONL, JSON, CSV, TSV or text file of training rows.

    The first row decides the format of the file, one of `FORMATS`.

    Raises:
        InputError: the file cannot be read or is empty, or rows are wrong; names all their lines.
    """
    _, rows, problems = read_rows(source)
    path = source if isinstance(source, Path) else source.path
    problems.raise_if_any(InputError, str(path), "correct these rows or delete them")
    return rows


def read_rows(source: Path | Text) -> tuple[str, list[Row], Problems]:
    """Read as `load_dataset` does; return the format's name, the good rows, and the problems.

    Raises:
        InputError: the file cannot be read or is empty, or its format is unknown.
    """
    records = read_records(source)
    path = source if isinstance(source, Path) else source.path
    if not records:
        raise InputError(f"{path} has no rows", "give a file with at least one training row")
    name, keys, convert = _detect(path, records[0], len(records) == 1)
    if name == "text":
        refuse_other_answers(path, records)
        if path.suffix.lower() == ".txt":
            refuse_no_prose(path, [(record.fields["text"], record.line) for record in records])
    refuse_rejected(path, records)
    problems = Problems(_KEPT)
    rows: list[Row] = []
    good: list[Fields] = []
    for record in records:
        try:
            if not keys <= record.fields.keys():
                raise Wrong(
                    f"found keys {_listed(record.fields)}, but the file began as {name} rows "
                    f"with {_listed(sorted(keys))}"
                )
            row = convert(record.fields, record.line)
            refuse_unread(name, record.fields, row.sides)
            rows.append(row)
            good.append(record.fields)
        except Wrong as wrong:
            problems.add(f"line {record.line}: {wrong}")
    if name in ("prompt/completion", "Alpaca"):
        refuse_same_question(path, good, [row.sides for row in rows])
    return name, rows, problems


def _detect(
    path: Path, first: Record, alone: bool
) -> tuple[str, frozenset[str], Callable[[Fields, int], Row]]:
    fitting = [name for name, (keys, _) in FORMATS.items() if keys <= first.fields.keys()]
    if len(asking := [name for name in fitting if name != "text"]) > 1:
        columns = " and ".join(_listed(sorted(FORMATS[name][0])) for name in asking)
        raise InputError(
            f"{path}:{first.line}: rows with {columns}: which of them is meant is not clear",
            "keep the columns of one and delete the others",
        )
    if fitting:
        return fitting[0], *FORMATS[fitting[0]]
    raise _unknown(path, first, alone)


def _unknown(path: Path, first: Record, alone: bool) -> InputError:
    """Return the error for columns that no format has, with the columns to use."""
    message, keys = f"{path}:{first.line}: m2m does not know the columns", first.fields.keys()
    known = {key: key.strip().lower() for key in keys}
    for form, (names, _) in FORMATS.items():
        if names <= set(known.values()):
            more = READ.get(form, set())
            wrong = [
                f"{key!r} to {name}" for key, name in known.items() if key != name in names | more
            ]
            return InputError(f"{message} {_listed(keys)}", f"rename {', '.join(wrong)}")
    inside = [key for key, value in first.fields.items() if _is_rows(value)]
    if {"chosen", "rejected"} <= keys:
        hint = "write the question as prompt and the chosen answer as completion"
    elif turns := [key for key in inside if _is_turn(first.fields[key][0])]:
        name = "messages" if "role" in first.fields[turns[0]][0] else "conversations"
        hint = f'rename "{turns[0]}" to {name}'
    elif inside and alone:
        hint = f'the rows are inside "{inside[0]}": write a file that has only that list'
    elif {"question", "choices", "answer"} <= keys:
        hint = (
            "these are questions of a target: name the file with `--target`, or under [[targets]]"
        )
    elif {"prompt", "answer"} <= keys:
        hint = (
            "to train on these rows, rename answer to completion; to ask them, name the file with "
            "`--target`, or under [[targets]]"
        )
    else:
        hint = (
            "rename the question column to prompt and the answer column to completion; other "
            "formats are in docs/own-language.md"
        )
        if path.suffix.lower() in (".csv", ".tsv"):
            hint += "; if line 1 is a row already, write a line with these names before it"
    return InputError(f"{message} {_listed(keys)}", hint)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict | list)


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and bool({"role", "from"} & value.keys())


def _listed(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in names) or "none"


def _text(fields: Fields, key: str, *, empty: bool = False) -> str:
    value = fields.get(key)
    if value is None and empty:
        return ""
    if not isinstance(value, str):
        raise Wrong(f'"{key}" must be text, found {kind(value)}')
    if not empty and not value.strip():
        raise Wrong(f'"{key}" is empty')
    return value


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
    return [_turn("system", text)] if text else []


def _from_pair(fields: Fields, line: int) -> Row:
    return Row(
        line,
        messages=(
            *_system(fields),
            _turn("user", _text(fields, "prompt")),
            _turn("assistant", _text(fields, "completion")),
        ),
    )


def _from_messages(fields: Fields, line: int) -> Row:
    messages: list[Mapping[str, Any]] = [
        read_message(item, i) for i, item in enumerate(_items(fields, "messages"), start=1)
    ]
    return Row(line, messages=with_answer(_led(fields, messages)), tools=_tools(fields))


def _led(fields: Fields, messages: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Put the column `system` before the messages, unless they already begin with it."""
    system = _system(fields)
    if not system or messages[0]["role"] != "system":
        return [*system, *messages]
    if messages[0]["content"].strip() != system[0]["content"].strip():
        raise Wrong('"system" and the first message are two system messages; keep one')
    return messages


def _from_text(fields: Fields, line: int) -> Row:
    return Row(line, text=_text(fields, "text"))


# ShareGPT's names of speakers, and two more from LLaMA-Factory.
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
    messages: list[Mapping[str, Any]] = []
    for number, item in enumerate(_items(fields, "conversations"), start=1):
        speaker, value = item.get("from"), item.get("value")
        if not isinstance(speaker, str) or speaker not in _SHAREGPT:
            raise Wrong(
                f'turn {number} is "from" {speaker!r}, expected one of {", ".join(_SHAREGPT)}'
            )
        if not isinstance(value, str):
            raise Wrong(f'turn {number}: "value" must be text, found {kind(value)}')
        weight = {key: item[key] for key in FLAGS if key in item}
        messages.append(read_message({**_turn(_SHAREGPT[speaker], value), **weight}, number))
    return Row(line, messages=with_answer(_led(fields, messages)), tools=_tools(fields))


def _from_alpaca(fields: Fields, line: int) -> Row:
    messages = _system(fields)
    history = fields.get("history") or []
    for pair in history if isinstance(history, list) else [history]:
        if not isinstance(pair, list) or [type(side) for side in pair] != [str, str]:
            raise Wrong('"history" must be a list of [question, answer]')
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
            raise Wrong(f'segment {number} needs "text" as text and "label" as true or false')
        pieces.append((text, label))
    if not any(text and label for text, label in pieces):
        raise Wrong('no segment with "label": true to train on')
    return Row(line, pieces=tuple(pieces))


# A bare text comes last: if there are other columns, one of them may be the intended format.
FORMATS: dict[str, tuple[frozenset[str], Callable[[Fields, int], Row]]] = {
    "prompt/completion": (frozenset({"prompt", "completion"}), _from_pair),
    "chat": (frozenset({"messages"}), _from_messages),
    "ShareGPT": (frozenset({"conversations"}), _from_sharegpt),
    "Alpaca": (frozenset({"instruction", "output"}), _from_alpaca),
    "segments": (frozenset({"segments"}), _from_segments),
    "text": (frozenset({"text"}), _from_text),
}
