"""Archives, columns and sheets: the rows inside, or the question which file is meant; nothing that
would fill the memory or leave the archive is unpacked."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from m2m.errors import InputError
from m2m.formats import extra
from m2m.formats.records import Record, read_records, rows_text

DATA = Path(__file__).parent / "data"
ROWS = [
    {"prompt": "Tafsiri kwa Kiingereza: kitabu", "completion": "book"},
    {"prompt": "Tafsiri kwa Kiingereza: nyumba, kubwa", "completion": "a house, big"},
    {"prompt": 'Sema "habari" kwa Kifaransa', "completion": "bonjour"},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = b"prompt,completion\nkitabu,book\n"
PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def read(path: Path) -> list[dict[str, Any]]:
    return [record.fields for record in read_records(path)]


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    return f"{caught.value.message}\n{caught.value.hint}"


def made(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def zipped(path: Path, members: dict[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("name", ["a.jsonl", "a", "a.other"])
def test_packed_files_are_read(tmp_path: Path, ending: str, name: str) -> None:
    pack = PACK[ending]
    assert read(made(tmp_path / f"{name}{ending}", pack(LINES))) == ROWS
    assert read(made(tmp_path / name, pack(LINES))) == ROWS, "the bytes decide, not the name"
    both = made(tmp_path / f"{name}{ending}", pack(LINES) + pack(LINES))
    assert read(both) == [*ROWS, *ROWS], "as `cat a.gz b.gz` makes it"


@pytest.mark.parametrize("ending", PACK)
def test_damaged_and_cut_files_are_refused(tmp_path: Path, ending: str) -> None:
    data = PACK[ending](LINES * 100)
    for size in range(1, 20):
        assert read(made(tmp_path / f"a.jsonl{ending}", data)) == ROWS * 100
        assert "cut off" in refused(made(tmp_path / f"a.jsonl{ending}", data[:-size]))
    for place in range(len(data) // 3, len(data) - 8, 7):
        wrong = bytearray(data)
        wrong[place] ^= 0x55
        path = made(tmp_path / f"a.jsonl{ending}", bytes(wrong))
        try:
            assert read(path) == ROWS * 100  # a bit that decides nothing
        except InputError as error:
            assert "a.jsonl" in error.message


def test_an_archive_that_lost_bytes_after_its_first_ones_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.jsonl", '{"text": "a"}\n' * 9)
    content = path.read_bytes()
    path.write_bytes(content[:4] + content[44:])
    with pytest.raises(InputError, match="is damaged"):
        read_records(path)


def test_an_archive_with_one_file_of_rows_is_read(tmp_path: Path) -> None:
    beside = {"README.md": b"#", "__MACOSX/._a.csv": b"x", ".DS_Store": b"x", "LICENSE": b"MIT"}
    path = zipped(tmp_path / "a.zip", {**beside, "data/train.jsonl": LINES})
    assert read(path) == ROWS
    assert read(zipped(tmp_path / "b.zip", {"a.jsonl.gz": gzip.compress(LINES)})) == ROWS
    inside = zipped(tmp_path / "c.zip", {"b.zip": (tmp_path / "b.zip").read_bytes()})
    assert "packed more than 2 times" in refused(inside)


def test_an_archive_with_several_files_is_a_question_that_the_path_answers(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"x/train.jsonl": LINES, "x/dev.csv": CSV})
    message = refused(path)
    assert "2 files: x/train.jsonl, x/dev.csv" in message
    assert '/a.zip/x/train.jsonl"' in message
    assert read(path / "x" / "train.jsonl") == ROWS
    assert read(path / "x/dev.csv") == [{"prompt": "kitabu", "completion": "book"}]
    assert "has no file 'y.csv'" in refused(path / "y.csv")
    marks = {rows_text(path / name).sha256 for name in ("x/train.jsonl", "x/dev.csv")}
    assert len(marks) == 2, "other rows of the same bytes"


LINK = zipfile.ZipInfo("rows.csv")
LINK.create_system, LINK.external_attr = 3, (stat.S_IFLNK | 0o777) << 16


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("../rows.csv", "leads out"), ("/etc/rows.csv", "leads out"),
        ("a/../../rows.csv", "leads out"), ("..\\rows.csv", "leads out"),
        ("C:/rows.csv", "leads out"), (LINK, "a link"),
    ],
)  # fmt: skip
def test_names_and_links_that_lead_out_are_refused(
    tmp_path: Path, member: str | zipfile.ZipInfo, words: str
) -> None:
    path = zipped(tmp_path / "a.zip", {"good.csv": CSV, member: CSV})
    assert words in refused(path)
    assert words in refused(path / "good.csv")


ZEROS = b"0" * (65 << 20)


@pytest.mark.parametrize(
    "ending", [pytest.param(e, marks=[pytest.mark.slow] * (e != ".gz")) for e in PACK]
)
def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path, ending: str) -> None:
    message = refused(made(tmp_path / f"a.txt{ending}", PACK[ending](ZEROS)))
    assert "unpacks to more than 67,108,864 bytes" in message


def test_bombs_in_zips_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    message = refused(zipped(tmp_path / "a.zip", {"a.txt": ZEROS, "b.txt": ZEROS}))
    assert "unpacks to 136,314,880 bytes" in message
    many = {f"{number}.txt": b"" for number in range(10_001)}
    assert "10,001 files" in refused(zipped(tmp_path / "b.zip", many))


def test_a_member_that_says_a_smaller_size_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.txt": b"habari za leo\n" * 1000})
    data = path.read_bytes()
    size = (14_000).to_bytes(4, "little")
    assert data.count(size) == 2
    assert "is damaged" in refused(made(path, data.replace(size, (14).to_bytes(4, "little"))))


def test_other_archives_and_pickles_are_never_opened(tmp_path: Path) -> None:
    for name, begin in (("a.7z", b"7z\xbc\xaf\x27\x1c"), ("a.rar", b"Rar!\x1a"),
                        ("a.tar", b"a.csv".ljust(257, b"\0") + b"ustar")):  # fmt: skip
        assert "unpack it" in refused(made(tmp_path / name, begin + b"\0" * 300))
    for name in ("a.pkl", "a.csv"):
        assert "never opens" in refused(made(tmp_path / name, b"\x80\x04\x95."))


def test_without_the_extra_the_message_has_the_line_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(extra.importlib, "import_module", absent)
    for name, package in (
        ("x05.jsonl.zst", "zstandard"),
        ("x06.parquet", "pyarrow"),
        ("x07.xlsx", "python-calamine"),
    ):
        message = refused(DATA / name)
        assert f"the package {package}, which is not installed" in message
        assert "`pip install 'm2m[files]'`" in message


def test_zstandard_is_read(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    assert read(DATA / "x05.jsonl.zst") == ROWS
    data = zstandard.compress(LINES * 100)
    path = tmp_path / "a.jsonl.zst"
    assert read(made(path, data + zstandard.compress(LINES))) == [*ROWS * 100, *ROWS]
    assert "cut off" in refused(made(path, data[:-3]))
    assert "unpacks to more" in refused(made(path, zstandard.compress(b"0" * (65 << 20))))


def test_parquet_and_arrow_are_read(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    assert read(DATA / "x06.parquet") == read(DATA / "x10.feather") == ROWS
    rows = [
        {"text": "a", "label": 1, "answers": {"text": ["x", "y"], "start": [0, 1]}, "n": 0.5},
        {"text": "é", "label": 0, "answers": {"text": [], "start": []}, "n": None},
    ]
    table = arrow.Table.from_pylist(rows)
    features = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = table.replace_schema_metadata(about)
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    feather.write_feather(table, str(tmp_path / "a.feather"), compression="lz4")
    with (
        arrow.OSFile(str(tmp_path / "a.arrow"), "wb") as file,
        arrow.ipc.new_stream(file, table.schema) as writer,
    ):
        writer.write_table(table)
    for name in ("a.parquet", "a.feather", "a.arrow"):
        file = rows_text(tmp_path / name)
        assert read_records(file) == [Record(row, number) for number, row in enumerate(rows, 1)]
        assert file.label_names == {"label": ("neg", "pos")}


def test_values_of_columns_are_those_of_json(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import datetime
    import decimal

    from pyarrow import parquet

    row = {
        "day": datetime.date(2024, 1, 2), "price": decimal.Decimal("1.50"), "nan": float("nan"),
        "word": b"kitabu", "sound": {"bytes": b"\xff\xfe", "path": "a.wav"},
        "kind": "x", "__index_level_0__": 7,
    }  # fmt: skip
    table = arrow.Table.from_pylist([row])
    kind = table.column("kind").dictionary_encode()
    table = table.set_column(table.schema.get_field_index("kind"), "kind", kind)
    parquet.write_table(table, tmp_path / "a.parquet")
    file = rows_text(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [
        {"day": "2024-01-02", "price": "1.50", "nan": None, "word": "kitabu", "kind": "x"}
    ]
    assert file.notes[0] == "the column sound has bytes and is left out"


def test_damaged_columns_are_refused_in_words(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for name in ("x06.parquet", "x10.feather"):
        data = (DATA / name).read_bytes()
        for size in (8, 40, len(data) // 2, len(data) - 3):
            assert name in refused(made(tmp_path / name, data[:size]))


@pytest.mark.parametrize(
    ("index", "kept"),
    [([7, 3], False), (["kitabu", "mti"], True), ([1, 1], True), ([0.5, 1.0], True)],
)
def test_an_index_of_pandas_that_has_data_is_a_column(
    tmp_path: Path, index: list[Any], kept: bool
) -> None:
    table = pytest.importorskip("pyarrow").table(
        {"english": ["book", "tree"], "__index_level_0__": index}
    )
    from pyarrow import parquet

    parquet.write_table(table, tmp_path / "a.parquet")
    file = rows_text(tmp_path / "a.parquet")
    column = {"pandas_index_0": index} if kept else {}
    assert [record.fields for record in read_records(file)] == [
        {"english": word, **{key: values[row] for key, values in column.items()}}
        for row, word in enumerate(("book", "tree"))
    ]
    said = "it is read as the column pandas_index_0" if kept else "taken for an index and left out"
    assert [said in note for note in file.notes] == [True]


def test_parquet_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = arrow.table({"text": ["0" * (33 << 20)] * 2})
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    assert "unpacks to" in refused(path)


SHEET = '<worksheet xmlns="{0}"><sheetData>{1}</sheetData></worksheet>'
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def xlsx(path: Path, sheets: dict[str, list[tuple[str, Any]]], more: str = "") -> Path:
    """A workbook of sheets with cells (place, text, number or (attributes, XML)), and `more`."""

    def cell(place: str, value: Any) -> str:
        if isinstance(value, tuple):
            return f'<c r="{place}" {value[0]}>{value[1]}</c>'
        if isinstance(value, str):
            return f'<c r="{place}" t="inlineStr"><is><t>{value}</t></is></c>'
        return f'<c r="{place}"><v>{value}</v></c>'

    def rows(cells: list[tuple[str, Any]]) -> str:
        numbers = dict.fromkeys(place.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for place, _ in cells)
        return "".join(
            f'<row r="{n}">' + "".join(cell(*c) for c in cells if c[0].endswith(n)) + "</row>"
            for n in numbers
        )

    names = [*sheets]
    book = "".join(
        f'<sheet name="{name}" sheetId="{i}" r:id="rId{i}"/>' for i, name in enumerate(names, 1)
    )
    links = "".join(
        f'<Relationship Id="rId{i}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{i}.xml"/>'
        for i in range(1, len(names) + 1)
    )
    return zipped(path, {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"/>'.encode(),
        "_rels/.rels":
            f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="rId1" '
            f'Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>'.encode(),
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>{book}</sheets>'
                           f"{more}</workbook>".encode(),
        "xl/_rels/workbook.xml.rels":
            f'<Relationships xmlns="{PACKAGE}/relationships">{links}</Relationships>'.encode(),
        **{f"xl/worksheets/sheet{i}.xml": SHEET.format(MAIN, rows(sheets[name])).encode()
           for i, name in enumerate(names, 1)},
    })  # fmt: skip


def test_sheets_are_read_as_tables(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    assert read(DATA / "x07.xlsx") == ROWS
    assert read(made(tmp_path / "a.csv", (DATA / "x07.xlsx").read_bytes())) == ROWS
    cells = [
        ("A3", "Prompt"), ("B3", "completion"), ("A4", "2+3"), ("B4", 5), ("A6", "half"),
        ("B6", 0.5), ("A7", "none"), ("B7", "NA"), ("C8", " "),
    ]  # fmt: skip
    path = xlsx(tmp_path / "b.xlsx", {"Sheet1": cells, "Sheet2": []})
    assert read_records(path) == [
        Record({"prompt": "2+3", "completion": "5"}, 4),
        Record({"prompt": "half", "completion": "0.5"}, 6),
        Record({"prompt": "none", "completion": None}, 7),
    ]


def indexed(path: Path, numbers: list[int]) -> Path:
    """A file whose rows have a question and a number without a name."""
    rows = [*zip(numbers, "abc", strict=True)]
    if path.suffix == ".csv":
        text = "\n".join([",question", *(f"{number},{word}" for number, word in rows)])
        return made(path, text.encode())
    if path.suffix == ".parquet":
        arrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        table = arrow.table({"question": [*"abc"], "__index_level_0__": numbers})
        parquet.write_table(table, path)
        return path
    pytest.importorskip("python_calamine")
    cells = [(f"{'AB'[i]}{n}", cell) for n, row in enumerate(rows, 2) for i, cell in enumerate(row)]
    return xlsx(path, {"Sheet1": [("B1", "question"), *cells]})


@pytest.mark.parametrize("ending", ["csv", "xlsx", "parquet"])
@pytest.mark.parametrize(
    ("numbers", "noted"),
    [([0, 1, 2], False), ([1, 2, 3], False), ([1990, 1991, 1992], True), ([7, 3, 5], True)],
)
def test_numbers_without_a_name_are_left_out_with_a_note(
    tmp_path: Path, ending: str, numbers: list[int], noted: bool
) -> None:
    file = rows_text(indexed(tmp_path / f"a.{ending}", numbers))
    assert [record.fields for record in file.records] == [{"question": word} for word in "abc"]
    (note,) = file.notes
    assert ("name it if it is needed" if noted else "only counts the rows") in note


def test_an_archive_of_aligned_texts_says_to_unpack_it(tmp_path: Path) -> None:
    members: dict[str | zipfile.ZipInfo, bytes] = {
        "T.en-sw.en": b"book\n",
        "T.en-sw.sw": b"kitabu\n",
    }
    words = refused(zipped(tmp_path / "en-sw.txt.zip", members))
    assert "T.en-sw.en, T.en-sw.sw" in words
    assert "unpack it" in words and "path =" not in words


def test_several_sheets_are_a_question_that_the_path_answers(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    one, two = [("A1", "text"), ("A2", "habari")], [("A1", "text"), ("A2", "kwaheri")]
    path = xlsx(tmp_path / "a.xlsx", {"Swahili": one, "Hausa 2": two})
    assert '/a.xlsx/Swahili"' in refused(path)
    assert read(path / "Hausa 2") == [{"text": "kwaheri"}]
    assert "has no sheet 'Yoruba'" in refused(path / "Yoruba")


def test_a_sheet_with_a_cell_far_away_is_refused_before_it_is_read(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    path = xlsx(tmp_path / "a.xlsx", {"Sheet1": [("A1", "text"), ("XFD1048576", "x")]})
    assert "17,179,869,184 cells" in refused(path)


CONTENT = """<office:document-content
 xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"
 xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:spreadsheet>
<table:table table:name="Sheet1">{}</table:table></office:spreadsheet></office:body>
</office:document-content>"""
FILLER = (
    '<table:table-row table:number-rows-repeated="1048570">'
    '<table:table-cell table:number-columns-repeated="1024"/></table:table-row>'
)


def ods(path: Path, rows: str) -> Path:
    kind = zipfile.ZipInfo("mimetype")
    return zipped(path, {
        kind: b"application/vnd.oasis.opendocument.spreadsheet",
        "META-INF/manifest.xml": b'<manifest:manifest xmlns:manifest="urn:oasis:names:tc:'
                                 b'opendocument:xmlns:manifest:1.0"/>',
        "content.xml": CONTENT.format(rows).encode(),
    })  # fmt: skip


def ods_row(*cells: str, repeated: int = 1) -> str:
    texts = "".join(
        f'<table:table-cell office:value-type="string"><text:p>{cell}</text:p></table:table-cell>'
        for cell in cells
    )
    return f'<table:table-row table:number-rows-repeated="{repeated}">{texts}</table:table-row>'


def test_libreoffice_tables_are_read(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    rows = ods_row("prompt", "completion") + ods_row("kitabu", "book") + FILLER
    assert read(ods(tmp_path / "a.ods", rows)) == [{"prompt": "kitabu", "completion": "book"}]
    bomb = ods_row("x", repeated=1_048_000).replace(
        "<table:table-cell ", '<table:table-cell table:number-columns-repeated="16000" '
    )
    assert "16,768,000,000 cells" in refused(ods(tmp_path / "b.ods", ods_row("text") + bomb))
