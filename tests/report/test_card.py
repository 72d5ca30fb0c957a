from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from m2m.mix.verdict import Verdict
from m2m.report.card import Card, card_text, write_card
from m2m.results.facts import DatasetFacts
from tests.report import samples

CARD = Card(
    name="pico-swahili",
    base="org/pico",
    base_licence="Apache-2.0",
    sources=[
        DatasetFacts("sw_school", 70, 0.7, ("sw", "en"), "MIT", "Kolibri", ""),
        DatasetFacts("sw_news", 30, 0.3, ("sw",), "CC-BY-NC-SA-4.0", "", ""),
    ],
    confirmation=samples.confirmation(("sw_school", "sw_news")),
    made=["LoRA of rank 16"],
    files=[("pico-Q8_0.gguf", "the model")],
    compared=["On test it is better than base"],
    warnings=["part of this is noise"],
)


def front_matter(text: str) -> dict[str, object]:
    """The YAML at the head; every value is JSON, which YAML 1.2 contains."""
    head = text.split("---\n")[1]
    return {key: json.loads(value) for key, value in (s.split(": ", 1) for s in head.splitlines())}


def test_the_front_matter_is_what_the_hub_expects() -> None:
    found = front_matter(card_text(CARD))
    assert found["base_model"] == "org/pico"
    assert found["datasets"] == ["sw_school", "sw_news"]
    assert found["language"] == ["sw", "en"]
    assert found["license"] == "other"
    assert found["license_name"] == "see-model-card"
    free = dataclasses.replace(CARD, sources=CARD.sources[:1])
    assert front_matter(card_text(free))["license"] == "apache-2.0"
    assert "license_name" not in front_matter(card_text(free))


def test_it_says_shares_scores_with_errors_and_limits() -> None:
    text = card_text(CARD)
    assert "| sw\\_school | 70 % | 70 | sw, en | MIT | Kolibri |  |" in text
    assert "| sw\\_news | 30 % | 30 | sw | CC-BY-NC-SA-4.0 | not given |  |" in text
    assert "| 0.410 ± 0.020 | 0.410 ± 0.020 | 0.500 | 0.500 |" in text
    assert "Verdict: tie inside. Fine-tune on aa" in text
    assert re.findall(r"^(?:\| --- )+\|$", text, re.MULTILINE) == [
        "| --- " * 7 + "|",
        "| --- " * 9 + "|",
    ]
    assert "- On test it is better than base" in text
    assert "## Limits" in text
    assert "part of this is noise" in text


def test_it_warns_where_a_licence_forbids_something() -> None:
    warned = card_text(CARD).split("## Before you pass it on")[1].split("##")[0]
    assert "sw\\_news: CC-BY-NC-SA-4.0 forbids commercial use" in warned
    assert "same licence" in warned
    free = dataclasses.replace(CARD, sources=CARD.sources[:1])
    assert "Nothing beyond attribution" in card_text(free)


def test_strangers_text_stays_text() -> None:
    evil = "x\n---\nlicense: mit\n# <script>alert(1)</script> | [a](b) `c` \x1b"
    data = DatasetFacts("set", 3, 1.0, (), evil, evil, evil)
    told = dataclasses.replace(CARD.confirmation, target=evil)
    text = card_text(dataclasses.replace(CARD, base=evil, sources=[data], confirmation=told))
    body = text.split("---\n", 2)[2]
    assert "<script" not in body
    assert "\x1b" not in text
    assert front_matter(text)["license"] == "other"
    assert front_matter(text)["base_model"] == evil
    assert not re.search(r"^(license: mit|# &lt;|---)$", body, re.MULTILINE)
    (row,) = [line for line in text.splitlines() if line.startswith("| set |")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 8


def test_it_is_written_beside_the_model(tmp_path: Path) -> None:
    path = write_card(CARD, tmp_path)
    assert path.name == "README.md"
    assert path.read_text(encoding="utf-8") == card_text(CARD)


def test_a_model_against_the_verdict_says_so_and_few_questions_compare_nothing() -> None:
    verdict = Verdict("keep the base", "Keep it.")
    against = dataclasses.replace(CARD.confirmation, verdict=verdict)
    text = card_text(dataclasses.replace(CARD, confirmation=against, compared=[]))
    assert "**Made with --anyway, against the verdict.**" in text
    assert "winner ahead" not in text
    assert "winner ahead" in card_text(CARD)
