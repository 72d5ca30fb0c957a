"""A question of `m2m init` ends with lines to type, and each of them writes a recipe that works."""

from __future__ import annotations

import json
import re
import shlex
import sys
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.commands.init_rows import dataset_entry
from m2m.commands.pairs import grouped
from m2m.dataset import load_dataset, row_source
from m2m.errors import InputError
from m2m.pipeline.inputs import read_inputs
from m2m.recipe import Recipe, load_recipe
from tests.tiny import pico_model, write_jsonl

DATA = Path(__file__).parent / "data"
LABELS = [{"text": f"leo {i}", "label": i % 2} for i in range(4)]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="lines are split as Bash does it")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a target."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2M_MODELS", str(tmp_path / "models"))
    pico_model(tmp_path / "models")
    write_jsonl(tmp_path / "dev.jsonl", [{"prompt": f"Ni {a}?", "answer": a} for a in "abcd"])
    return tmp_path


def init(*files: str, options: tuple[str, ...] = ()) -> tuple[int, str, list[str]]:
    """Return the exit status, all that is printed, and the lines of `m2m init` in it."""
    line = ["init", "--model", "pico", "--template", "plain", "--data", *files]
    found = CliRunner().invoke(cli, [*line, "--target", "dev.jsonl", *options])
    lines = [line.strip() for line in found.output.splitlines()]
    return found.exit_code, found.output, [line for line in lines if line.startswith("m2m init")]


def typed(line: str) -> Recipe:
    found = CliRunner().invoke(cli, shlex.split(line)[1:], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    recipe = load_recipe(Path("recipe.toml"))
    Path("recipe.toml").unlink()
    return recipe


FILES: dict[str, tuple[str, bytes, tuple[str, str], int]] = {
    "a word list without names": (
        "a.csv", b"kitabu,book\nmti,tree\nmaji,water\n", ("kitabu", "book"), 2),
    "Tatoeba without names": (
        "a.tsv", b"101\tNinasoma kitabu leo.\t7\tI read.\n105\tMimi ni mtu.\t9\tI am.\n",
        ("Ninasoma kitabu leo.", "I read."), 0),
    "LJSpeech": ("a.csv", b"LJ1|Mama alisema.|mama alisema\nLJ2|Baba yupo.|baba yupo\n",
                 ("", "Mama alisema."), 0),
    "a .txt of Anki": (
        "a.txt", b"#separator:tab\n#html:true\nI read a book.\tNinasoma kitabu.\tsomo\n"
        b"I am here now.\tNiko hapa.\tsomo\n", ("I read a book.", "Ninasoma kitabu."), 0),
    "ManyThings": (
        "a.txt", b"Go on!\tEndelea!\tCC-BY 2.0 (France) Attribution: tatoeba.org #1 (CM)\n"
        b"I read it.\tNinaisoma.\tCC-BY 2.0 (France) Attribution: tatoeba.org #2 (CM)\n",
        ("Endelea!", "Go on!"), 0),
    "a Google form with addresses": (
        "a.csv", b"Timestamp,Email Address,Tafsiri: good morning everyone\n"
        b"2024/03/01 10:01,a@x.org,Habari za asubuhi\n2024/03/02 10:02,b@x.org,Hamjambo nyote\n",
        ("Tafsiri: good morning everyone", "Habari za asubuhi"), 0),
    "languages and remarks": (
        "a.csv", b"No.,English,Luganda,Done?\n1,The book is here.,Ekitabo kiri wano.,yes\n"
        b"2,I am going.,Ngenda.,no\n", ("The book is here.", "Ekitabo kiri wano."), 0),
    "one column without a name": (
        "a.csv", b"Leo ni siku njema sana.\nKesho itanyesha mvua kubwa.\n",
        ("", "Leo ni siku njema sana."), 0),
    "cp1252": ("a.csv", "prompt,completion\nété,saison\n".encode("cp1252"), ("été", "saison"), 0),
    "cp1252 without names": (
        "a.tsv", "L\u2019été à Thiès est beau.\tété\nIl fait chaud ici.\tmal\n".encode("cp1252"),
        ("L\u2019été à Thiès est beau.", "été"), 0),
    "a bad row": ("a.csv", b"prompt,completion\na,b\nc,d,e\n", ("a", "b"), 0),
    "quotation marks of the texts": (
        "a.tsv", b'prompt\tcompletion\nmaji\t"water\nmoto\tfire\njua\tsun"\n', ("maji", '"water'),
        0),
    "a list of lists": ("a.json", json.dumps([["kitabu", "book"], ["nchi", "land"]]).encode(),
                        ("kitabu", "book"), 1),
    "two labels": ("a.jsonl", b'{"text": "a b", "topic": "x", "tone": "y"}\n', ("a b", "x"), 0),
    "a title": ("a.jsonl", b'{"text": "a b", "title": "x"}\n', ("a b", "x"), 0),
    "a list as instruction": (
        "a.json", json.dumps([{"instruction": ["Sema", "habari"], "output": "Habari!"}]).encode(),
        ("Sema\nhabari", "Habari!"), 0),
    "several labels": ("a.jsonl", b'{"text": "a b", "labels": ["x", "y"]}\n', ("a b", "x, y"), 0),
    "columns with spaces": (
        "a.csv", b"my words,its tone $\na b,x\nc d,y\n", ("a b", "x"), 0),
    "names with a quotation mark": (
        "a.jsonl", b'{"the \\"word\\"": "a b", "it\'s": "x"}\n', ("a b", "x"), 0),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_each_line_that_is_offered_works(folder: Path, kind: str) -> None:
    name, content, expected, place = FILES[kind]
    (folder / name).write_bytes(content)
    status, output, lines = init(name)
    assert status == 1
    assert 1 <= len(lines) <= 3, output
    assert not Path("recipe.toml").exists()
    for number, line in enumerate(lines):
        rows = read_rows(typed(line))
        assert rows
        if number == place:
            assert rows[0] == expected


def read_rows(recipe: Recipe) -> list[tuple[str, str]]:
    from m2m.dataset import load_dataset
    from m2m.dataset.mapping import RowMapping
    from m2m.dataset.row_source import open_source, options_of

    assert read_inputs(recipe).corpora  # all that a run does with it before it trains
    (dataset,) = recipe.datasets
    source = open_source(dataset.files, options=options_of(dataset))
    return [row.sides for row in load_dataset(source, RowMapping.of(dataset))]


def test_a_number_in_the_first_row_is_not_the_number_of_a_column(folder: Path) -> None:
    sums = [(f"{n} + 1 ni ngapi?", n + 1) for n in (0, 5, 2, 9)]  # the first row holds a 1
    text = "\n".join(f"{question}\t{answer}" for question, answer in sums)
    (folder / "a.tsv").write_text(text, encoding="utf-8")
    status, output, lines = init("a.tsv")
    assert (status, "{1}" in output) == (1, True), output
    for line in lines:
        (dataset,) = (recipe := typed(line)).datasets
        assert dataset.header == "no"
        assert all(sums[0][0] in row for row in read_rows(recipe)[:1])


def test_the_ways_that_are_offered_differ(folder: Path) -> None:
    (folder / "a.tsv").write_text("English\tYoruba\nbook\tiwe\nwater\tomi\n", encoding="utf-8")
    (folder / "b.csv").write_text("sentence,path\nLeo ni siku njema,a.mp3\n", encoding="utf-8")
    for name, expected in (("a.tsv", 'prompt = "{Yoruba}"'), ("b.csv", 'text = "{sentence}"')):
        with pytest.raises(InputError) as caught:
            load_dataset(folder / name)
        hint = str(caught.value.hint)
        ways = ["".join(way.split()) for way in hint.split("its [[datasets]]")[1].split("  or\n")]
        ways[0] = ways[0].removeprefix("intherecipe:")
        assert len({*ways}) == len(ways), hint
        assert expected in hint


def test_choices_of_a_question_are_not_words_with_tags(folder: Path) -> None:
    choices = {"text": ["mti mkubwa", "maji ya mto", "jua la asubuhi"], "label": ["A", "B", "C"]}
    scored = {"choices": choices["text"], "labels": [1, 0, 0]}
    arc = {"question": "Ni nini?", "choices": choices, "answerKey": "A"}
    write_jsonl(folder / "arc.jsonl", [arc, {**arc, "question": "Ipi?", "answerKey": "B"}])
    write_jsonl(folder / "mc.jsonl", [{"question": f"Ni {n}?", "mc1": scored} for n in "abc"])
    for name in ("arc.jsonl", "mc.jsonl"):
        with pytest.raises(InputError) as caught:
            load_dataset(folder / name)
        hint = str(caught.value.hint)
        assert "[[datasets]]" in hint
        assert "tag" not in hint
        assert ":words" not in hint


def test_preview_reads_folders(folder: Path) -> None:
    (folder / "hub").mkdir()
    write_jsonl(folder / "hub" / "train.jsonl", [{"prompt": "Ni nini?", "completion": "mti"}])
    found = CliRunner().invoke(cli, ["data", "preview", "hub"])
    assert (found.exit_code, ">>>mti<<<" in found.output) == (0, True), found.output


def test_a_lone_file_of_two_gets_the_line_with_both(folder: Path) -> None:
    flores, ntrex = ("eng_Latn.dev", "swh_Latn.dev"), ("n-ref.swa.txt", "n-src.eng.txt")
    for name in ("p.en", "p.sw", "q_en.txt", "q_sw.txt", *flores, *ntrex):
        (folder / name).write_text(f"one {name}\ntwo\n", encoding="utf-8")
    for one, other in (("p.en", "p.sw"), ("p.sw", "p.en"), ("q_en.txt", "q_sw.txt"), flores, ntrex):
        _, _, (line,) = init(one)
        recipe = typed(line)
        first, second = sorted([one, other])
        assert read_rows(recipe)[0] == (f"one {first}", f"one {second}")
    status, output, _ = init("p.en", "p.sw")
    assert status == 0
    assert "translates en into sw" in output


def test_texts_in_three_languages_are_asked_about(folder: Path) -> None:
    names = ["n-ref.swa.txt", "n-ref.hau.txt", "n-src.eng.txt", "dev.en", "dev.sw"]
    for name in names:
        (folder / name).write_text(f"one {name}\ntwo\n", encoding="utf-8")
    groups = [sorted(path.name for path in group) for group in grouped([*map(Path, names)])]
    assert groups == [[name] for name in names[:3]] + [["dev.en", "dev.sw"]]


@pytest.mark.parametrize("inner", ["", "dev"])
def test_a_folder_of_aligned_files_names_two_of_them(folder: Path, inner: str) -> None:
    for part, code in product(("dev", "devtest"), ("eng_Latn", "swh_Latn", "amh_Ethi")):
        (folder / "flores" / part).mkdir(parents=True, exist_ok=True)
        (folder / "flores" / part / f"{code}.{part}").write_text(f"{code}\ntwo\n", "utf-8")
    with pytest.raises(InputError) as caught:
        dataset_entry((folder / "flores" / inner,))
    found = re.search(r'path = \["(.*)", "(.*)"\] with prompt = "{eng}"', str(caught.value.hint))
    assert found
    entry = dataset_entry((Path(found[1]), Path(found[2])))
    assert entry.rows[0].sides == ("eng_Latn", "swh_Latn")


def test_few_files_of_a_folder_are_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sounds").mkdir()
    for number in range(60):
        (folder / "sounds" / f"clip{'.en' * (number % 2)}.{number}.wav").write_bytes(b"RIFF")
    compared: list[str] = []
    monkeypatch.setattr(row_source, "sibling_in_step", lambda path: compared.append(path.name))
    with pytest.raises(InputError, match="no files of rows"):
        dataset_entry((folder / "sounds",))
    assert 0 < len(compared) <= 20 and all(".en." in name for name in compared)


def test_aligned_targets_and_their_test_files_are_grouped(folder: Path) -> None:
    for name in ("dev.en", "dev.sw", "test.en", "test.sw", "eng_Latn.dev", "swh_Latn.dev",
                 "eng_Latn.devtest", "swh_Latn.devtest"):  # fmt: skip
        texts = [f"{name} {n}" for n in range(4)]
        (folder / name).write_text("\n".join(texts), encoding="utf-8")
    write_jsonl(folder / "c.jsonl", [{"prompt": "q", "completion": "a"}])
    line = ["init", "--model", "pico", "--template", "plain", "--data", "c.jsonl"]
    found = CliRunner().invoke(cli, [*line, "--target", "dev.en", "--target", "dev.sw"])
    assert found.exit_code == 0, found.output
    recipe = load_recipe(Path("recipe.toml"))
    (target,) = recipe.targets
    assert [path.name for path in target.files("dev")] == ["dev.en", "dev.sw"]
    assert [path.name for path in target.files("test")] == ["test.en", "test.sw"]
    more = ["--target", "eng_Latn.dev", "--target", "swh_Latn.dev", "--out", "flores.toml"]
    assert CliRunner().invoke(cli, [*line, *more]).exit_code == 0
    (flores,) = load_recipe(Path("flores.toml")).targets
    assert [path.name for path in flores.files("test")] == ["eng_Latn.devtest", "swh_Latn.devtest"]
    inputs = read_inputs(recipe)
    (task,) = inputs.dev.values()
    assert [(e.prompt, e.answer) for e in task.examples][1] == ("dev.en 1", "dev.sw 1")
    Path("recipe.toml").unlink()
    found = CliRunner().invoke(cli, [*line, "--target", "dev.en", "--target", "dev.sw",
                                     "--test", "test.en", "--test", "test.sw"])  # fmt: skip
    assert found.exit_code == 0, found.output
    assert 'test = ["test.en", "test.sw"]' in Path("recipe.toml").read_text(encoding="utf-8")


def test_options_hold_for_the_files_that_they_fit(folder: Path) -> None:
    (folder / "a.csv").write_text("mti,tree\nmaji,water\n", encoding="utf-8")
    (folder / "b.csv").write_text("text,label\nleo,good\nkesho,bad\n", encoding="utf-8")
    write_jsonl(folder / "c.jsonl", [{"prompt": "q", "completion": "a"}])
    options = ("--header", "no", "--prompt", r"Neno:\n{1}", "--completion", "{2}")
    status, output, _ = init("a.csv", "b.csv", "c.jsonl", options=options)
    assert status == 0, output
    one, two, three = load_recipe(Path("recipe.toml")).datasets
    assert (one.header, one.prompt, one.completion) == ("no", "Neno:\n{1}", "{2}")
    assert (two.header, two.prompt, two.completion) == ("auto", "{text}", "{label}")
    assert (three.header, three.prompt, three.completion) == ("auto", "", "")


def test_an_option_that_no_file_can_use_is_refused_or_named(folder: Path) -> None:
    write_jsonl(folder / "c.jsonl", [{"prompt": "q", "completion": "a", "lang": "sw"}])
    for options in (
        ("--prompt", "{zzz}", "--completion", "{completion}"),
        ("--labels", "0=hasi"),
        ("--where", "language=sw"),
        ("--answers", "index0"),
    ):
        status, output, _ = init("c.jsonl", options=options)
        assert (status, f"no file can use {options[0]}" in output) == (1, True)
    status, output, _ = init("c.jsonl", options=("--encoding", "cp1252", "--where", "lang=sw"))
    assert status == 0
    assert "`encoding` was not needed" in output
    (dataset,) = load_recipe(Path("recipe.toml")).datasets
    assert (dataset.encoding, dataset.where) == ("", (("lang", ("sw",)),))


def test_words_for_labels_are_asked_in_the_recipe_or_given_at_once(folder: Path) -> None:
    write_jsonl(folder / "a.jsonl", LABELS)
    status, output, _ = init("a.jsonl")
    assert status == 0
    text = Path("recipe.toml").read_text(encoding="utf-8")
    number = text.split("\n").index('labels = { 0 = "?0", 1 = "?1" }') + 1
    assert f"line {number}: labels" in output
    for command in ("plan", "run", "data check", "data preview"):
        found = CliRunner().invoke(cli, [*command.split(), "recipe.toml"])
        assert found.exit_code == 1
        assert f"line {number}: labels: write the words that 0, 1 mean" in found.output
        assert '{ 0 = "...", 1 = "..." }' in found.output
    Path("recipe.toml").unlink()
    status, output, _ = init("a.jsonl", options=("--labels", "0=hasi", "--labels", "1=chanya"))
    assert (status, "?0" in output) == (0, False)
    assert read_rows(load_recipe(Path("recipe.toml")))[1] == ("leo 1", "chanya")


def test_a_recipe_with_any_names_of_columns_loads(folder: Path) -> None:
    names = ['a "b"\n', "c\\d\t\x7f", "e = 'f'", "\u2028g", "h\u202e"]
    for name in names:
        write_jsonl(folder / "a.jsonl", [{name: "a b c", "label": c} for c in "xy"])
        options = ("--prompt", f"Say:\n{{{name}}}", "--completion", "{label}")
        status, output, _ = init("a.jsonl", options=options)
        assert status == 0, output
        (dataset,) = load_recipe(Path("recipe.toml")).datasets
        assert dataset.prompt == f"Say:\n{{{name}}}"
        Path("recipe.toml").unlink()
    write_jsonl(
        folder / "a.jsonl", [{"{text}": "a b", "label": "x"}, {"{text}": "c", "label": "y"}]
    )
    assert init("a.jsonl")[0] == 1


def test_columns_that_the_model_does_not_see_are_named(folder: Path) -> None:
    rows = [
        {"text": f"habari {i}", "summary": f"fupi {i}", "title": f"kichwa {i}", "url": "u",
         "id": i, "section": "nje"} for i in range(3)
    ]  # fmt: skip
    write_jsonl(folder / "a.jsonl", rows)
    status, output, _ = init("a.jsonl")
    assert status == 0
    said = " ".join(output.split())
    assert re.search(
        r"the model does not see the columns title \(such as .*\), section \(such as", said
    )
    Path("recipe.toml").unlink()
    write_jsonl(folder / "a.jsonl", [{"prompt": "q", "completion": "a", "explanation": "for b"}])
    assert "does not see the column explanation" in init("a.jsonl")[1]
    found = CliRunner().invoke(cli, ["data", "preview", "a.jsonl"])
    assert "does not see the column explanation" in found.output


@pytest.mark.parametrize("names", ["sun\tjua", "pos\tneg", "lbl\tmsg", "cat\tpaka", "ox\tng'o"])
def test_short_words_of_a_first_row_are_no_languages(names: str) -> None:
    """`--header no` is offered; before, each was "a translation" of the one into the other."""
    texts = [f"{names}\n", *(f"This is the sentence {n}\tHii ni sentensi {n}\n" for n in range(6))]
    Path("words.tsv").write_text("".join(texts), encoding="utf-8")
    status, output, lines = init("words.tsv")
    assert status
    assert "does not know the columns" in output
    assert [line for line in lines if "--header no" in line]


@pytest.mark.parametrize("names", ["to\tna", "my\twa", "or\tse"])
def test_words_that_are_codes_too_are_a_question_in_a_list_of_words(names: str) -> None:
    Path("words.tsv").write_text(f"{names}\ntree\tmti\nwater\tmaji\nsun\tjua\n", encoding="utf-8")
    status, _, lines = init("words.tsv")
    assert (status, ["--header no" in line for line in lines]) == (1, [False, False, True])


@pytest.mark.parametrize("names", ["en\tsw", "eng_Latn\tswh_Latn", "ilo\ten", "fra\tlin"][::1])
def test_codes_of_languages_are_known(names: str) -> None:
    one, two = names.split("\t")
    Path("words.tsv").write_text(f"{names}\nmti\ttree\nmaji\twater\n", encoding="utf-8")
    status, output, _ = init("words.tsv")
    assert (f"translates {one} into {two}" in output) == (status == 0) == (one != "ilo")
