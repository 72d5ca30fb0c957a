"""The real kind of a file, if its content does not fit its name."""

from __future__ import annotations

import json
import re
from pathlib import Path

from m2m.errors import InputError

_UNPACK = "unpack it, and give the file that is inside"
_TABLE = 'save it as CSV UTF-8 (in Excel: "Save as", type "CSV UTF-8")'
_BEGINS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (b"7z\xbc\xaf", "a 7-Zip archive", _UNPACK),
    (b"PAR1", "a Parquet file", "save its rows as JSONL or CSV"),
    (b"ARROW1", "an Arrow (Feather) file", "save its rows as JSONL or CSV"),
    (b"\x89HDF", "an HDF5 file", "save its rows as JSONL or CSV"),
    (b"SQLite format 3", "an SQLite database", "save its rows as JSONL or CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", _TABLE),
    (b"%PDF", "a PDF", "save its text as a .txt file"),
    (b"{\\rtf", "an RTF document", "save its text as a .txt file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data", "fetch it with `git lfs pull`"),
)
_WEB = re.compile(rb"\s*<(!doctype html|html|\?xml|tmx|xliff)\b", re.IGNORECASE)
_NAMES = "prompt|completion|question|answer|text|label|instruction|input|output|source|target|id"
_HEADER = re.compile(rf"({_NAMES})(\s*[,;|]\s*\w+)+|\w+(\s*[,;|]\s*({_NAMES}))+", re.IGNORECASE)
_RENAMED = {
    ".jsonlines": ".jsonl", ".ndjson": ".jsonl", ".ldjson": ".jsonl", ".tab": ".tsv",
    ".text": ".txt", ".md": ".txt",
}  # fmt: skip


def refuse_other(path: Path, data: bytes, known: tuple[str, ...]) -> None:
    """Refuse a file without rows, by its first bytes, then by its text, then by its name.

    Args:
        path: the file.
        data: its bytes; the first few thousand are enough.
        known: name endings of files with rows.

    Raises:
        InputError: names the real kind of the file and the next step.
    """
    nature = _binary(data) or _text(path.suffix.lower(), data.decode("utf-8", "replace"))
    if nature:
        raise InputError(f"{path}: this is {nature[0]}", nature[1])
    ending = path.suffix.lower()
    if ending not in known:
        better = _RENAMED.get(ending)
        kinds = f"m2m reads {', '.join(known)}"
        hint = f"rename it to {path.with_suffix(better).name}: {kinds}" if better else kinds
        raise InputError(f"{path}: m2m does not read {ending or 'files without an ending'}", hint)


def _binary(data: bytes) -> tuple[str, str] | None:
    for begin, name, remedy in _BEGINS:
        if data.startswith(begin):
            return name, remedy
    if data.startswith(b"PK\x03\x04"):
        if b"xl/" in data or b"opendocument.spreadsheet" in data[:200]:
            return "an Excel or LibreOffice table, not text", _TABLE
        if b"word/" in data or b"opendocument.text" in data[:200]:
            return "a Word or LibreOffice document", "save its text as a .txt file"
        return "a zip archive", _UNPACK
    if data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05" and data[1:2]:
        return "a Python pickle, which m2m never opens", "save its rows as JSONL or CSV"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or data[:400].count(b"\0") > len(data[:400]) / 4:
        return "UTF-16, expected UTF-8", "save it as UTF-8"
    if web := _WEB.match(data):
        kind = "a web page" if b"html" in web.group().lower() else "XML"
        return kind, "fetch the data itself, or save its rows as JSONL or CSV"
    return None


def _text(ending: str, text: str) -> tuple[str, str] | None:
    text = text.lstrip("\ufeff \t\r\n")
    lines = [line for line in text.split("\n")[:50] if line.strip()]
    if ending in (".csv", ".tsv", ".tab", ".txt") and text[:1] in ("{", "["):
        if text[0] == "[" and text[1:].lstrip()[:1] == "{":
            return "JSON", "rename it to .json"
        if text[0] == "{" and (_is_object(lines[0]) or re.match(r'\{\s*"[^"\n]*"\s*:', text)):
            return "JSON", "rename it to .jsonl"
    if ending == ".jsonl" and re.match(r"\[\s*\{", text):
        return "one JSON array, not a JSON value on each line", "rename it to .json"
    if ending in (".jsonl", ".json") and re.match(r"[\[(]?\s*\{\s*'", text):
        return "Python, not JSON: its texts are in single quotes", "write it with json.dumps"
    tabs = {line.count("\t") for line in lines}
    if ending == ".txt" and len(lines) > 1 and len(tabs) == 1 and tabs != {0}:
        header = "prompt<TAB>completion"
        return "a table with tabs", f"put a line of names first ({header}) and rename it to .tsv"
    if ending == ".txt" and len(lines) > 1 and _HEADER.fullmatch(lines[0].strip()):
        mark = next((separator for separator in ",;|" if separator in lines[0]), ",")
        if all(mark in line for line in lines):
            return (
                "a table with a header",
                "rename it to .csv (with commas or semicolons between the columns)",
            )
    return None


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
