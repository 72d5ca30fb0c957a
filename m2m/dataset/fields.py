"""Columns beside those that are trained on: none may be an answer, or a part of the question."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from m2m.dataset.conversation import Wrong
from m2m.errors import InputError
from m2m.formats.records import Record

# Columns that say where a text comes from. All others may be what a person wants to be answered.
_ABOUT = re.compile(
    r"|_?(row_?|doc_?|document_?|text_?|source_?)?(id|idx|index)|_*index_level_\d+_*|unnamed: \d+|"
    r"u?uid|guid|hash|sha\d*|md5|ur[li]|link|source|dataset|data_source|corpus|origin|licen[cs]e|"
    r"(lang|language|script|country)(_?code)?|languages|dialect|facet|date|time|timestamp|year|"
    r"(created|updated|crawled|retrieved)(_at)?|file_?name|file|(file_?)?path|page|part|split|"
    r"author|publisher|meta|metadata|"
    r"(n|num|number_of)?_?(tokens?|words?|chars|characters|bytes)(_?(count|len|length))?|length"
)
# Columns that belong to the question, and the formats that read them.
_ASKED: dict[str, set[str]] = {
    "system": {"prompt/completion", "chat", "ShareGPT", "Alpaca"},
    "tools": {"chat", "ShareGPT"},
    "history": {"Alpaca"},
    "input": {"Alpaca"},
    "inputs": set(), "context": set(), "contexts": set(), "passage": set(), "document": set(),
    "system_prompt": set(), "functions": set(), "image": set(), "images": set(), "audio": set(),
}  # fmt: skip
_LONG_FORMS = {"chat", "ShareGPT"}  # they hold the whole question; these columns repeat it
_REPEATED = {"input", "inputs", "context", "contexts", "passage", "document", "history"}
_CHAT = re.compile(
    r"<\|im_start\|>|\[INST\]|<start_of_turn>|<\|start_header_id\|>|<\|(user|assistant)\|>|"
    r"### ?(Instruction|Human|Response|Assistant)\b|^(Human|User): [\s\S]*\n(Assistant|AI|Bot): "
)
_NOT = (False, 0, "false", "0")
_LIST = re.compile(r"\[\s*'(?:[^'\\]|\\.)*'\s*(?:,\s*'(?:[^'\\]|\\.)*'\s*)*\]")


def _has(value: Any) -> bool:
    return value is not None and value not in ("", [], {})


def refuse_other_answers(path: Path, records: Sequence[Record], answer: str = "completion") -> None:
    """Refuse rows of `text` with another column that could be the answer, and chats written out.

    Raises:
        InputError: names the columns, or the marks of the chat, and what to write.
    """
    marks = [
        _CHAT.search(str(record.fields["text"])) for record in records if "text" in record.fields
    ]
    found = [mark.group() for mark in marks if mark]
    if found and 2 * len(found) >= len(marks):
        raise InputError(
            f"{path}:{records[0].line}: the texts are chats written out, with {found[0]!r}: all of "
            "a text is used, the questions too",
            f"write the question as prompt and the answer as {answer}, or a chat as messages",
        )
    others: dict[str, int] = {}
    for record in records:
        for key, value in record.fields.items():
            if key != "text" and _has(value) and not _ABOUT.fullmatch(key.strip().lower()):
                others.setdefault(key, record.line)
    if others:
        names = ", ".join(others)
        many = f"the column {names} may hold" if len(others) == 1 else f"{names} may hold"
        raise InputError(
            f"{path}:{min(others.values())}: {many} the answers, but of rows with text only the "
            "text is used",
            f"write the question as prompt and the answer as {answer}; or, to use the text alone, "
            f"delete {names}",
        )


def refuse_rejected(path: Path, records: Sequence[Record]) -> None:
    """Refuse answers that people marked as bad (KTO), and answers that are lists of Python.

    Raises:
        InputError: names their lines.
    """
    labels = [record.fields.get("label") for record in records]
    known = {str(label).lower() for label in labels if label is not None}
    if "completion" in records[0].fields and known and known <= {"true", "false", "1", "0"}:
        bad = [
            record.line
            for record, label in zip(records, labels, strict=True)
            if (label.lower() if isinstance(label, str) else label) in _NOT and label is not None
        ]
        _refuse(path, bad, "an answer with label false was marked as bad", "delete these rows")
    answers = [(_answer(record.fields), record.line) for record in records]
    listed = [line for answer, line in answers if _LIST.fullmatch(answer.strip())]
    if 2 * len(listed) >= len(records):
        hint = "write the text alone; if a list is meant, write it as JSON, with double quotes"
        _refuse(path, listed, "the answer is a Python list written as text", hint)


def _answer(fields: Mapping[str, Any]) -> str:
    value = fields.get("completion", fields.get("output"))
    return value if isinstance(value, str) else ""


def _refuse(path: Path, lines: Sequence[int], message: str, hint: str) -> None:
    if not lines:
        return
    more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
    shown = ", ".join(map(str, lines[:5])) + more
    raise InputError(f"{path}: {message} (line{'s' * (len(lines) > 1)} {shown})", hint)


def refuse_unread(name: str, fields: Mapping[str, Any]) -> None:
    """Refuse a row of the format `name` with a column of the question that it does not read.

    Raises:
        Wrong: names the columns.
    """
    if name in ("text", "segments"):
        return
    lost = [
        key
        for key, formats in _ASKED.items()
        if _has(fields.get(key))
        and name not in formats
        and not (name in _LONG_FORMS and key in _REPEATED)
    ]
    if lost:
        names = ", ".join(lost)
        raise Wrong(f"the model would not see {names}; write it into the question, or delete it")
