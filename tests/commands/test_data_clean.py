from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from m2m.cli.main import cli
from m2m.commands.data_clean import CHANGES, Cleaning, clean
from m2m.dataset.characters import find_faults
from m2m.dataset.noise import find_noise
from m2m.dataset.scrub import SCRUBBERS
from m2m.recipe import load_recipe
from tests.dataset.test_noise import NOISY, WELL
from tests.tiny import write_jsonl

ROWS = [
    {"id": 1, "url": "https://x.org/1", "prompt": "Ẹ túmọ̀: ilé", "completion": "nyumba"},
    {"id": 2, "url": "https://x.org/2", "prompt": "Ẹ túmọ̀: omi", "completion": "maji <br> safi"},
    {"id": 3, "url": "https://x.org/3", "prompt": "Ẹ TÚMỌ̀: ilé!", "completion": "nyumba"},
    {"id": 4, "url": "https://x.org/4", "prompt": "Ẹ túmọ̀: ìwé tí mo rà", "completion": "kitabu"},
    {"id": 5, "url": "https://x.org/5", "prompt": "Ẹ túmọ̀: ẹja https://y.org",
     "completion": "samaki"},
    {"id": 6, "url": "https://x.org/6", "prompt": "Ẹ túmọ̀: igi",
     "completion": "As an AI language model, I cannot."},
]  # fmt: skip
ASKED = [
    {"prompt": "Ẹ túmọ̀: ìwé tí mo rà", "answer": "kitabu"},
    {"prompt": "ọ̀nà", "answer": "njia"},
]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    write_jsonl(tmp_path / "dev.jsonl", ASKED)
    (tmp_path / "recipe.toml").write_text(
        "[base]\nmodel = 'none'\n[[datasets]]\nname = 'yo'\npath = 'a.jsonl'\n"
        "[[targets]]\nname = 't'\ndev = 'dev.jsonl'\n",
        encoding="utf-8",
    )
    return tmp_path / "recipe.toml"


def m2m(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_copies_have_no_repeated_and_leaked_rows_and_all_changes_are_listed(recipe: Path) -> None:
    before = {path: path.read_bytes() for path in recipe.parent.iterdir()}
    out = recipe.parent / "clean"
    found = m2m("data", "clean", recipe, "--out", out, "--remove", "url", "--remove", "html",
                "--drop", "refusal", "--json")  # fmt: skip
    (result,) = json.loads(found.stdout)["files"]
    assert result["dropped"] == {"duplicate": 1, "leak": 1, "refusal": 1}
    assert result["changed"] == {"html": 1, "url": 1}
    assert (result["rows"], result["kept"]) == (6, 3)
    kept = rows_of(out / "yo.jsonl")
    assert kept[0] == ROWS[0]
    assert kept[1] == {**ROWS[1], "completion": "maji \n safi"}
    assert kept[2] == {**ROWS[4], "prompt": "Ẹ túmọ̀: ẹja"}  # its column url stays
    changes = {change["line"]: change for change in rows_of(out / CHANGES)}
    assert {line: change["action"] for line, change in changes.items()} == {
        2: "changed", 3: "dropped", 4: "dropped", 5: "changed", 6: "dropped"
    }  # fmt: skip
    assert changes[3]["reason"] == "the same as line 1"
    assert changes[3]["old"] == ROWS[2]
    assert changes[5]["old"] == {"prompt": ROWS[4]["prompt"]}
    assert changes[5]["new"] == {"prompt": "Ẹ túmọ̀: ẹja"}
    assert {path: path.read_bytes() for path in before} == before
    assert not (out / "t-dev.jsonl").exists()


def test_nothing_is_overwritten_without_force_and_originals_never(recipe: Path) -> None:
    out = recipe.parent / "clean"
    assert m2m("data", "clean", recipe, "--out", out).exit_code == 0
    again = m2m("data", "clean", recipe, "--out", out)
    assert again.exit_code == 1
    assert "add `--force`" in again.stderr
    assert m2m("data", "clean", recipe, "--out", out, "--force").exit_code == 0
    text = recipe.read_text(encoding="utf-8").replace("'a.jsonl'", "'yo.jsonl'")
    recipe.write_text(text, encoding="utf-8")
    own = write_jsonl(recipe.parent / "yo.jsonl", ROWS)
    before = own.read_bytes()
    refused = m2m("data", "clean", recipe, "--out", recipe.parent, "--force")
    assert refused.exit_code == 1
    assert "yo.jsonl is a file of the recipe" in refused.stderr
    assert own.read_bytes() == before


def test_targets_change_in_their_normal_form_only(recipe: Path) -> None:
    out = recipe.parent / "clean"
    results = clean(load_recipe(recipe), out, Cleaning(normalise="NFD"))
    assert [result.name for result in results] == ["yo", "t-dev"]
    nfd = [{key: unicodedata.normalize("NFD", text) for key, text in row.items()} for row in ASKED]
    assert rows_of(out / "t-dev.jsonl") == nfd
    shown = m2m("data", "clean", recipe, "--out", out, "--normalise", "NFD", "--force").stdout
    assert 't-dev: dev = "clean/t-dev.jsonl"' in shown
    assert 'yo: path = "clean/yo.jsonl"' in shown


@pytest.mark.parametrize("kind", SCRUBBERS)
def test_removed_noise_is_gone_and_other_texts_stay(kind: str) -> None:
    damaged = {"invisible": ["ki\u00adtabu"], "control": ["a\x01b"]}
    for text in NOISY.get(kind, damaged.get(kind, [])):
        after = SCRUBBERS[kind](text)
        assert after != text
        assert kind not in {**find_noise([after]), **find_faults([after])}
    for text in WELL:
        assert SCRUBBERS[kind](text) == text


def test_escapes_and_entities_become_their_characters() -> None:
    assert SCRUBBERS["escape"](r"Ndiyo.\nHapana caf\u00e9 \ud83d\ude00") == "Ndiyo.\nHapana café 😀"
    assert SCRUBBERS["html"]("kahawa &amp; chai<br/>na <b>maji</b>") == "kahawa & chai\nna maji"
    assert SCRUBBERS["url"]("Soma https://x.org/a, tafadhali.") == "Soma tafadhali."


def test_a_copy_is_utf8_and_the_settings_of_the_original_are_to_be_deleted(recipe: Path) -> None:
    table = "prompt;completion\nécole;shule\nété;kiangazi\nL'élève lit;Mwanafunzi anasoma\n"
    (recipe.parent / "fr.csv").write_bytes(table.encode("cp1252"))
    text = recipe.read_text(encoding="utf-8").replace("'a.jsonl'", "'fr.csv'\nencoding = 'cp1252'")
    recipe.write_text(text.replace("dev.jsonl'", "dev.jsonl'\nquotes = 'text'"), encoding="utf-8")
    out = recipe.parent / "clean"
    shown = m2m("data", "clean", recipe, "--out", out, "--normalise", "NFC").stdout
    assert 'yo: path = "clean/yo.jsonl" (and delete encoding there)' in shown
    assert "t-dev: a task file, aligned files, or a file with its own encoding" in shown
    assert [row["prompt"] for row in rows_of(out / "yo.jsonl")] == ["école", "été", "L'élève lit"]
    assert not (out / "t-dev.jsonl").exists()


def test_a_column_that_the_copy_lacks_is_named(recipe: Path) -> None:
    path = recipe.parent / "a.csv"
    path.write_text(",prompt,completion\n1990,mti,tree\n1960,maji,water\n", encoding="utf-8")
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("a.jsonl", "a.csv"))
    found = m2m("data", "clean", recipe, "--out", recipe.parent / "clean")
    assert found.exit_code == 0, found.output
    assert "column 1 has no name" in " ".join(found.output.split())
