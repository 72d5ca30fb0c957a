"""Rows that are silently read as something else: each becomes the right tokens, or is refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from m2m.commands.data_check import check_data
from m2m.commands.init import start_recipe
from m2m.commands.init_files import Wanted
from m2m.dataset import Row, encode, load_dataset
from m2m.dataset.row_source import as_source, open_source
from m2m.dataset.rows import read_rows
from m2m.errors import InputError
from m2m.evaluate.targets import load_target
from m2m.evaluate.tasks import load_task
from m2m.recipe import Target, load_recipe
from m2m.tokenizer import Formatter
from tests.templates import formatter_of
from tests.tiny import CHATML, pico_model, write_jsonl

ASK = {"role": "user", "content": "ask"}
REPLY = {"role": "assistant", "content": "reply"}
CALL = {"name": "clock", "arguments": {"zone": "EAT"}}
WITH_TOOLS = CHATML.replace(
    "message['content']",
    "message['content'] + (message.tool_calls[0].function.arguments | tojson"
    " if message.tool_calls else '')",
)
TEXT_ARGUMENTS = WITH_TOOLS.replace(" | tojson", "")


def refused(path: Path, *words: str) -> InputError:
    with pytest.raises(InputError) as caught:
        load_dataset(path)
    for word in words:
        assert word in f"{caught.value.message}\n{caught.value.hint}"
    return caught.value


def file_of(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def pairs(rows: list[Row]) -> list[tuple[str, str]]:
    return [row.sides for row in rows]


def trained(path: Path, formatter: Formatter) -> list[str]:
    samples = encode(load_dataset(path), formatter, 512, path)
    return [formatter.tokenizer.decode(each.ids[each.loss_mask]) for each in samples]


def test_a_row_with_an_answer_is_no_bare_text(tmp_path: Path) -> None:
    # The release of Alpaca has all four; "text" is the prompt and the answer once more.
    row = {"instruction": "ask", "input": "", "output": "reply", "text": "### ask ### reply"}
    assert pairs(load_dataset(write_jsonl(tmp_path / "a.jsonl", [row]))) == [("ask", "reply")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("label", "positive"), ("label", 0), ("label", False), ("labels", ["a", "b"]),
        ("headline", "x"), ("title", "x"), ("summary", "x"), ("translation", {"en": "x"}),
        ("role", "assistant"), ("category", "news"), ("entities", [[0, 1, "PER"]]), ("score", 3),
        ("audio_filepath", "a.wav"),
    ],
)  # fmt: skip
def test_text_with_a_column_that_may_be_the_answer_is_refused(
    tmp_path: Path, field: str, value: Any
) -> None:
    rows = [{"text": "Leo nimefurahi"}, {"text": "Umeme umekatika", field: value}]
    refused(write_jsonl(tmp_path / "a.jsonl", rows), ":2:", field, 'text = "{text}"')


def test_a_target_of_texts_has_no_other_answers_either(tmp_path: Path) -> None:
    rows = [{"text": "Leo nimefurahi", "label": "good"}, {"text": "Umeme", "label": "bad"}]
    with pytest.raises(InputError, match="label") as caught:
        load_task(write_jsonl(tmp_path / "dev.jsonl", rows))
    assert 'answer = "{label}"' in str(caught.value.hint)


def test_text_with_its_source_is_a_bare_text(tmp_path: Path) -> None:
    about = {"id": 1, "url": "u", "lang": "sw", "date": "2024", "meta": {"a": 1}, "label": None}
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "Leo nimefurahi", **about}])
    assert load_dataset(path) == [Row(1, text="Leo nimefurahi")]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "a", "completion": "b", "messages": [ASK, REPLY]}, "cannot tell which"),
        ({"prompt": "a", "completion": "b", "context": "c"}, "would not see context"),
        ({"instruction": "a", "output": "b", "system_prompt": "c"}, "would not see system_prompt"),
        ({"messages": [ASK, REPLY], "images": ["a.png"]}, "would not see images"),
        ({"prompt": "a", "completion": "b", "label": False}, "column label"),
        ({"messages": [ASK, REPLY], "label": False}, "column label"),
        ({"instruction": "a", "output": "b", "label": "false"}, "column label"),
        ({"prompt": "a", "completion": "b", "weight": 0}, "weight 0"),
        ({"prompt": "a", "completion": "c", "choices": ["b", "c"]}, "would not see choices"),
        ({"prompt": "q", "A": "x", "B": "y", "completion": "A"}, "would not see A, B"),
        ({"prompt": "a", "hypothesis": "b", "completion": "c"}, "would not see hypothesis"),
        ({"prompt": "Answer:", "question": "a", "completion": "b"}, "would not see question"),
        ({"prompt": "a", "text": "long b", "completion": "b"}, "would not see text"),
        ({"instruction": "a", "article": "long", "output": "b"}, "would not see article"),
        ({"prompt": "a", "completion": "b", "reasoning": "c"}, "into the answer"),
        ({"messages": [{**ASK, "role": "system"}, ASK, REPLY], "system": "x"}, "two system"),
        ({"prompt": "a", "completion": "['2021']"}, "Python list"),
        ({"prompt": "a", "completion": True}, "must be text, found true or false"),
        ({"prompt": "a", "completion": 2021}, "must be text, found a number"),
        ({"prompt": "a", "completion": ["2021"]}, "must be text, found a list"),
        ({"messages": [ASK, REPLY, ASK, {**REPLY, "content": " "}]}, "message 4"),
        ({"messages": [ASK, {**REPLY, "weight": 0}]}, "nothing to train on"),
        ({"messages": [ASK, {**REPLY, "weight": 0.5}]}, "weight must be 0 or 1"),
        ({"messages": [ASK, {**REPLY, "function_call": CALL}]}, "function_call"),
        ({"messages": [ASK, {**REPLY, "tool_calls": [{**CALL, "arguments": "{"}]}]}, "not JSON"),
        ({"question": "a", "response": "b"}, 'prompt = "{question}"'),
        ({"Prompt": "a", "completion ": "b"}, "rename 'Prompt' to prompt"),
        ({"Instruction": "a", "Input": "b", "Output": "c"}, "'Input' to input"),
        ({"question": "a", "choices": ["b"], "answer": 0}, "two texts or more"),
        ({"version": 1, "parts": [{"prompt": "a"}]}, 'has rows under "parts"'),
        ({"pairs": [[[]], "x"]}, "does not know the columns"),
    ],
)
def test_rows_that_would_be_misread_are_refused(
    tmp_path: Path, row: dict[str, Any], words: str
) -> None:
    refused(write_jsonl(tmp_path / "a.jsonl", [row]), words, "a.jsonl:")


@pytest.mark.parametrize("column", ["sw", "tweet", "muktadha", "source", "body"])
def test_rows_of_one_question_with_what_it_is_about_elsewhere_are_refused(
    tmp_path: Path, column: str
) -> None:
    words = ["kitabu", "nyumba kubwa", "mti", "maji ya 5"]
    rows = [{"instruction": "Translate", column: word, "output": word[::-1]} for word in words]
    refused(write_jsonl(tmp_path / "a.jsonl", rows), f"would not see {column}", "into the question")
    asked = [{"prompt": "Translate", column: word, "answer": word[::-1]} for word in words]
    with pytest.raises(InputError, match=f"would not see {column}"):
        load_task(write_jsonl(tmp_path / "b.jsonl", asked))
    # Many answers to one question, with what may differ beside them.
    about = {"id": "row-1a", "topic": "x", "author": "Asha Ali", "url": "http://a.b/c?d=e"}
    rows = [
        {"prompt": "Say a proverb", "completion": w, **about, "key": f"k{w[0]}1"} for w in words
    ]
    assert len(load_dataset(write_jsonl(tmp_path / "c.jsonl", rows))) == 4


def test_columns_that_the_question_or_the_answer_repeats_are_no_matter(tmp_path: Path) -> None:
    row = {"prompt": "Mto? Tana, Nile", "completion": "It is Tana"}
    about = {"choices": ["Tana", "Nile"], "question": "Mto?", "answer": "Tana", "context": " "}
    named = {"category": "x", "score": 0, "notes": "x", "type": "x", "difficulty": 1, "label": 1}
    path = write_jsonl(tmp_path / "a.jsonl", [{**row, **about, **named}])
    assert pairs(load_dataset(path)) == [(row["prompt"], row["completion"])]


def test_labels_that_name_the_answer_again_mark_no_answer_as_bad(tmp_path: Path) -> None:
    rows = [{"prompt": f"q {i}", "completion": ["bad", "good"][i % 2], "label": i % 2}
            for i in range(6)]  # fmt: skip
    assert len(load_dataset(write_jsonl(tmp_path / "a.jsonl", rows))) == 6


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "q", "context": "long", "answer": "a"}, "would not see context"),
        ({"prompt": "q", "input": "x", "answer": "a"}, "would not see input"),
        ({"prompt": "q", "system": "x", "answer": "a"}, "would not see system"),
        ({"prompt": "q", "A": "x", "B": "y", "answer": "a"}, "would not see A, B"),
        ({"passage": "p", "question": "q", "choices": ["x", "y"], "answer": 0}, "passage"),
        ({"prompt": "q", "answer": "['Nairobi']"}, "Python list"),
    ],
)
def test_questions_of_which_the_model_would_not_see_a_part_are_refused(
    tmp_path: Path, row: dict[str, Any], words: str
) -> None:
    other = {**row, "answer": 1 if row["answer"] == 0 else "['Mombasa']"}
    with pytest.raises(InputError, match=words):
        load_task(write_jsonl(tmp_path / "a.jsonl", [row, other]))


@pytest.mark.parametrize(
    "text",
    [
        "Rais O\nWilliam B-PER\nRuto I-PER\n",
        "[10:11] <asha> habari\n[10:12] <juma> nzuri\n",
        "Mtoto/NOUN analala/VERB\nMama/NOUN anapika/VERB\n",
        textwrap.fill("Leo asubuhi mama alikwenda sokoni kununua mboga na matunda. " * 9, 50),
    ],
)
def test_text_targets_are_texts_too(tmp_path: Path, text: str) -> None:
    path = file_of(tmp_path, "a.txt", text)
    refused(path, ":1:")
    with pytest.raises(InputError, match=":1:") as caught:
        load_target(Target("t", path), "dev")
    assert ("`window`" in str(caught.value.hint)) == ("broken into lines" in caught.value.message)


def test_an_answer_without_a_question_asks_for_the_question(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.csv", "text,label\nna gode,good\n")
    with pytest.raises(InputError) as caught:
        load_target(Target("t", path, answer="{label}"), "dev")
    assert 'prompt = "{...}"' in str(caught.value.hint)


def test_system_messages_of_all_formats_are_read(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "ask", "completion": "reply"},
        {"messages": [ASK, REPLY]},
        {"instruction": "ask", "output": "reply"},
    ]
    for row in rows:
        path = write_jsonl(tmp_path / "a.jsonl", [{**row, "system": "be brief"}])
        assert pairs(load_dataset(path)) == [("be brief\nask", "reply")]


def test_answers_of_weight_0_are_read_and_not_trained(tmp_path: Path) -> None:
    first = {"role": "assistant", "content": "wrong"}
    for mark in ({"weight": 0}, {"train": False}, {"training": False}, {"loss": False}):
        rows = [{"messages": [ASK, {**first, **mark}, ASK, {**REPLY, "weight": 1}]}]
        path = write_jsonl(tmp_path / "a.jsonl", rows)
        assert trained(path, formatter_of(CHATML)) == ["reply<|im_end|>"]
        assert trained(path, Formatter(formatter_of(CHATML).tokenizer)) == ["reply<|im_end|>"]


@pytest.mark.parametrize("template", [WITH_TOOLS, TEXT_ARGUMENTS])
@pytest.mark.parametrize("as_text", [True, False])
def test_arguments_of_tool_calls_are_encoded_once(
    tmp_path: Path, template: str, as_text: bool
) -> None:
    arguments: Any = '{"zone": "EAT"}' if as_text else {"zone": "EAT"}
    call = {"type": "function", "function": {"name": "clock", "arguments": arguments}}
    row = {"messages": [ASK, {"role": "assistant", "content": None, "tool_calls": [call]}]}
    path = write_jsonl(tmp_path / "a.jsonl", [row])
    assert trained(path, formatter_of(template)) == ['{"zone": "EAT"}<|im_end|>']


def test_what_a_template_has_no_place_for_is_refused_with_its_line(tmp_path: Path) -> None:
    call = {"function": CALL}
    thought = {**REPLY, "reasoning_content": "hm"}
    silent = {"role": "assistant", "content": "", "tool_calls": [call]}
    chatml = formatter_of(CHATML)
    for message in (silent, thought, {**REPLY, "thinking": "hm"}, {**REPLY, "reasoning": "hm"}):
        path = write_jsonl(tmp_path / "a.jsonl", [{"messages": [ASK, message]}])
        for formatter in (chatml, Formatter(chatml.tokenizer)):
            with pytest.raises(InputError, match="line 1"):
                encode(load_dataset(path), formatter, 512, path)


@pytest.mark.parametrize("by", [("from", "value"), ("role", "content")])
@pytest.mark.parametrize("several", [False, True], ids=["a call", "a list of calls"])
def test_a_function_call_of_sharegpt_is_a_call_of_a_tool(
    tmp_path: Path, by: tuple[str, str], several: bool
) -> None:
    calls = [CALL, {"name": "date"}][: 1 + several]
    said = json.dumps(calls if several else CALL)
    turns = [("human", "saa?"), ("function_call", said), ("observation", "x"), ("gpt", "saba")]
    tools = json.dumps([{"name": "clock", "description": "d"}])
    row = {"conversations": [dict(zip(by, turn, strict=True)) for turn in turns], "tools": tools}
    path = write_jsonl(tmp_path / "a.jsonl", [row])
    (read,) = load_dataset(path)
    assert read.messages is not None
    assert read.messages[1]["content"] == ""
    functions = [call["function"] for call in read.messages[1]["tool_calls"]]
    assert functions == [CALL, {"name": "date", "arguments": {}}][: 1 + several]
    own = [{"role": "user", "content": "saa?"}, {**REPLY, "content": "", "tool_calls": calls},
           {"role": "tool", "content": "x"}, {**REPLY, "content": "saba"}]  # fmt: skip
    same = write_jsonl(tmp_path / "b.jsonl", [{"messages": own, "tools": tools}])
    assert load_dataset(same) == [read]
    for formatter in (formatter_of(CHATML), Formatter(formatter_of(CHATML).tokenizer)):
        with pytest.raises(InputError, match=r"tools|tool_calls"):
            encode(load_dataset(path), formatter, 512, path)


def test_a_function_call_that_is_broken_json_is_refused(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "a"}, {"from": "function_call", "value": '{"name": '}]
    refused(write_jsonl(tmp_path / "a.jsonl", [{"conversations": turns}]), "turn 2", "not JSON")


def test_null_fields_are_left_out(tmp_path: Path) -> None:
    # A table of conversations has every field in every message.
    spoken = "{{ message['name'] if 'name' in message else '' }}"
    template = CHATML.replace("{{'<|im_start|>'", spoken + "{{'<|im_start|>'")
    empty = {"name": None, "tool_calls": None, "reasoning_content": None}
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": [{**ASK, **empty}, {**REPLY, **empty}]}])
    (sample,) = encode(load_dataset(path), formatter_of(template), 512)
    assert "None" not in formatter_of(template).tokenizer.decode(sample.ids)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", '{"prompt":"a","completion":"b"}\n{"prompt":"c","com', "line 2.*cut off"),
        ("a.jsonl", "Not Found\n", "found 'Not Found'"),
        ("a.csv", "prompt,completion\na,b\nprompt,completion\n", "line 3: repeats the header"),
        ("a.csv", "Question,Answer\na,b\nquestion, ANSWER\n", "line 3: repeats the header"),
        (
            "a.csv",
            "\ufeffquestion,answer\na,b\n\ufeffquestion,answer\n",
            "line 3: repeats the head",
        ),
        ("a.csv", "kitabu,book\nnyumba,house\n", "means that line 1 is a row"),
        ("a.json", json.dumps([{"conversation": [ASK, REPLY]}]), 'messages = "{conversation}"'),
        ("a.jsonl", '{"prompt": "a", "chosen": "b", "rejected": "c"}\n', 'completion = "{chosen}"'),
        ("a.jsonl", '{"prompt": "a", "response": "b"}\n', 'completion = "{response}"'),
    ],
)
def test_refusals_say_what_to_write(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset(file_of(tmp_path, name, text))
    assert re.search(words, f"{caught.value.message} {caught.value.hint}")


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@pytest.mark.parametrize("quoted", [False, True], ids=["bare", "quoted"])
def test_a_bom_of_joined_files_is_no_text(tmp_path: Path, ending: str, quoted: bool) -> None:
    separator, mark = {"csv": ",", "tsv": "\t"}[ending], '"' * quoted
    lines = [separator.join(f"{mark}{cell}{mark}" for cell in row) for row in ("pc", "ab", "de")]
    text = "\n".join(lines).replace(f"{mark}p", f"{mark}prompt", 1)
    text = text.replace(f"{separator}{mark}c", f"{separator}{mark}completion", 1)
    whole = file_of(tmp_path, f"a.{ending}", text)
    head, _, last = text.rpartition("\n")
    joined = file_of(tmp_path, f"b.{ending}", f"\ufeff{head}\n\ufeff{last}\n")
    assert [row.sides for row in load_dataset(joined)] == [("a", "b"), ("d", "e")]
    assert [*load_dataset(joined)] == [*load_dataset(whole)]


def test_a_bom_of_joined_texts_is_no_text(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.txt", "\ufeffHabari ya leo\n\ufeffJua linawaka\n\ufeff\n")
    assert [row.text for row in load_dataset(path)] == ["Habari ya leo", "Jua linawaka"]
    one, other = (
        file_of(tmp_path, f"b.{name}", f"\ufeff{name}\n\ufeffa\n") for name in ("en", "sw")
    )
    rows = open_source((one, other)).records
    assert [row.fields["sw"] for row in rows] == ["sw", "a"]


def test_one_word_that_is_also_the_header_is_a_row(tmp_path: Path) -> None:
    rows = load_dataset(file_of(tmp_path, "a.csv", "text\nHabari\nText\n"))
    assert [row.text for row in rows] == ["Habari", "Text"]


def test_rows_with_the_same_fault_are_one_line_of_data_check(tmp_path: Path) -> None:
    rows = [{"prompt": f"q {i}", "context": f"long {i}", "completion": "a"} for i in range(200)]
    (found,) = check_data([write_jsonl(tmp_path / "a.jsonl", rows)])
    (problem,) = (each for each in found.problems if each.kind == "bad_row")
    assert problem.message.startswith("200 rows: the model would not see context")
    assert problem.lines == (1, 2, 3, 4, 5)
    assert found.refused


def test_init_says_what_to_write(tmp_path: Path) -> None:
    model = pico_model(tmp_path / "pico")
    data = file_of(tmp_path, "a.csv", "text,label\nna gode,good\n")
    dev = write_jsonl(tmp_path / "dev.jsonl", [{"prompt": c, "answer": c} for c in "ab"])
    start_recipe(Wanted(tmp_path / "r.toml", (data,), (dev,), model=str(model), template="plain"))
    (dataset,) = load_recipe(tmp_path / "r.toml").datasets
    assert (dataset.prompt, dataset.completion) == ("{text}", "{label}")
    data = file_of(tmp_path, "b.csv", "text,mood,note\nna gode,good,x\n")
    with pytest.raises(InputError) as caught:
        start_recipe(
            Wanted(tmp_path / "s.toml", (data,), (dev,), model=str(model), template="plain")
        )
    assert '--prompt "{text}" --completion "{mood}"' in str(caught.value.hint)


QUOTED = {
    "swallows three rows": ('maji\t"water\nmoto\tfire\njua\tsun"\nmwezi\tmoon\n', "lines 2 to 4"),
    "swallows to the end": ('kitabu\tbook\n"Habari\thow are you\nmti\ttree\n', "line 3"),
    "closes too late": ('"Habari\thow\nkitabu\tbook\nmti\ttree"\nmaji\twater\n', "lines 2 to 4"),
    "goes on after it": ('kitabu\t"book\nmti\ttree" is big\n', "line 2"),
}


@pytest.mark.parametrize(
    ("kind", "delimiter"), [*((kind, ",") for kind in QUOTED), ("swallows three rows", "\t")]
)
def test_rows_that_a_quotation_mark_joins_are_refused(
    tmp_path: Path, kind: str, delimiter: str
) -> None:
    text = "prompt\tcompletion\n" + QUOTED[kind][0]
    lines = csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        joined = len(list(csv.reader(io.StringIO(text), delimiter="\t", strict=True)))
    except csv.Error:
        joined = 0
    assert joined != len(list(lines)), "Python's two modes disagree: the file is ambiguous"
    name = "a.tsv" if delimiter == "\t" else "a.csv"
    path = file_of(tmp_path, name, text.replace("\t", delimiter))
    refused(path, QUOTED[kind][1], "quotation mark", "JSONL")


def test_fields_of_several_lines_and_sentences_in_quotation_marks_are_kept(tmp_path: Path) -> None:
    rows = [("shairi", 'one, two\nthree, four\n"five"'), ("sema", "a, b"), ("ndiyo", 'said "yes"')]
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t"), ("b.csv", ";")):
        file = io.StringIO(newline="")
        csv.writer(file, delimiter=delimiter).writerows([("prompt", "completion"), *rows])
        path = file_of(tmp_path, name, file.getvalue())
        assert pairs(load_dataset(path)) == rows
    path = file_of(tmp_path, "t.tsv", 'prompt\tcompletion\nkitabu\tbook\n"Ndiyo."\t"Yes."\n')
    assert pairs(load_dataset(path))[1] == ('"Ndiyo."', '"Yes."')
    path = file_of(tmp_path, "q.tsv", '"prompt"\t"completion"\n"kitabu"\t"book"\n"mti"\t"tree"\n')
    assert pairs(load_dataset(path)) == [("kitabu", "book"), ("mti", "tree")]


ROW = '{"prompt": "kitabu", "completion": "book"}\n'


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.jsonl", gzip.compress(ROW.encode(), mtime=0)[:-9], "cut off"),
        ("a.jsonl", "version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.csv", "<!DOCTYPE html>\n<html></html>", "web page"),
        ("a.jsonl", "{'prompt': 'kitabu', 'completion': nan}\n", "Python, not JSON"),
        ("a.txt", "Mama alipika.\nmama a-li-pik-a\n'The mother cooked.'\n" * 2, "glossed"),
        ("a.txt", "MAT 1:1 Hapo mwanzo.\n1 Kor. 1:2 Neema iwe.\nMAT 1:3 Amina.\n", "verses"),
        ("a.txt", "Jina?\nAsha.\n\nMji?\nNairobi.\n\nLini?\nJana.\n", '{ turn = "second line" }'),
        ("a.sql", "INSERT INTO t VALUES ('a', 'b');\n", "copy of a database"),
        ("a.TextGrid", "xmin = 0\n", "Praat"),
        ("a.txt", "\\lx kitabu\n\\ps n\n\\ge book\n\\lx mti\n", "marks with texts"),
        ("a.txt", "\\c 1\n\\p\n\\v 1 Hapo mwanzo.\n\\v 2 Nayo nchi.\n", "marks with texts"),
        ("a.jsonl", '{"prompt": "a", "prompt": "b", "completion": "c"}\n', "twice"),
        ("a.json", '[{"prompt": "a", "completion": "c", "completion": "d"}]', "twice"),
        ("a.jsonl", '{"prompt": "a", "completion": NaN}\n', "line 1"),
        ("a.txt", "Rais O\nWilliam B-PER\nRuto I-PER\nalisema O\n", "CoNLL"),
        ("a.txt", "01/02/2024, 10:11 - Asha: Habari?\n01/02/2024, 10:12 - Juma: Nzuri\n",
         '{ turn = "Juma" }'),
        ("a.txt", "1\n00:00:01,0 --> 00:00:02,0\nHabari\n\n2\n00:00:03,0 --> 00:00:04,0\nPoa\n",
         "subtitles"),
        ("a.txt", "kitabu ||| book\nnyumba ||| house\n", 'completion = "{right}"'),
        ("a.txt", "Rais NOUN\nalisema VERB\n. PUNCT\n", "CoNLL"),
        ("a.txt", "1. Nani?\nA) Asha\nB) Juma\nAnswer: B\n2. Wapi?\nA) Hapa\nB) Kule\n", "quiz"),
        ("a.txt", "| swali | jibu |\n|---|---|\n| Nani? | Mimi |\n| Wapi? | Hapa |\n", "Markdown"),
        ("a.txt", "mama : mother\nnyumba : house\nmji mkuu : capital\n", 'completion = "{right}"'),
        ("a.txt", "utt_001 mama alisema\nutt_002 baba alikuja\nutt_003 leo\n", "its id before it"),
        ("a.jsonl", '{"text": "[INST] ask [/INST] reply"}\n', "chats written out"),
        ("a.jsonl", '{"text": "### Instruction: ask\\n### Response: ok"}\n', "chats written out"),
        ("a.jsonl", '{"text": "Swali: Nani?\\nJibu: Asha"}\n', "chats written out"),
        ("a.jsonl", '{"text": "Human: ask\\nAssistant: reply"}\n', "chats written out"),
    ],
)  # fmt: skip
def test_files_that_are_not_what_their_name_says(
    tmp_path: Path, name: str, data: str | bytes, words: str
) -> None:
    refused(file_of(tmp_path, name, data), words)
    (found,) = check_data([tmp_path / name])
    assert found.refused


def test_byte_order_marks_are_no_text(tmp_path: Path) -> None:
    both = "\ufeff" + ROW + "\ufeff" + ROW  # two files put one after the other
    assert pairs(load_dataset(file_of(tmp_path, "a.jsonl", both))) == [("kitabu", "book")] * 2
    table = "\ufeff\ufeffprompt,completion\nkitabu,book\n"
    assert pairs(load_dataset(file_of(tmp_path, "a.csv", table))) == [("kitabu", "book")]


def test_lines_of_old_machines_are_lines(tmp_path: Path) -> None:
    rows = load_dataset(file_of(tmp_path, "a.txt", "mstari wa kwanza\rwa pili\r\nwa tatu\n"))
    assert [row.text for row in rows] == ["mstari wa kwanza", "wa pili", "wa tatu"]


def test_one_object_over_several_lines_is_a_row(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.json", json.dumps(json.loads(ROW), indent=1))
    assert pairs(load_dataset(path)) == [("kitabu", "book")]


WORDS = "Siku moja sungura alikutana na fisi njiani akamwambia habari ya mvua kubwa iliyonyesha "


@pytest.mark.parametrize("width", [40, 60, 72, 100])
@pytest.mark.parametrize("gap", ["\n", "\n\n"])
def test_paragraphs_broken_into_lines_are_refused(tmp_path: Path, width: int, gap: str) -> None:
    text = "Hadithi\n\n" + gap.join(textwrap.fill(WORDS * n, width) for n in (4, 6, 5, 7))
    error = refused(file_of(tmp_path, "a.txt", text), "on one line")
    found = int(error.message.partition("about ")[2].partition(" ")[0])
    assert width - 3 <= found <= width


@pytest.mark.parametrize(
    "text",
    ["[" + "'neno' " * 7_000 + "x", "['a'" + " " * 50_000, "ne?no" * 10_000, "/a?" * 17_000],
    ids=["items", "spaces", "one word", "addresses"],
)
def test_long_texts_of_strangers_take_no_long_time(tmp_path: Path, text: str) -> None:
    rows = [{"prompt": f"Habari {n}?", "completion": text} for n in (1, 2)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    begin = time.process_time()
    check_data([path])
    load_dataset(file_of(tmp_path, "a.txt", f"{'a/AB' * 9_000} x\n" * 3))
    assert time.process_time() - begin < 20


@pytest.mark.parametrize("word", ["None", "nan", " null\n", "<noinput>"])
def test_a_program_s_word_for_an_empty_field_is_never_trained(tmp_path: Path, word: str) -> None:
    sides = [{"from": "human", "value": "Habari?"}, {"from": "gpt", "value": "Nzuri"}]
    for place in (0, 1):
        chat = [ASK, REPLY]
        chat[place] = {**chat[place], "content": word}
        turns = [*sides]
        turns[place] = {**turns[place], "value": word}
        for row in ({"messages": chat}, {"conversations": turns}):
            error = refused(write_jsonl(tmp_path / "a.jsonl", [row]), "empty field")
            assert f"line 1: message {place + 1}" in error.message
    tool = {"role": "tool", "content": word}  # a tool may find nothing
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": [ASK, tool, REPLY]}])
    assert load_dataset(path)[0].messages[1]["content"] == word
    rows = [{"instruction": "Tafsiri", "input": text, "output": "A"} for text in (word, "B")]
    found = read_rows(as_source(write_jsonl(tmp_path / "b.jsonl", rows)))
    assert [row.sides[0] for row in found.rows] == ["Tafsiri", "Tafsiri\nB"]
    assert any("1 value of input with nan" in note for note in found.notes)


def test_notes_on_rows_that_can_be_trained(tmp_path: Path) -> None:
    rows = [{"messages": [ASK, REPLY, ASK]}, {"messages": [ASK, REPLY]}]
    (found,) = check_data([write_jsonl(tmp_path / "a.jsonl", rows)])
    lines = {problem.kind: problem.lines for problem in found.problems}
    assert lines["unanswered"] == (1,)
    spaced = file_of(tmp_path, "s.csv", "prompt,completion\nkitabu, book\nmti, tree\n")
    assert "leading_space" in {problem.kind for problem in check_data([spaced])[0].problems}
    one, _ = (file_of(tmp_path, f"bible.{tag}.txt", "a b\nc d\ne f\n") for tag in ("en", "sw"))
    (found,) = check_data([one])
    assert any("bible.sw.txt" in problem.message for problem in found.problems)
    file_of(tmp_path, "bible.sw.txt", "a b\nc d\n")
    (found,) = check_data([one])
    assert not any(problem.kind == "parallel" for problem in found.problems)


@pytest.mark.parametrize("end", [".", "?", "።", '."'])
def test_sentences_of_equal_length_are_no_broken_paragraphs(tmp_path: Path, end: str) -> None:
    words = WORDS.split()
    lines = []
    for number in range(40):
        text = " ".join(words[(number + 3 * i) % 10] for i in range(9)).capitalize()
        lines.append(f"{text[:45]:a<45}{end}")
    path = tmp_path / "a.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert [row.text for row in load_dataset(path)] == lines


def test_texts_on_lines_of_their_own_are_rows(tmp_path: Path) -> None:
    kept = Path(__file__).parents[1] / "golden" / "sentences.txt"
    sentences = kept.read_text(encoding="utf-8").splitlines()
    poem = ["Titi la mama li tamu", "jingine halishi hamu", "nalisifu kwa kudumu"] * 4
    paragraphs = [WORDS * 3, "", WORDS * 2, "", WORDS]
    for lines in (sentences, poem, paragraphs, ["kitabu", "nyumba", "mti"] * 9):
        path = file_of(tmp_path, "a.txt", "\n".join(lines))
        assert [row.text for row in load_dataset(path)] == [line for line in lines if line]
