"""Parse XML of strangers in parts: nothing outside the file is read, and it cannot grow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.parsers import expat

from m2m.formats.rowfile import Fault


def xml_parser() -> Any:
    """Return an expat parser that refuses a file which declares entities."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.EntityDeclHandler = _refuse_entity
    return parser


def feed(parser: Any, parts: Iterable[bytes]) -> None:
    """Parse all of a file.

    Raises:
        Fault: it is not XML, or declares entities.
    """
    try:
        for part in parts:
            parser.Parse(part, False)
        parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        line = getattr(error, "lineno", 1)
        raise Fault(f"line {line}: malformed XML: {error}", "correct this line") from None


def local(name: str) -> str:
    """Return the name of an element or an attribute without its prefix."""
    return name.rpartition(":")[2]


def _refuse_entity(name: str, *_: Any) -> None:
    raise Fault(f"declares the entity {name!r:.40}", "m2m reads no XML that declares entities")
