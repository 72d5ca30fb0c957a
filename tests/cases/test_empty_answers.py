"""Rows without an answer are named by their lines, and can be left out; nothing else is asked."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.dataset.mapping import RowMapping
from m2m.dataset.row_source import as_source
from m2m.dataset.rows import load_dataset
from m2m.dataset.rows import read_rows as rows_of
from m2m.errors import InputError
from m2m.evaluate.tasks import load_task
from m2m.recipe import load_recipe
from tests.cases.test_init_questions import folder, init, read_rows, typed
from tests.tiny import write_jsonl

__all__ = ["folder"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="lines are split as Bash does it")

TEXTS = [f"Habari {n} ya leo" for n in range(12)]
EMPTY = (0, 5, 10)  # rows without an answer
TONES = [None if n in EMPTY else ("good", "bad")[n % 2] for n in range(12)]
Fields = dict[str, Any]


def table(path: Path, word: str) -> Path:
    cells = [f"{text},{tone or word}\n" for text, tone in zip(TEXTS, TONES, strict=True)]
    path.write_text("text,label\n" + "".join(cells), encoding="utf-8")
    return path


def tasks(annotations: Callable[[list[Fields]], list[Fields]]) -> list[Fields]:
    """Label Studio's tasks; `annotations` gets the result of each."""
    made = []
    for number, (text, tone) in enumerate(zip(TEXTS, TONES, strict=True)):
        result = [{"value": {"choices": [tone]}, "from_name": "tone"}] if tone else []
        made.append({"id": number, "data": {"text": text}, "annotations": annotations(result)})
    return made


def squad(path: Path) -> Path:
    asked = [
        {"id": str(n), "question": f"{text}?", "is_impossible": n in EMPTY,
         "answers": [] if n in EMPTY else [{"text": "Nairobi", "answer_start": 0}]}
        for n, text in enumerate(TEXTS)
    ]  # fmt: skip
    paragraph = {"context": "Nairobi ni mji mkuu.", "qas": asked}
    content = {"version": "v2.0", "data": [{"title": "T", "paragraphs": [paragraph]}]}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def parquet(path: Path) -> Path:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    files.write_table(arrow.table({"text": TEXTS, "label": TONES}), path)
    return path


def dumped(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


PAIRS = [{"text": text, "label": tone} for text, tone in zip(TEXTS, TONES, strict=True)]
ASKED = [{"question": f"{row['text']}?", "answer": row["label"]} for row in PAIRS]
FILES: dict[str, tuple[Callable[[Path], Path], int, str]] = {
    "MySQL": (lambda folder: table(folder / "a.csv", "\\N"), 2, '"label" is empty'),
    "an empty cell": (lambda folder: table(folder / "a.csv", ""), 2, '"label" is empty'),
    "JSON null": (lambda folder: write_jsonl(folder / "a.jsonl", PAIRS), 1, '"label" is empty'),
    "question and null": (
        lambda folder: write_jsonl(folder / "a.jsonl", ASKED), 1, '"answer" is empty'),
    "Parquet": (lambda folder: parquet(folder / "a.parquet"), 1, '"label" is empty'),
    "tasks without annotations": (
        lambda folder: dumped(folder / "a.json", tasks(lambda r: [{"result": r}] if r else [])), 1,
        '"annotations" is empty'),
    "tasks with an empty result": (
        lambda folder: dumped(folder / "a.json", tasks(lambda r: [{"result": r}])), 1,
        '"annotations.0.result" is empty'),
    "SQuAD 2": (lambda folder: squad(folder / "a.json"), 1, '"answers" is empty'),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_rows_without_an_answer_are_named_and_can_be_left_out(folder: Path, kind: str) -> None:
    make, first, words = FILES[kind]
    name = make(folder).name
    status, output, (line,) = init(name)
    assert status == 1
    lines = ", ".join(str(first + row) for row in EMPTY)
    assert f"  - lines {lines}: {words}" in output
    assert "may hold the answers" not in output and "does not know the columns" not in output
    recipe = typed(line)
    assert recipe.datasets[0].bad_rows == "skip"
    assert len(read_rows(recipe)) == 9
    assert "3 bad rows are left out" in init(name, options=("--bad-rows", "skip"))[1]


def test_lines_at_the_end_that_are_no_rows(folder: Path) -> None:
    rows = "".join(f"{text},{tone or 'good'}\n" for text, tone in zip(TEXTS, TONES, strict=True))
    (folder / "a.csv").write_text(f"text,label\n{rows}\nTotal: 12,\n", encoding="utf-8")
    _, output, (line,) = init("a.csv")
    assert 'line 15: "label" is empty' in output
    assert len(read_rows(typed(line))) == 12
    (folder / "a.csv").write_text(f"text,label\n{rows}Made by LimeSurvey\n", encoding="utf-8")
    _, output, (line,) = init("a.csv")
    assert "line 14: 1 field, the header has 2" in output
    assert len(read_rows(typed(line))) == 12


def test_a_target_with_one_empty_answer(folder: Path) -> None:
    write_jsonl(folder / "c.jsonl", [{"prompt": "q", "completion": "a"}])
    for empty in ("", None, []):
        rows = [{"prompt": f"Swali {n}", "answer": f"j{n}" if n != 4 else empty} for n in range(9)]
        write_jsonl(folder / "dev.jsonl", rows)
        status, output, (line,) = init("c.jsonl")
        assert (status, "line 5:" in output) == (1, True), output
        assert typed(line).targets[0].bad_rows == "skip"
    found = CliRunner().invoke(cli, ["data", "preview", "--target", "dev.jsonl"])
    assert 'bad_rows = "skip"' in found.output
    status, output, _ = init("c.jsonl", options=("--bad-rows", "skip"))
    assert (status, "1 bad row is left out" in output) == (0, True)


DIRECTIONS: dict[str, Callable[[int], Fields]] = {
    "src_lang and tgt_lang": lambda n: {
        "src": f"a{n}", "tgt": f"b{n}", "src_lang": ("en", "sw")[n % 2],
        "tgt_lang": ("sw", "en")[n % 2]},
    "prompt and completion": lambda n: {
        "prompt": f"a{n}", "completion": f"b{n}", "target_language": ("sw", "en")[n % 2]},
    "inputs and targets": lambda n: {
        "inputs": f"a{n}", "targets": f"b{n}", "direction": ("en-sw", "sw-en")[n % 2]},
    "sentences": lambda n: {
        "sentence_src": f"a{n}", "sentence_tgt": f"b{n}", "lang_pair": ("en-sw", "sw-en")[n % 2]},
}  # fmt: skip


@pytest.mark.parametrize("kind", DIRECTIONS)
def test_translations_in_two_directions_are_asked_about(folder: Path, kind: str) -> None:
    rows = [DIRECTIONS[kind](n) for n in range(10)]
    write_jsonl(folder / "a.jsonl", rows)
    status, output, lines = init("a.jsonl")
    assert status == 1
    assert "translates in 2 directions" in " ".join(output.split())
    one, said, every = (read_rows(typed(line)) for line in lines)
    assert one == [(f"a{n}", f"b{n}") for n in range(0, 10, 2)]
    assert len({question.partition(": ")[0] for question, _ in said}) == 2
    assert len(said) == len(every) == 10
    write_jsonl(folder / "dev.jsonl", rows)
    found = CliRunner().invoke(cli, ["data", "preview", "--target", "dev.jsonl"])
    assert found.exit_code


LANGUAGES: dict[str, tuple[str, tuple[str, str], str]] = {
    "lang": ("lang", ("source", "target"), "{lang}: {source}"),
    "language": ("language", ("prompt", "completion"), "{language}: {prompt}"),
    "lang_code": ("lang_code", ("question", "answer"), "{lang_code}: {question}"),
    "an instruction": ("Language", ("instruction", "output"), "{Language}: {instruction}"),
}


@pytest.mark.parametrize("kind", LANGUAGES)
def test_questions_with_answers_in_two_languages_are_asked_about(folder: Path, kind: str) -> None:
    name, (asked, answered), prompt = LANGUAGES[kind]
    rows = [
        {asked: f"a{n // 2}", answered: f"b{n}", name: ("swh", "yor")[n % 2]} for n in range(10)
    ]
    write_jsonl(folder / "a.jsonl", rows)
    status, output, lines = init("a.jsonl")
    assert status == 1
    assert "5 questions have answers in 2 languages, swh (5), yor (5)" in " ".join(output.split())
    one, said, every = (read_rows(typed(line)) for line in lines)
    assert one == [(f"a{n // 2}", f"b{n}") for n in range(0, 10, 2)]
    assert len(every) == len(said) == 10
    assert said[0][0] == "swh: a0"
    assert f'prompt = "{prompt}"' in output


@pytest.mark.parametrize(
    "row",
    [
        lambda n: {"prompt": f"a{n}", "completion": f"b{n // 2}"},  # the language of the question
        lambda n: {"prompt": f"a{n // 2}", "completion": f"b{n // 2}"},  # the same answers
        lambda n: {"prompt": "sawa" if n < 2 else f"a{n}", "completion": f"b{n}"},  # one by chance
    ],
)
def test_a_language_that_decides_no_answer_is_no_question(
    folder: Path, row: Callable[[int], Fields]
) -> None:
    write_jsonl(folder / "a.jsonl", [{**row(n), "lang": ("sw", "yo")[n % 2]} for n in range(10)])
    assert init("a.jsonl")[0] == 0


WORDS = {"en": "the a is of to house river child market road day water",
         "sw": "ya wa ni katika nyumba mto mtoto soko barabara siku maji kubwa",
         "yo": "àti ní sí ilé odò ọmọ ọjà ọ̀nà ọjọ́ omi ńlá pẹ̀lú"}  # fmt: skip


def sentence(language: str, place: int) -> str:
    words = random.Random(f"{language} {place}").sample(WORDS[language].split(), 6)
    return " ".join(words)


@pytest.mark.parametrize(
    ("asked", "answered", "refused"),
    [("en", "", True), ("", "en", False), ("", "", False), ("en", "en", False)],
)
def test_answers_in_two_languages_to_questions_in_one_are_asked_about(
    folder: Path, asked: str, answered: str, refused: bool
) -> None:
    rows = [
        {"source": sentence(asked or lang, n), "target": sentence(answered or lang, n + 50),
         "lang": lang} for n in range(48) for lang in (("sw", "yo")[n % 2],)
    ]  # fmt: skip
    write_jsonl(folder / "a.jsonl", rows)
    status, output, lines = init("a.jsonl")
    assert (status, "the answers are in 2 languages, sw (24), yo (24)" in " ".join(output.split())
            ) == ((1, True) if refused else (0, False)), output  # fmt: skip
    assert not refused or len(read_rows(typed(lines[0]))) == 24


def test_a_target_with_answers_in_two_languages_is_asked_about(folder: Path) -> None:
    rows = [
        {"prompt": f"a{n // 2}", "answer": f"b{n}", "lang": ("sw", "yo")[n % 2]} for n in range(10)
    ]
    write_jsonl(folder / "dev.jsonl", rows)
    found = CliRunner().invoke(cli, ["data", "preview", "--target", "dev.jsonl"])
    assert found.exit_code
    assert 'prompt = "{lang}: {prompt}"' in " ".join(found.output.split())


def test_translations_into_one_language_are_no_question(folder: Path) -> None:
    rows = [
        {"source": f"a{n}", "target": f"b{n}", "source_lang": ("sw", "ha")[n % 2],
         "target_lang": "en", "pair": n} for n in range(10)
    ]  # fmt: skip
    write_jsonl(folder / "a.jsonl", rows)
    assert init("a.jsonl")[0] == 0
    assert load_recipe(Path("recipe.toml")).datasets[0].prompt == "{source}"


@pytest.mark.parametrize(
    ("name", "word"),
    [("a.csv", "NA"), ("a.csv", "None"), ("a.jsonl", "None"), ("a.jsonl", "NA"), ("a.tsv", "null")],
)
def test_a_label_that_programs_write_for_nothing_is_asked_about(
    folder: Path, name: str, word: str
) -> None:
    labels = [("KE", word, "NG")[n % 3] for n in range(12)]
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, labels, strict=True)]
    if name.endswith("jsonl"):
        write_jsonl(folder / name, rows)
    else:
        mark = "," if name.endswith("csv") else "\t"
        lines = [f"{row['text']}{mark}{row['label']}\n" for row in rows]
        (folder / name).write_text(f"text{mark}label\n" + "".join(lines), encoding="utf-8")
    status, output, (label, missing) = init(name)
    assert status == 1
    assert f"label is '{word}' in 4 of 12 rows" in " ".join(output.split())
    assert [answer for _, answer in read_rows(typed(label))] == labels
    assert len(read_rows(typed(missing))) == 8


def test_one_na_among_labels_or_answers_is_a_row_without_an_answer(folder: Path) -> None:
    for labels in ([("a", "b")[n % 2] for n in range(11)], [f"jibu {n}" for n in range(11)]):
        cells = zip(TEXTS, [*labels, "NA"], strict=True)
        lines = "".join(f"{text},{label}\n" for text, label in cells)
        (folder / "a.csv").write_text(f"text,label\n{lines}", encoding="utf-8")
        assert 'line 13: "label" is empty' in init("a.csv")[1]


def test_words_for_nothing_are_refused_in_every_format(folder: Path) -> None:
    def chat(word: str) -> Fields:
        said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": word}]
        return {"messages": said}

    makers: list[Callable[[str], Fields]] = [
        chat,
        lambda word: {"prompt": "q", "completion": word},
        lambda word: {"segments": [{"text": "q", "label": False}, {"text": word, "label": True}]},
        lambda word: {"instruction": "q", "output": "a", "history": [["b", word]]},
    ]
    for make in makers:
        for word in ("N/A", "NA", "None", "nan"):
            write_jsonl(folder / "a.jsonl", [*[make(f"jibu {n}") for n in range(5)], make(word)])
            status, output, (line,) = init("a.jsonl")
            assert (status, "line 6: " in output) == (1, True), output
            assert "--bad-rows skip" in line


@pytest.mark.parametrize("sign", ["-", "?"])
def test_a_sign_among_labels_is_a_question(folder: Path, sign: str) -> None:
    labels = ["entailment", "neutral", sign, "neutral"] * 5
    pairs = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "gold_label": label}
             for n, label in enumerate(labels)]  # fmt: skip
    write_jsonl(folder / "a.jsonl", pairs)
    status, output, lines = init("a.jsonl")
    assert (status, f"gold_label is '{sign}' in 5 of 20 rows" in " ".join(output.split())) == (
        1,
        True,
    )
    counts = [len(read_rows(typed(line))) for line in lines]
    assert counts == [15, 20]
    signs = [{**pair, "gold_label": "+-"[n % 2]} for n, pair in enumerate(pairs)]
    write_jsonl(folder / "a.jsonl", signs)
    assert init("a.jsonl")[0] == 0  # all labels are signs


INDEXES = {
    ",text,label": [f"{n * 3}.0" for n in range(6)],
    "Unnamed: 0,text,label": [str(n) for n in range(6)],
    "Unnamed: 0.1,text,label": [f"{n}.0" for n in range(6)],
    "level_0,text,label": [str(n) for n in (4, 2, 5, 0, 1, 3)],
}


@pytest.mark.parametrize("header", INDEXES)
def test_an_index_of_pandas_is_no_column(folder: Path, header: str) -> None:
    rows = [f"{n},{text},{'ab'[place % 2]}" for place, (n, text) in
            enumerate(zip(INDEXES[header], TEXTS, strict=False))]  # fmt: skip
    (folder / "a.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    assert init("a.csv")[0] == 0
    assert read_rows(load_recipe(Path("recipe.toml")))[0] == (TEXTS[0], "a")
    Path("recipe.toml").unlink()
    bare = [row.rsplit(",", 1)[0] for row in (header, *rows)]
    (folder / "a.csv").write_text("\n".join(bare), encoding="utf-8")
    assert init("a.csv")[0] == 0
    assert read_rows(load_recipe(Path("recipe.toml")))[0] == ("", TEXTS[0])


def test_words_with_tags_get_a_fitting_question(folder: Path) -> None:
    words, tags = ["Asha", "yupo", "Nairobi", "."], ["B-PER", "O", "B-LOC", "O"]
    write_jsonl(folder / "a.jsonl", [{"tokens": words, "ner_tags": tags}] * 3)
    status, _, lines = init("a.jsonl")
    pairs, texts = (read_rows(typed(line)) for line in lines)
    assert (status, pairs[0]) == (1, ("Asha yupo Nairobi .", "B-PER O B-LOC O"))
    assert texts[0] == ("", "Asha yupo Nairobi .")
    row = '{"prompt": "Which names are in: Asha yupo Nairobi .", "completion": "Asha, Nairobi"}'
    found = CliRunner().invoke(cli, ["data", "preview", "a.jsonl"])
    assert row in " ".join(found.output.split())
    lines = [f"{word} {tag}" for word, tag in zip(words, tags, strict=True)]
    text = "\n\n".join(["\n".join(lines)] * 4)
    for name in ("a.txt", "a.conll", "a.tsv"):
        if name != "a.tsv":
            text = f"-DOCSTART- O\n\n{text}"
        (folder / name).write_text(text.replace(" ", "\t" if name == "a.tsv" else " "))
        assert row in " ".join(init(name)[1].split()), name


@pytest.mark.parametrize("word", ["nan", "None", " null", "\u200b", "\u2060\ufeff", "\u3164"])
def test_a_bare_text_of_nothing_is_refused_in_each_format(folder: Path, word: str) -> None:
    texts = [*TEXTS[:3], word, *TEXTS[3:]]
    (folder / "a.txt").write_text("\n".join(texts), encoding="utf-8")
    write_jsonl(folder / "a.jsonl", [{"text": text} for text in texts])
    write_jsonl(folder / "b.jsonl", [{"body": text} for text in texts])
    for name, mapping in (
        ("a.txt", RowMapping()),
        ("a.jsonl", RowMapping()),
        ("b.jsonl", RowMapping(text="{body}")),
    ):
        with pytest.raises(InputError, match="line 4"):
            load_dataset(folder / name, mapping)


@pytest.mark.parametrize("blank", ["\u200b", "\u200d\u200e", " \u2060", "\u3164", "\u2800"])
def test_invisible_characters_are_no_answer(folder: Path, blank: str) -> None:
    rows: dict[str, Fields] = {
        "pair": {"prompt": "a", "completion": blank},
        "chat": {"messages": [{"role": "user", "content": "a"},
                              {"role": "assistant", "content": blank}]},
        "Alpaca": {"instruction": "a", "output": blank},
        "target": {"prompt": "a", "answer": blank},
        "choices": {"question": "a", "choices": ["b", blank], "answer": 0},
    }  # fmt: skip
    for name, row in rows.items():
        with pytest.raises(InputError, match="line 1") as caught:
            load_dataset(write_jsonl(folder / "a.jsonl", [row]))
        assert name == "choices" or "U+" in caught.value.message
    joined = {"prompt": "a", "completion": f"b{blank}c"}  # a text with some of them is a text
    assert load_dataset(write_jsonl(folder / "a.jsonl", [joined]))[0].sides[1] == f"b{blank}c"


def test_words_for_nothing_in_optional_parts_are_read_as_empty_and_counted(folder: Path) -> None:
    words = ["nan", "None", "", "Kenya", None]
    rows = [{"q": f"a{n}", "context": word, "a": f"b{n}"} for n, word in enumerate(words)]
    mapping = RowMapping(prompt="{q}\n{context?}", answer="{a}")
    read = rows_of(as_source(write_jsonl(folder / "a.jsonl", rows)), mapping)
    assert [row.sides[0] for row in read.rows] == ["a0", "a1", "a2", "a3\nKenya", "a4"]
    note = "2 values of context with nan, <noinput> or the like read as empty"
    assert note in read.notes
    assert note in load_task(folder / "a.jsonl", mapping).reading
    pairs = [{"prompt": "a", "completion": f"b{n}", "system": w} for n, w in enumerate(words)]
    read = rows_of(as_source(write_jsonl(folder / "b.jsonl", pairs)))
    assert [row.sides[0] for row in read.rows] == ["a", "a", "a", "Kenya\na", "a"]
    assert note.replace("context", "system") in read.notes
    with pytest.raises(InputError, match="'None' for an empty field"):
        load_dataset(folder / "b.jsonl", RowMapping("{prompt}", "{completion}", "{system}"))


def test_an_aligned_pair_with_an_empty_line_names_each_file_once(folder: Path) -> None:
    (folder / "b.en").write_text("\n".join(TEXTS), encoding="utf-8")
    (folder / "b.sw").write_text("\n".join([*TEXTS[:3], "", *TEXTS[4:]]), encoding="utf-8")
    status, output, (line,) = init("b.en", "b.sw")
    assert status == 1
    assert "line 4: empty in sw" in output
    assert line.split().count("b.sw") == line.split().count("b.en") == 1
    recipe = typed(line)
    assert recipe.datasets[0].bad_rows == "skip"
    assert len(read_rows(recipe)) == 11
