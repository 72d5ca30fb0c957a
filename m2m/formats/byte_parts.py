"""Bytes that come in parts: the beginning, the lines, or all of them as a text."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator

from m2m.formats.encodings import likely_encodings, shown_part
from m2m.formats.rowfile import Fault

_BEGINNING = 1 << 16  # bytes that show the kind of a file
_PREVIEW = 1 << 20  # bytes that are read first of a file of which only some rows are wanted
_FIRST_OF_SEVERAL = 0xC0  # from this value on, a byte of UTF-8 begins a letter of several bytes
_BOM = b"\xef\xbb\xbf"
_MARKS = (  # UTF-32 begins with the mark of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"), (_BOM, "utf-8"),
)  # fmt: skip
_UNFIT = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "mbcs", "oem"}
_ENDS = re.compile(r"\r\n|\n|\r")
_SHOWN = 5  # bad lines that a message names
_KEPT, _LONGEST = 200, 2_000  # bad lines that show the encoding, and bytes of each


class ByteSource:
    """Bytes that are read once, in parts.

    Args:
        name: of the file, or of the member of an archive; its ending says how it is read.
        parts: the bytes.
    """

    def __init__(self, name: str, parts: Iterable[bytes]) -> None:
        self.name = name
        self._parts, self._ahead = iter(parts), b""

    def peek(self, count: int = _BEGINNING) -> bytes:
        """Return the first `count` bytes that were not taken yet, or all if there are fewer."""
        held = [self._ahead]
        size = len(self._ahead)
        while size < count and (part := next(self._parts, b"")):
            held.append(part)
            size += len(part)
        self._ahead = b"".join(held)
        return self._ahead[:count]

    def __iter__(self) -> Iterator[bytes]:
        """Yield all parts that were not taken yet."""
        ahead, self._ahead = self._ahead, b""
        if ahead:
            yield ahead
        del ahead
        yield from self._parts

    def rest(self) -> bytes:
        """Return all bytes that were not taken yet."""
        return b"".join(self)

    def lines(self) -> Iterator[bytes]:
        r"""Yield the lines, which end at "\n", without it."""
        pieces: list[bytes] = []  # of a line that goes over several parts
        for part in self:
            if b"\n" not in part:
                pieces.append(part)
                continue
            first, *lines = part.split(b"\n")
            yield b"".join([*pieces, first])
            pieces = [lines.pop()]
            yield from lines
        if any(pieces):
            yield b"".join(pieces)


def beginnings(source: ByteSource) -> Iterator[bytes]:
    """Yield longer and longer beginnings of a file, until one would be all of it.

    None of them ends inside a line, if the file has lines, or inside a letter of UTF-8.
    """
    size = _PREVIEW
    while len(begin := source.peek(size)) == size:
        end = begin.rfind(b"\n") + 1
        if not end:  # up to three bytes at the end can begin a letter
            end = next((size - n for n in (1, 2, 3) if begin[-n] >= _FIRST_OF_SEVERAL), size)
        yield begin[:end]
        size *= 4


def encoding_of(begin: bytes, asked: str = "") -> str:
    """Return the encoding of a text by its first bytes.

    Args:
        begin: the first bytes.
        asked: the encoding that the user named, or "".

    Raises:
        Fault: there is no encoding of this name, or there are zero bytes but it is no UTF-16.
    """
    if asked:
        return known_encoding(asked)
    marked = next((name for mark, name in _MARKS if begin.startswith(mark)), None)
    if marked or b"\0" not in begin:
        return marked or "utf-8"
    # In UTF-16, every second byte of the signs that all scripts share is zero.
    zeros = [begin[start::2].count(0) for start in (0, 1)]
    if max(zeros) >= max(4, len(begin) // 20) and not min(zeros):
        return "utf-16-le" if zeros[1] else "utf-16-be"
    few = 20 * begin.count(0) < len(begin)
    raise Fault(
        "has zero bytes, so it is not text",
        "is it the right file? A program that was cut off may have left them: delete them, and "
        "look at the rows around them"
        if few
        else 'is it the right file? If it is UTF-16, write `encoding = "utf-16-le"` below its path '
        "in the recipe",
    )


def known_encoding(name: str) -> str:
    """Return Python's name of a text encoding.

    Raises:
        Fault: there is no such encoding.
    """
    try:
        found = codecs.lookup(name)
        if not found._is_text_encoding or found.name in _UNFIT:
            raise LookupError(name)
    except (LookupError, ValueError):
        hint = 'common ones are "cp1252", "latin-1", "cp1256" (Arabic), "utf-16"'
        raise Fault(f"encoding = {name!r:.40} is not known", hint) from None
    return found.name


def whole_text(source: ByteSource, asked: str = "") -> str:
    """Return all of a text, without a byte order mark.

    Raises:
        Fault: it is in another encoding; names the lines.
    """
    encoding = encoding_of(source.peek(), asked)
    data = source.rest()
    _refuse_misread(data, encoding)
    try:
        return data.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        if encoding == "utf-8" and not asked:
            bad = BadLines()
            for number, line in enumerate(re.split(b"\r\n|\n|\r", data), 1):
                bad.text(line, number)
            raise bad.fault() from None
        line = len(_ENDS.findall(data[: error.start].decode(encoding, "replace"))) + 1
        what = f"the bytes {data[error.start : error.start + 4].hex(' ')} are not {encoding}"
        raise Fault(f"{line}: {what}", "name its encoding, or save it as UTF-8") from None
    except UnicodeError as error:
        hint = "name its encoding, or save it as UTF-8"
        raise Fault(f"is not {encoding}: {error}", hint) from None


def _refuse_misread(data: bytes, encoding: str) -> None:
    """Raise if a file is valid UTF-8 beyond ASCII, but is to be read in an 8-bit encoding.

    No text in another encoding is valid UTF-8 by chance, so every letter beyond ASCII would become
    two or three wrong ones.

    Raises:
        Fault: names the first such line, and shows both readings.
    """
    if encoding in ("utf-8", "utf-8-sig", "ascii") or encoding.startswith(("utf-16", "utf-32")):
        return
    if data.isascii() or not is_utf8(data):
        return
    lines = enumerate(re.split(b"\r\n|\n|\r", data), 1)
    number, line = next((number, line) for number, line in lines if not line.isascii())
    right, wrong = shown_part(line.decode("utf-8")), shown_part(line.decode(encoding, "replace"))
    raise Fault(
        f'{number}: the file is UTF-8 ("{right}"), and encoding = "{encoding}" would make '
        f'"{wrong}" of this line',
        "delete `encoding` below its path in the recipe",
    )


def is_utf8(data: bytes) -> bool:
    """Return whether bytes are UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


class BadLines:
    """Lines that are not UTF-8, and whether the other lines show that the file is UTF-8."""

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []  # line, and the first byte that is not UTF-8
        self._lines: list[bytes] = []  # the first bad ones
        self.count = 0
        self.is_utf8 = False

    def text(self, line: bytes, number: int) -> str | None:
        """Return a line's text, or None if it is not UTF-8."""
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            self.count += 1
            if len(self.places) < _SHOWN:
                self.places.append((number, line[error.start]))
            if len(self._lines) < _KEPT and len(line) < _LONGEST:
                self._lines.append(line)
            return None
        self.is_utf8 = self.is_utf8 or not text.lstrip("\ufeff").isascii()
        return text

    def fault(self) -> Fault:
        """Return the refusal of the file: the question which encoding it has."""
        number, byte = self.places[0]
        others = ", ".join(str(place) for place, _ in self.places[1:])
        more = f" and {self.count - _SHOWN} more" if self.count > _SHOWN else ""
        also = f"; so in line {others}{more}" if others else ""
        found = f"{number}: byte {byte:#04x} is not UTF-8{also}"
        if self.is_utf8:
            return Fault(found, "the other lines are UTF-8: correct these")
        ways = [
            f'if "{text}" has the right letters, write `encoding = "{encoding}"`'
            for encoding, text in likely_encodings(self._lines)
        ]
        if not ways:
            return Fault(
                found,
                "save the file as UTF-8, or write its encoding below its path in the recipe, such "
                "as cp1252 (West European) or cp1256 (Arabic)",
            )
        hint = "; ".join(ways) + " below its path in the recipe; or save the file as UTF-8"
        return Fault(found, hint)
