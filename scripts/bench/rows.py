"""Measure how long 10,000 rows of every kind of file take to read, in seconds of processor time.

    python scripts/bench rows [--rows 10000] [--folder DIR]

The rows are words of Yoruba, numbered so that all differ, as a question and an answer.
`open` reads the file, `rows` makes conversations of its rows, `init` finds out by itself how they
are meant, as `m2m init` does. Each figure is the best of three readings; imports are not counted.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import importlib
import io
import json
import lzma
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from m2m.commands.init_rows import dataset_entry
from m2m.dataset.mapping import RowMapping
from m2m.dataset.row_source import open_source
from m2m.dataset.rows import read_rows

ARROW: Any = importlib.import_module("pyarrow")
PARQUET: Any = importlib.import_module("pyarrow.parquet")
FEATHER: Any = importlib.import_module("pyarrow.feather")
IPC: Any = importlib.import_module("pyarrow.ipc")
Pair = tuple[str, str]
MAPPINGS = {
    "txt": RowMapping(text="{text}"),
    "aligned": RowMapping(prompt="{en}", answer="{yo}"),
    "po": RowMapping(prompt="{source}", answer="{target}"),
    "tmx": RowMapping(prompt="{source}", answer="{target}"),
    "xlf": RowMapping(prompt="{source}", answer="{target}"),
}
SPOKEN = "ọmọ ilé ìwé ọjà oúnjẹ ọ̀rẹ́ bàbá ìyá omi ọ̀nà àárọ̀ alẹ́ òjò oòrùn òkè òkun ẹja adìẹ"
WORDS = SPOKEN.split()
_SHEET = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_REL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_ODS = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'
)


def pairs(count: int) -> list[Pair]:
    """Return questions of 8 and answers of 12 words, all different."""
    made = []
    for n in range(count):
        words = [WORDS[(n * k + k * k) % len(WORDS)] for k in range(1, 21)]
        made.append((f"{n} {' '.join(words[:8])}?", f"{' '.join(words[8:])} {n}."))
    return made


def json_lines(rows: list[Pair]) -> str:
    """Return the rows as JSON lines."""
    objects = ({"prompt": one, "completion": two} for one, two in rows)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in objects)


def table(rows: list[Pair], sign: str) -> str:
    """Return the rows as a table; no cell has the sign in it."""
    return "".join(f"{one}{sign}{two}\n" for one, two in [("prompt", "completion"), *rows])


def workbook(rows: list[Pair]) -> bytes:
    """Return an .xlsx file with the texts in its cells."""
    cells = [("prompt", "completion"), *rows]
    lines = (
        f'<row r="{n}">'
        + "".join(
            f'<c r="{letter}{n}" t="inlineStr"><is><t>{escape(text)}</t></is></c>'
            for letter, text in zip("AB", row, strict=True)
        )
        + "</row>"
        for n, row in enumerate(cells, 1)
    )
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/'
        'content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-'
        'package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>'
        "</Types>",
        "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
        f'relationships"><Relationship Id="r" Type="{_REL}/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook {_SHEET} xmlns:r="{_REL}"><sheets><sheet name="S" '
        'sheetId="1" r:id="r"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/'
        f'package/2006/relationships"><Relationship Id="r" Type="{_REL}/worksheet" '
        'Target="worksheets/s.xml"/></Relationships>',
        "xl/worksheets/s.xml": f"<worksheet {_SHEET}><sheetData>{''.join(lines)}</sheetData>"
        "</worksheet>",
    }
    return zipped(parts)


def open_document(rows: list[Pair]) -> bytes:
    """Return an .ods file."""
    cells = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="string"><text:p>{escape(text)}</text:p>'
            "</table:table-cell>"
            for text in row
        )
        + "</table:table-row>"
        for row in [("prompt", "completion"), *rows]
    )
    content = (
        f"<office:document-content {_ODS}><office:body><office:spreadsheet>"
        f'<table:table table:name="S">{cells}</table:table></office:spreadsheet></office:body>'
        "</office:document-content>"
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    space = 'xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"'
    manifest = f"<manifest:manifest {space}/>"
    return zipped({"mimetype": kind, "META-INF/manifest.xml": manifest, "content.xml": content})


def zipped(parts: dict[str, str]) -> bytes:
    """Return an archive with these texts."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            kind = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(name, text, kind)
    return packed.getvalue()


def translations(rows: list[Pair], form: str) -> str:
    """Return the rows as a .po, .tmx or .xlf file."""
    if form == "po":
        units = [f'msgid "{a}"\nmsgstr "{b}"\n' for a, b in rows]
        return 'msgid ""\nmsgstr "Language: yo\\n"\n\n' + "\n".join(units)
    if form == "tmx":
        units = [
            f'<tu><tuv xml:lang="en"><seg>{a}</seg></tuv>'
            f'<tuv xml:lang="yo"><seg>{b}</seg></tuv></tu>'
            for a, b in rows
        ]
        head = '<header srclang="en"/>'
        return f'<tmx version="1.4">{head}<body>{"".join(units)}</body></tmx>'
    units = [
        f'<trans-unit id="{n}"><source>{a}</source><target>{b}</target></trans-unit>'
        for n, (a, b) in enumerate(rows)
    ]
    inside = f'<file source-language="en" target-language="yo"><body>{"".join(units)}</body></file>'
    return f'<xliff version="1.2">{inside}</xliff>'


def written(folder: Path, rows: list[Pair]) -> dict[str, tuple[Path, ...]]:
    """Write all kinds of files; return their paths by kind."""
    lines = json_lines(rows).encode("utf-8")
    objects = [json.loads(line) for line in lines.splitlines()]
    columns = {key: [row[key] for row in objects] for key in objects[0]}
    arrow = ARROW.table(columns)
    stream = io.BytesIO()
    with IPC.new_stream(stream, arrow.schema) as writer:
        writer.write_table(arrow)
    contents: dict[str, bytes | str | Callable[[Path], object]] = {
        "jsonl": lines,
        "json": json.dumps(objects, ensure_ascii=False),
        "json, indented": json.dumps(objects, ensure_ascii=False, indent=2),
        "json, columns": json.dumps(columns, ensure_ascii=False),
        "csv": table(rows, ","),
        "csv, semicolons": table(rows, ";"),
        "csv, UTF-16": table(rows, ",").encode("utf-16"),
        "tsv": table(rows, "\t"),
        "txt": "".join(f"{one}\n" for one, _ in rows),
        "parquet": lambda path: PARQUET.write_table(arrow, path),
        "feather": lambda path: FEATHER.write_feather(arrow, path),
        "arrow": stream.getvalue(),
        "xlsx": workbook(rows),
        "ods": open_document(rows),
        "po": translations(rows, "po"),
        "tmx": translations(rows, "tmx"),
        "xlf": translations(rows, "xlf"),
        "jsonl.gz": gzip.compress(lines),
        "jsonl.bz2": bz2.compress(lines),
        "jsonl.xz": lzma.compress(lines),
        "jsonl.zst": zstandard.compress(lines),
        "jsonl.zip": zipped({"a.jsonl": lines.decode("utf-8")}),
    }
    paths = {}
    for place, (kind, content) in enumerate(contents.items()):
        path = folder / str(place) / f"rows.{kind.partition(',')[0]}"
        path.parent.mkdir()
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        paths[kind] = (path,)
    both = folder / "rows.en", folder / "rows.yo"
    for path, side in zip(both, zip(*rows, strict=True), strict=True):
        path.write_text("".join(f"{text}\n" for text in side), encoding="utf-8")
    return {**paths, "aligned": both}


def seconds(work: Callable[[], object]) -> float:
    """Return the least processor time of three runs."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def measure(kind: str, files: tuple[Path, ...], count: int) -> dict[str, float]:
    """Return the seconds of each step for one file."""
    mapping = MAPPINGS.get(kind, RowMapping())
    source = open_source(files)
    assert len(read_rows(source, mapping).rows) == count == len(dataset_entry(files).rows)
    return {
        "open": seconds(lambda: open_source(files)),
        "rows": seconds(lambda: read_rows(source, mapping)),
        "init": seconds(lambda: dataset_entry(files)),
    }


def main() -> None:
    """Print a table, and as the last line one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for kind, files in written(Path(folder), pairs(options.rows)).items():
            found[kind] = measure(kind, files, options.rows)
            print(f"{kind:18}", *(f"{step} {took:.2f}" for step, took in found[kind].items()))
    print(json.dumps({"rows": options.rows, "seconds": found}))


if __name__ == "__main__":
    main()
