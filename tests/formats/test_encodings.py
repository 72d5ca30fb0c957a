"""Texts of many languages in the encodings that people still use: the right one is suggested."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import pytest

from m2m.dataset import load_dataset
from m2m.errors import InputError
from m2m.formats.encodings import likely_encodings
from m2m.formats.records import lines_text, rows_text
from m2m.formats.rowfile import Options

# ruff: noqa: RUF001 (letters of many alphabets)
# Language: (encoding, lines). Letters that the encoding lacks are left out of the texts.
TEXTS = {
    "french": (
        "cp1252",
        [
            "L’été à Thiès est très beau, où êtes-vous ?",
            "Le garçon a mangé un gâteau sucré à l'école.",
            "Répondez à la question précédente.",
        ],
    ),
    "french-mac": (
        "mac_roman",
        [
            "L’été à Thiès est très beau, où êtes-vous ?",
            "Le garçon a mangé un gâteau sucré à l'école.",
        ],
    ),
    "french-850": (
        "cp850",
        [
            "L'été à Thiès est très beau, où êtes-vous ?",
            "Le garçon a mangé un gâteau sucré à l'école.",
        ],
    ),
    "portuguese": (
        "cp1252",
        ["Não há educação sem coração.", "A língua é o espelho da nação; você não acha?"],
    ),
    "spanish-437": (
        "cp437",
        ["¿Dónde está el niño? La señora llegó mañana.", "El año pasado comió jamón."],
    ),
    "german": ("cp1252", ["Die Straße ist schön und groß.", "Über die Brücke gehen Mädchen."]),
    "polish": ("cp1250", ["Zażółć gęślą jaźń, proszę.", "Książka leży na półce, a mąż śpi."]),
    "czech": ("cp1250", ["Příliš žluťoučký kůň úpěl ďábelské ódy.", "Děti šly do školy."]),
    "hungarian": (
        "cp1250",
        ["Árvíztűrő tükörfúrógép. Szép őszi idő.", "A könyv az asztalon van, köszönöm."],
    ),
    "turkish": (
        "cp1254",
        ["Çocuk ağaçtan düştü, şimdi ağlıyor.", "Güzel bir gün, değil mi? Işık açık."],
    ),
    "russian": (
        "cp1251",
        ["Добрый день, как дела у вас сегодня?", "Мы идём в школу учить русский язык."],
    ),
    "russian-koi": (
        "koi8-r",
        ["Добрый день, как дела у вас сегодня?", "Мы идём в школу учить русский язык."],
    ),
    "russian-866": (
        "cp866",
        ["Добрый день, как дела у вас сегодня?", "Мы идём в школу учить русский язык."],
    ),
    "arabic": (
        "cp1256",
        ["ذهب الولد إلى المدرسة في الصباح.", "ما هي عاصمة السودان؟ الخرطوم هي العاصمة."],
    ),
    "urdu": ("cp1256", ["يہ کتاب بہت اچھي ہے اور ميں نے پڑھي ہے.", "آپ کا نام کيا ہے؟"]),
    "ajami": ("cp1256", ["ان يي مغن ا کنو جيا.", "يارا سن تافي مکرنتا."]),
    "japanese": (
        "shift_jis",
        ["今日はとても良い天気ですね。", "日本語の文章を書いています。学校へ行きます。"],
    ),
    "chinese": (
        "gb18030",
        ["今天的天气很好,我们去公园玩。", "这是一个很大的国家,有很多人在这里工作。"],
    ),
    "chinese-tw": (
        "big5",
        ["今天的天氣很好,我們去公園玩。", "這是一個很大的國家,有很多人在這裡工作。"],
    ),
    "korean": (
        "euc-kr",
        ["오늘은 날씨가 아주 좋습니다.", "한국어를 공부하는 학생이 학교에 갑니다."],
    ),
    "greek": ("cp1253", ["Καλημέρα σας, τι κάνετε σήμερα;", "Το παιδί πηγαίνει στο σχολείο."]),
    "hebrew": ("cp1255", ["הילד הולך לבית הספר בבוקר.", "מה שלומך היום?"]),
    "thai": ("cp874", ["วันนี้อากาศดีมาก", "เด็กไปโรงเรียนในตอนเช้า"]),
    "tswana": (
        "cp1252",
        ["Ke rata go bala dibuka tše ntši.", "O tšwa kae? Ke tšwa Polokwane, sêpê sê."],
    ),
    "hausa-plain": ("cp1252", ["Ina kwana? Yaya gida – lafiya kalau", "“Sannu” inji shi."]),
    "vietnamese": ("cp1258", ["Hôm nay tri rât đep, chúng ta đi hoc.", "Tôi là ngưi Viêt Nam."]),
    "swahili-quote": ("cp1252", ["Alisema “karibu sana” – mwalimu.", "Mtoto’s kitabu"]),
    "one-e": ("cp1252", ["Ama went to the café"]),
    "yoruba": ("cp1252", ["Mo fé lo sí ilé-ìwé, ó dára púpò.", "Kí ni orúko re? Èmi ni Adé."]),
}


@pytest.mark.parametrize("language", TEXTS)
def test_the_encoding_of_a_legacy_text_is_suggested_with_its_first_line(language: str) -> None:
    encoding, texts = TEXTS[language]
    lines = [text.encode(encoding) for text in texts]

    likely = likely_encodings(lines)

    assert 1 <= len(likely) <= 2
    read = [[line.decode(name) for line in lines] for name, _ in likely]
    assert texts in read
    shown = likely[read.index(texts)][1]
    assert shown in texts[0]
    assert not shown.isascii()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xe0\x10JFIF\xdb\x84\x90",
        b"ID3\x04\x0f\x76\xff\xfb\x92\x60",
        zlib.compress(b"some rows of text that are packed" * 9) * 9,
    ],
)
def test_no_encoding_is_suggested_for_bytes_that_are_no_text(data: bytes) -> None:
    assert likely_encodings([data]) == []


def test_a_file_in_another_encoding_is_a_question_with_the_lines_to_write(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    encoding, (one, two) = TEXTS["arabic"]
    path.write_bytes(f"prompt,completion\n{one},{two}\n".encode(encoding))

    with pytest.raises(InputError, match=r"a\.csv:2: byte 0x.. is not UTF-8") as caught:
        load_dataset(path)

    assert '`encoding = "cp1256"`' in str(caught.value.hint)
    assert one[:20] in str(caught.value.hint)


@pytest.mark.parametrize("asked", ["latin-1", "cp1252", "cp1256", "shift_jis", "mac_roman"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_utf8_that_would_be_misread_is_refused_with_its_line(
    tmp_path: Path, name: str, asked: str
) -> None:
    path = tmp_path / name
    path.write_text('{"text": "a"}\n{"text": "shawar\u00e0"}\n', "utf-8")

    with pytest.raises(InputError, match=f"a.{path.suffix[1:]}:2: the file is UTF-8") as caught:
        read = lines_text if path.suffix == ".txt" else rows_text
        read(path, options=Options(encoding=asked))

    assert "shawar\u00e0" in caught.value.message
    assert "delete `encoding`" in str(caught.value.hint)


@pytest.mark.parametrize("asked", ["utf-8", "utf-8-sig", ""])
def test_utf8_that_is_named_so_is_read(tmp_path: Path, asked: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "shawar\u00e0"}\n', "utf-8")

    assert (
        rows_text(path, options=Options(encoding=asked)).records[0].fields["text"] == "shawar\u00e0"
    )


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_read(tmp_path: Path, order: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "\u1230\u120b\u121d"}\n'.encode(order))

    assert rows_text(path).records[0].fields["text"] == "\u1230\u120b\u121d"


BINARY = {
    "mp3": b"ID3\3\0",
    "jpg": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "gif": b"GIF89a",
    "exe": b"MZ\x90\0",
    "elf": b"\x7fELF\2\1\1",
    "class": b"\xca\xfe\xba\xbe\0\0",
    "ttf": b"\0\1\0\0\0",
    "mp4": b"\0\0\0\x18ftypmp42",
    "gguf": b"GGUF\3\0\0\0",
    "flac": b"fLaC",
    "ogg": b"OggS\0\2",
    "lz4": b"\x04\x22\x4d\x18",
    "sav": b"$FL2@(#) SPSS",
    "mdb": b"\0\1\0\0Standard Jet DB",
    "doc": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
}


@pytest.mark.parametrize("kind", BINARY)
def test_no_binary_file_is_taken_for_windows_1252(tmp_path: Path, kind: str) -> None:
    chance = random.Random(kind)
    for ending, low in ((kind, 0), ("csv", 1), ("txt", 1)):  # the hard case has no zero bytes
        body = bytes(chance.randint(low, 255) for _ in range(4000))
        path = tmp_path / f"a.{ending}"
        path.write_bytes(BINARY[kind].replace(b"\0", bytes([low])) + body)
        with pytest.raises(InputError) as caught:
            rows_text(path)
        assert "has the right letters" not in f"{caught.value.message} {caught.value.hint}"
