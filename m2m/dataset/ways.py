"""Possible readings of a file, two or three to choose from, if m2m cannot know the right one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from m2m.dataset.columns import (
    LANGUAGE_NAMES,
    Columns,
    columns_of,
    languages_of,
    looks_like_data,
    option_columns,
    plain,
    single,
    title_of,
)
from m2m.dataset.extra_columns import ABOUT
from m2m.dataset.guess import UNKNOWN, Role, guess
from m2m.dataset.mapping import RowMapping
from m2m.dataset.plain_text import part_mappings
from m2m.dataset.templates import parsed, word_key
from m2m.errors import InputError
from m2m.formats.records import Record

_MOST = 3
_FIRST = " sw ha yo am zu ar fr en "  # of many languages, those that are offered first
# Names of columns that are never the question or the answer.
_NEITHER = re.compile(
    r"(?!(?:label|class|category|sentiment|emotion|topic|intent)_id)"
    r"([\w.]*[._])?(id|idx|index|ur[li]|path|hash|date|time|author|user|locale|split|set|subset|is_(?:train|dev|val|test)|(from|to)_name)\d*|qid\d||"
    r"subreddit|enumerator|interviewer|_\w+|([\w.]*\.)?(pm_score|(up|down)?votes|(is_)?(selected|best|accepted))|"
    r"(.*\.)?+(?>(?:\w*?_)??(?:reject|distract|incorrect|wrong|reasoning|rationale|subject))\w*|"
    r"([\w.]*\.)?(_?oid|role)|"
    r"annotations\.[\w.]*(?<!\.choices)(?<!\.text)(?<!\.rating)|(spans|entities)\..*"
)
# Names of columns that are probably the question or the answer; others come after them.
_ASKS = re.compile(
    r"(question|swali|tambaya|pergunta|pregunta|ibeere|prompt|instruction|input|query|text|tweet|sentence|utt|premise)\w*"
)
_SAYS = re.compile(
    r"(?>\w*?(?:label|answer|target|output|response|completion|summary|translation|sentiment|emotion|"
    r"jibu|amsa|idahun|r[eé]ponse|resposta|"
    r"intent|topic|class|category|is_\w|score|lang))\w*"
)


_FORM = re.compile(r"timestamp|email address|(row_?)?id|uuid|url")  # names, and never cells
_ASKED_ON = re.compile("timestamp|horodat(eur|age)|carimbo de data/hora")  # of a Google form
# Values that programs write, and notes on the source: dates, addresses, files, ids, licences.
_WRITTEN = re.compile(
    r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}(?!\d).*|[^\s@]+@[^\s@.]+(?:\.[^\s@.]+)+|https?://\S+|"
    r"(?:uuid:)?[\da-f-]{16,}|[A-Z][a-z]{2} \d{1,2}, \d{4}\b.*|"
    r"\S+\.(wav|mp3|ogg|flac|jpe?g|png|txt|csv|json)|CC[- ](BY|0).*|(?s:.*Attribution: .*)",
    re.IGNORECASE,
)
_CODE = re.compile(r"[a-z_./-]*\d[\w./-]*", re.IGNORECASE)  # such as LJ001-0002
_TASKS = {"_task_hash", "_input_hash"}  # columns of Prodigy, whose answer is accept or reject
_THOUGHT = re.compile(r"(reasoning|thinking|thoughts?|rationale|cot|chain_of_thought)(_\w+)?")
_ANSWER = r"(\w+_)?(answer|solution|target|output|response|completion|label)"


@dataclass(frozen=True)
class Way:
    """One way to read a file: its mapping, and whether its first row is a row ("no" header)."""

    mapping: RowMapping
    header: str = "auto"


class Choice(InputError):
    """The rows of a file can be meant in several ways; `choice` has them.

    Args:
        message: the fault.
        hint: the lines of a recipe to choose from.
        choice: the same as ways.
    """

    def __init__(self, message: str, hint: str | None, choice: Sequence[Way]) -> None:
        super().__init__(message, hint)
        self.choice = tuple(choice)


def ways(path: Path, records: Sequence[Record], part: Role, table: bool = False) -> list[Way]:
    """Return two or three ways that could be meant, made from the columns of the rows.

    Args:
        path: the file.
        records: its rows.
        part: their purpose.
        table: whether its first row was taken for the names of the columns.
    """
    own = [Way(mapping) for mapping in _mappings(path, records, part)]
    if not table or (own and own[0].mapping.choices):
        return own[:_MOST]
    names = [*records[0].fields]
    numbered = _numbered(records)
    without = [replace(way, header="no") for way in map(Way, _mappings(path, numbered, part))]
    if _is_row(names, columns_of(records)):
        return without[:_MOST]
    last = [plain(name).rpartition(".")[2] for name in names]
    if len(LANGUAGE_NAMES.intersection(last)) > 1 or any(
        known.fullmatch(name) for name in last for known in (ABOUT, _ASKS, _SAYS)
    ):
        return own[:_MOST]
    return [*own[: _MOST - 1], *without[:1]] if len(names) > 1 else own[:_MOST]


def _numbered(records: Sequence[Record]) -> list[Record]:
    """Return the rows of a table without a header: the names are the first row."""
    names = [*records[0].fields]
    numbers = [str(place) for place in range(1, len(names) + 1)]
    rows = [Record(dict(zip(numbers, names, strict=True)), 1)]
    for record in records:
        cells = [record.fields.get(name) for name in names]
        rows.append(Record(dict(zip(numbers, cells, strict=True)), record.line))
    return rows


def _is_row(names: Sequence[str], columns: Columns) -> bool:
    """Return whether names of columns are cells: sentences, numbers, or values of their column."""
    if any(_FORM.fullmatch(name.strip().lower()) for name in names):
        return False
    if len(languages_of(columns)) > 1:
        return False
    return any(
        looks_like_data(name) or word_key(name) in set(map(word_key, columns.get(name, ())))
        for name in names
    )


def _mappings(path: Path, records: Sequence[Record], part: Role) -> list[RowMapping]:
    """Return the mapping that m2m knows and a bare text, or else the likely pairs of columns."""
    if lettered := _lettered(records):
        return [lettered]
    if parts := part_mappings(records):
        return parts
    if languages := _many_languages(records):
        return languages
    made, likely = guess(path, records, part), _likely(records)
    if made is None:
        return [optioned] if (optioned := _optioned(columns_of(records))) else likely
    more = likely[-1:] if not made.mapping.messages else []
    return [*dict.fromkeys([made.mapping, *more])]


def _lettered(records: Sequence[Record]) -> RowMapping | None:
    """Return the mapping of a table without names: a question, its choices, the right letter."""
    names = [*records[0].fields]
    if names != [str(place) for place in range(1, len(names) + 1)] or len(names) < 5:
        return None
    letters = {str(record.fields.get(names[-1])) for record in records}
    if len(letters) < 2 or not letters <= {*"ABCDEFGH"[: len(names) - 2]}:
        return None
    choices = tuple(f"{{{name}}}" for name in names[1:-1])
    return RowMapping(prompt="{1}", answer=f"{{{names[-1]}}}", choices=choices)


def _optioned(columns: Columns) -> RowMapping | None:
    """Return the mapping of a question, a column for each choice, and the right one's letter."""
    options = option_columns([*columns])
    rest = [name for name in columns if name not in options]
    count = len(options)
    marks = ({*"abcdefgh"[:count]}, {*map(str, range(count))}, {*map(str, range(1, count + 1))})
    values = {name: {str(v).strip().lower() for v in columns[name]} for name in rest}
    said = [name for name in rest if any(values[name] <= own for own in marks)]
    asked = [
        name
        for name in rest
        if name not in said and not ABOUT.fullmatch(plain(name)) and not _are_ids(columns[name])
    ]
    if not options or len(said) != 1 or len(asked) != 1:
        return None
    choices = tuple(f"{{{name}}}" for name in options)
    return RowMapping(prompt=f"{{{asked[0]}}}", answer=f"{{{said[0]}}}", choices=choices)


def _many_languages(records: Sequence[Record]) -> list[RowMapping]:
    """Return the mappings of a text in each language, as XNLI's file of all languages has them.

    One of its columns has the texts by code, another two lists: of codes, and of texts.
    """
    columns = columns_of(records)
    both = [name[:-9] for name in columns if name.endswith(".language")]
    both = [name for name in both if f"{name}.translation" in columns]
    said = [name for name in columns if re.fullmatch("labels?|answer", plain(name))]
    if len(both) != 1 or len(said) != 1:
        return []
    codes = columns[f"{both[0]}.language"]
    if not isinstance(codes[0], list) or any(row != codes[0] for row in codes):
        return []
    mappings = []
    keys = sorted({word_key(value) for value in columns[said[0]]})
    words = tuple((key, f"{UNKNOWN}{key}") for key in keys) if all(map(str.isdecimal, keys)) else ()
    for code in sorted(codes[0], key=lambda code: _FIRST.find(f" {code} ") % len(_FIRST)):
        own = [name for name in columns if name.endswith(f".{code}")]
        texts = [*own, f"{both[0]}.translation.{codes[0].index(code)}"]
        prompt = "\n".join(f"{{{name}}}" for name in texts)
        mappings.append(RowMapping(prompt=prompt, answer=f"{{{said[0]}}}", labels=words))
    return mappings[:_MOST]


def _likely(records: Sequence[Record]) -> list[RowMapping]:
    columns = {n: v for n, v in columns_of(records).items() if not {*n} & {*"{}"}}
    dropped = {name for name in columns if _drops(name, records)}
    dropped |= {name for name, values in columns.items() if _is_written(values)}
    dropped |= {"answer"} if columns.keys() >= _TASKS else set()
    columns = {name: values for name, values in columns.items() if name not in dropped}
    if dropped and len(records) == 1:
        return []  # the rows are inside of it
    if tagged := tagged_columns(columns):
        words, tags = (f"{{{name}:words}}" for name in tagged)
        return [RowMapping(prompt=words, answer=tags), RowMapping(text=words)]
    if len(several := languages_of(columns)) > 1:
        into = [_pair(several[0], other, columns) for other in several[1:3]]
        return into if len(several) > 2 else [*into, _pair(several[1], several[0], columns)]
    if (listed := _listed_question(columns)) and (
        said := [name for name in columns if name != listed and _SAYS.fullmatch(plain(name))]
    ):
        return [_pair(f"{listed}:lines", name, columns) for name in said[:_MOST]]
    texts = {
        name: sum(map(len, map(str, values))) / len(values)
        for name, values in columns.items()
        if all(isinstance(value, str) for value in values) and not _is_neither(name)
        and not all(re.fullmatch(r"[\d.,:/-]+", str(value)) for value in values)
    }  # fmt: skip
    asks = {name: bool(_ASKS.fullmatch(plain(name).split(".")[0])) for name in texts}
    asked = sorted(texts, key=lambda name: (not asks[name], -texts[name]))
    asked = [name for name in asked if not ABOUT.fullmatch(plain(name))] or asked
    if not asked:
        return []
    question = "text" if "text" in asked else asked[0]
    others = _answers(columns, question)
    made = [_pair(question, name, columns) for name in others[:2]]
    if made and (thought := _reasoning(columns)) and re.fullmatch(_ANSWER, plain(others[0])):
        long = replace(made[0], answer=f"{{{thought}}}\n{made[0].answer}")
        return [made[0], long, RowMapping(text=f"{{{question}}}")]
    title = title_of(columns)
    if not made and any(_ASKED_ON.fullmatch(name.strip().lower()) for name in records[0].fields):
        made = [RowMapping(prompt=question, answer=f"{{{question}}}")]  # the question of a form
    if made and title not in ("", question, *others[:1]) and _ASKS.fullmatch(plain(question)):
        made = [replace(made[0], prompt=f"{{{title}}}\n{{{question}}}"), made[0]]
    if len(others) == 1 and others[0] in asked and not _are_labels(columns[others[0]]):
        made.append(_pair(others[0], question, columns))
    return [*made, RowMapping(text=f"{{{question}}}")][:_MOST]


def _answers(columns: Columns, question: str) -> list[str]:
    """Return the columns that may answer a question, the likely ones first."""
    known = [name for name in columns if name != question and not _is_neither(name)]
    known = [name for name in known if not _repeats(columns[question], columns[name])]
    known = [name for name in known if not _is_constant(columns[name])] or known
    others = [n for n in known if _says(n) or not _are_ids(columns[n])]
    others = others or [name for name in known if not _are_counts(columns[name])]
    if not others and 2 * sum(map(_is_question, columns[question])) > len(columns[question]):
        others = known[: len(known) == 1]  # numbers that follow each other, by chance
    # Columns about the source come last; then names and texts decide.
    others.sort(key=lambda name: not isinstance(columns[name][0], str))
    others.sort(key=lambda name: not _says(name))
    others.sort(key=lambda name: bool(ABOUT.fullmatch(plain(name))))
    return others


def _drops(name: str, records: Sequence[Record]) -> bool:
    """Return whether a column is of the first object of a list, and rows have several.

    Of several answers to one question the first is an answer, too; so is the first annotator's.
    """
    answers = re.match("(answers?|annotations)\\b", plain(name))
    return ".0." in name and not answers and not single(name, records)


def _is_neither(name: str) -> bool:
    """Return whether a column's name is never that of a question or an answer."""
    return name[:1] == "_" or bool(_NEITHER.fullmatch(plain(name)))


def _is_question(text: str) -> bool:
    return text.rstrip()[-1:] in ("?", "\u061f", "\u1367")


def _says(name: str) -> bool:
    """Return whether a column's name, or the last part of it, is one of an answer."""
    return any(map(_SAYS.fullmatch, plain(name).split(".")))


def _reasoning(columns: Columns) -> str:
    """Return the column with the steps that lead to each answer; "" if there is none."""
    return next(
        (
            name
            for name, values in columns.items()
            if _THOUGHT.fullmatch(plain(name)) and all(isinstance(value, str) for value in values)
        ),
        "",
    )


def _listed_question(columns: Columns) -> str:
    """Return the column whose question is a list of texts; "" if there is none."""
    return next(
        (
            name
            for name, values in columns.items()
            if re.fullmatch("question|prompt|instruction|query", plain(name))
            and all(isinstance(value, list) for value in values)
            and all(isinstance(item, str) for value in values for item in value)
        ),
        "",
    )


def tagged_columns(columns: Columns) -> tuple[str, str] | None:
    """Return the columns with the words of sentences, and with a tag for each word."""
    lists = [
        name
        for name, values in columns.items()
        if all(isinstance(value, list) for value in values)
        # Texts, such as the choices of a question, are neither words nor tags.
        and not any(len(str(item).split()) > 1 for value in values for item in value)
    ]
    for words in (name for name in lists if not _NEITHER.fullmatch(plain(name))):
        if not all(isinstance(item, str) for value in columns[words] for item in value):
            continue
        lengths = [*map(len, columns[words])]
        for tags in lists:
            kinds = {str(item) for value in columns[tags] for item in value}
            same = [*map(len, columns[tags])] == lengths
            if tags != words and same and max(lengths) > 1 and 2 * len(kinds) <= sum(lengths):
                return words, tags
    return None


def _are_ids(values: Sequence[Any]) -> bool:
    """Return whether values are growing numbers or addresses: they name the rows."""
    words = [str(value) for value in values]
    if len(words) > 1 and all(word.isascii() and word.isdecimal() for word in words):
        numbers = [*map(int, words)]
        return numbers == sorted(set(numbers))
    if len(words) > 1 and len({*words}) == len(words):
        return all(_CODE.fullmatch(word) and not word.isdecimal() for word in words)
    return False


def _is_written(values: Sequence[Any]) -> bool:
    """Return whether a program wrote all values, or they name the source: nobody asks for them."""
    return all(isinstance(value, str) and _WRITTEN.fullmatch(value.strip()) for value in values)


def _are_labels(values: Sequence[Any]) -> bool:
    return 2 * len({*map(str, values)}) <= len(values)


def _is_constant(values: Sequence[Any]) -> bool:
    return len(values) > 2 and len({*map(str, values)}) == 1


def _repeats(question: Sequence[Any], values: Sequence[Any]) -> bool:
    """Return whether a column has the question again, in small letters as transcripts do."""
    pairs = zip(question, values, strict=False)
    return len(question) == len(values) and all(
        re.sub(r"\W", "", str(one)).casefold() == re.sub(r"\W", "", str(two)).casefold()
        for one, two in pairs
    )


def _are_counts(values: Sequence[Any]) -> bool:
    """Return whether values are numbers that follow each other, or addresses."""
    words = [str(value) for value in values]
    if not all(word.isascii() and word.isdecimal() for word in words):
        return _are_ids(values)
    first = int(words[0])
    return [*map(int, words)] == [*range(first, first + len(words))]


def _pair(question: str, name: str, columns: Columns) -> RowMapping:
    lists: list[Any] = [value for value in map(parsed, columns[name]) if isinstance(value, list)]
    answer = f"{name}.0" if lists else name
    flat = all(isinstance(item, str | int | float) for value in lists for item in value)
    if flat and max(map(len, lists), default=0) > 1:
        answer = f"{name}:comma"
    return RowMapping(prompt=f"{{{question}}}", answer=f"{{{answer}}}")
