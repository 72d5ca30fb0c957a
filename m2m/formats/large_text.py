"""The lines of a text that is read several times; those of a large one are in a temporary file."""

from __future__ import annotations

import io
import re
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from itertools import islice

from m2m.formats.byte_parts import BadLines, ByteSource, encoding_of, whole_text

HELD = 64 << 20  # bytes of a text that stay in memory
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")


class Lines:
    """The lines of a text with their ends, from any line on; they can be read again and again.

    Attributes:
        number: of the line (from 1) with which reading begins.
    """

    def __init__(self, source: ByteSource, asked: str = "", held: int = 0) -> None:
        """Take a text; a UTF-8 text of more than `held` bytes (0: `HELD`) is not held in memory.

        Raises:
            Fault: it is in another encoding; names the lines.
        """
        self.number, self._start, self._text = 1, 0, ""
        self._file: io.BufferedRandom | None = None
        held = held or HELD
        utf8 = encoding_of(source.peek(), asked) == "utf-8"
        if utf8 and len(source.peek(held + 1)) > held:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
            weakref.finalize(self, self._file.close)
            self._store(source)
        else:
            self._text = whole_text(source, asked)

    def __iter__(self) -> Iterator[str]:
        if self._file:
            yield from islice(self._decoded("utf-8"), self.number - 1, None)
        else:
            yield from (match.group() for match in _LINE.finditer(self._text, self._start))

    def skip(self, line: str) -> None:
        """Begin after the `line` with which reading begins now."""
        self._start += len(line)
        self.number += 1

    def has(self, part: str) -> bool:
        """Return whether the lines have a text in them."""
        if self._file:
            return any(part in line for line in self)
        return self._text.find(part, self._start) >= 0

    def _store(self, parts: Iterable[bytes]) -> None:
        assert self._file
        for part in parts:
            self._file.write(part)
        try:
            for _ in self._decoded("utf-8"):
                pass
        except UnicodeDecodeError:
            bad = BadLines()
            for number, line in enumerate(self._decoded("latin-1"), 1):
                bad.text(line.encode("latin-1"), number)
            raise bad.fault() from None

    def _decoded(self, encoding: str) -> Iterator[str]:
        assert self._file
        self._file.seek(0)
        reader = io.TextIOWrapper(self._file, encoding, newline="")
        try:
            first = reader.readline()
            yield from [first.lstrip("\ufeff")] if first else []
            yield from iter(reader.readline, "")  # of the reader itself, it would close the file
        finally:
            reader.detach()
