from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from m2m import recipe as recipes
from m2m.errors import InputError, RecipeError
from m2m.recipe import load_recipe
from m2m.recipe.new_recipe import toml_value

MINIMAL = """\
[base]
model = "pico"

[[datasets]]
name = "a"
path = "a.jsonl"

[[targets]]
name = "t"
dev = "dev.jsonl"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jsonl", "dev.jsonl"):
        (tmp_path / name).write_text("", encoding="utf-8")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_license_is_licence(folder: Path) -> None:
    text = MINIMAL.replace('path = "a.jsonl"', 'path = "a.jsonl"\nlicense = "MIT"')
    assert load_recipe(written(folder, text)).datasets[0].licence == "MIT"
    both = text.replace('license = "MIT"', 'license = "MIT"\nlicence = "MIT"')
    with pytest.raises(RecipeError, match="give only one"):
        load_recipe(written(folder, both))


def test_a_minimal_recipe_gets_every_default(folder: Path) -> None:
    recipe = load_recipe(written(folder, MINIMAL))
    assert recipe.train == recipes.Train(schedule="anytime")
    assert recipe.datasets[0].path == folder / "a.jsonl"
    assert recipe.targets[0].test is None
    assert recipe.folder == folder / "m2m-runs" / "recipe"


def test_all_mistakes_are_told_at_once_with_their_lines(folder: Path) -> None:
    text = MINIMAL.replace("model =", "modell =") + (
        '[[datasets]]\nname = "a"\npath = "nope.jsonl"\n'
        '[train]\nrank = "16"\nlearning_rate = -1\n[search]\nstrategy = "magic"\n[wrong]\n'
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(folder, text))
    message = caught.value.message
    for expected in (
        "line 2: unknown field 'modell'",
        "line 12: two datasets are called a",
        "line 13: path: there is no file",
        "line 15: rank must be a whole number, found '16'",
        "line 16: learning_rate must be at least 0.0, found -1.0",
        "line 18: unknown strategy 'magic'; known are auto",
        "line 19: unknown section [wrong]",
    ):
        assert expected in message
    assert len(message.splitlines()) == 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[base", "not valid TOML"),
        ("", "no [[datasets]]"),
        (MINIMAL.replace("[[targets]]", "[targets]"), "double brackets"),
        (MINIMAL + "[train]\nlearning_rate = nan\n", "learning_rate must be"),
        (MINIMAL + "[train]\ntarget_modules = []\n", "must be a list"),
        (MINIMAL + "[train]\nrank = true\n", "must be a whole number"),
        (
            MINIMAL + '[confirm]\nbudget = "long"\n',
            "budget must be 'until' or 'fixed' or 'proportional' or a whole number, found 'long'",
        ),
        (
            MINIMAL + '[limits]\nmemory = "2 GiB"\n',
            "line 12: memory must be 'auto' or a number, found '2 GiB'",
        ),
        (
            MINIMAL.replace("[base]\n", "[base]\ntemplate_variables = { think = 0.5 }\n"),
            "line 2: template_variables must be names with texts, whole numbers, true or false",
        ),
    ],
)
def test_one_mistake(folder: Path, text: str, expected: str) -> None:
    with pytest.raises((RecipeError, InputError)) as caught:
        load_recipe(written(folder, text))
    assert expected in caught.value.message


def test_slerp_of_more_than_two_is_told_before_any_work(folder: Path) -> None:
    more = "".join(f'[[datasets]]\nname = "{name}"\npath = "a.jsonl"\n' for name in "bc")
    slerp = MINIMAL + more + '[merge]\nmethod = "slerp"\n'
    with pytest.raises(RecipeError, match="line 18: slerp merges two"):
        load_recipe(written(folder, slerp))
    assert load_recipe(written(folder, slerp + "[search]\nmax_datasets = 2\n")).datasets


@pytest.mark.parametrize(
    ("text", "growth"),
    [
        ("", 0.0),
        ('[confirm]\nbudget = "proportional"', 0.5),
        ("[confirm]\nbudget = 900", 0.0),
        ('[confirm]\nbudget = "proportional"\n[merge]\ngrowth = 0', 0.0),
        ("[merge]\ngrowth = 0.25", 0.25),
        (
            '[confirm]\nbudget = "proportional"\n[merge]\nmethod = "slerp"\n'
            "[search]\nmax_datasets = 2",
            0.0,
        ),
    ],
)
def test_merges_grow_as_the_regime_asks_for(folder: Path, text: str, growth: float) -> None:
    assert load_recipe(written(folder, f"{MINIMAL}\n{text}\n")).growth == growth


def test_a_recipe_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"a\n\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        load_recipe(tmp_path / "bytes.toml")


def other_value(default: object, rules: dict[str, object]) -> object:
    """A valid value that is not the default."""
    if default == () and "empty" in rules:
        return ("a",)
    if isinstance(default, tuple):
        return default[:1] or ("other",)
    if isinstance(default, str):
        choices = [choice for choice in rules.get("choices", ()) if choice != default]  # type: ignore[attr-defined]
        if choices or "low" in rules:
            return choices[0] if choices else rules.get("high", 2)
        return "other"
    if isinstance(default, bool):
        return not default
    if isinstance(default, float):
        return default / 2 + 0.25
    return default + 1 if isinstance(default, int) else "dev.jsonl"


CASES = [
    (name, spec)
    for name, kind in {**recipes.SECTIONS, **recipes.LISTS}.items()
    for spec in dataclasses.fields(kind)
    if spec.default is not dataclasses.MISSING and spec.metadata.get("choices") != ("linear",)
    and not {"table", "hidden"} & spec.metadata.keys() and spec.name != "like"
]  # fmt: skip


@pytest.mark.parametrize(
    ("section", "spec"), CASES, ids=[f"{name}.{spec.name}" for name, spec in CASES]
)
def test_every_field_arrives(folder: Path, section: str, spec: dataclasses.Field[object]) -> None:
    value = other_value(spec.default, dict(spec.metadata))
    line = f"{spec.name} = {toml_value(value)}\n"
    header = f"[{section}]\n" if f"[{section}]" not in MINIMAL else None
    text = (
        MINIMAL + header + line
        if header
        else MINIMAL.replace(f"[{section}]\n", f"[{section}]\n{line}")
    )
    if section in recipes.LISTS:
        text = MINIMAL.replace(f"[[{section}]]\n", f"[[{section}]]\n{line}")
    recipe = load_recipe(written(folder, text))
    built = getattr(recipe, section)
    found = getattr(built[0] if isinstance(built, tuple) else built, spec.name)
    assert found == (folder / "dev.jsonl" if isinstance(found, Path) else value)
    assert found != spec.default


@pytest.mark.parametrize(
    ("section", "line", "meant"),
    [
        ("search", 'strategy = "race"', "did you mean racing?"),
        ("search", 'strategy = "exhaust"', "did you mean exhaustive?"),
        ("merge", 'method = "dare-ties"', "did you mean dare_ties?"),
        ("quantize", 'type = "q8"', "did you mean q8_0?"),
        ("confirm", 'budget = "proportion"', "did you mean proportional?"),
        ("confirm", 'baselines = ["single"]', "did you mean best_single?"),
        ("train", "warm = 0.1", "did you mean warmup?"),
        ("limits", 'threads = "automatic"', "did you mean auto?"),
        ("search", 'strategy = "magic"', "known are auto"),
    ],
)
def test_a_misspelt_word_is_guessed_in_every_field(
    folder: Path, section: str, line: str, meant: str
) -> None:
    text = f"{MINIMAL}\n[{section}]\n{line}\n"
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(folder, text))
    assert meant in str(caught.value)


MAPPED = """
[base]
model = "pico"
[[datasets]]
name = "one"
path = ["a.en", "a.sw"]
prompt = "{en}"
answer = "{sw}"
labels = ["bad", "good"]
where = { lang = "swh", n = [1, 2.0], ok = true }
[[targets]]
name = "aim"
dev = "dev.jsonl"
completion = "{answer}"
like = "one"
choices = "{options}"
"""


@pytest.fixture
def mapped(folder: Path) -> Path:
    for name in ("a.en", "a.sw"):
        (folder / name).write_text("x\n", encoding="utf-8")
    return folder


def test_mappings_are_read_for_datasets_and_targets(mapped: Path) -> None:
    recipe = load_recipe(written(mapped, MAPPED))
    (dataset,), (target,) = recipe.datasets, recipe.targets
    assert [file.name for file in dataset.files] == ["a.en", "a.sw"]
    assert (dataset.prompt, dataset.completion) == ("{en}", "{sw}")
    assert dataset.labels == (("0", "bad"), ("1", "good"))
    assert dataset.where == (("lang", ("swh",)), ("n", ("1", "2")), ("ok", ("true",)))
    # The target takes over what it does not set itself; it picks its own rows.
    assert (target.prompt, target.answer, target.choices) == ("{en}", "{answer}", ("{options}",))
    assert (target.labels, target.where) == (dataset.labels, ())


def test_older_recipes_keep_their_fingerprints(folder: Path) -> None:
    recipe = load_recipe(written(folder, MINIMAL))
    assert set(recipes.as_json(recipe.datasets[0])) == {
        "name", "path", "licence", "source", "notes", "languages",
    }  # fmt: skip
    assert not {"system", "text", "messages", "labels", "where", "like"} & set(
        recipes.as_json(recipe.targets[0])
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('["bad", "good"]', "3", "labels must be like"),
        ('["bad", "good"]', '{ 0 = "?0", 1 = "good" }', "write the words that 0 mean"),
        ('["bad", "good"]', "{ 0 = 1 }", "must be text"),
        ('lang = "swh"', "lang = []", "where: lang"),
        ('["a.en", "a.sw"]', '["a.en"]', "a list of two aligned files"),
        ('["a.en", "a.sw"]', '["a.en", "b.sw"]', "there is no file"),
        ('answer = "{sw}"', 'answer = "{sw}"\ncompletion = "{sw}"', "give only one"),
        ('like = "one"', 'like = "two"', "no dataset or target 'two'"),
        ('like = "one"', 'like = "aim"', "itself is like"),
        ('like = "one"', "path_aligned = []", "unknown field 'path_aligned'"),
    ],
)
def test_mistakes_in_mappings_are_refused(mapped: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(mapped, MAPPED.replace(old, new, 1)))
    assert words in caught.value.message


def test_fixed_variables_of_the_chat_template_arrive(folder: Path) -> None:
    variables = {"enable_thinking": False, "tone": 'a "b"', "depth": 3}
    line = f"[base]\ntemplate_variables = {toml_value(variables)}\n"
    recipe = load_recipe(written(folder, MINIMAL.replace("[base]\n", line)))
    assert recipe.base.template_variables == variables
