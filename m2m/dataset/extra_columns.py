"""Refuse extra columns that may be an answer or a part of the question."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from m2m.counted import counted
from m2m.dataset.conversation import Wrong
from m2m.dataset.templates import is_empty
from m2m.errors import InputError
from m2m.formats.records import Record

# Columns about the source of a text. Any other column may be the intended answer.
ABOUT = re.compile(
    r"|_?((row|doc|document|text|source|q|question|story|input_?story|segment|sentence|item)_?)?"
    r"(id|idx|index|index_?id)|_*index_level_\d+_*|"
    r"unnamed(: |_)\d+([._]\d+)*|level_\d+|"
    r"u?uid|guid|hash|sha\d*|md5|ur[li]|link|source|dataset|data_source|corpus|origin|licen[cs]e|"
    r"(lang|language|script|country)(_?code)?|lang(uage)?s|dialect|facet|date|time|timestamp|ts|year|"
    r"(created|updated|crawled|retrieved)(_?at)?|file_?name|((src|source)_?)?file|(file_?)?path|page|part|split|set|"
    r"author|publisher|meta|metadata|"
    r"(n|num|number_of)_?(tokens?|words?|chars|characters|bytes)(_?(count|len|length))?|length|"
    r"(s/?n|no|na|nr)\.|s/n|(chars|characters|bytes)|(token|word|char)s?_?(count|len|length)"
)
# Some of these may also be the answer to a question about the text, if they differ between rows.
_PERHAPS = re.compile(
    r"(lang|language|script|country)(_?code)?|languages|dialect|facet|author|publisher"
)
# Columns that belong to the question or to the answer, unless the model sees them in another way.
_QUESTION = re.compile(
    r"(system|system_prompt|tools|functions|images?|audio|inputs?|(chat_)?history|contexts?|"
    r"passages?|documents?|articles?|story|paragraphs?|background|dialogue|question|query|"
    r"premise|hypothesis|sentences?_?\d?|text_?\d?|choices?(_?[a-e\d])?|options?(_?[a-e\d])?)"
)
_ANSWER = re.compile(r"responses?|answers?|reasoning(_content)?|thinking|thoughts?")
# Columns that the turns of a chat do not repeat.
_BESIDE_TURNS = re.compile(r"system_prompt|functions|images?|audio")
# Columns that a format reads if they exist, besides those that it needs.
READ: dict[str, set[str]] = {
    "prompt/completion": {"system"},
    "chat": {"system", "tools"},
    "ShareGPT": {"system", "tools"},
    "Alpaca": {"system", "history", "input"},
    "choices": {"question", "choices"},
}

_CHAT = re.compile(
    r"<\|im_start\|>|\[INST\]|<start_of_turn>|<\|start_header_id\|>|<\|(user|assistant)\|>|"
    r"### ?(Instruction|Human|Response|Assistant)\b|^(Human|User): [\s\S]*\n(Assistant|AI|Bot): |"
    r"^(Q|Question|Swali|Tambaya) ?: [\s\S]*\n(A|Answer|Jibu|Amsa) ?: "
)
_NO_TEXT = re.compile(r"[^\W\d_]?[\W\d_]*|(?:[^\W\d]|[.:/#-])*+\d[\w.:/#-]*")  # a number or an id
_WORDS = re.compile(r"\w+|\W")
_MANY_LISTED = 20  # one answer in this many
_ITEM = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_LIST = re.compile(rf"\[\s*{_ITEM}(?:\s*(?:,\s*)?{_ITEM})*\s*\]", re.DOTALL)


def is_about(name: str) -> bool:
    """Return whether a column is about the source of a text (id, url, date), and no text itself."""
    return bool(ABOUT.fullmatch(name.strip().lower()))


def refuse_chats(path: Path, records: Sequence[Record], answer: str = "completion") -> None:
    """Refuse bare texts that are chats, written out with the marks of a chat template.

    Raises:
        InputError: names the marks.
    """
    marks = [
        _CHAT.search(str(record.fields["text"])) for record in records if "text" in record.fields
    ]
    chat_marks = [mark.group() for mark in marks if mark]
    if chat_marks and 2 * len(chat_marks) >= len(marks):
        raise InputError(
            f"{path}:{records[0].line}: the texts are chats written out, with {chat_marks[0]!r}: "
            "all of a text is used, the questions too",
            f"write the question as prompt and the answer as {answer}, or a chat as messages",
        )


def may_be_answer(
    records: Sequence[Record], text: str = "text", part: str = "dataset"
) -> dict[str, int]:
    """Return the columns, besides `text`, that may hold an answer, with the first of their lines.

    A language or an author may be one if it differs between rows; the `lang` of a target's text
    is its facet.
    """
    others: dict[str, int] = {}
    varying: dict[str, tuple[str, int]] = {}
    for record in records:
        for key, value in record.fields.items():
            name = key.strip().lower()
            if key == text or is_empty(value):
                continue
            if not ABOUT.fullmatch(name):
                others.setdefault(key, record.line)
            elif _PERHAPS.fullmatch(name) and not (part == "target" and name in ("lang", "facet")):
                first, _ = varying.setdefault(key, (str(value), record.line))
                if str(value) != first:
                    others.setdefault(key, record.line)
    return others


def refuse_other_answers(
    path: Path, records: Sequence[Record], hint: Callable[[], str], part: str = "dataset"
) -> None:
    """Refuse rows of `text` with another column that could be the answer.

    Raises:
        InputError: names the columns; `hint` has the lines to write.
    """
    if others := may_be_answer(records, part=part):
        names = ", ".join(others)
        many = f"the column {names} may hold" if len(others) == 1 else f"{names} may hold"
        raise InputError(
            f"{path}:{min(others.values())}: {many} the answers, but of rows with text only the "
            "text is used",
            hint(),
        )


def refuse_listed(path: Path, answers: Iterable[tuple[str, int]], count: int) -> None:
    """Refuse (answer, line) pairs in which the answer is a Python list written as text.

    Raises:
        InputError: names the lines.
    """
    listed = [line for answer, line in answers if _is_python_list(answer.strip())]
    if _MANY_LISTED * len(listed) >= count:
        hint = (
            "name the item in the recipe, as in {answer.0}, or write the text alone; if a list is "
            "meant, write it as JSON, with double quotes"
        )
        _refuse(path, listed, "the answer is a Python list written as text", hint)


def _is_python_list(text: str) -> bool:
    if text[:1] != "[" or "'" not in text or not _LIST.fullmatch(text):
        return False
    try:
        json.loads(text)
    except ValueError:
        return True
    return False


def _refuse(path: Path, lines: Sequence[int], message: str, hint: str) -> None:
    if not lines:
        return
    more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
    shown = ", ".join(map(str, lines[:5])) + more
    raise InputError(f"{path}: {message} (line{'s' * (len(lines) > 1)} {shown})", hint)


@cache
def _unread(name: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns that a kind of row does not read but that may be question or answer."""
    if name in ("text", "segments"):
        return ()
    plain = {key: re.sub(r"\W+", "_", key.strip().lower()) for key in keys}
    lettered = {"a", "b"} <= set(plain.values())
    return tuple(
        key
        for key, word in plain.items()
        if key not in READ.get(name, ())
        and (
            _BESIDE_TURNS.fullmatch(word)
            if name in ("chat", "ShareGPT")
            else _QUESTION.fullmatch(word)
            or (word in "abcde" and lettered)
            or (name not in ("choices", "answer") and _ANSWER.fullmatch(word))
        )
    )


def refuse_unread(
    name: str, fields: Mapping[str, Any], read: Sequence[str], where: str = ""
) -> None:
    """Refuse a row of the kind `name` with a column of its question that the model would not see.

    The model sees a column if `read` contains all its texts, or if it repeats all of `read`.

    Args:
        name: a format of datasets, or a kind of target.
        fields: the row.
        read: the texts that are read from the row: the question, the answer.
        where: another way to use the column, for the message.

    Raises:
        Wrong: names the columns.
    """
    keys = [key for key in _unread(name, tuple(fields)) if not is_empty(fields[key])]
    lost = [key for key in keys if not _is_seen(fields[key], read)] if keys else []
    if lost:
        words = [re.sub(r"\W+", "_", key.strip().lower()) for key in lost]
        part = "answer" if all(map(_ANSWER.fullmatch, words)) else "question"
        into = f"write it into the {part}{where}, or delete it"
        raise Wrong(f"the model would not see {', '.join(lost)}; {into}")


def refuse_same_question(
    path: Path, rows: Sequence[Record], sides: Sequence[tuple[str, str]]
) -> None:
    """Refuse rows with one question if a column that the model does not see decides the answer.

    Such a column can have any name, as in {"instruction": "Translate", "sw": ..., "output"}.

    Args:
        path: named in errors.
        rows: their records.
        sides: the question and the answer of each row.

    Raises:
        InputError: names the column.
    """
    # Hashes of 64 bits are enough to count: the texts of a large file do not fit into memory.
    hashes = np.fromiter((hash(question) for question, _ in sides), np.int64, len(sides))
    questions = len(np.unique(hashes))
    if 2 * questions > len(sides):
        return
    both = np.fromiter(map(hash, sides), np.int64, len(sides))
    if len(np.unique(both)) == questions:
        return
    for key in rows[0].fields:
        name = key.strip().lower()
        texts = {
            value
            for row, side in zip(rows, sides, strict=True)
            if isinstance(value := row.fields.get(key), str) and not _NO_TEXT.fullmatch(value)
            and not _is_seen(value, side)
        }  # fmt: skip
        about = ABOUT.fullmatch(name) and name != "source"
        if not about and 2 * len(texts) > len(rows) and len(texts) >= 2 * questions:
            raise InputError(
                f"{path}: {counted(len(rows), 'row')} ask only "
                f"{counted(questions, 'different question')}, and the model would not see {key}",
                f"write {key} into the question, or delete it",
            )


def _is_seen(value: Any, read: Sequence[str]) -> bool:
    seen = _words(" ".join(read))
    parts = [_words(part) for part in _texts(value)]
    whole = " ".join(parts)
    inside = (part in seen and _cut(part) in _cut(seen) for part in parts)
    return all(inside) or all(_words(part) in whole for part in read)


def _cut(text: str) -> str:
    """Return a text with a mark at both ends of each word, so that no part of one is found."""
    return "\0".join(["", *_WORDS.findall(text), ""])


def _words(text: str) -> str:
    return " ".join(text.split())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif not is_empty(value):
        yield str(value)
