"""The real kind of a file of rows: by its first bytes, then by its text, then by its name."""

from __future__ import annotations

import json
import re
from pathlib import PurePath

from m2m.formats.byte_parts import encoding_of
from m2m.formats.rowfile import Fault, Options
from m2m.formats.tagged import tagged_hint

PACKED = {  # one file, packed
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd",
}  # fmt: skip
_COLUMNS = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow stream"}
_UNPACK = "unpack it, and give the file that is inside"
_AS_ROWS = "save its rows as JSONL or CSV"
_REFUSED: tuple[tuple[bytes, str, str], ...] = (
    (b"7z\xbc\xaf", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"FEA1", "an old Feather file (version 1)", "save it as Parquet, JSONL or CSV"),
    (b"\x89HDF", "an HDF5 file", _AS_ROWS),
    (b"\x93NUMPY", "a NumPy array", _AS_ROWS),
    (b"SQLite format 3", "an SQLite database", _AS_ROWS),
    (b"Obj\x01", "an Avro file", _AS_ROWS),
    (b"ORC", "an ORC file", _AS_ROWS),
    (b"%PDF", "a PDF", "save its text as a .txt file"),
    (b"{\\rtf", "an RTF document", "save its text as a .txt file"),
    (b"RIFF", "a sound or a picture", "m2m trains on texts"),
    (b"\x89PNG", "a picture", "m2m trains on texts"),
    (b"#FORMAT=WebAnno", "words with their tags (WebAnno, INCEpTION)", _AS_ROWS),
    (b"version https://git-lfs", "a Git LFS pointer, not the data", "fetch it with `git lfs pull`"),
)
UNKNOWN = "m2m does not know the ending"  # begins the error about any other file
_XML = re.compile(r"\s*<(?:\?xml|!doctype|html|head|body|tmx|xliff|tei|ts)\b", re.IGNORECASE)
_TRANSLATIONS = re.compile(r"<(tmx|xliff)\b")
_PO = re.compile(r'(?:#.*\n|\s)*msgid\s+"')
_NAMES = "prompt|completion|question|answer|text|label|instruction|input|output|source|target|id"
# White space with one mark or a tab in it. Each character has one meaning, so no time is lost.
_BETWEEN = r"(?:\s*[,;|]\s*|[^\S\t]*\t\s*)"
_LABEL = "__label__"
_HEADER = re.compile(rf"({_NAMES})({_BETWEEN}\w+)+|\w+({_BETWEEN}({_NAMES}))+", re.IGNORECASE)
_JSON = {".jsonl", ".json", ".ndjson", ".jsonlines", ".ldjson", ".jsonl5", ".geojson"}
# The usual separator of tables; a .txt file can be one.
TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
SEPARATORS = {**TABLES, ".txt": "\t", ".text": "\t"}
_TEXTS = {".txt", ".text"}
_NAMED = {**dict.fromkeys(TABLES, "table"), ".yaml": "yaml", ".yml": "yaml"}
_TOKENS = {".conll", ".conllu", ".conllup", ".conll2003", ".iob", ".iob2", ".bio"}
_NOT_ROWS = {
    ".md": ("Markdown", "save its text as a .txt file, without the marks"),
    ".rst": ("a document", "save its text as a .txt file"),
    ".tex": ("a document", "save its text as a .txt file"),
    ".toml": ("TOML", "save its rows as JSONL"),
    ".ini": ("settings", "give a file of rows"),
    ".py": ("a Python program, which m2m never runs", "run it yourself, and give m2m its output"),
    ".pkl": ("a Python pickle, which m2m never opens", _AS_ROWS),
    ".pickle": ("a Python pickle, which m2m never opens", _AS_ROWS),
    ".sql": ("a copy of a database", "export its table as CSV"),
    ".dic": ("a word list of Hunspell", "delete the first line and the marks after /: a .txt file"),
    ".textgrid": ("speech with times (Praat)", "write each text on a line of a .txt file"),
    ".usfm": ("a book in USFM", "write each verse on a line of a .txt file, without the marks"),
    ".sfm": ("a dictionary of Toolbox", "write a row for each entry: a table, or JSONL"),
    ".ann": ("marks of brat", "write a row for each text, with its answer"),
    ".ftl": ("texts of a program (Fluent)", "export them as .po or .xlf"),
    ".properties": ("texts of a program (Java)", "export them as .po or .xlf"),
    ".srt": ("subtitles", "write each text on a line of a .txt file"),
    ".vtt": ("subtitles", "write each text on a line of a .txt file"),
}
_KNOWN = (
    "m2m reads .jsonl, .json, .yaml, .csv, .tsv, .txt, .parquet, .arrow, .xlsx, .xls, .ods, .po, "
    ".tmx and .xlf, also as .gz, .bz2, .xz, .zst or .zip"
)


def kind_of(name: str, begin: bytes, options: Options) -> str:
    """Return the kind of a file of rows.

    Args:
        name: its name.
        begin: its first bytes; some thousand are enough.
        options: how it is read.

    Returns:
        "gzip", "bzip2", "xz", "zstd", "zip", "workbook", "parquet", "arrow", "arrow stream",
        "json", "table", "text", "yaml", "po" or "xml".

    Raises:
        Fault: it has no rows; names the real kind of the file and the next step.
    """
    binary = _binary(begin, name)
    if binary:
        return binary
    encoding = encoding_of(begin, options.encoding)
    text = begin.decode(encoding, "replace").lstrip("\ufeff")
    ending = PurePath(name).suffix.lower()
    return _text(ending, text, name)


def _binary(begin: bytes, name: str) -> str:
    for magic, kind in (*PACKED.items(), *_COLUMNS.items()):
        if begin.startswith(magic):
            return kind
    for magic, named, remedy in _REFUSED:
        if begin.startswith(magic):
            raise Fault(f"this is {named}", remedy)
    if begin.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zipped(begin, name)
    if begin.startswith(b"\xd0\xcf\x11\xe0"):
        if name.lower().endswith(".doc"):
            raise Fault("this is a Word document", "save its text as a .txt file")
        return "workbook"
    if begin[257:262] == b"ustar":
        raise Fault("this is a tar archive", _UNPACK)
    if begin[:1] == b"\x80" and begin[1:2] in b"\x02\x03\x04\x05" and begin[1:2]:
        raise Fault("this is a Python pickle, which m2m never opens", _AS_ROWS)
    return ""


def _zipped(begin: bytes, name: str) -> str:
    if b"word/" in begin or b"opendocument.text" in begin[:200]:
        raise Fault("this is a Word or LibreOffice document", "save its text as a .txt file")
    is_book = b"xl/" in begin or b"opendocument.spreadsheet" in begin[:200]
    return "workbook" if is_book or name.lower().endswith((".xlsx", ".xlsm", ".ods")) else "zip"


def _text(ending: str, text: str, name: str) -> str:
    begin = text.lstrip(" \t\r\n")
    lines = [line for line in re.split("\r\n|\n|\r", begin)[:50] if line.strip()]
    if _XML.match(begin) or ending in (".tmx", ".xlf", ".xliff"):
        if _TRANSLATIONS.search(begin):
            return "xml"
        web = re.search("<(!doctype html|html|head|body)", begin, re.IGNORECASE)
        kind = "a web page" if web else "XML"
        raise Fault(f"this is {kind}", f"fetch the data itself, or {_AS_ROWS}")
    if ending in (".po", ".pot") or (ending not in _JSON and _PO.match(begin)):
        return "po"
    if ending in _TOKENS:
        raise Fault(
            "this is a file of single words with marks (CoNLL), without texts to learn",
            tagged_hint(re.split("\r\n|\n|\r", begin)),
        )
    if ending in _JSON or _is_json(begin, lines):
        return "json"
    if ending in _NOT_ROWS:
        raise Fault(f"this is {_NOT_ROWS[ending][0]}", _NOT_ROWS[ending][1])
    if ending in _NAMED:
        return _NAMED[ending]
    if ending in _TEXTS or begin.startswith(_LABEL):  # fastText
        return "table" if _is_table(lines) else "text"
    if _HEADER.fullmatch(lines[0].strip()) if lines else False:
        return "table"
    raise Fault(
        f"{UNKNOWN} {ending}" if ending else "m2m does not know files without an ending",
        f"rename it: {name}.txt has a text on each line, {name}.csv a table; {_KNOWN}",
    )


def _is_json(begin: str, lines: list[str]) -> bool:
    """Return whether a text begins as rows of JSON, whatever the file's name."""
    if begin[:1] == "[" and begin[1:].lstrip()[:1] in ("{", "["):
        return True
    return begin[:1] == "{" and (
        _is_object(lines[0]) or bool(re.match(r'\{\s*"[^"\n]*"\s*:', begin))
    )


def _is_table(lines: list[str]) -> bool:
    """Return whether lines of a .txt file have tabs between columns, or a header of known names."""
    rows = [line for line in lines if not line.startswith("#")]  # such as Anki's "#separator:tab"
    tabs = {line.count("\t") for line in rows}
    if len(rows) > 1 and len(tabs) == 1 and tabs != {0}:
        return not rows[0].startswith(_LABEL)
    signs = [sign for sign in ",;|" if rows and sign in rows[0]]
    named = len(rows) > 1 and _HEADER.fullmatch(rows[0].strip()) is not None
    return named and any(all(sign in line for line in rows) for sign in signs)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
