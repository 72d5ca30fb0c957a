"""`m2m init` without a target: questions that are split off, a control, and a base that fits."""

from __future__ import annotations

import json
import os
import shlex
import sys
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from m2m.checkpoint import import_model
from m2m.cli import init_ask
from m2m.cli.main import cli
from m2m.commands.base_choice import candidates
from m2m.commands.init import start_recipe
from m2m.commands.init_files import Wanted
from m2m.errors import InputError
from m2m.llamacpp.model import LlamaModel
from m2m.pipeline.inputs import model_folders, read_inputs
from m2m.pipeline.leaks import find_leaks
from m2m.recipe import load_recipe
from tests.formats.test_containers import xlsx
from tests.tiny import pico_config, pico_model, write_jsonl, write_pico_gguf

WORDS = [f"{a}{b}{c}a" for a in "bdkmnst" for b in "aeiou" for c in "lrwyz"]
QUESTIONS = [
    {"gefen_hagu": f"Menene {word} da Turanci?", "gefen_dama": word[::-1]} for word in WORDS
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pico_model(tmp_path / "models")
    return tmp_path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def init(*words: str, typed: str | None = None) -> tuple[int, str]:
    found = CliRunner().invoke(cli, ["init", *words], input=typed, catch_exceptions=False)
    return found.exit_code, found.output


def hausa(folder: Path, extra: list[dict[str, str]] | None = None) -> Path:
    """An Excel file with columns of no known name; line 1 has the names."""
    rows = [*QUESTIONS, *(extra or [])]
    cells = [
        *((f"{c}1", name) for c, name in zip("AB", ("gefen_hagu", "gefen_dama"), strict=True)),
        *((f"{c}{i}", row[name]) for i, row in enumerate(rows, 2)
          for c, name in zip("AB", ("gefen_hagu", "gefen_dama"), strict=True)),
    ]  # fmt: skip
    return xlsx(folder / "Kalmomi na Hausa.xlsx", {"Sheet1": cells})


def test_a_student_with_an_excel_file_and_no_target_gets_a_recipe_that_runs(folder: Path) -> None:
    path = hausa(
        folder, [QUESTIONS[3] | {"gefen_dama": "wani"}, QUESTIONS[5] | {"gefen_dama": "dabam"}]
    )
    before = path.read_bytes()
    status, output = init(str(path))
    assert status == 1
    line = next(one.strip() for one in output.splitlines() if one.startswith("  m2m init"))
    status, output = init(*shlex.split(line)[2:], "--control", "--rows", "2")
    assert status == 0, output
    assert output.splitlines()[-1] == "  m2m run recipe.toml"
    assert output.count("\nline ") == 6  # two rows of dataset, control and target
    text = Path("recipe.toml").read_text(encoding="utf-8")
    assert len([one for one in text.splitlines() if one and one[0] != "#"]) <= 19
    inputs = read_inputs(load_recipe(Path("recipe.toml")))
    assert find_leaks(inputs) == []
    assert inputs.controls == {"shuffled"}
    assert path.read_bytes() == before
    dev, test, train, control = (
        rows_of(Path("recipe-data") / f"{name}.jsonl")
        for name in (*(f"Kalmomi_na_Hausa-{part}" for part in ("dev", "test", "train")), "shuffled")
    )
    assert (len(dev), len(test)) == (17, 35)  # a tenth and a fifth of 175 questions
    asked = {row["prompt"] for row in dev + test}
    kept = {row["gefen_hagu"] for row in train}
    assert not asked & kept
    assert asked | kept == {row["gefen_hagu"] for row in QUESTIONS}
    twice = [row for row in dev + test if isinstance(row["answer"], list)]
    trained = Counter(row["gefen_hagu"] for row in train)
    assert len(twice) + sum(count > 1 for count in trained.values()) == 2
    assert [row["prompt"] for row in control] == [row["gefen_hagu"] for row in train]
    assert Counter(r["completion"] for r in control) == Counter(r["gefen_dama"] for r in train)
    assert all(c["completion"] != t["gefen_dama"] for c, t in zip(control, train, strict=True))


@pytest.mark.slow
def test_the_seed_decides_the_questions_and_another_recipe_has_its_own_files(folder: Path) -> None:
    data = write_jsonl(folder / "a.jsonl", QUESTIONS)
    options = [
        "--prompt",
        "{gefen_hagu}",
        "--completion",
        "{gefen_dama}",
        "--rows",
        "0",
        "--control",
    ]
    for name, seed in (("one", "0"), ("two", "0"), ("three", "1")):
        assert init(str(data), *options, "--seed", seed, "--out", f"{name}.toml")[0] == 0
    parts = [
        {path.name: path.read_bytes() for path in sorted((folder / f"{name}-data").iterdir())}
        for name in ("one", "two", "three")
    ]
    assert len(parts[0]) == 4
    assert parts[0] == parts[1] != parts[2]
    Path("one.toml").unlink()
    status, output = init(str(data), *options, "--out", "one.toml")
    assert (status, "one-data/a-dev.jsonl exists" in output.replace(os.sep, "/")) == (1, True)
    assert {path.name: path.read_bytes() for path in Path("one-data").iterdir()} == parts[0]


@pytest.mark.slow
def test_nearly_equal_questions_stay_together_and_leave_all_other_datasets(folder: Path) -> None:
    long = [f"Yaya ake rubuta kalmar {word} a cikin jumla mai tsawo sosai" for word in WORDS]
    rows = [{"prompt": text + end, "completion": text[23:28]} for text in long for end in "?!"]
    data = write_jsonl(folder / "a.jsonl", rows)
    other = [{"prompt": text.upper(), "completion": "x"} for text in long[:100]]
    write_jsonl(folder / "b.jsonl", other)
    status, output = init("a.jsonl", "b.jsonl", "--rows", "0")
    assert status == 0, output
    recipe = load_recipe(Path("recipe.toml"))
    assert find_leaks(read_inputs(recipe)) == []
    held = {row["prompt"].rstrip("?!") for part in ("dev", "test")
            for row in rows_of(Path("recipe-data") / f"a-{part}.jsonl")}  # fmt: skip
    train = rows_of(Path("recipe-data") / "a-train.jsonl")
    assert not held & {row["prompt"].rstrip("?!") for row in train}
    left = {row["prompt"] for row in rows_of(Path("recipe-data") / "b-train.jsonl")}
    assert left == {row["prompt"] for row in other} - {text.upper() for text in held}
    assert "of b.jsonl with dev or test questions" in output
    assert rows_of(data) == rows


@pytest.mark.parametrize(
    "labels",
    [
        ("2", "1"),
        *(pytest.param(x, marks=pytest.mark.slow) for x in (("kyau", "muni"), ("5", "1"))),
    ],
)
def test_labels_become_choices_and_free_answers_stay_free(
    folder: Path, labels: tuple[str, ...]
) -> None:
    rows = [
        {"text": f"wannan {word}", "label": labels[i % 2], "lang": "ha"}
        for i, word in enumerate(WORDS)
    ]
    write_jsonl(folder / "a.jsonl", rows)
    mapping = ["--prompt", "{text}", "--completion", "{label}"]
    status, output = init("a.jsonl", *mapping, "--rows", "0")
    assert status == 0, output
    (task,) = read_inputs(load_recipe(Path("recipe.toml"))).dev.values()
    right = {f"wannan {word}": labels[i % 2] for i, word in enumerate(WORDS)}
    assert (task.kind, {*task.examples[0].choices}) == ("labels", {*labels})
    assert all(example.answer == right[example.prompt] for example in task.examples)
    assert {example.facet for example in task.examples} == {"ha"}
    assert "the right one of 2 labels" in output


def test_rows_with_choices_keep_them(folder: Path) -> None:
    rows = [
        {"question": f"Ina {word}?", "choices": [word, word[::-1], "babu"], "answer": i % 2}
        for i, word in enumerate(WORDS)
    ]
    write_jsonl(folder / "a.jsonl", rows)
    status, output = init("a.jsonl", "--rows", "0")
    assert status == 0, output
    for task in read_inputs(load_recipe(Path("recipe.toml"))).dev.values():
        known = {row["question"]: row for row in rows}
        assert [(list(e.choices), e.gold) for e in task.examples] == [
            (known[e.prompt]["choices"], known[e.prompt]["answer"]) for e in task.examples
        ]


@pytest.mark.slow
def test_one_question_with_two_labels_is_not_asked(folder: Path) -> None:
    rows = [{"prompt": f"q {w}", "completion": "ba"[i % 2]} for i, w in enumerate(WORDS)]
    rows += [{"prompt": f"q {w}", "completion": "ab"[i % 2]} for i, w in enumerate(WORDS[:90])]
    write_jsonl(folder / "a.jsonl", rows)
    assert init("a.jsonl", "--rows", "0")[0] == 0
    asked = rows_of(Path("recipe-data/a-dev.jsonl")) + rows_of(Path("recipe-data/a-test.jsonl"))
    assert len(asked) == 8 + 17
    assert {row["question"] for row in asked} <= {f"q {word}" for word in WORDS[90:]}


def test_conversations_and_texts_are_split_too(folder: Path) -> None:
    chats = [
        {"messages": [{"role": "system", "content": "Ka amsa a takaice."},
                      {"role": "user", "content": f"Ina {word}?"},
                      {"role": "assistant", "content": word[::-1]},
                      {"role": "user", "content": "Kuma?"},
                      {"role": "assistant", "content": "Babu."}]}
        for word in WORDS
    ]  # fmt: skip
    write_jsonl(folder / "a.jsonl", chats)
    texts = [f"{w} ta {'tafi kuma ta ' * (i % 5)}sayi {w}." for i, w in enumerate(WORDS)]
    (folder / "b.txt").write_text("\n".join(texts), encoding="utf-8")
    status, output = init("a.jsonl", "b.txt", "--rows", "0", "--control")
    assert status == 0, output
    inputs = read_inputs(load_recipe(Path("recipe.toml")))
    assert find_leaks(inputs) == []
    (task,) = inputs.dev.values()
    example = task.examples[0]
    assert example.system == "Ka amsa a takaice."
    assert example.prompt == f"Ina {example.answer[::-1]}?"
    assert rows_of(Path("recipe-data/shuffled.jsonl"))[0]["system"] == example.system
    status, output = init("a.jsonl", "b.txt", "--split", "b.txt", "--rows", "0", "--out", "t.toml")
    assert status == 0, output
    (task,) = read_inputs(load_recipe(Path("t.toml"))).dev.values()
    assert (task.kind, len(task.examples)) == ("text", 17)
    status, output = init("b.txt", "--control", "--out", "u.toml")
    assert (status, "these rows have no answers" in output) == (1, True)
    assert not Path("u.toml").exists()
    assert not Path("u-data").exists()


def test_ctrl_c_leaves_no_file_that_a_second_call_refuses(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"q {word}", "completion": word} for word in WORDS]
    data = write_jsonl(folder / "a.jsonl", rows)

    def interrupted(*args: Any, **more: Any) -> None:
        assert list((folder / "recipe-data").iterdir()), "the questions are written by now"
        raise KeyboardInterrupt

    monkeypatch.setattr("m2m.commands.init.write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start_recipe(Wanted(datasets=(data,), out=folder / "recipe.toml"))
    assert not (folder / "recipe-data").exists()


def test_too_few_questions_are_refused_and_nothing_is_left(folder: Path) -> None:
    write_jsonl(folder / "a.jsonl", [{"prompt": f"q {w}", "completion": w} for w in WORDS[:29]])
    status, output = init("a.jsonl")
    assert status == 1
    assert "29 different questions, too few" in output
    assert "--target FILE" in output
    assert not (folder / "recipe-data").exists()
    write_jsonl(folder / "b.jsonl", [{"prompt": f"q {w}", "completion": "x"} for w in WORDS])
    status, output = init("b.jsonl")
    assert (status, "all rows have the same answer" in output) == (1, True)
    assert not (folder / "recipe-data").exists()


def test_no_line_reads_a_file_by_the_columns_of_another(folder: Path) -> None:
    body = "\n".join(f"{word} orí;{word.upper()} head" for word in WORDS)
    (folder / "a.csv").write_bytes(f"kolum_a;kolum_b\n{body}".encode("cp1252"))
    hausa(folder)
    status, output = init("a.csv", "Kalmomi na Hausa.xlsx")
    assert status == 1
    lines = [one.strip() for one in output.splitlines() if one.startswith("  m2m init")]
    assert lines
    assert '--for "Kalmomi na Hausa.xlsx" --prompt "{gefen_hagu}"' in lines[0]
    assert init(*shlex.split(lines[0])[2:], "--rows", "0")[0] == 0
    one, two = load_recipe(Path("recipe.toml")).datasets
    assert {one.prompt, one.completion} == {"{kolum_a}", "{kolum_b}"}
    assert (two.header, two.prompt) == ("auto", "{gefen_hagu}")


@pytest.mark.slow
def test_files_with_other_columns_get_one_line_with_for(folder: Path) -> None:
    (folder / "three").mkdir()
    hausa(folder / "three")
    body = "\n".join(f"{word} nan;{'ab'[i % 2]}" for i, word in enumerate(WORDS))
    (folder / "three" / "jigo.csv").write_text(f"rubutu;jigo\n{body}\n", encoding="utf-8")
    chats = [{"prompt": f"Fassara {word}", "completion": word.upper()} for word in WORDS]
    write_jsonl(folder / "three" / "hira.jsonl", chats)
    status, output = init("three")
    assert status == 1
    lines = [one.strip() for one in output.splitlines() if one.startswith("  m2m init")]
    assert len(lines) == 3
    assert "--for three/jigo.csv" in lines[0].replace(os.sep, "/")
    for number, line in enumerate(lines):
        status, output = init(*shlex.split(line)[2:], "--rows", "0", "--out", f"{number}.toml")
        assert status == 0, output
    datasets = {each.name: each for each in load_recipe(Path("0.toml")).datasets}
    assert datasets["Kalmomi_na_Hausa"].prompt == "{gefen_hagu}"
    assert (datasets["jigo"].prompt, datasets["jigo"].completion) == ("{rubutu}", "{jigo}")
    assert datasets["hira"].prompt == ""
    assert load_recipe(Path("1.toml")).datasets[0].prompt == "{gefen_dama}"


def test_for_is_checked(folder: Path) -> None:
    write_jsonl(folder / "a.jsonl", QUESTIONS)
    for words, fault in (
        (["--for", "b.jsonl", "--prompt", "{x}"], "--for b.jsonl: is not one of the files"),
        (["--for"], "--for needs a file"),
        (["--for", "--prompt", "{x}"], "--for needs a file"),
        (["--for", "a.jsonl", "--nothing"], "No such option"),
    ):
        status, output = init("a.jsonl", *words)
        assert (status, fault in output) == (2, True), output
    status, output = init(
        "a.jsonl", "--for=a.jsonl", "--prompt", "{zz}", "--completion", "{gefen_dama}"
    )
    assert status == 1


@pytest.mark.slow
def test_a_folder_with_dev_and_test_has_its_target(folder: Path) -> None:
    (folder / "lab").mkdir()
    for name in ("school", "radio"):
        rows = [{"prompt": f"{name} {word}", "completion": word} for word in WORDS]
        write_jsonl(folder / "lab" / f"{name}.jsonl", rows)
    for name in ("dev", "test"):
        rows = [{"prompt": f"{name} z{word}", "answer": f"z{word}"} for word in WORDS]
        write_jsonl(folder / "lab" / f"{name}.jsonl", rows)
    assert init("lab", "--rows", "0")[0] == 0
    recipe = load_recipe(Path("recipe.toml"))
    assert [each.name for each in recipe.datasets] == ["radio", "school"]
    (target,) = recipe.targets
    assert [path.name for path in (target.dev, target.test) if path] == ["dev.jsonl", "test.jsonl"]
    assert not Path("recipe-data").exists()


def test_the_short_recipe_means_what_the_full_one_means(folder: Path) -> None:
    write_jsonl(folder / "a.jsonl", QUESTIONS)
    options = ("--prompt", "{gefen_hagu}", "--completion", "{gefen_dama}", "--rows", "0")
    assert init("a.jsonl", *options, "--out", "s.toml")[0] == 0
    data = {path.name: path.read_bytes() for path in Path("s-data").iterdir()}
    assert init("a.jsonl", *options, "--out", "f.toml", "--full")[0] == 0
    short, full = load_recipe(Path("s.toml")), load_recipe(Path("f.toml"))
    assert {path.name: path.read_bytes() for path in Path("f-data").iterdir()} == data
    same = replace(full, path=short.path, datasets=short.datasets, targets=short.targets)
    assert short == same
    assert len(Path("s.toml").read_text("utf-8").splitlines()) < 22
    assert "# steps: " in Path("f.toml").read_text("utf-8")


@pytest.mark.slow
def test_the_smallest_base_that_fits_is_proposed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [row["gefen_hagu"] for row in QUESTIONS]
    wide = write_pico_gguf(folder / "wide.gguf", pico_config(intermediate_size=256))
    import_model(wide, folder / "models" / "awide", name="awide")
    found = candidates(texts, model_folders())
    assert [one.name for one in found] == ["pico", "awide"]
    assert all(one.fits for one in found)
    with LlamaModel(folder / "models" / "pico" / "base.gguf", threads=1) as model:
        tokens = sum(len(model.tokenize(text)) for text in texts)
    words = sum(len(text.split()) for text in texts)
    assert found[0].tokens_per_word == pytest.approx(tokens / words)
    monkeypatch.setattr("m2m.commands.base_choice.free_memory_bytes", lambda: 1000)
    assert not any(one.fits for one in candidates(texts, model_folders()))
    write_jsonl(folder / "a.jsonl", QUESTIONS)
    status, output = init("a.jsonl", "--prompt", "{gefen_hagu}", "--completion", "{gefen_dama}")
    assert status == 0
    assert "the base is pico" in output
    assert "more than is free" in output


def test_without_any_base_the_next_step_is_named(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    write_jsonl(Path("a.jsonl"), QUESTIONS)
    status, output = init("a.jsonl", "--prompt", "{gefen_hagu}", "--completion", "{gefen_dama}")
    assert status == 1
    assert "no base model on this machine" in output
    assert "m2m models known" in output
    assert [path.name for path in Path().iterdir()] == ["a.jsonl"]


@pytest.mark.slow
def test_models_of_the_installation_are_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "else").mkdir()
    monkeypatch.chdir(folder / "else")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "prefix", str(folder / ".venv"))
    assert model_folders()[-1] == folder / "models"
    write_jsonl(Path("a.jsonl"), QUESTIONS)
    options = ("--prompt", "{gefen_hagu}", "--completion", "{gefen_dama}", "--rows", "0")
    assert init("a.jsonl", *options)[0] == 0
    assert 'model = "pico"' in Path("recipe.toml").read_text("utf-8")
    assert read_inputs(load_recipe(Path("recipe.toml"))).base.name == "pico"


def test_a_whole_conversation_on_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m2m.cli.init.is_terminal", lambda: True)
    hausa(folder)
    rows = [{"text": f"{word} nan", "label": i % 2} for i, word in enumerate(WORDS)]
    write_jsonl(folder / "jigo.jsonl", rows)
    # The files of this folder, how the Excel file is meant, two labels, no file of questions, the
    # second dataset by its name after a slip, no control:
    status, output = init(
        "--no-plan", typed="\n".join(["", "1", "muni", "kyau", "", "9", "jigo", "n"]) + "\n"
    )
    assert status == 0, output
    assert "type a number from 1 to 2, or how its line begins" in output
    assert "How is Kalmomi na Hausa.xlsx meant?" in output
    assert "What does 0 mean in jigo.jsonl" in output
    recipe = load_recipe(Path("recipe.toml"))
    assert recipe.datasets[1].labels == (("0", "muni"), ("1", "kyau"))
    (task,) = read_inputs(recipe).dev.values()
    assert {*task.examples[0].choices} == {"muni", "kyau"}
    files = {p.name: p.read_bytes() for p in Path("recipe-data").iterdir()}
    status, output = init(*again(output), typed="")  # a question would end it
    assert status == 0, output
    assert {p.name: p.read_bytes() for p in Path("recipe-2-data").iterdir()} == files
    text = Path("recipe-2.toml").read_text("utf-8").replace("recipe-2-data", "recipe-data")
    assert text == Path("recipe.toml").read_text("utf-8")


@pytest.mark.parametrize("control", ["y", "n"])
def test_files_named_dev_and_test_are_the_questions_by_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch, control: str
) -> None:
    monkeypatch.setattr("m2m.cli.init.is_terminal", lambda: True)
    asked_files(folder)
    status, output = init("--no-plan", typed=f"\n\n{control}\n")
    assert status == 0, output
    assert "dev.jsonl (by its name, questions)\n" in output
    assert "between them [school.jsonl]: " in output
    assert "File of questions [dev.jsonl]: " in output
    recipe = load_recipe(Path("recipe.toml"))
    (target,) = recipe.targets
    assert [path.name for path in target.files("dev") + target.files("test")] == [
        "dev.jsonl", "test.jsonl",
    ]  # fmt: skip
    assert [one.name for one in recipe.datasets] == ["school", *["shuffled"] * (control == "y")]
    status, output = init(*again(output), typed="")
    assert status == 0, output


def test_a_file_of_questions_is_no_dataset_and_a_bad_answer_is_asked_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_files(folder)
    everything = ("dev.jsonl", "school.jsonl", "test.jsonl")
    status, output = init(*everything, "--target", "dev.jsonl", "--rows", "0", "--out", "a.toml")
    assert status == 0, output
    assert "test.jsonl has the questions, so it is no dataset" in output
    assert [one.name for one in load_recipe(Path("a.toml")).datasets] == ["school"]
    monkeypatch.setattr("m2m.cli.init.is_terminal", lambda: True)
    (folder / "broken.jsonl").write_text("{broken\n", encoding="utf-8")
    # No rows; all files; of a file with too few rows; a broken file; held back, of the second one:
    typed = ["broken.jsonl", " ".join(everything), "-", "dev", "broken.jsonl", "-", "school", "n"]
    status, output = init("--no-plan", typed="\n".join(typed) + "\n")
    assert status == 0, output
    assert "dev.jsonl: 20 different questions, too few" in output
    assert output.count("Your data: ") == 2
    assert output.count("File of questions [dev.jsonl]: ") == 3
    status, output = init(*again(output), typed="")
    assert status == 0, output


def test_answers_are_kept_if_no_recipe_can_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m2m.cli.init.is_terminal", lambda: True)
    asked_files(folder)
    (folder / "copy.jsonl").write_bytes((folder / "dev.jsonl").read_bytes())
    status, output = init("--no-plan", typed="school.jsonl copy.jsonl\n\nn\n")
    assert (status, "copy.jsonl: all rows are also dev or test questions" in output) == (1, True)
    words = ("--data", "school.jsonl", "copy.jsonl", "--target", "dev.jsonl", "--no-control")
    assert again(output) == ["--model", "pico", *words]
    status, output = init("--no-plan", typed="school.jsonl copy.jsonl\n\n")  # and Ctrl-D
    assert (status, again(output)) == (130, ["--model", "pico", *words[:-1]])


def again(output: str) -> list[str]:
    line = next(one for one in output.splitlines() if one.startswith("The same again without"))
    return shlex.split(line.partition("m2m init ")[2])


def asked_files(folder: Path) -> None:
    for name, first, last in (("school", 40, 175), ("dev", 0, 20), ("test", 20, 40)):
        rows = [{"prompt": f"Ina {word}?", "answer": word[::-1]} for word in WORDS[first:last]]
        write_jsonl(folder / f"{name}.jsonl", rows)


def test_each_sheet_of_a_table_can_be_a_dataset(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m2m.cli.init.is_terminal", lambda: True)
    asked = [(c + "1", name) for c, name in zip("AB", ("prompt", "completion"), strict=True)]
    asked += [
        (f"{c}{i}", text)
        for i, row in enumerate(QUESTIONS, 2)
        for c, text in zip("AB", row.values(), strict=True)
    ]
    news = [("A1", "Rediyo - labarai"), ("A2", "kwanan wata"), ("B2", "labari")]
    for i in range(3, 20):
        news += [(f"A{i}", f"2023-01-{i:02}"), (f"B{i}", f"Gwamnati ta buɗe makaranta {i} a Kano")]
    sheets = {"Tambayoyi": asked, "Kasidu": news}
    xlsx(folder / "aiki.xlsx", sheets)
    # The file, its sheets, the text of the news (their dates are no answer), no questions:
    typed = "\n".join(["aiki.xlsx", "1", "1", "", "1"]) + "\n"
    status, output = init("--no-plan", "--no-control", typed=typed)
    assert status == 0, output
    assert "all, each as a dataset: Tambayoyi, Kasidu\n" in output, output
    datasets = load_recipe(Path("recipe.toml")).datasets
    assert [(each.name, each.text) for each in datasets] == [
        ("Tambayoyi", ""), ("Kasidu", "{labari}"),
    ]  # fmt: skip


def test_files_in_two_normal_forms_get_one(folder: Path) -> None:
    for form in ("NFC", "NFD"):
        rows = [
            {
                key: unicodedata.normalize(form, f"{form} {word}é")
                for key in ("prompt", "completion")
            }
            for word in WORDS
        ]
        write_jsonl(folder / f"{form}.jsonl", rows)
    status, output = init("NFC.jsonl", "NFD.jsonl", "--rows", "2")
    assert status == 0, output
    assert "NFD in NFD" in output
    assert load_recipe(Path("recipe.toml")).data.normalise == "NFC"
    Path("recipe.toml").unlink()
    (folder / "recipe-data").rename(folder / "before")
    assert init("NFC.jsonl", "--rows", "0")[0] == 0
    assert "[data]" not in Path("recipe.toml").read_text(encoding="utf-8")


def test_a_system_prompt_is_shown_once_for_each_file(folder: Path) -> None:
    system = "Jibu kwa ufupi.\nUsiandike zaidi.\nTumia Kiswahili."
    rows = [{"system": system, "prompt": f"Swali {w}?", "completion": w[::-1]} for w in WORDS]
    for name in ("a", "b"):
        write_jsonl(folder / f"{name}.jsonl", [{**r, "prompt": name + r["prompt"]} for r in rows])
    status, output = init("a.jsonl", "b.jsonl", "--rows", "3")
    assert status == 0, output
    assert output.count("Usiandike") == 3, "of two datasets and the target"
    assert output.count("\n  [...]\n") == 6
    assert all(word in output for word in ("aSwali", "bSwali"))


def test_questions_of_the_user_are_in_no_dataset(folder: Path) -> None:
    """In two wordings, so that other words frame most questions once one of them is gone."""
    rows = [
        {"prompt": ask.format(word), "completion": word[::-1]}
        for word in WORDS
        for ask in ("Menene ma'anar {} a Turanci?", "Fassara kalmar {} zuwa Turanci.")
    ]
    write_jsonl(folder / "a.jsonl", rows)
    write_jsonl(folder / "exam.jsonl", [
        {"prompt": r["prompt"], "answer": r["completion"]} for r in rows[:40:2]
    ])  # fmt: skip
    status, output = init("a.jsonl", "exam.jsonl", "--target", "exam.jsonl", "--rows", "0")
    assert status == 0, output
    assert "exam.jsonl has the questions, so it is no dataset" in output
    inputs = read_inputs(load_recipe(Path("recipe.toml")))
    assert [*inputs.corpora] == ["a"]
    assert find_leaks(inputs) == []
    kept = {row["prompt"] for row in rows_of(Path("recipe-data/a-train.jsonl"))}
    assert kept == {row["prompt"] for row in rows[40:]}, "both wordings of 20 words are left out"
    status, output = init("exam.jsonl", "--target", "exam.jsonl", "--out", "b.toml")
    assert (status, "no dataset is left" in output) == (1, True)


def test_a_file_that_cannot_be_read_can_be_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m2m.cli.init.is_terminal", lambda: True)
    write_jsonl(
        folder / "a.jsonl",
        [{"prompt": r["gefen_hagu"], "completion": r["gefen_dama"]} for r in QUESTIONS],
    )
    (folder / "b.jsonl").write_text("{broken\n", encoding="utf-8")
    status, output = init("a.jsonl", "b.jsonl", "--no-plan", "--no-control", typed="1\n\n")
    assert status == 0, output
    assert "leave b.jsonl out" in output
    assert [each.name for each in load_recipe(Path("recipe.toml")).datasets] == ["a"]


@pytest.mark.slow
def test_the_check_and_the_hours_come_before_the_line_to_type(folder: Path) -> None:
    rows = [{"prompt": f"Ina {w}?", "completion": f"b??b{w}"} for w in WORDS]
    write_jsonl(folder / "Àkójọ ọ̀rọ̀.jsonl", rows)
    status, output = init("Àkójọ ọ̀rọ̀.jsonl", "--plan", "--rows", "0")
    assert status == 0, output
    assert load_recipe(Path("recipe.toml")).datasets[0].name == "Akojo_oro"
    place = [
        output.index(words)
        for words in (
            'rows with "?" inside words',
            "to look at",
            "The run takes about",
            "m2m run recipe.toml",
        )
    ]
    assert place == sorted(place)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
def test_it_asks_on_a_real_terminal_only(folder: Path) -> None:
    import pty

    write_jsonl(
        folder / "a.jsonl",
        [{"prompt": r["gefen_hagu"], "completion": r["gefen_dama"]} for r in QUESTIONS],
    )
    child, terminal = pty.fork()
    if child == 0:
        os.execv(
            sys.executable,
            [sys.executable, "-m", "m2m", "init", "a.jsonl", "--no-plan", "--model", "pico"],
        )
    asked, seen = [b"File of questions [-]:", b"Add a control? [Y/n]:"], b""
    while True:
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # Linux ends a pseudo-terminal so
            break
        if asked and asked[0] in seen:
            os.write(terminal, b"\n")
            asked.pop(0)
    assert os.waitpid(child, 0)[1] == 0, seen.decode()
    assert not asked
    assert [each.name for each in load_recipe(Path("recipe.toml")).datasets] == ["a", "shuffled"]


def test_nothing_is_started_over_a_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("recipe.toml").write_text("mine", encoding="utf-8")
    monkeypatch.setattr("m2m.cli.init.is_terminal", lambda: True)
    status, output = init(typed="x\n")
    assert (status, "recipe.toml exists" in output) == (1, True)
    with pytest.raises(InputError, match="exists"):
        start_recipe(Wanted(Path("recipe.toml"), (Path("a.jsonl"),)))
    assert init_ask.is_terminal() is False
