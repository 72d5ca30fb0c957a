"""`m2m init`: what it writes loads, runs, and explains every field with its true default."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.checkpoint import import_model
from m2m.cli.main import cli
from m2m.commands.init import start_recipe
from m2m.commands.init_files import Wanted, unlike
from m2m.errors import InputError
from m2m.formats import archives
from m2m.pipeline.inputs import read_inputs
from m2m.recipe import LISTS, SECTIONS, load_recipe
from m2m.recipe.data_fields import Dataset
from m2m.recipe.new_recipe import recipe_text, toml_value
from tests.hostile import controls
from tests.pipeline.scenario import make_scenario
from tests.tiny import pico_config, write_jsonl, write_pico_gguf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_scenario(tmp_path)
    return tmp_path


def started(folder: Path, out: str = "new.toml", full: bool = True, **changes: list[Path]) -> Path:
    files = {
        "datasets": [folder / "copy.jsonl", folder / "upper.jsonl"],
        "targets": [folder / "dev.jsonl"],
    }
    named = {name: (*paths,) for name, paths in {**files, **changes}.items()}
    return start_recipe(Wanted(folder / out, **named, model="pico", full=full)).recipe


def test_a_new_recipe_has_the_files_and_every_default(folder: Path) -> None:
    recipe = load_recipe(started(folder))
    assert [each.name for each in recipe.datasets] == ["copy", "upper"]
    assert recipe.targets[0].test == folder / "test.jsonl"
    assert recipe.targets[0].name == folder.name
    for name, kind in SECTIONS.items():
        if name != "base":
            settled = {"schedule": "anytime"} if name == "train" else {}  # from "auto"
            assert getattr(recipe, name) == dataclasses.replace(kind(), **settled)
    assert set(read_inputs(recipe).corpora) == {"copy", "upper"}


def test_every_field_is_explained_and_shown_with_its_default(folder: Path) -> None:
    path = started(folder)
    text = path.read_text(encoding="utf-8")
    expected = load_recipe(path)
    for kind in (*SECTIONS.values(), *LISTS.values()):
        for spec in dataclasses.fields(kind):
            if "hidden" in spec.metadata:
                continue
            assert f"# {spec.name}: {spec.metadata['help'].split()[0]}" in text
    lines = text.split("\n")
    shown = [i for i, line in enumerate(lines) if re.match(r"# \w+ = ", line)]
    assert len(shown) > 30
    for i in shown:
        if '"..."' in lines[i]:  # there is no default but nothing
            continue
        changed = [*lines[:i], lines[i].removeprefix("# "), *lines[i + 1 :]]
        path.write_text("\n".join(changed), encoding="utf-8")
        assert load_recipe(path) == expected, lines[i]


def test_long_rows_raise_the_limits_as_far_as_the_model_reads(folder: Path) -> None:
    long = write_jsonl(folder / "long.jsonl", [{"prompt": "ab " * 400, "completion": "c"}])
    config = pico_config(max_position_embeddings=4096)
    import_model(
        write_pico_gguf(folder / "wide.gguf", config), folder / "models" / "wide", name="wide"
    )
    for model, raised in (("wide", True), ("pico", False)):
        out = folder / f"{model}.toml"
        found = start_recipe(Wanted(out, (long,), (folder / "dev.jsonl",), model=model))
        train = load_recipe(out).train
        assert (train.max_length == train.batch_tokens > 512) == raised
        assert any("do not fit pico" in note for note in found.notes) != raised
    assert read_inputs(load_recipe(folder / "wide.toml")).corpora


def test_names_are_made_valid_and_different(folder: Path) -> None:
    rows = (folder / "copy.jsonl").read_bytes()
    paths = [folder / "my data.jsonl", folder / "b" / "my data.jsonl", folder / "_ é.jsonl"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(rows)
    recipe = load_recipe(started(folder, datasets=paths))
    assert [each.name for each in recipe.datasets] == ["my_data", "my_data_2", "e"]
    assert [each.path.resolve() for each in recipe.datasets] == [p.resolve() for p in paths]


def test_latin_letters_keep_their_base_in_names() -> None:
    letters = "ɗɓƙƴŋɛɔøłđħıßæœþəʊɣǝĐÆꞌ"
    assert unlike([*letters]) == [
        *("d", "b", "k", "y", "n", "e", "o", "o_2", "l", "d_2", "h", "i", "ss", "ae", "oe", "th"),
        *("e_2", "u", "g", "e_3", "D_3", "AE_2", "data"),
    ]
    assert unlike(["ƙwai ɗan ɓera", "ɓɓɓ", "rédíò"]) == ["kwai_dan_bera", "bbb", "redio"]
    assert unlike(["بيانات", "ሰላም", "ቃላት 2"]) == ["data", "data_2", "2"]


def test_the_path_of_a_dataset_names_every_format_that_is_read() -> None:
    texts = {
        "JSONL": ".jsonl .ndjson .jsonlines", "JSON": ".json", "CSV": ".csv .psv", "text": ".txt",
        "TSV": ".tsv .tab", "Excel": ".xlsx .xls", "OpenDocument": ".ods", "Parquet": ".parquet",
        "Arrow": ".arrow .feather", "PO": ".po", "TMX": ".tmx", "XLIFF": ".xlf .xliff",
    }  # fmt: skip
    assert {end for ends in texts.values() for end in ends.split()} == {*archives._DATA}
    meaning = next(one for one in dataclasses.fields(Dataset) if one.name == "path").metadata
    assert {*texts} <= {*re.findall(r"\w+", meaning["help"])}


def test_nothing_is_overwritten_and_all_mistakes_are_told(folder: Path) -> None:
    with pytest.raises(InputError, match="exists"):
        started(folder, "recipe.toml")
    bad = write_jsonl(folder / "bad.jsonl", [{"x": "y"}])
    aim = write_jsonl(folder / "aim.jsonl", [{"x": "y"}])
    with pytest.raises(InputError) as caught:
        started(folder, datasets=[bad], targets=[aim])
    assert "bad.jsonl" in caught.value.message
    assert "aim.jsonl" in caught.value.message
    assert not (folder / "new.toml").exists()


def test_texts_are_written_as_toml(folder: Path) -> None:
    given = {"name": "a", "path": Path("b"), "notes": 'say "ọ̀rọ̀"\n\\ \x7f'}
    text = recipe_text({"base": {"model": "m"}}, {"datasets": [given], "targets": []})
    import tomllib

    assert tomllib.loads(text)["datasets"] == [{**given, "path": "b"}]
    assert toml_value(("a", 1, 2.5)) == '["a", 1, 2.5]'


def test_the_command_takes_files_as_a_shell_gives_them(folder: Path) -> None:
    files = [str(folder / f"{name}.jsonl") for name in ("copy", "reverse", "upper")]
    out, target = str(folder / "x.toml"), str(folder / "dev.jsonl")
    line = ["init", "--model", "pico", "--data", *files, "--target", target, "--out", out]
    found = CliRunner().invoke(cli, line, catch_exceptions=False)
    assert found.exit_code == 0
    assert f"m2m run {out}" in found.stdout
    assert len(load_recipe(Path(out)).datasets) == 3
    assert CliRunner().invoke(cli, ["init", "--model", "pico", "--target", target]).exit_code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such file name")
@pytest.mark.parametrize("name", ["a\nb.jsonl", os.fsdecode(b"caf\xe9.jsonl")])
def test_a_name_that_no_recipe_can_hold_is_refused_before_writing(folder: Path, name: str) -> None:
    try:
        (folder / "copy.jsonl").rename(folder / name)
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(InputError, match="cannot hold this name"):
        started(folder, datasets=[folder / name])
    assert not (folder / "new.toml").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such file name")
def test_any_other_name_is_in_the_recipe_as_it_is(folder: Path) -> None:
    name = "a\x9b\u202e\"'c\\ ẹ̀kọ́\u200d.jsonl"
    (folder / "copy.jsonl").rename(folder / name)
    written = started(folder, datasets=[folder / name])
    assert load_recipe(written).datasets[0].path == folder / name
    assert not controls(written.read_text(encoding="utf-8"))
