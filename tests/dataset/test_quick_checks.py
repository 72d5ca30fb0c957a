"""What `m2m data check` computes in a quick way is what the slow way gives."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from m2m.dataset.grams import comparable, joined_form
from m2m.dataset.noise import refusals

SIDE = st.text(
    alphabet=st.sampled_from("aẹ́ọ5 3.,-*/'?!\n\u0301\u2212\u2044½²️😀\u02bc\u200bשል"), max_size=9
)


@given(SIDE, SIDE)
@example("5", "- 3")
@example("6 /", "2")
@example("?", "ọ̀rọ̀")
@example("1\u2044", "2")
@example("½", "* 4")
def test_the_form_of_a_row_is_that_of_its_sides(question: str, answer: str) -> None:
    forms = comparable(question), comparable(answer)
    assert joined_form(question, answer, forms) == comparable(f"{question}\n{answer}")


def test_refusals_are_found_in_every_language_of_the_list() -> None:
    refused = [
        "As an AI language model, I cannot do that.",
        "I'm just an AI",
        "I am a large language model",
        "I'm sorry, but I can't assist with that.",
        "I cannot comply with this request",
        "En tant que modèle de langage, je",
        "JE SUIS DÉSOLÉ, MAIS JE NE PEUX PAS VOUS AIDER",
        "Como uma IA, não posso",
        "Kama modeli ya lugha, siwezi",
        "A matsayin na AI, ba zan iya ba",
        "እንደ AI የቋንቋ ሞዴል",
        "Gẹ́gẹ́ bí AI, mi ò lè",
    ]
    assert refusals(refused) == [*range(len(refused))]
    assert refusals(["Ilé wa dára", "Kama kawaida, tulienda", "I can help you"]) == []
