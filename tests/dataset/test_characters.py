from __future__ import annotations

import unicodedata

import pytest

from m2m.dataset.characters import find_faults

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


@pytest.mark.parametrize("sign", "\u201d\u2019\u00bb\u2026\u2013\u2014\u00a0\u203a\u00b9")
@pytest.mark.parametrize("letter", "ÀÁÈÉÌÍÒÓÙÚÃÊÕ")
def test_capitals_with_typographic_signs_are_well(letter: str, sign: str) -> None:
    """Titles in Yoruba, French and Portuguese: the two characters look like misread UTF-8."""
    texts = [f"\u201cIL{letter}{sign} ni", f"{letter}{sign}", f"K{letter}{sign}, Ọ̀R{letter}{sign}"]
    small = [f"il{letter.lower()}{sign}{closing} ni" for closing in "\u201d\u2014"]
    assert "mojibake" not in find_faults([*texts, *small])


@pytest.mark.parametrize(
    "text",
    [
        "Ẹ káàárọ̀, ọmọ dára púpọ̀",
        "ɓauna da ɗaki da ƙasa",
        "kɔfi ne Twi wɔ hɔ",
        "ŋutsu ƒe nya",
        "ሰላም ለዓለም እንዴት ነህ",
        "ភាសាខ្មែរ",
        "NÃO É ÓTIMO",
        "ÉCOLE À L'ÉTÉ",
        "Ɗaki",
    ],
)
def test_misread_texts_of_many_languages_are_found(text: str) -> None:
    for encoding in ("cp1252", "latin-1"):
        misread = text.encode("utf-8").decode(encoding, "ignore")
        assert "mojibake" in find_faults([misread])
    assert "mojibake" not in find_faults([text])


def test_zero_width_spaces_part_words_in_khmer_and_thai() -> None:
    well = ["ខ្ញុំ\u200bទៅ\u200bផ្សារ", "ខ្មែរ\u200b (a)", "ไทย\u200bไทย", "\u200b ខ\u200b\u200b ខ"]
    assert find_faults(well) == {}
    assert find_faults(["zero\u200bwidth", "(a)\u200b."]) == {"invisible": [0, 1]}
