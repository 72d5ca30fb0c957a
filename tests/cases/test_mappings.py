"""Files as people have them: `m2m init` reads each as it is meant, or asks; never something else.

The files of tests/cases/data are made up, after real ones.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.commands.init import start_recipe
from m2m.commands.init_files import Wanted
from m2m.commands.init_rows import dataset_entry, target_entry
from m2m.commands.pairs import grouped
from m2m.dataset import load_dataset
from m2m.dataset.ask import pasted
from m2m.dataset.examples import read_example
from m2m.dataset.mapping import RowMapping
from m2m.dataset.parting import first_parting
from m2m.dataset.row_source import open_source
from m2m.dataset.templates import parsed
from m2m.errors import InputError, RecipeError
from m2m.evaluate.targets import load_target
from m2m.evaluate.tasks import load_task
from m2m.formats.records import Options, Record
from m2m.recipe import Target, load_recipe
from tests.tiny import pico_model, write_jsonl

DATA = Path(__file__).parent / "data"
BOOK = ("Tafsiri kwa Kiingereza: kitabu", "book")
GLAD = ("Leo nimefurahi sana", "positive")
CITY = ("Mji mkuu wa Kenya?", "Nairobi")
TALK = ("Habari?", "Nzuri.")

# Each file with the first question and answer that a dataset trains on, or with the words of what
# m2m asks or refuses.
KINDS: dict[str, tuple[str, str] | str] = {
    "g04_spans.jsonl": "the column label may hold the answers",
    "h02_sharegpt.json": TALK,
    "h03_conversation_singular.json": TALK,
    "h05_conversations_role_content.json": TALK,
    "h06_messages_str.csv": ("Wewe ni msaidizi.\nHabari?", "Nzuri."),
    "h07_messages_model_role.jsonl": TALK,
    "h08_ends_with_user.jsonl": ("Wewe ni msaidizi.\nHabari?\nSaa ngapi?", "Nzuri."),
    "h10_oasst.jsonl": TALK,
    "i01_alpaca.json": ("Tafsiri\nkitabu", "book"),
    "i03_dolly.jsonl": BOOK,
    "i04_aya.jsonl": BOOK,
    "i05_prompt_response.jsonl": BOOK,
    "i07_inkuba.jsonl": ("Translate\nTafsiri kwa Kiingereza: kitabu", "book"),
    "i08_alpaca_null_input.json": ("Sema habari", "Habari!"),
    "i09_alpaca_instruction_list.json": '"instruction" must be text, found a list',
    "i10_question_response.jsonl": BOOK,
    "i13_kto.jsonl": BOOK,
    "i14_trl_conv.jsonl": BOOK,
    "i20_xlsum.jsonl": ("Habari ndefu", "Muhtasari"),
    "j19_null.jsonl": 'line 2: "completion" must be text, found nothing',
    "j20_int.jsonl": ("2+3", "5"),
    "l01_text_label.csv": GLAD,
    "l03_text_label_int.jsonl": (GLAD[0], "?2"),
    "l05_doccano.jsonl": GLAD,
    "l06_doccano_seq2seq.jsonl": BOOK,
    "l07_labelstudio.json": GLAD,
    "l08_labelstudio_min.json": GLAD,
    "l10_multilabel.jsonl": "the column labels may hold the answers",
    "l12_text_label_labeltext.jsonl": GLAD,
    "l13_argilla.jsonl": GLAD,
    "l14_argilla2.json": GLAD,
    "m00_own.jsonl": (CITY[0], "?"),
    "m01_arc.jsonl": CITY,
    "m02_abcd.csv": CITY,
    "m03_mmlu.jsonl": CITY,
    "m04_afrimmlu.tsv": CITY,
    "m06_xnli.tsv": ("Mtoto analala.\nMtoto yuko macho.", "?2"),
    "m07_mgsm.tsv": 'completion = "{answer_number}"',
    "m09_answer_text.jsonl": CITY,
    "m10_answer_str_index.csv": (CITY[0], "?"),
    "p01.en p01.sw": ("a book", "kitabu"),
    "p02_en.txt": "p02_sw.txt has as many lines",
    "p02_en.txt p02_sw.txt": ("a book", "kitabu"),
    "p04_translation.jsonl": ("book", "Tafsiri kwa Kiingereza: kitabu"),
    "q01_squad.json": ("Nairobi ni mji mkuu wa Kenya.\n\nMji mkuu wa Kenya?", "Nairobi"),
    "q04_prompt_answer.jsonl": BOOK,
    "q05_afriqa.json": CITY,
    "s02_manifest.jsonl": ("", "mama alisema"),
}


PAGE = (Path(__file__).parent.parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
LINES = re.findall(r"^\| .* \| (`.*`) \| `(.*)` \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("lines", "kind"), LINES, ids=[kind for _, kind in LINES])
def test_the_page_shows_the_lines_that_init_writes(lines: str, kind: str) -> None:
    (files,) = grouped(files_of(kind))
    written = pasted(dataset_entry(files).mapping, "dataset").splitlines()
    assert [line.strip("`") for line in lines.split("<br>")] == [line.strip() for line in written]


def files_of(kind: str) -> list[Path]:
    return [DATA / name for name in kind.split()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_is_read_as_it_is_meant_or_m2m_asks(kind: str) -> None:
    expected = KINDS[kind]
    (files,) = grouped(files_of(kind))
    if isinstance(expected, str):
        with pytest.raises(InputError) as caught:
            dataset_entry(files)
        assert expected in f"{caught.value.message}\n{caught.value.hint}"
        return
    entry = dataset_entry(files)
    question, answer = entry.rows[0].sides
    if answer.startswith("?") or entry.questions:
        assert expected[1].startswith("?")
        assert entry.questions
        assert question == expected[0]
    else:
        assert (question, answer) == expected


# Kinds of which a row's answers cannot be scored: conversations of several turns, one row only.
NO_TARGETS = ("h0", "h10", "i08", "q01", "s02")


@pytest.mark.parametrize("kind", [k for k in KINDS if not k.startswith(NO_TARGETS)])
def test_a_target_of_the_same_rows_asks_what_the_dataset_trains(kind: str) -> None:
    expected = KINDS[kind]
    (files,) = grouped(files_of(kind))
    if isinstance(expected, str):
        with pytest.raises(InputError):
            target_entry(files, ())
        return
    entry = target_entry(files, ())
    mapping = entry.mapping
    if entry.questions:
        assert expected[1].startswith("?")
        return
    task = load_task(open_source(files), mapping)
    assert (task.examples[0].prompt, task.examples[0].answer) == expected


# The same kinds with other names of columns, in another order, in other languages.
RENAMED: dict[str, tuple[list[dict[str, Any]], tuple[str, str]]] = {
    "AfriSenti": ([{"ID": "a", "tweet": "ina dadi", "label": "positive"},
                   {"ID": "b", "tweet": "babu", "label": "negative"}], ("ina dadi", "positive")),
    "MasakhaNEWS": ([{"category": "health", "headline": "Kichwa", "text": "Habari", "url": "u"}],
                    ("Kichwa\nHabari", "health")),
    "SIB-200": ([{"index_id": 1, "category": "travel", "text": "Safari ndefu"}],
                ("Safari ndefu", "travel")),
    "MENYO-20k": ([{"English": "good", "Yoruba": "dára"}], ("good", "dára")),
    "FLORES columns": ([{"id": 1, "sentence_eng_Latn": "good", "sentence_yor_Latn": "dára"}],
                       ("good", "dára")),
    "source, target": ([{"src_lang": "en", "tgt": "dára", "src": "good"}], ("good", "dára")),
    "belebele": ([{"link": "u", "flores_passage": "P.", "question": "Q?", "mc_answer1": "a",
                   "mc_answer2": "b", "mc_answer3": "c", "mc_answer4": "d",
                   "correct_answer_num": n, "dialect": "swh_Latn"} for n in ("4", "2")],
                 ("P.\n\nQ?", "d")),
    "COPA": ([{"premise": "Mvua.", "choice1": "a", "choice2": "b", "question": "cause",
               "label": n} for n in (1, 0)], ("Mvua.\ncause", "b")),
    "options by letter": ([{"Question": "Q?", "options": {"A": "x", "B": "y"}, "answer": "B"}],
                          ("Q?", "y")),
    "option_a": ([{"question": "Q?", "option_b": "y", "option_a": "x", "answer": "a"}],
                 ("Q?", "x")),
    "ARC with numbers": ([{"question": "Q?", "choices": {"text": ["x", "y"], "label": ["1", "2"]},
                           "answerKey": "2"}], ("Q?", "y")),
    "SQuAD of the hub": ([{"context": "C.", "question": "Q?",
                           "answers": {"text": ["a", "b"], "answer_start": [0, 1]}}],
                         ("C.\n\nQ?", "a")),
    "SQuAD in a table": ([{"context": "C.", "question": "Q?",
                           "answers": "{'text': ['a'], 'answer_start': [0]}"}], ("C.\n\nQ?", "a")),
    "answers as Python": ([{"question": "Q?", "answers": '["ng\'ombe", "x"]'}], ("Q?", "ng'ombe")),
    "xP3": ([{"inputs": "Q", "targets": "A", "language": "sw", "split": "train",
              "template": "t", "dataset": "d"}], ("Q", "A")),
    "chosen": ([{"prompt": "Q", "chosen": "A", "rejected": "B"}], ("Q", "A")),
    "messages by name": ([{"dialog": [{"speaker": "human", "text": "Q"},
                                      {"speaker": "bot", "text": "A"}]}], ("Q", "A")),
    "Gemini": ([{"contents": [{"role": "user", "parts": [{"text": "Q"}]},
                              {"role": "model", "parts": [{"text": "A"}]}]}], ("Q", "A")),
    "one column": ([{"sentence": "Leo ni siku njema", "url": "u"}], ("", "Leo ni siku njema")),
    "desirable": ([{"prompt": "Q", "completion": "A", "desirable": False},
                   {"prompt": "R", "completion": "B", "desirable": True}], ("R", "B")),
    "rejected": ([{"prompt": "Q", "completion": "A", "rejected": True},
                  {"prompt": "R", "completion": "B", "rejected": False}], ("R", "B")),
    "a context for some": ([{"instruction": "Q", "context": "", "response": "A"},
                            {"instruction": "R", "context": "C", "response": "B"}], ("Q", "A")),
}  # fmt: skip


@pytest.mark.parametrize("kind", RENAMED)
def test_kinds_are_known_by_other_names_of_columns(tmp_path: Path, kind: str) -> None:
    rows, expected = RENAMED[kind]
    entry = dataset_entry((write_jsonl(tmp_path / "a.jsonl", rows),))
    assert entry.rows[0].sides == expected
    assert not entry.questions


UNCLEAR: list[tuple[list[dict[str, Any]], str]] = [
    ([{"text": "a b", "label": "x", "category": "y"}], "may hold the answers"),
    ([{"text": "a b", "author": "Asha"}, {"text": "c d", "author": "Juma"}], "author"),
    ([{"text": "a b", "language": "sw"}, {"text": "c d", "language": "yo"}], "language"),
    ([{"maoni": "a b c", "hisia": "x"}], 'completion = "{hisia}"'),
    ([{"question": "Q", "answer": "A", "final": "B"}], 'completion = "{answer}"'),
    ([{"prompt": "Q", "completion": "A", "accepted": False}], "marked as bad"),
    ([{"prompt": "Q", "completion": "A", "status": "Discarded"}], "marked as bad"),
    ([{"prompt": "Q", "completion": "['2021']"}], "Python list"),
    ([{"prompt": "Q", "completion": "nan"}], "empty field"),
    ([{"prompt": "None", "completion": "A"}], "empty field"),
    ([{"message_id": "1", "parent_id": "9", "text": "x", "role": "assistant"}], "no turn"),
]


@pytest.mark.parametrize(("rows", "words"), UNCLEAR)
def test_rows_that_could_be_meant_in_two_ways_are_asked_about(
    tmp_path: Path, rows: list[dict[str, Any]], words: str
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    for read in (load_dataset, load_task):
        with pytest.raises(InputError) as caught:
            read(path)
        if read is load_dataset or "prompt" not in rows[0]:
            assert words.replace("completion", "").split(" = ")[-1] in str(caught.value.hint) + (
                caught.value.message
            )


MMLU = {"question": "Q?", "choices": ["x", "y"], "answer": "B"}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{question}\n{choices:letters}", "Q?\nA. x\nB. y"),
        ("{question} {choices}", "Q? x, y"),
        ("{choices:lines}", "x\ny"),
    ],
)
@pytest.mark.parametrize("choices", [("A", "B"), ()])
def test_choices_in_a_prompt_are_the_row_s_own(
    template: str, text: str, choices: tuple[str, ...]
) -> None:
    mapping = RowMapping(template, "{answer}", choices=choices, answers="letter")
    for row in (MMLU, {**MMLU, "choices": "['x', 'y']"}, {**MMLU, "choices": "x|y"}):
        example = read_example(Record(row, 1), "choices", mapping)
        assert example.prompt == text
        assert example.answer == ("B" if choices else "y")


def test_one_wording_serves_a_dataset_and_a_target(tmp_path: Path) -> None:
    rows = [{"swali": f"Q{i}?", "a": "x", "b": "y", "jibu": "ab"[i % 2], "lang": "swh" if i < 4
             else "yor"} for i in range(6)]  # fmt: skip
    write_jsonl(tmp_path / "rows.jsonl", rows)
    pico_model(tmp_path / "models" / "pico")
    (tmp_path / "recipe.toml").write_text(
        """
[base]
model = "pico"
[[datasets]]
name = "train"
path = "rows.jsonl"
prompt = "{swali} {choices}"
completion = "{jibu}"
choices = ["{a}", "{b}"]
where = { lang = "swh" }
[[targets]]
name = "aim"
dev = "rows.jsonl"
like = "train"
""",
        encoding="utf-8",
    )
    recipe = load_recipe(tmp_path / "recipe.toml")
    (dataset,), (target,) = recipe.datasets, recipe.targets
    trained = load_dataset(open_source(dataset.files), RowMapping.of(dataset))
    asked = load_target(target, "dev").examples
    assert len(trained), len(asked) == (4, 6)
    assert [row.sides for row in trained] == [(e.prompt, e.answer) for e in asked[:4]]
    assert trained[1].sides == ("Q1? x, y", "y")


def test_labels_are_words_for_integers_booleans_and_texts(tmp_path: Path) -> None:
    for values, words in (([0, 1], "01"), ([False, True], ("false", "true")), (["0", "1.0"], "01")):
        rows = [{"tweet": f"t{v}", "label": v} for v in values]
        path = write_jsonl(tmp_path / "a.jsonl", rows)
        labels = tuple(zip(words, ("hasi", "chanya"), strict=True))
        mapping = RowMapping("{tweet}", "{label}", labels=labels)
        assert [row.sides[1] for row in load_dataset(path, mapping)] == ["hasi", "chanya"]
        task = load_task(path, mapping)
        assert (task.kind, task.examples[1].choices) == ("labels", ("hasi", "chanya"))
        with pytest.raises(InputError, match="`labels` has no word for it"):
            load_dataset(path, RowMapping("{tweet}", "{label}", labels=labels[:1]))


def test_names_of_classes_come_from_the_hub_s_files(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data" / "a.jsonl", [{"text": "a b", "label": n} for n in (0, 1)])
    card = """---
dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': hasi
          '1': chanya
---
# Card
"""
    info = {"default": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    assert dataset_entry((path,)).mapping.labels == (("0", "hasi"), ("1", "chanya"))
    assert dataset_entry((tmp_path,)).mapping.labels == (("0", "hasi"), ("1", "chanya"))
    (tmp_path / "dataset_infos.json").write_text(json.dumps(info), encoding="utf-8")
    assert dataset_entry((path,)).mapping.labels == (("0", "no"), ("1", "yes"))


_CARD = """---
dataset_info:
- config_name: swa
  features:
  - name: label
    dtype: {class_label: {names: {'0': chanya, '1': hasi}}}
- config_name: hau
  features:
  - name: label
    dtype: {class_label: {names: {'0': mugun, '1': kyau}}}
%s---
"""
_FILES = """configs:
- config_name: hau
  data_files: [{split: train, path: x/*.jsonl}]
- config_name: swa
  data_files: {train: [a.jsonl, "y/**"]}
"""


@pytest.mark.parametrize(
    ("place", "files", "words"),
    [
        ("hau/a.jsonl", "", ("mugun", "kyau")),
        ("swa/data/a.jsonl", "", ("chanya", "hasi")),
        ("data/hau-train.jsonl", "", ("mugun", "kyau")),
        ("x/swa.jsonl", _FILES, ("mugun", "kyau")),
        ("y/z/a.jsonl", _FILES, ("chanya", "hasi")),
        ("hausa/train.jsonl", "", ("?0", "?1")),
        ("a.jsonl", "", ("?0", "?1")),
    ],
)
def test_names_of_classes_are_those_of_the_file_s_configuration(
    tmp_path: Path, place: str, files: str, words: tuple[str, str]
) -> None:
    (tmp_path / "README.md").write_text(_CARD % files, encoding="utf-8")
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    path = write_jsonl(tmp_path / place, [{"text": f"a {n}", "label": n} for n in (0, 1)])
    entry = dataset_entry((path,))
    assert entry.mapping.labels == (("0", words[0]), ("1", words[1]))
    questions = " ".join(entry.questions)
    assert ("several lists of words" in questions) == (words[0] == "?0")


def test_where_picks_rows_and_says_how_many(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "completion": "a", "meta": {"lang": "swh" if i % 2 else "yor"}}
            for i in range(5)]  # fmt: skip
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    mapping = RowMapping(where=(("meta.lang", ("swh",)),))
    assert [row.sides[0] for row in load_dataset(path, mapping)] == ["q1", "q3"]
    found = CliRunner().invoke(cli, ["data", "preview", str(path), "--where", "meta.lang=swh"])
    assert "2 of 5 rows used: those with meta.lang = swh" in found.output
    with pytest.raises(InputError, match="no row has") as caught:
        load_dataset(path, RowMapping(where=(("meta.lang", ("hau",)),)))
    assert "yor, swh" in str(caught.value.hint)


def test_aligned_files_need_as_many_lines(tmp_path: Path) -> None:
    one, two = tmp_path / "t.en", tmp_path / "t.yo"
    one.write_bytes(b"good\r\n\r\nday\r\n")
    two.write_text("dára\n\nọjọ́\n", encoding="utf-8")
    for names in ("en", "yo"), ("0", "1"):
        mapping = RowMapping(f"{{{names[0]}}}", f"{{{names[1]}}}")
        rows = load_dataset(open_source([one, two]), mapping)
        assert [(row.line, *row.sides) for row in rows] == [(1, "good", "dára"), (3, "day", "ọjọ́")]
    two.write_text("dára\nx\n\n", encoding="utf-8")
    with pytest.raises(InputError, match="2 problems"):
        open_source([one, two])
    two.write_text("dára\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"t\.en 3, t\.yo 1"):
        open_source([one, two])


def test_aligned_files_are_read_as_the_recipe_says(tmp_path: Path) -> None:
    one, two = tmp_path / "t.en", tmp_path / "t.fr"
    one.write_bytes(b"summer\nmorning\n\n")
    two.write_bytes("été\n\nmidi\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"t\.fr:1: byte 0xe9 is not UTF-8") as caught:
        open_source([one, two])
    assert 'encoding = "cp1252"' in str(caught.value.hint)
    source = open_source([one, two], options=Options(encoding="cp1252", bad_rows="skip"))
    assert [(row.fields["fr"], row.line) for row in source.records] == [("été", 1)]
    assert source.skipped == 2
    with pytest.raises(InputError, match="2 problems") as caught:
        open_source([one, two], options=Options(encoding="cp1252"))
    assert 'bad_rows = "skip"' in str(caught.value.hint)
    with pytest.raises(InputError, match="header is for tables"):
        open_source([one, two], options=Options(header="no"))


def test_several_answers_are_all_right_for_a_target_and_asked_for_a_dataset(tmp_path: Path) -> None:
    rows = [{"q": f"q{i}", "answers": [f"a{i}", f"b{i}"]} for i in range(2)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    task = load_target(Target("t", path, prompt="{q}", answer="{answers}"), "dev")
    assert task.examples[1].references == ("a1", "b1")
    with pytest.raises(InputError, match=r"write \{answers.0\} for the first"):
        load_dataset(path, RowMapping("{q}", "{answers}"))
    joined = load_dataset(path, RowMapping("{q}", "{answers:comma}"))
    assert joined[0].sides == ("q0", "a0, b0")


def test_a_conversation_tree_trains_every_answer_once(tmp_path: Path) -> None:
    turns = [
        ("1", None, "prompter", "Q"),
        ("2", "1", "assistant", "A"),
        ("3", "2", "prompter", "R"),
        ("4", "3", "assistant", "B"),
        ("5", "3", "assistant", "C"),
        ("6", "5", "prompter", "S"),
    ]
    rows = [dict(zip(("message_id", "parent_id", "role", "text"), t, strict=True)) for t in turns]
    rows = load_dataset(write_jsonl(tmp_path / "a.jsonl", rows))  # type: ignore[assignment]
    trained = [m["content"] for row in rows for m in row.messages or ()  # type: ignore[attr-defined]
               if m["role"] == "assistant" and m.get("weight") != 0]  # fmt: skip
    assert trained == ["A", "B", "C"]


def test_init_writes_each_wording_once_and_asks_what_it_cannot_know(tmp_path: Path) -> None:
    model = str(pico_model(tmp_path / "pico"))
    words = {"data": ["mto mrefu", "ziwa kubwa", "mlima", "bahari"],
             "dev": ["paka mweusi", "mbwa wangu", "kuku", "ng'ombe"]}  # fmt: skip
    data, dev = (
        write_jsonl(tmp_path / f"{name}.jsonl",
                    [{"text": text, "label": i % 2} for i, text in enumerate(texts)])
        for name, texts in words.items()
    )  # fmt: skip
    out = tmp_path / "r.toml"
    started = start_recipe(Wanted(out, (data,), (dev,), model=model, template="plain"))
    assert len(started.questions) == 2
    text = out.read_text(encoding="utf-8")
    assert text.count('\nprompt = "{text}"') == 1
    assert '\nlike = "data"' in text
    with pytest.raises(RecipeError, match="write the words that 0, 1 mean"):
        load_recipe(out)
    out.write_text(text.replace("?0", "hasi").replace("?1", "chanya"), encoding="utf-8")
    (target,) = load_recipe(out).targets
    assert load_target(target, "dev").examples[0].choices == ("hasi", "chanya")


def test_preview_marks_the_part_that_is_trained_on(tmp_path: Path) -> None:
    path = str(DATA / "m02_abcd.csv")
    options = ["--prompt", "{question}", "--answer", "{answer}", "--rows", "1"]
    options += [part for letter in "ABCD" for part in ("--choices", f"{{{letter}}}")]
    found = CliRunner().invoke(cli, ["data", "preview", path, "--target", path, *options])
    assert found.exit_code == 0, found.output
    assert found.output.count("user: Mji mkuu wa Kenya?\n  assistant: >>>Nairobi<<<") == 2
    assert "other: Mombasa" in found.output
    model = str(pico_model(tmp_path / "pico"))
    more = ["--json", "--model", model, "--template", "plain"]
    found = CliRunner().invoke(cli, ["data", "preview", path, *options, *more])
    (preview,) = json.loads(found.stdout)
    pieces = preview["shown"][0]["pieces"]
    assert "".join(p["text"] for p in pieces if p["trained"]).startswith("Nairobi")
    assert (preview["rows"], preview["shown"][0]["line"]) == (3, 2)


@pytest.mark.parametrize("names", [("a.en", "a.yo"), ("a_en.txt", "a_yo.txt")])
def test_files_of_two_languages_that_lost_a_line_are_refused_with_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        [f"{word} " * (1 + n * 7 % 11) for n in range(60)] for word in ("sentence", "gbolohun")
    ]
    del lines[1][40]
    for name, texts in zip(names, lines, strict=True):
        (tmp_path / name).write_text("\n".join(texts), encoding="utf-8")
    for line in (["preview", *names], ["preview", "--target", names[0], "--target", names[1]]):
        found = CliRunner().invoke(cli, ["data", *line])
        assert found.exit_code
        assert f"found {names[0]} 60, {names[1]} 59" in found.output
        assert "they probably part at line 41" in found.output
    found = CliRunner().invoke(cli, ["data", "check", *names])
    assert "they probably part at line 41" in " ".join(found.output.split())
    if names[0].endswith("txt"):
        found = CliRunner().invoke(cli, ["data", "preview", *names, "--text", "{text}"])
        assert found.exit_code == 0
        assert "text, 59 rows" in found.output.replace("mapping", "text")


def test_the_place_at_which_files_part_is_found_without_numbers_and_not_invented() -> None:
    rng = np.random.default_rng(5)
    lengths = rng.integers(2, 40, 400)
    one = ["word " * n for n in lengths]
    other = ["neno " * int(n * rng.uniform(0.9, 1.1)) for n in lengths]
    for gone in (40, 200, 390):
        lost = other[:gone] + other[gone + 1 :]
        assert abs((first_parting(one, lost) or 0) - gone) <= 1
        assert abs((first_parting(lost, one) or 0) - gone) <= 1
    del other[350], other[100]
    assert abs((first_parting(one, other) or 0) - 100) <= 1
    strangers = ["x " * n for n in rng.integers(2, 40, 380)]
    assert first_parting(one, strangers) is None


@pytest.mark.parametrize(
    "texts",
    [
        ["Nairobi", "Mji mkuu"],
        ["it's", 'a "b"'],
        ["a, b", "c"],
        ["ọ̀rọ̀" * 9] * 30,
        ["x"],
        ["[", "]"],
    ],
)
def test_a_list_as_numpy_writes_it_has_its_items(texts: list[str]) -> None:
    """pandas writes a column of arrays so into a CSV file; to Python 'a' 'b' is one text."""
    assert parsed(str(np.array(texts, dtype=object))) == texts
    assert parsed(str(texts)) == texts
