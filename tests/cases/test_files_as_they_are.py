"""Files as people have them, from the recipe to the samples: what it says is what is read."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from m2m.commands.data_check import check_recipe
from m2m.errors import InputError, RecipeError
from m2m.pipeline.inputs import read_inputs
from m2m.pipeline.resolved import resolved
from m2m.pipeline.search import readings
from m2m.recipe import load_recipe
from tests.pipeline.scenario import make_scenario


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return make_scenario(tmp_path)


def changed(recipe: Path, old: str, new: str) -> Path:
    text = recipe.read_text(encoding="utf-8")
    assert old in text
    recipe.write_text(text.replace(old, new), encoding="utf-8")
    return recipe


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines(keepends=True)


def test_bad_rows_are_left_out_and_counted_if_the_recipe_says_so(recipe: Path) -> None:
    before = read_inputs(load_recipe(recipe))
    path = recipe.parent / "copy.jsonl"
    path.write_text("{\n" + "".join(lines_of(path)) + '{"prompt": "a", "completion": ""}\n')
    dev = recipe.parent / "dev.jsonl"
    dev.write_text("".join(lines_of(dev)) + '{"question": "a"}\n')
    with pytest.raises(InputError, match=r"copy\.jsonl"):
        read_inputs(load_recipe(recipe))
    changed(recipe, 'path = "copy.jsonl"\n', 'path = "copy.jsonl"\nbad_rows = "skip"\n')
    changed(recipe, 'dev = "dev.jsonl"\n', 'dev = "dev.jsonl"\nbad_rows = "skip"\n')
    inputs = read_inputs(load_recipe(recipe))
    assert [s.ids.tolist() for s in inputs.corpora["copy"].samples] == [
        s.ids.tolist() for s in before.corpora["copy"].samples
    ]
    assert inputs.dev["copying"].examples == before.dev["copying"].examples
    assert 'copy: 2 bad rows are left out (bad_rows = "skip")' in inputs.warnings
    assert any("dev set of copying: 1 bad row is" in warning for warning in inputs.warnings)
    (checked, *_) = check_recipe(load_recipe(recipe))
    assert "2 bad rows are left out" in checked.reading and not checked.refused


def test_a_file_without_good_rows_is_refused_all_the_same(recipe: Path) -> None:
    (recipe.parent / "copy.jsonl").write_text('{"prompt": "a", "completion": ""}\n' * 3)
    changed(recipe, 'path = "copy.jsonl"\n', 'path = "copy.jsonl"\nbad_rows = "skip"\n')
    with pytest.raises(InputError, match="completion"):
        read_inputs(load_recipe(recipe))


def test_the_recipe_says_how_a_table_is_read(recipe: Path) -> None:
    rows = [json.loads(line) for line in lines_of(recipe.parent / "copy.jsonl")]
    before = read_inputs(load_recipe(recipe)).corpora["copy"]
    cells = [f'{row["prompt"]}\t{row["completion"]}é"' for row in rows]
    (recipe.parent / "copy.tsv").write_bytes("\n".join(cells).encode("cp1252"))
    settings = 'encoding = "cp1252"\nheader = "no"\nquotes = "text"\nprompt = "{1}"\n'
    settings += 'completion = "{2}"\n'
    changed(recipe, 'path = "copy.jsonl"\n', f'path = "copy.tsv"\n{settings}')
    after = read_inputs(load_recipe(recipe)).corpora["copy"]
    assert len(after.samples) == len(before.samples)
    assert after.fingerprint != before.fingerprint
    for name, value in (("header", '"maybe"'), ("bad_rows", '"ask"'), ("quotes", "true")):
        wrong = load_text(recipe, f"{name} = {value}\n")
        with pytest.raises(RecipeError, match=name):
            load_recipe(wrong)


def test_a_run_says_which_rows_it_uses_and_how_answers_are_read(recipe: Path) -> None:
    path = recipe.parent / "copy.jsonl"
    rows = [json.loads(line) for line in lines_of(path)]
    marked = [{**row, "lang": "swh" if i % 2 else "yor"} for i, row in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in marked), encoding="utf-8")
    shutil.copyfile(recipe.parent / "dev.jsonl", recipe.parent / "upper.jsonl")
    changed(recipe, 'path = "copy.jsonl"\n', 'path = "copy.jsonl"\nwhere = { lang = "swh" }\n')
    inputs = read_inputs(load_recipe(recipe))
    picked, answers, target = readings(inputs)
    assert picked == f"copy: {len(rows) // 2} of {len(rows)} rows used: those with lang = swh"
    assert answers.startswith("upper: each answer is the place of a choice")
    assert target.startswith("copying: each answer is")
    written = resolved(inputs)["inputs"]["datasets"]
    assert picked == f"copy: {written['copy']['reading']}"


def test_a_run_says_which_texts_have_lost_characters(recipe: Path) -> None:
    """JSON's half of an emoji is read as U+FFFD, which nobody chose."""
    for name, key in (("copy", "prompt"), ("dev", "question")):
        path = recipe.parent / f"{name}.jsonl"
        rows = [json.loads(line) for line in lines_of(path)]
        rows[0][key] += " \ud83d"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    dataset, target, _test = readings(read_inputs(load_recipe(recipe)))
    assert dataset == "copy: 1 row with U+FFFD in place of a lost character"
    assert target.endswith("1 example with U+FFFD in place of a lost character")


def load_text(recipe: Path, line: str) -> Path:
    path = recipe.with_name("wrong.toml")
    text = recipe.read_text(encoding="utf-8")
    path.write_text(text.replace('path = "upper.jsonl"\n', f'path = "upper.jsonl"\n{line}'))
    return path


def test_packed_files_and_members_train_the_same(recipe: Path) -> None:
    before = read_inputs(load_recipe(recipe)).corpora["copy"]
    data = (recipe.parent / "copy.jsonl").read_bytes()
    (recipe.parent / "copy.jsonl.gz").write_bytes(gzip.compress(data))
    (recipe.parent / "all.json").write_text(
        json.dumps({"train": [json.loads(line) for line in data.splitlines()], "test": [{"a": 1}]})
    )
    for path in ("copy.jsonl.gz", "all.json/train"):
        base = load_recipe(recipe)
        first = replace(base.datasets[0], path=recipe.parent / path)
        after = read_inputs(replace(base, datasets=(first, *base.datasets[1:]))).corpora["copy"]
        assert [s.ids.tolist() for s in after.samples] == [s.ids.tolist() for s in before.samples]
    assert load_recipe(changed(recipe, '"copy.jsonl"', '"all.json/train"')).datasets[
        0
    ].path.name == ("train")
