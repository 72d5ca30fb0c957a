"""PO, TMX and XLIFF give pairs of source and target; what is no pair is counted, not dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2m.errors import InputError
from m2m.formats.records import read_records, rows_text

HEAD = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n'
PO = (
    HEAD
    + r"""# a translator's comment
#: src/main.c:12
#, c-format
msgctxt "menu"
msgid "book"
msgstr "kitabu"

msgid ""
"first line\n"
"\"second\"\tline"
msgstr ""
"mstari wa kwanza\n"
"\"wa pili\"\tmstari"

#, fuzzy, c-format
#| msgid "old"
msgid "house"
msgstr "nyumbani"

msgid "tree"
msgstr ""

msgid "one day"
msgid_plural "%d days"
msgstr[0] "siku moja"
msgstr[1] "siku %d"
#~ msgid "gone"
#~ msgstr "imekwenda"
"""
)


def pairs(path: Path, text: str | bytes) -> list[tuple[str, str]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    records = read_records(path)
    assert all(record.fields.keys() == {"source", "target"} for record in records)
    return [(record.fields["source"], record.fields["target"]) for record in records]


def refused(path: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        pairs(path, text)
    return f"{caught.value.message}\n{caught.value.hint}"


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["sw.po", "sw.txt", "sw"])
def test_po_files_give_their_translated_entries(tmp_path: Path, name: str, ends: str) -> None:
    assert pairs(tmp_path / name, PO.replace("\n", ends)) == [
        ("book", "kitabu"),
        ('first line\n"second"\tline', 'mstari wa kwanza\n"wa pili"\tmstari'),
        ("one day", "siku moja"),
        ("%d days", "siku %d"),
    ]
    file = rows_text(tmp_path / name)
    assert file.notes == (
        "1 entry is left out: fuzzy",
        "1 entry is left out: no translation",
    )
    assert [record.line for record in file.records][:1] == [8]


def test_a_po_file_says_its_own_encoding(tmp_path: Path) -> None:
    text = HEAD.replace("UTF-8", "ISO-8859-1") + 'msgid "summer"\nmsgstr "été"\n'
    assert pairs(tmp_path / "fr.po", text.encode("latin-1")) == [("summer", "été")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "msgid book\n", "line 5: found 'msgid book'"),
        ('"book"\n', "line 1: found"),
        (HEAD + 'msgid "a"\nmsgid "b"\n', "line 6: msgid is there twice"),
    ],
)
def test_lines_that_are_not_po_are_named(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path / "a.po", text)


TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en" datatype="plaintext"/><body>
<tu><prop type="x">p</prop>
<tuv xml:lang="en-US"><seg>a <bpt i="1">&lt;b&gt;</bpt>book<ept i="1"/></seg></tuv>
<tuv xml:lang="sw"><seg>kitabu &amp; kalamu</seg></tuv></tu>
<tu><tuv xml:lang="sw"><seg>nyumba</seg></tuv><tuv xml:lang="en-US"><seg>house</seg></tuv></tu>
<tu><tuv xml:lang="en-US"><seg>tree</seg></tuv></tu>
</body></tmx>"""


def test_tmx_files_give_pairs_from_the_source_language(tmp_path: Path) -> None:
    path = tmp_path / "a.tmx"
    expected = [("a book", "kitabu & kalamu"), ("house", "nyumba")]
    assert pairs(path, TMX) == expected
    assert pairs(path, TMX.replace("UTF-8", "UTF-16").encode("utf-16")) == expected
    notes = " ".join(rows_text(path).notes)
    assert "1 entry is left out: no translation" in notes and "inline codes" in notes


def test_several_languages_are_a_question_that_the_path_answers(tmp_path: Path) -> None:
    path = tmp_path / "a.tmx"
    text = TMX.replace("</tu>\n</body>", '<tuv xml:lang="ha"><seg>itace</seg></tuv></tu></body>')
    assert "into sw, ha" in refused(path, text) and '/a.tmx/sw"' in refused(path, text)
    assert [r.fields for r in read_records(path / "ha")] == [{"source": "tree", "target": "itace"}]


XLIFF = """<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2"><file
 source-language="en" target-language="sw"><body><group>
<trans-unit id="1"><source>a <g id="1">book</g></source><target state="final">kitabu</target>
<alt-trans><source>the book</source><target>vitabu</target></alt-trans></trans-unit>
<trans-unit id="2"><source>house</source>
<target state="needs-translation">house</target></trans-unit>
<trans-unit id="3"><source>tree</source></trans-unit></group></body></file></xliff>"""
XLIFF2 = """<?xml version="1.0"?><xliff version="2.0" srcLang="en" trgLang="sw"><file id="f">
<unit id="1"><notes><note>n</note></notes>
<segment state="final"><source>a <pc id="1">book</pc></source>
<target>kitabu</target></segment><segment state="initial"><source>house</source>
<target>house</target></segment></unit></file></xliff>"""


@pytest.mark.parametrize(
    ("opens", "closes"),
    [
        ('<trans-unit id="1" translate="no">', "</trans-unit>"),
        ('<group translate="no"><trans-unit id="1">', "</trans-unit></group>"),
        ('<unit id="1" translate="no"><segment>', "</segment></unit>"),
    ],
)
def test_what_nobody_shall_translate_is_left_out(tmp_path: Path, opens: str, closes: str) -> None:
    name = "<source>GPS</source><target>GPS</target>"
    own = (
        '<trans-unit id="2" translate="yes"><source>dog</source><target>mbwa</target></trans-unit>'
    )
    inside = closes.replace("</group>", f"{own}</group>")
    text = f'<xliff version="1.2"><file>{own}{opens}{name}{inside}</file></xliff>'
    assert {*pairs(tmp_path / "a.xlf", text)} == {("dog", "mbwa")}
    assert rows_text(tmp_path / "a.xlf").notes == ('1 entry is left out: translate="no"',)


@pytest.mark.parametrize("text", [XLIFF, XLIFF2], ids=["1.2", "2.0"])
@pytest.mark.parametrize("name", ["a.xlf", "a.xliff", "a.xml"])
def test_xliff_files_give_the_segments_that_are_translated(
    tmp_path: Path, name: str, text: str
) -> None:
    assert pairs(tmp_path / name, text) == [("a book", "kitabu")]
    assert "no translation" in " ".join(rows_text(tmp_path / name).notes)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE tmx [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {x} "{f"&{y};" * 10}">' for y, x in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]><tmx><body><tu><tuv><seg>&i;</seg></tuv></tu></body></tmx>"
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "declares the entity 'a'"),
        (BOMB.replace('"aaaaaaaaaa"', 'SYSTEM "file:///etc/passwd"'), "declares the entity"),
        ("<tmx>" + "<a>" * 101, "nested more than 100 deep"),
        ("<tmx><tu></tmx>", "line 1: malformed XML"),
        ("<tmx version='1.4'>", "malformed XML: no element found"),
        ("<tei><text>a</text></tei>", "this is XML"),
    ],
)
def test_xml_that_would_do_harm_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path / "a.tmx", text)
