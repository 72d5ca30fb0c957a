"""`m2m data clean` for every kind of file: kept rows are read back, and all others are listed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import re
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from m2m.commands.data_clean import CHANGES, Cleaning, clean, recipe_lines
from m2m.dataset import load_dataset
from m2m.dataset.mapping import RowMapping
from m2m.dataset.row_source import open_source, options_of
from m2m.dataset.rows import read_rows
from m2m.recipe import Recipe, load_recipe
from tests.formats.test_containers import ods, ods_row, xlsx
from tests.tiny import write_jsonl

LEAKED = ("Kí ni orúkọ ìlú tó tóbi jù ní Nàìjíríà?", "Èkó")
PAIRS = [
    ("Kí ni ilé?", "nyumba; \"kubwa\""),
    ("Kí ni omi, ọ̀rẹ́ mi?", "maji safi"),
    ("Kí ni ilé?", "nyumba; \"kubwa\""),  # the same as the first
    LEAKED,
    ("Kí ni ẹja? <br> Sọ fún mi", "samaki https://x.org/a"),
    ("Kí ni 5 - 3?", "2"),
    ("Kí ni ìwé?", "As an AI language model, I cannot."),
    ("Kí ni orí?", "kichwa"),
]  # fmt: skip
Write = Callable[[Path], str]  # writes the file and returns the lines of the recipe


def table(path: Path, separator: str, encoding: str = "utf-8") -> None:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator).writerows([("prompt", "completion"), *PAIRS])
    path.write_bytes(file.getvalue().encode(encoding))


def objects() -> list[dict[str, str]]:
    return [{"prompt": one, "completion": two} for one, two in PAIRS]


def _csv(folder: Path) -> str:
    table(folder / "a.csv", ",")
    return 'path = "a.csv"'


def _tsv(folder: Path) -> str:
    table(folder / "a.tsv", "\t")
    return 'path = "a.tsv"'


def _utf16(folder: Path) -> str:
    table(folder / "a.csv", ";", "utf-16")
    return 'path = "a.csv"'


def _no_header(folder: Path) -> str:
    table(folder / "a.csv", ",")
    lines = (folder / "a.csv").read_text(encoding="utf-8").partition("\n")[2]
    (folder / "a.csv").write_text(lines, encoding="utf-8")
    return 'path = "a.csv"\nheader = "no"\nprompt = "{1}"\ncompletion = "{2}"'


def _jsonl(folder: Path) -> str:
    write_jsonl(folder / "a.jsonl", objects())
    return 'path = "a.jsonl"'


def _joined(folder: Path) -> str:
    text = "".join(json.dumps(row) for row in objects()[:4]) + "\n"
    text += "".join(json.dumps(row) for row in objects()[4:]) + "\n"
    (folder / "a.jsonl").write_text(text, encoding="utf-8")
    return 'path = "a.jsonl"'


def _skipping(folder: Path) -> str:
    path = write_jsonl(folder / "a.jsonl", objects())
    with path.open("a", encoding="utf-8") as file:
        file.write('{"prompt": "Kí ni ọwọ́?", "completion": ""}\n{"prompt": broken\n')
    return 'path = "a.jsonl"\nbad_rows = "skip"'


def _json(folder: Path) -> str:
    (folder / "a.json").write_text(json.dumps({"data": objects()}), encoding="utf-8")
    return 'path = "a.json"'


def _squad(folder: Path) -> str:
    asked = [
        {"question": one, "answers": {"text": [two], "answer_start": [0]}} for one, two in PAIRS
    ]
    data = [{"title": "t", "paragraphs": [{"context": "Àyíká", "qas": asked}]}]
    (folder / "a.json").write_text(json.dumps({"data": data}), encoding="utf-8")
    return 'path = "a.json"\nprompt = "{question}"\ncompletion = "{answers.text.0}"'


def _messages(folder: Path) -> str:
    rows = [
        {"messages": [{"role": "user", "content": one}, {"role": "assistant", "content": two}]}
        for one, two in PAIRS
    ]
    write_jsonl(folder / "a.jsonl", rows)
    return 'path = "a.jsonl"'


def _choices(folder: Path) -> str:
    rows = [{"question": one, "choices": [two, "rárá"], "answer": 0} for one, two in PAIRS]
    rows[-1]["answer"], rows[-1]["choices"] = 1, ["rárá", PAIRS[-1][1]]
    write_jsonl(folder / "a.jsonl", rows)
    return 'path = "a.jsonl"'


def _parquet(folder: Path) -> str:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(arrow.Table.from_pylist(objects()), folder / "a.parquet")
    return 'path = "a.parquet"'


def _xlsx(folder: Path) -> str:
    pytest.importorskip("python_calamine")
    head = [("A1", "prompt"), ("B1", "completion")]
    cells = [(f"{column}{n}", escape(text)) for n, pair in enumerate(PAIRS, 2)
             for column, text in zip("AB", pair, strict=True)]  # fmt: skip
    xlsx(folder / "a.xlsx", {"s": [*head, *cells]})
    return 'path = "a.xlsx"'


def _zip(folder: Path) -> str:
    _csv(folder)
    with zipfile.ZipFile(folder / "a.zip", "w") as packed:
        packed.write(folder / "a.csv", "data/train.csv")
        packed.writestr("data/other.csv", "prompt,completion\na,b\n")
    return 'path = "a.zip/data/train.csv"'


def _gz(folder: Path) -> str:
    _tsv(folder)
    (folder / "a.tsv.gz").write_bytes(gzip.compress((folder / "a.tsv").read_bytes()))
    return 'path = "a.tsv.gz"'


def _xz(folder: Path) -> str:
    _jsonl(folder)
    (folder / "a.jsonl.xz").write_bytes(lzma.compress((folder / "a.jsonl").read_bytes()))
    return 'path = "a.jsonl.xz"'


def _zst(folder: Path) -> str:
    zstandard = pytest.importorskip("zstandard")
    _jsonl(folder)
    packed = zstandard.compress((folder / "a.jsonl").read_bytes())
    (folder / "a.jsonl.zst").write_bytes(packed)
    return 'path = "a.jsonl.zst"'


def _ods(folder: Path) -> str:
    pytest.importorskip("python_calamine")
    rows = [[escape(text) for text in pair] for pair in [("prompt", "completion"), *PAIRS]]
    ods(folder / "a.ods", "".join(ods_row(*row) for row in rows))
    return 'path = "a.ods"'


def _xliff(folder: Path) -> str:
    units = "".join(
        f'<trans-unit id="{n}"><source>{escape(one)}</source><target>{escape(two)}</target>'
        "</trans-unit>"
        for n, (one, two) in enumerate(PAIRS)
    )
    languages = 'source-language="yo" target-language="sw"'
    text = f'<xliff version="1.2"><file {languages}><body>{units}</body></file></xliff>'
    (folder / "a.xlf").write_text(text, encoding="utf-8")
    return 'path = "a.xlf"\nprompt = "{source}"\ncompletion = "{target}"'


def _titled(folder: Path) -> str:
    table(folder / "a.csv", ",")
    path = folder / "a.csv"
    path.write_bytes(b"Maswali 2023,\r\n,\r\n" + path.read_bytes())
    return 'path = "a.csv"\nheader = 3'


def _aligned(folder: Path) -> str:
    for place, name in enumerate(("a.yo", "a.sw")):
        text = "\n".join(pair[place] for pair in PAIRS)
        (folder / name).write_text(text, encoding="utf-8")
    return 'path = ["a.yo", "a.sw"]\nprompt = "{yo}"\ncompletion = "{sw}"'


def _po(folder: Path) -> str:
    quoted = [[json.dumps(text, ensure_ascii=False) for text in pair] for pair in PAIRS]
    text = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
    for n, (one, two) in enumerate(quoted):
        text += f'msgctxt "{n}"\nmsgid {one}\nmsgstr {two}\n\n'
    (folder / "a.po").write_text(text, encoding="utf-8")
    return 'path = "a.po"\nprompt = "{source}"\ncompletion = "{target}"'


def _tmx(folder: Path) -> str:
    units = "".join(
        f'<tu><tuv xml:lang="yo"><seg>{escape(one)}</seg></tuv>'
        f'<tuv xml:lang="sw"><seg>{escape(two)}</seg></tuv></tu>\n'
        for one, two in PAIRS
    )
    head = '<?xml version="1.0" encoding="utf-8"?><tmx version="1.4"><header/><body>'
    (folder / "a.tmx").write_text(f"{head}{units}</body></tmx>", encoding="utf-8")
    return 'path = "a.tmx"\nprompt = "{source}"\ncompletion = "{target}"'


def _text(folder: Path) -> str:
    lines = [f"{one} {two}" for one, two in PAIRS]
    (folder / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    return 'path = "a.txt"'


def _where(folder: Path) -> str:
    rows = [{**row, "lang": ["yo", "ha"][n == 5]} for n, row in enumerate(objects())]
    write_jsonl(folder / "a.jsonl", rows)
    return 'path = "a.jsonl"\nwhere = { lang = "yo" }'


KINDS: list[Write] = [
    _csv, _tsv, _utf16, _no_header, _jsonl, _skipping, _json, _squad, _messages, _choices, _parquet,
    _xlsx, _zip, _gz, _xz, _aligned, _po, _tmx, _text, _where, _zst, _ods, _xliff, _titled,
    _joined,
]  # fmt: skip


def recipe(folder: Path, lines: str) -> Recipe:
    dev = [{"prompt": LEAKED[0], "answer": LEAKED[1]}, {"prompt": "ọ̀nà", "answer": "njia"}]
    write_jsonl(folder / "dev.jsonl", dev)
    text = f"[base]\nmodel = 'none'\n[[datasets]]\nname = 'yo'\n{lines}\n"
    text += "[[targets]]\nname = 't'\ndev = 'dev.jsonl'\n"
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    return load_recipe(folder / "recipe.toml")


def rows_of(loaded: Recipe) -> dict[int, tuple[str, str]]:
    (dataset,) = loaded.datasets
    source = open_source(dataset.files, options=options_of(dataset))
    read = read_rows(source, RowMapping.of(dataset))
    return {row.line: row.sides for row in read.rows}


@pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__.strip("_"))
def test_what_is_kept_is_read_back_and_all_else_is_listed(tmp_path: Path, write: Write) -> None:
    lines = write(tmp_path)
    loaded = recipe(tmp_path, lines)
    before = rows_of(loaded)
    original = loaded.datasets[0].files
    (result,) = clean(loaded, tmp_path / "clean", Cleaning(drop=("refusal",)))
    text = (tmp_path / "clean" / CHANGES).read_text(encoding="utf-8")
    changes = [json.loads(line) for line in text.splitlines()]
    dropped = {change["line"] for change in changes if change["action"] == "dropped"}
    assert len(dropped) == sum(result.dropped.values()) > 0
    assert result.rows == result.kept + len(dropped)
    assert all(change["reason"] for change in changes)
    assert sum(not change["old"] for change in changes) == (write is _skipping)

    ((name, line),) = recipe_lines([result], loaded)
    assert name == "yo"
    new, _, obsolete = line.partition(" (and delete ")
    kept_lines = re.sub(r"^path = .*$", lambda _: new, lines, flags=re.MULTILINE)
    for key in obsolete.removesuffix(" there)").split(", "):
        kept_lines = (
            re.sub(rf"^{key} = .*\n?", "", kept_lines, flags=re.MULTILINE) if key else kept_lines
        )
    assert tomllib.loads(kept_lines)
    after = recipe(tmp_path, kept_lines)
    left = [sides for line, sides in before.items() if line not in dropped]
    assert [*rows_of(after).values()] == left
    assert load_dataset(after.datasets[0].files[0], RowMapping.of(after.datasets[0]))
    if write is _skipping:
        assert result.dropped["bad row"] == 2 and result.rows == 10
    copy = (tmp_path / "clean" / "yo.jsonl").read_text(encoding="utf-8")
    assert len(copy.splitlines()) == result.kept
    assert all(path.exists() or ".zip" in str(path) for path in original)
