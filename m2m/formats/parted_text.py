"""Text files whose lines have parts: labels, translations, meanings, turns of two speakers.

Files that are also read as bare texts keep each line in `text`, next to its parts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle, groupby, pairwise

from m2m.counted import are
from m2m.errors import Problems
from m2m.formats.rowfile import Record

Parts = Callable[[str], dict[str, str]]
HALVES = ("left", "right")  # fields of a line with a sign in its middle
TURNS = ("turn", "before", "reply")  # fields of a line that follows another
_LOOKED_AT, _LEAST, _MOSTLY = 200, 4, 0.9  # lines; the fraction of them that must have the parts
_LABEL = "__label__"
# Marks of the direction of writing, and spaces. Those of names may be in pairs.
_MARKS = "\u200e\u200f \t\u00a0\u202f"
_NAME_MARKS = _MARKS + "\u202a\u202b\u202c\u2066\u2067\u2068\u2069"
_PIPES = " ||| "
_SIGNS = (" - ", " \u2013 ", " \u2014 ", " = ", " -> ", " : ", "|", ";", ": ")
_NUMBER = re.compile(r"\A(?:\d{1,4}[.)]|[-*\u2022\u2013])\s+(?=\S)")
CHAT = re.compile(  # WhatsApp's: [12/01/2023, 10:15:11] Asha: Habari
    r"\W?\d{1,4}[./-]\d{1,2}[./-]\d{1,4}[,\u060c]?\s+(?:[^\W\d]{1,3}\s+)?\d{1,2}[:.]\d{2}"
    r"(?:[:.]\d{2})?(?:\s?[^\W\d][^\d:\]-]{0,14})?(?:\s-|\])\s+(.*)"
)
_NAMED = re.compile('((?:[^:"]|"[^:"]*"){1,60}):(?: (.*)|$)')
# WhatsApp writes U+200E before its own words. The app for Android leaves it out of some.
_MEDIA = re.compile(
    "\u200e[^\\W\\d_].*|\u200e?(?:<[^<>]*>|(?:\\w+ ){1,3}omitted|\\S+\\.\\w{3,4} \\([^()]+\\)|null|"
    "This message was deleted\\.?|You deleted this message\\.?|Missed \\w+ (?:\\w+ )?call.*)"
)
_ADDED = re.compile("(?:\u200e<[^<>]*>|\u200e\\w+ omitted|<This message was edited>)$")
_SPEAKER = re.compile(r"(\w[\w'-]{0,29}(?: \w{1,20})?)\s?:\s+(?=\S)")
_OPTION = re.compile(r"\(?[A-Ha-h]\s?[).:]\s")
_COUNT = re.compile(r"(?:[ _]|(?<!\d))\d+$")
_ASKS = {"q", "question", "user", "human", "prompt", "instruction", "swali", "tambaya", "ibeere"}
_CHATS = {"user", "human", "prompt"}  # lines without an empty one between them are one chat
_SAYS = {"a", "answer", "assistant", "bot", "ai", "model", "response", "jibu", "amsa", "idahun"}
_LETTER = re.compile(r"[^\W\d_]")
_QUESTION = ("?", "\u061f", "\u1367")


def parted(lines: Sequence[Record], problems: Problems) -> tuple[Sequence[Record], str]:
    """Return the rows of a text file: its lines, with their parts if they have some; and a note.

    Args:
        lines: its lines, each in `text`.
        problems: gets the lines that have no such parts.
    """
    if len(lines) < 2:
        return lines, ""
    if _most(lines, _written, 0.1 if _dated(lines[0].fields["text"]) else 0.5):
        return _chat(lines)
    for parts in (_fast_text, _pipes):
        if _most(lines, parts):
            return _rows(lines, parts, problems), ""
    return _with_parts(lines), ""


def _with_parts(lines: Sequence[Record]) -> Sequence[Record]:
    asked = _continued(lines)
    if heads := speakers([line.fields["text"] for line in asked]):
        return _spoken(asked, heads) or asked
    if len(lines) >= _LEAST and (rows := _in_turn(lines)):
        return rows
    for sign in (*_SIGNS, "("):
        halves = partial(_halves, sign=sign)
        if _most(lines, halves):
            return [Record({**r.fields, **halves(r.fields["text"])}, r.line) for r in lines]
    return lines


def _chat(lines: Sequence[Record]) -> tuple[Sequence[Record], str]:
    """Return the exchanges of a chat that WhatsApp exported, and how many lines nobody said."""
    turns, gone, who = list[tuple[str, str, int]](), 0, ""
    for line in lines:
        text = line.fields["text"].strip()
        begun = _dated(text)
        named = _written(text)
        if begun:
            who = " ".join(named[1].strip(_NAME_MARKS).split()) if named else ""
            text = (named[2] or "") if named else ""
        if not who or not text or _MEDIA.fullmatch(text):
            gone += 1
        else:
            turns.append((who, _ADDED.sub("", text).strip(_MARKS), line.line))
    note = f"{are(gone, 'line')} left out: nobody said them" if gone else ""
    rows = exchanges(turns)
    return (rows, note) if rows else (lines, "")


def exchanges(turns: Iterable[tuple[str, str, int]]) -> list[Record]:
    """Return the answers in a chat: a row for each change of the speaker.

    Args:
        turns: the person, the text and its line.
    """
    runs = ((who, [*said]) for who, said in groupby(turns, key=lambda turn: turn[0]))
    joined = [(who, "\n".join(text for _, text, _ in said), said[0][2]) for who, said in runs]
    return [
        Record(dict(zip(TURNS, (who, before, said), strict=True)), line)
        for (_, before, _), (who, said, line) in pairwise(joined)
    ]


def _most(lines: Sequence[Record], parts: Callable[[str], object], least: float = _MOSTLY) -> bool:
    some = lines[:_LOOKED_AT]
    return sum(bool(parts(line.fields["text"])) for line in some) >= least * len(some)


def _dated(text: str) -> re.Match[str] | None:
    """Match a line of a chat that has a date; the group is the rest of the line."""
    return CHAT.match(text.strip(_MARKS))


def _written(text: str) -> re.Match[str] | None:
    return _NAMED.fullmatch(begun[1]) if (begun := _dated(text)) else None


def _rows(lines: Sequence[Record], parts: Parts, problems: Problems) -> list[Record]:
    made = [Record(parts(line.fields["text"]), line.line) for line in lines]
    usual = Counter(len(row.fields) for row in made if row.fields).most_common(1)[0][0]
    for row in made:
        if len(row.fields) != usual:
            problems.add(f"line {row.line}: it has other parts than most lines of the file")
    return [row for row in made if len(row.fields) == usual]


def _fast_text(text: str) -> dict[str, str]:
    """Return the text of a line of fastText, and its labels before or after it; {} for others."""
    words, labels = text.split(), list[str]()
    while words and words[0].startswith(_LABEL):
        labels.append(words.pop(0))
        text = text.split(None, 1)[-1]
    while words and words[-1].startswith(_LABEL):
        labels.append(words.pop())
        text = text.rsplit(None, 1)[0]
    plain = ", ".join(label.removeprefix(_LABEL) for label in labels)
    return {"sentence": text.strip(), "label": plain} if words and labels else {}


def _pipes(text: str) -> dict[str, str]:
    cells = [cell.strip() for cell in text.split(_PIPES)]
    names = [*HALVES, *map(str, range(3, len(cells) + 1))]
    return dict(zip(names, cells, strict=True)) if cells[1:] else {}


def _halves(text: str, sign: str) -> dict[str, str]:
    """Return the two sides of a line's only sign, without the line's number; {} for other lines."""
    text = _bare(text)
    if sign == "(":
        text = text.removesuffix(".")
        if text.count(")") != 1 or not text.endswith(")"):
            return {}
        text = text[:-1]
    one, *rest = text.split(sign)
    if len(rest) != 1 or not all(map(_LETTER.search, (one, rest[0]))):
        return {}
    return dict(zip(HALVES, (one.strip(), rest[0].strip()), strict=True))


def _bare(text: str) -> str:
    """Return a line without its number or dash."""
    return _NUMBER.sub("", text.strip())


def speakers(texts: Sequence[str]) -> list[str]:
    """Return the few words before a colon that begin all lines, as in "A: ..."; [] for others."""
    if not all(map(_head, texts[:_LOOKED_AT])):
        return []
    heads = [*map(_head, texts)]
    if len({*heads}) > len(heads) / 2:  # "Q1: ...", "A1: ..."
        words = [_COUNT.sub("", head) for head in heads]
        heads = words if {word.lower() for word in words} <= _ASKS | _SAYS else heads
    return heads if all(heads) and 1 < len({*heads}) <= len(heads) / 2 else []


def _head(text: str) -> str:
    match = _SPEAKER.match(_bare(text))
    return match[1] if match else ""


def _continued(lines: Sequence[Record]) -> Sequence[Record]:
    """Return questions and answers with the lines that continue them; other lines as they are."""
    if _word(lines[0].fields["text"]) not in _ASKS:
        return lines
    joined, others = list[tuple[int, list[str]]](), Counter[str]()
    for line in lines:
        text = line.fields["text"].strip()
        word, option = _word(text), _OPTION.match(text)
        if word in _ASKS | _SAYS:
            joined.append((line.line, []))
        elif word or option:
            others[word or text[:2]] += 1
        joined[-1][1].append(text)
    made = [Record({"text": "\n".join(texts)}, place) for place, texts in joined]
    more = max([0, *others.values()])  # "Source: ..." or "B) ...", after most questions
    return made if len(made) >= max(_LEAST, len(lines) / 4, 4 * more) else lines


def _word(text: str) -> str:
    return _COUNT.sub("", _head(f"{text} .")).lower()  # the question may be in the next line


def _spoken(lines: Sequence[Record], heads: Sequence[str]) -> list[Record]:
    """Return questions with their answers, or the lines of two in turn; [] for other talks."""
    by = {line.line: head for line, head in zip(lines, heads, strict=True)}
    said = {r.line: _SPEAKER.sub("", _bare(r.fields["text"]), count=1) for r in lines}
    blocks = [*_blocks(lines)]
    in_turn = all(by[one.line] != by[two.line] for b in blocks for one, two in pairwise(b))
    if len({*heads}) != 2 or not in_turn:
        return []
    pairs = [*zip(lines[::2], lines[1::2], strict=False)]
    known = all(by[a.line].lower() in _ASKS and by[b.line].lower() in _SAYS for a, b in pairs)
    if not known or 2 * len(pairs) != len(lines):
        return _followed(blocks, said, by)
    even = not any(len(block) % 2 for block in blocks)
    if even and len(pairs) > len(blocks) > 1 and heads[0].lower() in _CHATS:
        return [_conversation(block, said) for block in blocks]
    return [Record({"question": said[a.line], "answer": said[b.line]}, a.line) for a, b in pairs]


def _conversation(block: Sequence[Record], said: Mapping[int, str]) -> Record:
    roles = cycle(("user", "assistant"))
    turns = [{"role": next(roles), "content": said[line.line]} for line in block]
    return Record({"messages": turns}, block[0].line)


def _in_turn(lines: Sequence[Record]) -> list[Record]:
    """Return lines that come two and two: with an empty line after them, or as questions."""
    blocks = [*_blocks(lines)]
    if len(blocks) < _LEAST or any(len(block) != 2 for block in blocks):
        asked = [line.fields["text"].rstrip().endswith(_QUESTION) for line in lines]
        if len(lines) % 2 or not all(asked[::2]) or any(asked[1::2]):
            return []
        blocks = [[*pair] for pair in zip(lines[::2], lines[1::2], strict=True)]
    said = {line.line: line.fields["text"].strip() for line in lines}
    return _followed(blocks, said, dict.fromkeys(said, "second line"))


def _followed(
    blocks: Sequence[Sequence[Record]], said: Mapping[int, str], by: Mapping[int, str]
) -> list[Record]:
    """Return the lines of all blocks; those that follow one have `TURNS`, too."""
    rows = []
    for block in blocks:
        rows.append(block[0])
        for one, two in pairwise(block):
            values = (by[two.line], said[one.line], said[two.line])
            rows.append(Record({**two.fields, **dict(zip(TURNS, values, strict=True))}, two.line))
    return rows


def _blocks(lines: Sequence[Record]) -> Iterator[list[Record]]:
    """Yield the lines between empty ones."""
    block = [lines[0]]
    for one, two in pairwise(lines):
        if two.line > one.line + 1 + one.fields["text"].count("\n"):
            yield block
            block = []
        block.append(two)
    yield block
