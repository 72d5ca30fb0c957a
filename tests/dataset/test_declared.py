from __future__ import annotations

from m2m.dataset.declared import left_in, other_scripts

AMHARIC = ["ሰላም ለዓለም እንዴት ነህ", "ትምህርት ቤቱ ትልቅ ነው", "ልጁ መጽሐፍ ያነባል"]
SWAHILI = ["Mtoto anasoma kitabu shuleni", "Watu wengi wa mji huu ni wakulima", "Habari ya leo?"]
ENGLISH = ["The children were reading their books", "He was not there when they came with the car"]
FRENCH = ["Les enfants sont dans la maison avec une amie", "Il est sur la table et pas dans le sac"]


def test_letters_of_another_script_are_found() -> None:
    assert other_scripts([*AMHARIC, *SWAHILI[:2]], ["am"]) == ([3, 4], [])
    assert other_scripts([*AMHARIC, *SWAHILI], ["am", "sw"]) == ([], [])
    assert other_scripts(SWAHILI, ["sw", "am"]) == ([], ["am"])
    assert other_scripts(["ខ្ញុំ\u200bទៅ\u200bផ្សារ ABC"], ["khm"]) == ([], [])
    assert other_scripts(AMHARIC, ["xx"]) == ([], [])  # not known: not judged


def test_a_code_may_name_its_script() -> None:
    assert other_scripts(["𞤢𞤣𞤤𞤢𞤥 𞤨𞤵𞤤𞤢𞤪"], ["ff-Adlm"]) == ([], [])
    assert other_scripts(["Pulaar e Fulfulde e Hausa"], ["ff-Adlm"]) == ([0], ["ff-Adlm"])


def test_rows_left_in_english_or_french_are_found() -> None:
    assert left_in([*SWAHILI, *ENGLISH], ["sw"]) == {"English": [3, 4]}
    assert left_in([*SWAHILI, *FRENCH], ["sw", "en"]) == {"French": [3, 4]}
    assert left_in([*SWAHILI, *ENGLISH], ["sw", "en"]) == {}
    assert left_in([*SWAHILI, *ENGLISH], []) == {}
    assert left_in(["Dem dey reading the books for their house"], ["pcm"]) == {}


def test_other_languages_are_not_taken_for_english_or_french() -> None:
    texts = [
        *SWAHILI,
        *AMHARIC,
        "Ọmọ náà ń ka ìwé ní ilé-ẹ̀kọ́ rẹ̀ ní gbogbo ọjọ́",
        "Yara suna karatu a makaranta da safe, sannan su je gida",
        "Umwana arasoma igitabo mu ishuri kandi arakunda",
        "Die kinders lees hulle boeke in die skool",
        "Carruurtu waxay akhrinayaan buugaag oo ay ku leeyihiin iskuulka",
    ]
    assert left_in(texts, ["sw", "am", "yo", "ha", "rw", "af", "so"]) == {}
