"""Translations of PO, TMX and XLIFF files as rows of source and target."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from m2m.counted import are, counted
from m2m.formats.byte_parts import ByteSource, known_encoding, whole_text
from m2m.formats.rowfile import Fault, Options, Record
from m2m.formats.xml_parts import feed, local, xml_parser

_DEEPEST = 100
_CHARSET = re.compile(rb"charset=([\w-]+)")
_PO_LINE = re.compile(r'\s*(?:(msgctxt|msgid_plural|msgid|msgstr(?:\[\d+\])?)\s*)?"(.*)"\s*$')
_ESCAPE = re.compile(r"\\(.)")
FIXED = 'translate="no"'  # the reason for which segments of XLIFF and TMX are left out
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_CODES = {"bpt", "ept", "ph", "it", "ut", "x", "bx", "ex", "sub", "pc", "sc", "ec", "cp"}
_KEEPS_TEXT = {"pc", "sub"}  # pairs of codes around text that people read
_UNDONE = {"new", "needs-translation", "needs-l10n", "initial"}  # states of XLIFF 1.2 and 2


@dataclass
class Pairs:
    """Rows of source and target, and the rows that were left out.

    Attributes:
        records: {"source", "target"} with the line of each.
        left_out: how many entries were left out, by the reason.
        with_codes: segments with inline codes, which are left out; the text between them is kept.
    """

    records: list[Record] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    with_codes: int = 0

    def add(self, source: str, target: str, line: int) -> None:
        """Add a pair, unless a side is empty."""
        if not source.strip():
            return
        if not target.strip():
            self.leave_out("no translation")
            return
        self.records.append(Record({"source": source, "target": target}, line))

    def leave_out(self, reason: str) -> None:
        """Count an entry that is no pair."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    @property
    def notes(self) -> tuple[str, ...]:
        """Return in words how many rows were left out."""
        notes = [
            f"{are(count, 'entry', 'entries')} left out: {reason}"
            for reason, count in self.left_out.items()
        ]
        if self.with_codes:
            segments = counted(self.with_codes, "segment")
            notes.append(f"inline codes of {segments} are left out, the text between them is kept")
        return tuple(notes)


def read_po(source: ByteSource, options: Options) -> Pairs:
    """Return the translated entries of a PO file; fuzzy and obsolete ones are left out.

    Of a plural with two forms, both are pairs.

    Raises:
        Fault: a line is not PO.
    """
    charset = _CHARSET.search(source.peek())
    asked = options.encoding
    if not asked and charset and charset[1].lower() not in (b"charset", b"utf-8", b"utf8"):
        asked = known_encoding(charset[1].decode())
    pairs = Pairs()
    for entry, fuzzy, line in _entries(whole_text(source, asked)):
        if not entry.get("msgid"):  # the header
            continue
        if fuzzy:
            pairs.leave_out("fuzzy")
            continue
        single = entry.get("msgstr", entry.get("msgstr[0]", ""))
        if "msgid_plural" not in entry:
            pairs.add(entry["msgid"], single, line)
        elif "msgstr[1]" not in entry:  # a language without plurals
            pairs.add(entry["msgid_plural"], single, line)
        else:
            pairs.add(entry["msgid"], single, line)
            if "msgstr[2]" in entry:
                pairs.leave_out("plurals of more than two forms")
            else:
                pairs.add(entry["msgid_plural"], entry["msgstr[1]"], line)
    return pairs


def _entries(text: str) -> Iterator[tuple[dict[str, str], bool, int]]:
    """Yield (texts by keyword, fuzzy, line) of each entry."""
    entry: dict[str, str] = {}
    fuzzy, keyword, begin = False, "", 1
    for number, line in enumerate(re.split("\r\n|\n|\r", text), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            if entry and any(name.startswith("msgstr") for name in entry):
                yield entry, fuzzy, begin
                entry, fuzzy, keyword = {}, False, ""
            fuzzy = fuzzy or (line.startswith("#,") and "fuzzy" in line)
            continue
        match = _PO_LINE.match(line)
        if not match or not (match[1] or keyword):
            raise Fault(f"line {number}: found {line!r:.40}, expected msgid, msgstr or a comment")
        if match[1]:
            starts = match[1] in ("msgid", "msgctxt")
            if starts and any(name.startswith("msgstr") for name in entry):
                yield entry, fuzzy, begin
                entry, fuzzy = {}, False
            if match[1] in entry:
                raise Fault(f"line {number}: {match[1]} is there twice in one entry")
            begin = begin if entry else number
            keyword = match[1]
        entry[keyword] = entry.get(keyword, "") + _ESCAPE.sub(_unescaped, match[2])
    if entry:
        yield entry, fuzzy, begin


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPED.get(match[1], match[0])


def read_xml(source: ByteSource, inner: str) -> Pairs:
    """Return the segments of a TMX or XLIFF file.

    Inline codes are left out, the text between them is kept. Nothing outside the file is read, and
    a file that declares entities is refused.

    Args:
        source: the file's bytes.
        inner: the target's language, if a TMX file has several; or "".

    Raises:
        Fault: it is not XML, or has several languages.
    """
    parser = xml_parser()
    reader = _Xml(parser)
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    feed(parser, source)
    return reader.pairs(inner)


class _Xml:
    """Collects the texts of segments, by language, and their units."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser
        self._open: list[str] = []
        self._fixed = [False]  # for each element that is open: whether it has translate="no"
        self._text: list[str] | None = None  # of the segment that is open
        self._codes = 0  # open inline codes, whose text is left out
        self._key = ""
        self._units: list[tuple[dict[str, str], int, bool]] = []
        self._source_language = ""
        self._undone = False
        self._with_codes = self._undone_count = 0
        self._had_code = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = local(name)
        above = self._open[-1] if self._open else ""
        self._open.append(name)
        self._fixed.append(attributes.get("translate", "no" if self._fixed[-1] else "") == "no")
        if len(self._open) > _DEEPEST:
            raise Fault(f"line {self._parser.CurrentLineNumber}: nested more than {_DEEPEST} deep")
        if name == "header":
            self._source_language = attributes.get("srclang", "")
        elif name in ("tu", "trans-unit") or (name, above) == ("segment", "unit"):
            self._units.append(({}, self._parser.CurrentLineNumber, self._fixed[-1]))
            self._undone = attributes.get("state", "") in _UNDONE
        elif name == "tuv":
            self._key = attributes.get("xml:lang", attributes.get("lang", ""))
        elif self._text is not None:
            if name in _CODES:
                self._had_code = True
                self._codes += name not in _KEEPS_TEXT
        elif name == "seg" and above == "tuv":
            self._begin(self._key)
        elif name in ("source", "target") and above in ("trans-unit", "segment"):
            self._undone = self._undone or attributes.get("state", "") in _UNDONE
            self._begin(name)

    def _begin(self, key: str) -> None:
        self._key, self._text, self._codes, self._had_code = key, [], 0, False

    def data(self, text: str) -> None:
        if self._text is not None and not self._codes:
            self._text.append(text)

    def end(self, name: str) -> None:
        name = local(name)
        self._open.pop()
        self._fixed.pop()
        if self._text is None:
            return
        if name in ("seg", "source", "target"):
            if self._units:
                text = "".join(self._text).strip()
                if not (name == "target" and self._undone):
                    self._units[-1][0].setdefault(self._key, text)
            self._with_codes += self._had_code
            self._text = None
        elif name in _CODES:
            self._codes -= name not in _KEEPS_TEXT

    def pairs(self, inner: str) -> Pairs:
        """Return the pairs of all units."""
        keys = dict.fromkeys(key for unit, _, _ in self._units for key in unit)
        first, second = self._languages([*keys], inner)
        pairs = Pairs()
        for unit, line, fixed in self._units:
            if fixed:
                pairs.leave_out(FIXED)
            else:
                pairs.add(unit.get(first, ""), unit.get(second, ""), line)
        if self._with_codes:
            pairs.with_codes = self._with_codes
        return pairs

    def _languages(self, keys: list[str], inner: str) -> tuple[str, str]:
        if not keys or keys[0] in ("source", "target"):
            if inner:
                raise Fault(f"has nothing called {inner!r:.60} in it", "give the file alone")
            return "source", "target"
        own = self._source_language.lower()
        exact = [key for key in keys if key.lower() == own]
        alike = [key for key in keys if key.lower().split("-")[0] == own.split("-")[0]]
        first = [*exact, *alike, keys[0]][0]
        others = [key for key in keys if key != first]
        chosen = [key for key in others if inner in ("", key)]
        if len(chosen) == 1:
            return first, chosen[0]
        if not others:
            raise Fault(f"has texts in one language only ({first})", "is it the right file?")
        raise Fault(
            f"has translations of {first} into {', '.join(others)}",
            members=others,
        )
