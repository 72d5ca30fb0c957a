"""Noise is found in texts of many languages, and nothing else is taken for noise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m2m.dataset.noise import NOISE, closed_set, cut_texts, find_noise, lopsided, refusals

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "swahili" / "datasets"
NOISY = {
    "phone": [
        "Piga +256 772 123456 sasa",
        "0803 123 4567",
        "Kira mu a (0803) 123-4567",
        "07721234567",
        "ስልክ +251911234567",
        "simu 0712-345-678.",
    ],
    "url": ["Soma https://www.bbc.com/swahili", "ẹ lọ sí www.alaroye.org"],
    "user": ["@jina_langu habari", "RT @user: na gode"],
    "email": ["a.b@c.co.ke", "Andika kwa x@y.org."],
    "html": ["a<br>b", "kahawa &amp; chai", "<p class='x'>", "&#39;", "a<br/>", "<!-- x -->"],
    "escape": [r"Ndiyo.\nHapana", r"a\n\nb", r"moja\nMbili", r"caf\u00e9", r"it\'s", r"mwisho\n"],
}
WELL = [
    "Mkutano ni tarehe 05.06.2021 saa 12:30 hadi 14:00",
    "2021-05-06 1,234,567,890 watu; 10 000 000 000 shilingi",
    "ISBN 978-3-16-148410-0, mwaka 2010 2011 2012 2013",
    "0.1234567890 na 0123.4567, 3.14159265358, 00:00:12.500",
    "a < b > c, x<y and y>z, <3, a & b; R&D; AT&T <unk>",
    r"C:\new\table, $\nabla f$, \times, \theta, \\n",
    "bei @ 500, a @ b, @5",
    "Ẹ káàárọ̀ o, ṣé dáadáa ni? Ilé-ẹ̀kọ́ gíga",
    "ሰላም ለዓለም። እንዴት ነህ?",
    "ខ្ញុំ\u200bទៅ\u200bផ្សារ។",
    "Ina kwana? Yaya aiki? Ƙasa da ɗaki",
]


@pytest.mark.parametrize("kind", NOISE)
def test_noise_is_found_by_its_kind(kind: str) -> None:
    texts = NOISY[kind]
    assert find_noise(texts).get(kind) == [*range(len(texts))]


def test_well_set_texts_have_no_noise() -> None:
    assert find_noise(WELL) == {}
    assert cut_texts(WELL) == refusals(WELL) == []


def test_the_example_has_no_noise() -> None:
    for path in EXAMPLE.glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        questions, answers = ([row[side] for row in rows] for side in ("prompt", "completion"))
        assert find_noise([*questions, *answers]) == {}
        assert refusals(answers) == cut_texts(answers) == lopsided(questions, answers) == []


def test_refusals_are_told_from_apologies() -> None:
    refused = [
        "As an AI language model, I cannot say.",
        "I'm sorry, but I can't assist with that request.",
        "Kama modeli ya lugha, siwezi kujibu.",
        "Je suis désolé, mais je ne peux pas répondre.",
        "እንደ AI የቋንቋ ሞዴል ይህን ማድረግ አልችልም",
    ]
    meant = [
        "I am sorry for your loss",
        "I'm sorry, but I have to go home now",
        "Samahani, siwezi kufika leo",
        "She works as an artist on AI",
        "I cannot help laughing",
    ]
    assert refusals([*refused, *meant]) == [*range(len(refused))]


def test_texts_cut_at_one_length_or_with_dots() -> None:
    story = "Hapo zamani za kale palikuwa na mfalme mmoja aliyeishi mbali sana na watu wake wote"
    whole = [f"{story[: 30 + i]}." for i in range(30)]
    assert cut_texts(whole) == []
    assert cut_texts([*whole, *[f"{n}{story[1:79]}" for n in range(4)]]) == [30, 31, 32, 33]
    assert cut_texts([*whole, *[f"{n} {story}..." for n in range(4)]]) == [30, 31, 32, 33]
    assert cut_texts([*whole, f"{story}..."]) == []  # one person wrote dots


def test_lopsided_pairs_stand_out_in_translations_only() -> None:
    asked = ["Mtoto anasoma kitabu chake shuleni " * (1 + i % 3) for i in range(60)]
    given = ["The child reads her book at school " * (1 + i % 3) for i in range(60)]
    assert lopsided(asked, given) == []
    given[7] = "Yes"
    given[9] *= 8
    assert lopsided(asked, given) == [7, 9]
    answers = ["Ndiyo " * (1 + 7 * i % 40) for i in range(60)]  # no translations
    assert lopsided(asked, answers) == []


def test_labels_are_a_closed_set() -> None:
    assert closed_set(["good", "bad", "good"] * 10) == {"good": 20, "bad": 10}
    assert closed_set([f"answer {i}" for i in range(30)]) == {}
    assert closed_set(["same"] * 30) == {"same": 30}
