from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from m2m.commands.data_check import check_recipe
from m2m.commands.eval import Reading, compare_models
from m2m.dataset.normal_form import disagreement, form_of, normalised
from m2m.pipeline.inputs import read_inputs
from m2m.recipe import Data, Target, load_recipe
from tests.pipeline.scenario import make_scenario
from tests.tiny import write_jsonl

YORUBA = ["Ọmọ náà ń ka ìwé", "Ẹ káàárọ̀ o", "Ilé ẹ̀kọ́ gíga"]
ALIKE = ["Mtoto anasoma", "ሰላም ለዓለም", "ភាសាខ្មែរ", "ɓauna da ƙasa"]  # the same in both forms


def in_form(form: str, texts: list[str] = YORUBA) -> list[str]:
    return [unicodedata.normalize(form, text) for text in texts]  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_form_of_texts(form: str) -> None:
    assert form_of([*in_form(form), *ALIKE]) == form
    assert form_of(ALIKE) == ""
    assert form_of([*in_form("NFC"), *in_form("NFD")]) == "mixed"
    assert normalised({"a": [YORUBA[0], 3]}, form) == {"a": [in_form(form)[0], 3]}
    assert normalised(YORUBA, "as is") is YORUBA


def test_parts_in_two_forms_disagree() -> None:
    words = disagreement({"menyo": "NFD", "dev": "NFC", "english": ""})
    assert "dev in NFC; menyo in NFD" in words
    assert disagreement({"menyo": "NFC", "dev": "NFC", "english": ""}) == ""
    assert "a in both forms" in disagreement({"a": "mixed"})


def test_a_recipe_warns_of_two_forms_and_normalises_datasets_and_targets(tmp_path: Path) -> None:
    """As MENYO-20k, of which one file is in NFD and one in NFC."""
    recipe = load_recipe(make_scenario(tmp_path))
    own, target = recipe.datasets[0], recipe.targets[0]
    rows = [{"prompt": f"Túmọ̀: {text} {i}", "completion": f"{text} {i}"}
            for i in range(5) for text in YORUBA]  # fmt: skip
    asked = [{"prompt": f"Túmọ̀: {text} {i}?", "answer": f"{text} {i}!"}
             for i in range(9, 12) for text in YORUBA]  # fmt: skip
    split = [{k: unicodedata.normalize("NFD", v) for k, v in row.items()} for row in rows]
    composed = [{k: unicodedata.normalize("NFC", v) for k, v in row.items()} for row in asked]
    dataset = replace(own, path=write_jsonl(tmp_path / "nfd.jsonl", split))
    new = replace(target, dev=write_jsonl(tmp_path / "nfc.jsonl", composed), test=None)
    recipe = replace(recipe, datasets=(dataset, *recipe.datasets[1:]), targets=(new,))
    inputs = read_inputs(recipe)
    (warning,) = [c for c in inputs.warnings if "normal forms" in c]
    assert f"{target.name} (dev) in NFC; {own.name} in NFD" in warning
    assert 'rite `normalise = "NFC"` under [data]' in warning
    problems = [p.kind for checked in check_recipe(recipe) for p in checked.problems]
    assert {"forms", "not_nfc"} <= {*problems}

    for form in ("NFC", "NFD"):
        mended = replace(recipe, data=Data(normalise=form))
        after = read_inputs(mended)
        assert not any("normal forms" in warning for warning in after.warnings)
        texts = [example.prompt + example.answer for example in after.dev[target.name].examples]
        assert texts == in_form(form, texts)
        samples = after.corpora[own.name].samples
        decoded = [after.formatter.tokenizer.decode(sample.ids) for sample in samples]
        assert decoded == in_form(form, decoded)
        assert after.corpora[own.name].fingerprint != inputs.corpora[own.name].fingerprint
        other = recipe.datasets[1].name
        forms = [checked.form for checked in check_recipe(mended)]
        assert forms[0] == forms[-1] == form
        assert other in after.corpora


def test_eval_scores_in_the_form_of_the_run(tmp_path: Path) -> None:
    """A number from `m2m eval --normalise` is that of a file that somebody normalised by hand."""
    make_scenario(tmp_path)
    rows = [{"prompt": f"Túmọ̀: {text} {i}", "answer": f"{text} {i}"}
            for i in range(6) for text in YORUBA]  # fmt: skip
    files = {form: write_jsonl(tmp_path / f"{form}.jsonl", [
        {k: unicodedata.normalize(form, v) for k, v in row.items()} for row in rows
    ]) for form in ("NFC", "NFD")}  # fmt: skip
    model = str(tmp_path / "models" / "pico")
    how = Target("t", files["NFC"], metric="bits_per_byte")

    def score(path: Path, form: str = "as is") -> Any:
        return (
            compare_models([model], [path], how, reading=Reading(normalise=form))
            .results[0]
            .as_json()["metrics"]
        )

    assert score(files["NFD"], "NFC") == score(files["NFC"])
    assert score(files["NFD"]) != score(files["NFC"])
