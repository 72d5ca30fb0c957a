"""How rows are read is in the fingerprints of all that is made of them.

tests/field/test_stale.py changes each field of a scenario whose rows need no mapping. Here are rows
of which each setting makes others.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from m2m.checkpoint import find_model
from m2m.dataset.mapping import RowMapping
from m2m.evaluate.evaluator import Evaluator
from m2m.formats.rowfile import Options
from m2m.pipeline.inputs import Inputs, read_inputs
from m2m.recipe import load_recipe
from m2m.tokenizer import Formatter, Tokenizer
from m2m.tokenizer.template import ChatTemplate, with_variables
from tests.field.test_stale import toml
from tests.pipeline.scenario import RECIPE, make_scenario
from tests.tiny import CHATML, write_jsonl

Entry = dict[str, Any]
ROWS: Entry = {"path": "rows.jsonl", "prompt": "{q}", "completion": "{a}"}
PLAIN: Entry = {"path": "upper.jsonl", "prompt": "{prompt}", "completion": "{completion}"}
CHOICES: Entry = {"path": "rows.jsonl", "prompt": "{q}", "choices": "{options}"}
CHOICES |= {"completion": "{gold}", "answers": "index0"}
TABLE: Entry = {"path": "table.csv", "prompt": "{1}", "completion": "{2}"}
LATIN: Entry = {"path": "latin.csv", "prompt": "{q}", "completion": "{a}", "encoding": "cp1252"}
ALIGNED: Entry = {"path": ["en.txt", "yo.txt"], "prompt": "{0}", "completion": "{1}"}
LABELS = {"b0": "x", "b1": "y", "b2": "z"}
# The same rows before and after a setting changed; None takes the field out.
SETTINGS: dict[str, tuple[Entry, Entry]] = {
    "prompt": (ROWS, {"prompt": "Say {q}"}),
    "completion": (ROWS, {"completion": "{a}!"}),
    "system": (ROWS, {"system": "{system_text}"}),
    "text": (ROWS, {"text": "{q} {a}", "prompt": None, "completion": None}),
    "messages": (ROWS, {"messages": "{chat}", "prompt": None, "completion": None}),
    "choices": (CHOICES, {"choices": "{others}"}),
    "answers": (CHOICES, {"answers": "index1"}),
    "labels": (ROWS | {"labels": LABELS}, {"labels": LABELS | {"b1": "v"}}),
    "where": (ROWS, {"where": {"lang": "sw"}}),
    "like": (PLAIN, {"like": "other", "prompt": None}),
    "encoding": (LATIN, {"encoding": "cp1251"}),
    "header": ({**TABLE, "header": "yes"}, {"header": "no"}),
    "quotes": ({**TABLE, "quotes": "fields"}, {"quotes": "text"}),
    "path": (ALIGNED, {"path": ["yo.txt", "en.txt"]}),
}
# Rows that cannot be read are no part of what is made; without "skip" nothing is made at all.
NOTHING_ELSE = {"bad_rows", "exact"}  # exact: of task files, whose prompts are in the keys


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_scenario(tmp_path_factory.mktemp("rows")).parent
    chats = [[{"role": "user", "content": f"hi {i}"}, {"role": "assistant", "content": f"yo {i}"}]
             for i in range(3)]  # fmt: skip
    rows = [{"q": f"café {i}", "a": f"b{i}", "system_text": f"s{i}", "chat": chats[i],
             "options": ["d", "e", "f"], "others": ["g", "h", "i"], "gold": 1 + i % 2,
             "lang": "sw" if i else "yo"} for i in range(3)]  # fmt: skip
    write_jsonl(folder / "rows.jsonl", rows)
    (folder / "table.csv").write_text('1,2\n"a b",c\n"d e",f\n', encoding="utf-8")
    (folder / "latin.csv").write_bytes("q,a\ncafé,thé\nété,blé\n".encode("cp1252"))
    (folder / "en.txt").write_text("a book\na house\n", encoding="utf-8")
    (folder / "yo.txt").write_text("iwe\nile\n", encoding="utf-8")
    return folder


def written(section: str, fields: Entry) -> str:
    lines = [f"{key} = {toml(value)}" for key, value in fields.items() if value is not None]
    return "\n".join([f"[[{section}]]", *lines, ""])


def opened(place: Path, dataset: Entry, target: Entry, more: str = "") -> Inputs:
    """A recipe with this dataset and this target, read; `other` is there to be named by `like`."""
    head, _, rest = RECIPE.partition("[[datasets]]")
    other = {"name": "other", "path": "copy.jsonl", "prompt": "{prompt}?"}
    other |= {"completion": "{completion}"}
    asked = {"path": "dev", "completion": "answer"}
    target = {asked.get(key, key): value for key, value in target.items()}
    path = place / "recipe.toml"
    path.write_text(
        head
        + written("datasets", {"name": "tried", **dataset})
        + written("datasets", other)
        + written("targets", {"name": "asked", **target})
        + rest[rest.index("[train]") :]
        + more,
        encoding="utf-8",
    )
    return read_inputs(load_recipe(path))


def trained(inputs: Inputs) -> tuple[object, str]:
    corpus = inputs.corpora["tried"]
    return [(x.ids.tolist(), x.loss_mask.tolist()) for x in corpus.samples], corpus.fingerprint


def scored(inputs: Inputs) -> tuple[object, str]:
    task = inputs.dev["asked"]
    return task.examples, Evaluator(task, inputs.formatter).fingerprint


def test_every_setting_of_rows_is_here() -> None:
    names = {"completion" if f.name == "answer" else f.name for f in dataclasses.fields(RowMapping)}
    names |= {f.name for f in dataclasses.fields(Options)} | {"like", "path"}
    assert names == SETTINGS.keys() | NOTHING_ELSE


COPYING: Entry = {"path": "dev.jsonl"}
OTHERS: Entry = {"path": "reverse.jsonl"}


@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_in_the_mark_of_an_adapter(place: Path, name: str) -> None:
    before, changes = SETTINGS[name]
    (old, mark), (new, other) = (
        trained(opened(place, entry, COPYING)) for entry in (before, before | changes)
    )
    assert old != new
    assert mark != other


@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_in_the_mark_of_a_score(place: Path, name: str) -> None:
    before, changes = SETTINGS[name]
    (old, mark), (new, other) = (
        scored(opened(place, OTHERS, entry)) for entry in (before, before | changes)
    )
    assert old != new
    assert mark != other


def test_the_normal_form_of_letters_is_in_both(place: Path) -> None:
    found = [opened(place, ROWS, ROWS, more) for more in ("", '[data]\nnormalise = "NFD"\n')]
    for marks in (trained, scored):
        (old, mark), (new, other) = map(marks, found)
        assert old != new
        assert mark != other


def test_aligned_files_that_swapped_their_names_are_other_rows(tmp_path: Path) -> None:
    """The bytes come in the same order as before, and the templates name the other ones."""
    make_scenario(tmp_path)
    entry = {"prompt": "{en}", "completion": "{yo}"}
    found = []
    for names in (["en.txt", "yo.txt"], ["yo.txt", "en.txt"]):
        for name, text in zip(names, ("a book\n", "iwe\n"), strict=True):
            (tmp_path / name).write_text(text, encoding="utf-8")
        found.append(trained(opened(tmp_path, {"path": names, **entry}, COPYING)))
    (old, mark), (new, other) = found
    assert old != new
    assert mark != other


def test_variables_of_the_chat_template_are_in_both(place: Path) -> None:
    """Adapters and scores have the template's text in their marks, with its variables."""
    base = find_model("pico", [place / "models"])
    tokenizer = Tokenizer.from_metadata(base.gguf.value)
    text = CHATML + "{% if add_generation_prompt and thinking %}{{ thinking }}{% endif %}"
    template = ChatTemplate(text, "", "<|im_end|>")
    marks = {Formatter(tokenizer, template).identity}
    for value in ("a", "b", 1, True):
        marks.add(Formatter(tokenizer, with_variables(template, {"thinking": value})).identity)
    assert len(marks) == 5
