from __future__ import annotations

import unicodedata

import pytest

from m2m.dataset.characters import find_faults, guess_encoding

WELL = [
    "Ẹ káàárọ̀ o, ṣé dáadáa ni?",
    "ሰላም ለዓለም",
    "日本語のテキスト",
    "Äpfel für 5 €",
    "Ça va « très » bien ?",
]


def test_texts_of_many_scripts_are_well() -> None:
    assert find_faults([unicodedata.normalize("NFC", text) for text in WELL]) == {}


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
@pytest.mark.parametrize("text", ["être à l'école", "Ọmọ dára", "c\u2019est l\u2019été", "naïve"])
def test_misread_utf8_is_found(text: str, encoding: str) -> None:
    try:
        misread = text.encode("utf-8").decode(encoding)
    except UnicodeDecodeError:
        pytest.skip("not every byte is a character of Windows-1252")
    assert "mojibake" in find_faults([misread])
    assert "mojibake" not in find_faults([text])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("lost", "caf\ufffd"),
        ("control", "a\x01b"),
        ("invisible", "zero\u200bwidth"),
        ("not_nfc", unicodedata.normalize("NFD", "é")),
        ("mixed_alphabets", "p\u0430ypal"),
    ],
)
def test_each_fault_is_found_and_only_it(kind: str, text: str) -> None:
    assert find_faults(["well", text]) == {kind: [1]}


def test_encodings_are_guessed_by_line() -> None:
    assert guess_encoding("école".encode()) is None
    assert guess_encoding("école".encode("utf-16")) == "UTF-16"
    assert guess_encoding("école\n".encode("latin-1")) == "Latin-1"
    assert guess_encoding("l\u2019école\n".encode("cp1252")) == "Windows-1252"
    both = "été\n".encode() + "été\n".encode("latin-1")
    assert guess_encoding(both) == "UTF-8 mixed with Latin-1"
