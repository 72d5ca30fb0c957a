"""Rows inside of rows: SQuAD's paragraphs, and conversations of which each turn is a row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from m2m.counted import are, counted
from m2m.dataset.templates import is_empty, parsed
from m2m.dataset.turns import SPEAKERS
from m2m.errors import InputError
from m2m.formats.parted_text import exchanges
from m2m.formats.records import Record

_TURN = frozenset({"message_id", "parent_id", "text", "role"})
_PLACES = (
    {"passage_answer_candidates", "annotations", "question_text"},
    {"long_answer_candidates", "annotations", "question_text"},
    {"long_answer_candidates", "annotations", "question"},
)
_MARKED = re.compile(r"\[([^\[\]]+)\](?:\([^()]*\)|\{[^{}]*\})")
_NUMBERED = re.compile(r"(?:(q|question|swali)|(a|answer|jibu))[ _]?(\d+)")
# Types of messages that a person wrote: Telegram's, DiscordChatExporter's, Discord's. Other types
# are notes of the program, such as "Joined the server."
_WRITTEN = ("message", "Default", "Reply", 0, 19)
_LONGEST = 1000  # turns of a conversation


def unnested(path: Path, records: Sequence[Record]) -> tuple[Sequence[Record], tuple[str, ...]]:
    """Return the rows that are inside of some files' rows, or the records as they are, and notes.

    Raises:
        InputError: the turns of a conversation do not fit each other, or the answers are no texts.
    """
    if records and all(_has_paragraphs(record.fields) for record in records):
        questions = [row for record in records for row in _questions(record)]
        return [Record(row.fields, number) for number, row in enumerate(questions, 1)], ()
    if records and all(r.fields.keys() >= {"mapping", "current_node"} for r in records):
        raise InputError(
            f"{path}:{records[0].line}: each turn is a node of a tree (an export of ChatGPT)",
            'write each conversation as {"messages": [{"role": "user", "content": ...}, ...]}',
        )
    if records and all(any(keys <= r.fields.keys() for keys in _PLACES) for r in records):
        raise InputError(
            f"{path}:{records[0].line}: the answers are places in an article, not texts (TyDi QA's "
            "primary task, Natural Questions)",
            "use the file of TyDi QA's secondary task (GoldP), or one with question, context and "
            "answers",
        )
    if records and all(_is_intent(record.fields) for record in records):  # of a small chatbot
        rows = [
            {"question": pattern, "answers": r.fields["responses"]}
            for r in records
            for pattern in r.fields["patterns"]
        ]
        note = "each pattern of an intent is a question, and its responses are the answers"
        return [Record(row, number) for number, row in enumerate(rows, 1)], (note,)
    if records and all(_is_export(record.fields) for record in records):
        chats = [[*_said(record.fields["messages"])] for record in records]
        rows = [row.fields for chat in chats for row in exchanges(chat)]
        gone = sum(len(r.fields["messages"]) for r in records) - sum(map(len, chats))
        note = f"{are(gone, 'message')} left out: without text, or written by no person"
        return [Record(row, number) for number, row in enumerate(rows, 1)], (note,) * bool(gone)
    if records and (wide := _wide(records[0].fields)):
        rows = [row for record in records for row in _pairs_of(record.fields, wide)]
        note = (
            f"each row has {counted(len(wide), 'question')} with their answers: each pair is a row"
        )
        return [Record(row, number) for number, row in enumerate(rows, 1)], (note,)
    listed = records and "examples" in records[0].fields  # of Rasa, all entries have some
    if listed and any(_has_examples(record.fields) for record in records):
        examples = [_examples(record) for record in records]
        rows = [row for found in examples for row in found]
        gone = sum(not found for found in examples)
        note = f"{are(gone, 'entry', 'entries')} left out: no examples of an intent"
        return [Record(row, n) for n, row in enumerate(rows, 1)], (note,) * bool(gone)
    if records and all(_is_tree(record.fields) for record in records):  # OASST's trees
        every = [turn for r in records for turn in _turns(parsed(r.fields["prompt"]), None)]
        records = [Record(turn, number) for number, turn in enumerate(every, 1)]
    if records and all(record.fields.keys() >= _TURN for record in records):
        kept = _without_deleted(records)
        gone = len(records) - len(kept)
        below = f"{are(gone, 'turn')} left out: deleted, or an answer to a deleted one"
        return [*_conversations(path, kept)], (below,) * bool(gone)
    return records, ()


def _is_intent(fields: Mapping[str, Any]) -> bool:
    lists = [fields.get(key) for key in ("patterns", "responses")]
    return all(isinstance(o, list) and all(isinstance(text, str) for text in o) for o in lists)


def _is_export(fields: Mapping[str, Any]) -> bool:
    """Return whether a row is a chat that Telegram or Discord exported."""
    held = fields.get("messages")
    said = held if isinstance(held, list) else []
    return bool(said) and all(map(_is_sent, said))


def _is_sent(turn: Any) -> bool:
    """Return whether a turn is a message of a person, and not one with a role."""
    if not isinstance(turn, Mapping) or "role" in turn or not {"text", "content"} & turn.keys():
        return False
    author = turn.get("author")
    named = "name" in author if isinstance(author, Mapping) else isinstance(author, str)
    return named or {"type", "date"} <= turn.keys()


def _said(messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, int]]:
    """Yield the person and the text of each message of a chat that has text."""
    for message in messages:
        author = message.get("author")
        who = author.get("name") if isinstance(author, Mapping) else message.get("from", author)
        text = message.get("text", message.get("content"))
        parts = text if isinstance(text, list) else [text]
        said = "".join(str((p.get("text") if isinstance(p, Mapping) else p) or "") for p in parts)
        if who and said.strip() and message.get("type", "Default") in _WRITTEN:
            yield str(who), said, 0


def _wide(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the columns Q1 and A1, Q2 and A2 ... of a table; [] for fewer than two pairs.

    Neither are they rows of their own if the table has another question or answer.
    """
    if {"question", "answer"} & {name.strip().lower() for name in fields}:
        return []
    found = {name: _NUMBERED.fullmatch(name.strip().lower()) for name in fields}
    asks = {m[3]: name for name, m in found.items() if m and m[1]}
    says = {m[3]: name for name, m in found.items() if m and m[2]}
    pairs = [(name, says[number]) for number, name in asks.items() if number in says]
    return pairs if len(pairs) == len(asks) == len(says) > 1 else []


def _pairs_of(
    fields: Mapping[str, Any], wide: Sequence[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each question of a row; a pair of empty cells is none."""
    about = {key: value for key, value in fields.items() if all(key not in pair for pair in wide)}
    for number, (asks, says) in enumerate(wide, 1):
        if not (is_empty(fields.get(asks)) and is_empty(fields.get(says))):
            pair = {"question": fields.get(asks), "answer": fields.get(says)}
            yield {**about, "question_idx": number, **pair}


def _has_examples(fields: Mapping[str, Any]) -> bool:
    """Return whether a row is an intent of Rasa, whose examples are one text."""
    examples = fields.get("examples")
    return "intent" in fields and isinstance(examples, str) and examples.lstrip()[:2] == "- "


def _examples(record: Record) -> list[dict[str, Any]]:
    lines = record.fields["examples"].splitlines() if _has_examples(record.fields) else []
    texts = [line.strip()[1:].strip() for line in lines if line.strip()[:1] == "-"]
    texts = [_MARKED.sub(r"\1", text) for text in texts]  # [Nairobi](city)
    return [{"text": text, "intent": record.fields["intent"]} for text in texts]


def _is_tree(fields: Mapping[str, Any]) -> bool:
    first = parsed(fields.get("prompt"))
    return isinstance(first, Mapping) and {"message_id", "replies", "text", "role"} <= first.keys()


def _turns(turn: Mapping[str, Any], parent: Any) -> Iterator[dict[str, Any]]:
    """Yield the turns of a tree, each with the id of the one that it answers."""
    below = [(turn, parent)]
    while below:
        turn, parent = below.pop()
        own = {key: value for key, value in turn.items() if key != "replies"}
        yield {**own, "parent_id": parent}
        replies = turn.get("replies")
        listed = replies if isinstance(replies, list) else []
        every = [r if isinstance(r, Mapping) else {"text": r} for r in reversed(listed)]
        below += [(r, turn.get("message_id")) for r in every]  # a strange one is refused later


def _without_deleted(records: Sequence[Record]) -> Sequence[Record]:
    """Return the turns that are not marked as deleted, and that answer no such turn."""
    gone = {r.fields["message_id"] for r in records if r.fields.get("deleted") in (True, 1)}
    below = dict[Any, list[Any]]()
    for record in records if gone else ():
        below.setdefault(record.fields["parent_id"], []).append(record.fields["message_id"])
    left = [*gone]
    while left:
        answers = {*below.get(left.pop(), ())} - gone
        gone |= answers
        left += answers
    return [r for r in records if r.fields["message_id"] not in gone] if gone else records


def _has_paragraphs(fields: Mapping[str, Any]) -> bool:
    data = fields.get("data")
    articles = data if isinstance(data, list) else [fields]
    return bool(articles) and all(
        isinstance(article, Mapping)
        and isinstance(article.get("paragraphs"), list)
        and all(isinstance(p, Mapping) and "qas" in p for p in article["paragraphs"])
        for article in articles
    )


def _questions(record: Record) -> Iterator[Record]:
    """Yield a row for each question of SQuAD's articles."""
    fields = record.fields
    data = fields.get("data")
    for article in data if isinstance(data, list) else [fields]:
        for paragraph in article["paragraphs"]:
            about = {key: value for key, value in paragraph.items() if key != "qas"}
            if "title" in article:
                about["title"] = article["title"]
            for question in paragraph["qas"] if isinstance(paragraph["qas"], list) else []:
                if isinstance(question, Mapping):
                    yield Record({**about, **question}, record.line)


def _conversations(path: Path, records: Sequence[Record]) -> Iterator[Record]:
    """Yield a conversation for each last turn; a turn that two of them share is trained on once."""
    turns = {record.fields["message_id"]: record for record in records}
    if len(turns) < len(records):
        raise InputError(f"{path}: two turns have the same message_id", "give each its own")
    parents = {record.fields["parent_id"] for record in records}
    trained: set[Any] = set()
    for record in records:
        if record.fields["message_id"] in parents:
            continue
        line = _line_of_turns(path, record, turns)
        while line and _role(line[-1]) != "assistant":
            line.pop()  # a question that nobody answered
        if not line:
            continue
        messages = []
        for turn in line:
            key = turn.fields["message_id"]
            old = {"weight": 0} if key in trained else {}
            trained |= {key} if _role(turn) == "assistant" else set()
            messages.append({"role": turn.fields["role"], "content": turn.fields["text"], **old})
        if any(m.get("weight") != 0 for m in messages if SPEAKERS.get(m["role"]) == "assistant"):
            yield Record({"messages": messages}, line[-1].line)  # the first has several answers


def _role(turn: Record) -> str:
    return SPEAKERS.get(str(turn.fields["role"]), "")


def _line_of_turns(path: Path, last: Record, turns: Mapping[Any, Record]) -> list[Record]:
    line = [last]
    while (parent := line[-1].fields["parent_id"]) not in (None, ""):
        if parent not in turns or len(line) > _LONGEST:
            raise InputError(
                f"{path}:{line[-1].line}: there is no turn with message_id {parent!r:.60}",
                "add the turn that this one answers, or delete it",
            )
        line.append(turns[parent])
    return line[::-1]
