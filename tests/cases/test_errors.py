"""Error texts that send the reader the wrong way, or nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2m.commands.data_check import check_recipe
from m2m.commands.eval import model_and_lora
from m2m.dataset import Row, RowLimit, encode
from m2m.errors import InputError, M2MError, RecipeError
from m2m.recipe import load_recipe
from tests.pipeline.scenario import make_scenario
from tests.templates import formatter_of
from tests.tiny import CHATML

START = '[base]\nmodel = "pico"\n[[datasets]]\nname = "a"\npath = '
END = '\n[[targets]]\nname = "t"\ndev = "dev.jsonl"\n'


def refused(folder: Path, text: str) -> str:
    (folder / "a.jsonl").touch()
    (folder / "dev.jsonl").touch()
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(M2MError) as caught:
        load_recipe(path)
    return f"{caught.value.message}\n{caught.value.hint}"


@pytest.mark.parametrize("path", [r"C:\data\rows.csv", r"C:\new\table.csv", r"C:\Users\asha\a.csv"])
def test_a_windows_path_in_double_quotes(tmp_path: Path, path: str) -> None:
    said = refused(tmp_path, f'{START}"{path}"{END}')
    assert "line 5" in said
    assert r"single quotes ('C:\data\rows.csv') or with /" in said
    said = refused(tmp_path, f"{START}'{path}'{END}")
    assert "there is no file" in said  # in single quotes it is a path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("name = a", "line 4: write texts in quotation marks"),
        ('name = "a', "line 4: the quotation mark at the end is missing"),
        ("name = “a”", "line 4: replace the curly"),
        ('name: "a"', "line 4: write = instead of :"),
        ("name = True", "line 4: write true or false"),
        ('name = "a"\nname = "b"', "line 5: this field is there twice"),
        ("name = 5,", "correct line 4: name = 5,"),
    ],
)
def test_toml_that_is_wrong_is_named_in_plain_words(tmp_path: Path, line: str, words: str) -> None:
    assert words in refused(tmp_path, f'{START}"a.jsonl"{END}'.replace('name = "a"', line))


@pytest.mark.parametrize("data", [b'{"question": "Maji?"}\n', b"PK\x03\x04\xff\x00\x9c", b"a,b\n"])
def test_data_in_place_of_a_recipe_is_named_for_that(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "the rows.data"
    file.write_bytes(data)
    with pytest.raises(InputError, match="is no recipe, which is a TOML file") as error:
        load_recipe(file)
    assert f"`m2m init --data '{file}'`" in str(error.value.hint)
    file.write_text("[base]\n", "utf-8")
    with pytest.raises(RecipeError):  # a recipe may have any name
        load_recipe(file)


def test_mistakes_are_in_the_order_of_lines_with_what_was_meant(tmp_path: Path) -> None:
    text = f'{START}"a.jsonl"{END}'.replace("model =", "modell =") + (
        'metric = "chfr"\n[trian]\nsteps = 10\n[search]\nstrategi = "racing"\nsteps = 3\n'
        'required = ["aa"]\nexcluded = ["zebra"]\n[train]\nschedule = "cosin"\nrank = "16"\n'
    )
    lines = refused(tmp_path, text).splitlines()[1:-1]
    assert [line.strip() for line in lines] == [
        "- line 2: unknown field 'modell' in [base]; did you mean model?",
        "- line 9: unknown metric 'chfr'; did you mean chrf?",
        "- line 10: unknown section [trian]; did you mean train?",
        "- line 13: unknown field 'strategi' in [search]; did you mean strategy?",
        "- line 14: unknown field 'steps' in [search]; it belongs in [train]",
        "- line 15: required: there is no dataset 'aa'; did you mean a?",
        "- line 16: excluded: there is no dataset 'zebra'; known are a",
        "- line 18: unknown schedule 'cosin'; did you mean cosine?",
        "- line 19: rank must be a whole number, found '16'",
    ]


def test_a_field_before_the_first_section_is_sent_to_its_own(tmp_path: Path) -> None:
    said = refused(tmp_path, f'rank = 8\n{START}"a.jsonl"{END}')
    assert "line 1: 'rank' is before the first section; it belongs in [train]" in said


def test_plus_signs_in_the_names_of_folders(tmp_path: Path) -> None:
    folder = tmp_path / "c++ and more"
    folder.mkdir()
    model, lora = folder / "a+1.gguf", folder / "b+2.gguf"
    model.touch()
    lora.touch()
    assert model_and_lora(str(model)) == (str(model), None)
    assert model_and_lora(f"{model}+{lora}") == (str(model), lora)
    assert model_and_lora(f"pico+{lora}") == ("pico", lora)
    assert model_and_lora("pico+gone.gguf") == ("pico", Path("gone.gguf"))


@pytest.mark.parametrize(
    ("limit", "said", "advice"),
    [
        (RowLimit(20, 64, 512), "20 fit (max_length)", "set max_length = 60 in [train]"),
        (RowLimit(64, 20, 512), "20 fit (batch_tokens)", "set batch_tokens = 60 in [train]"),
        (RowLimit(20, 32, 512), "(max_length)", "set max_length = 60 and batch_tokens = 60"),
        (RowLimit(20, 64, 40), "(max_length)", "the model reads 40 tokens at most"),
        (RowLimit(64, 64, 20), "(that is all the model can read)", "reads 20 tokens at most"),
    ],
)
def test_the_limit_that_counts_is_named_and_its_remedy_works(
    limit: RowLimit, said: str, advice: str
) -> None:
    formatter = formatter_of(CHATML)

    def row(letters: int) -> Row:
        turns = ({"role": "user", "content": "x" * letters}, {"role": "assistant", "content": "y"})
        return Row(1, messages=turns)

    frame = len(encode([row(1)], formatter, 1 << 20)[0]) - 1
    with pytest.raises(InputError) as caught:
        encode([row(60 - frame)], formatter, limit)
    assert said in caught.value.message
    assert advice in str(caught.value.hint)
    if "set" in advice:
        changed = {n: int(v) for n, _, v in (p.split() for p in _settings(str(caught.value.hint)))}
        assert encode([row(60 - frame)], formatter, RowLimit(**{**vars(limit), **changed}))


def _settings(hint: str) -> list[str]:
    return hint.partition("set ")[2].partition(" in [train]")[0].split(" and ")


def test_data_check_names_that_limit_too(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    text = recipe.read_text(encoding="utf-8").replace("batch_tokens = 256", "batch_tokens = 16")
    recipe.write_text(text, encoding="utf-8")
    problems = [p for each in check_recipe(load_recipe(recipe)) for p in each.problems]
    long = [p for p in problems if p.kind == "too_long"]
    assert long
    assert all("16 tokens (batch_tokens)" in p.message for p in long)
    assert all("set batch_tokens = " in p.hint and "max_length" not in p.hint for p in long)
