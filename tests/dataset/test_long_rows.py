from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from m2m.dataset import Row, RowLimit, encode
from m2m.dataset.long_rows import NONE, fitted, middle_cut
from m2m.errors import InputError
from m2m.formats.spooled import Lazy, is_spooled
from m2m.pipeline.inputs import read_inputs
from m2m.pipeline.resolved import resolved
from m2m.recipe import load_recipe
from tests.pipeline.scenario import make_scenario
from tests.templates import CHATML, formatter_of

AMHARIC = "ልጁ በትምህርት ቤት መጽሐፍ ያነባል እናም ጓደኞቹ በሜዳ ላይ ይጫወታሉ። " * 6
LIMIT = RowLimit(200, 1 << 20, 1 << 20)


def row(line: int, question: str, answer: str) -> Row:
    turns = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Row(line, messages=turns)


ROWS = [
    row(1, "Habari?", "Nzuri."),
    row(2, f"Jibu swali. {AMHARIC} Swali: nani anasoma?", "Mtoto."),
    row(3, "Simulia.", AMHARIC),
    Row(4, text=AMHARIC),
]


def test_long_rows_are_refused_skipped_or_cut_in_the_question() -> None:
    formatter = formatter_of(CHATML)
    assert fitted(ROWS, formatter, LIMIT) == (ROWS, NONE)
    with pytest.raises(InputError, match="max_length") as caught:
        encode(ROWS, formatter, LIMIT)
    assert "line 2" in caught.value.message
    assert "line 3" in caught.value.message
    skipped, counts = fitted(ROWS, formatter, replace(LIMIT, long_rows="skip"))
    assert [kept.line for kept in skipped] == [1, 4]
    assert counts.skipped == (2, 3)
    kept, counts = fitted(ROWS, formatter, replace(LIMIT, long_rows="truncate"))
    assert [kept_row.line for kept_row in kept] == [1, 2, 4]
    assert (counts.cut, counts.skipped) == ((2,), (3,))
    lazy = Lazy(ROWS, lambda row: row)  # as the rows of a file that does not fit into memory
    for way in ("skip", "truncate"):
        limit = replace(LIMIT, long_rows=way)
        few, many = fitted(ROWS, formatter, limit), fitted(lazy, formatter, limit)
        assert is_spooled(many[0]) and [*many[0]] == few[0] and many[1] == few[1]
    question, answer = kept[1].sides
    assert question.startswith("Jibu swali.")
    assert question.endswith("nani anasoma?")
    assert answer == "Mtoto."
    longest = max(len(sample) for sample in encode(kept, formatter, LIMIT))
    assert longest <= 200
    (whole,) = encode([ROWS[1]], formatter, 1 << 20)
    (cut,) = encode([kept[1]], formatter, 1 << 20)
    assert counts.tokens == len(whole) - len(cut)
    assert len(cut) > 150  # no more than needed was cut
    first, second = counts.in_words("a", 4, replace(LIMIT, long_rows="truncate"))
    assert first.startswith("1 of 4 rows of a was longer than 200 tokens (max_length)")
    assert second.startswith("1 of 4 rows of a was skipped")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_cut_keeps_words_and_letters_whole(form: str) -> None:
    text = unicodedata.normalize(form, "Ọmọ náà ń ka ìwé ní ilé ẹ̀kọ́ rẹ̀ ní gbogbo ọjọ́ ọ̀sẹ̀")
    words = {*text.split(), "…"}
    for size in range(20, len(text)):
        assert set(middle_cut(text, size).split()) <= words
    khmer = "ខ្ញុំទៅផ្សារដើម្បីទិញត្រីនិងបន្លែសម្រាប់គ្រួសាររបស់ខ្ញុំនៅពេលព្រឹក"
    for size in range(20, len(khmer)):
        for piece in middle_cut(khmer, size).split(" … "):
            assert unicodedata.category(piece[0])[0] != "M"
    assert middle_cut("mfupi", 99) == "mfupi"


def test_the_hint_never_raises_a_setting_above_the_models_context() -> None:
    limit = RowLimit(512, 512, 2048)
    assert "max_length" not in limit.remedy([25598])
    both = limit.remedy([700, 25598])
    assert "max_length = 700 and batch_tokens = 700 in [train] for 1 of them" in both
    assert "25598" not in both
    assert 'long_rows = "skip"' in both
    assert "the model reads 2048 tokens at most" in both


def test_counts_go_into_warnings_and_the_runs_json(tmp_path: Path) -> None:
    path = make_scenario(tmp_path)
    text = path.read_text(encoding="utf-8")
    before = read_inputs(load_recipe(path))
    path.write_text(text.replace("rank = 4", 'rank = 4\nlong_rows = "skip"'), encoding="utf-8")
    nothing_long = read_inputs(load_recipe(path))
    marks = [{n: c.fingerprint for n, c in i.corpora.items()} for i in (before, nothing_long)]
    assert marks[0] == marks[1]
    first = json.dumps({"prompt": "ndefu " * 600, "completion": "x"}) + "\n"
    rows = tmp_path / "copy.jsonl"
    rows.write_text(first + rows.read_text(encoding="utf-8"), encoding="utf-8")
    inputs = read_inputs(load_recipe(path))
    assert any("of copy was skipped" in warning for warning in inputs.warnings)
    entry = resolved(inputs)["inputs"]["datasets"]["copy"]
    assert entry["long_rows"] == {"cut": 0, "cut_tokens": 0, "skipped": 1}
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="line 1"):
        read_inputs(load_recipe(path))
