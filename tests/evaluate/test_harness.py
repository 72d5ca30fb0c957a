from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.errors import InputError
from m2m.evaluate.evaluator import Evaluator
from m2m.evaluate.harness import load_harness
from m2m.evaluate.harness_results import generation_options
from m2m.evaluate.metrics import measure_all
from m2m.evaluate.scores import Scores
from m2m.evaluate.targets import load_target, refuse_same_rows
from m2m.formats.gguf import GGUFFile
from m2m.formats.table_types import column_names
from m2m.llamacpp.model import LlamaModel
from m2m.recipe import Target
from m2m.tokenizer import Formatter, Tokenizer
from tests.tiny import pico_gguf, write_jsonl

FOLDER = Path(__file__).parent.parent / "golden" / "harness"
GOLDEN = FOLDER / "results.json"
TASKS = ("choices", "labels", "written")
# Their names for our metrics. Theirs divides by characters in acc_norm and by bytes in acc_bytes;
# ours always by bytes, so the two names are one number on ASCII choices only.
NAMES = {"acc": "accuracy", "acc_bytes": "accuracy_norm", "acc_norm": "accuracy_norm"}


def ours(name: str, path: Path) -> Scores:
    """Our scores of one of the golden task files."""
    target = Target(
        name, FOLDER / f"{name}.yaml", metric="exact_match" if name == "written" else "auto"
    )
    formatter = Formatter(Tokenizer.from_metadata(GGUFFile(path).value))
    with LlamaModel(path, threads=1, exact_cache=True) as model:
        return Evaluator(load_target(target, "dev"), formatter).evaluate(model)


def compare(scores: Scores, recorded: dict[str, Any]) -> None:
    """The harness's numbers are ours: every example's, and the metrics."""
    if "said" in recorded:
        assert scores.predictions == tuple(said.strip() for said in recorded["said"])
        return
    metrics = measure_all(scores)
    if scores.kind == "choices":
        np.testing.assert_allclose(scores.loglik, recorded["loglik"], atol=1e-3)
    for name, value in recorded["metrics"].items():
        assert metrics[NAMES[name]].value == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("name", TASKS)
def test_scores_are_what_the_harness_recorded(name: str, tmp_path: Path) -> None:
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))["results"][name]
    scores = ours(name, pico_gguf(tmp_path / "pico.gguf"))
    compare(scores, recorded)
    if name == "labels":
        assert scores.kind == "labels"
        assert "macro_f1" in measure_all(scores)
        assert set(scores.by_facet()) == {"sw", "en"}


TASK: dict[str, Any] = {
    "task": "t",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "rows.jsonl", "dev": "dev.jsonl"}},
    "validation_split": "dev",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "Q: {{question}}\nA:",
    "doc_to_choice": "{{[one, two]}}",
    "doc_to_target": "{{gold}}",
}


def written(folder: Path, **changes: Any) -> Path:
    """A task file (JSON is YAML) with two rows of data in each split."""
    for name in ("rows", "dev"):
        made = [
            {"question": f"{name} {i}", "one": f"a{i}", "two": f"b{i}", "gold": i, "template": ""}
            for i in (0, 1)
        ]
        write_jsonl(folder / f"{name}.jsonl", made)
    path = folder / "task.yaml"
    path.write_text(json.dumps(TASK | changes), encoding="utf-8")
    return path


def test_the_parts_of_a_task_file(tmp_path: Path) -> None:
    path = written(tmp_path, description="D\n", num_fewshot=1, fewshot_split="dev")
    task = load_harness(path, "test", seed=3)
    assert [e.prompt for e in task.examples] == ["Q: rows 0\nA:", "Q: rows 1\nA:"]
    assert [e.answer for e in task.examples] == ["a0", "b1"]
    assert load_harness(path, "dev").examples[0].prompt == "Q: dev 0\nA:"
    form = task.form
    assert (form.style, form.instruction, form.shots, form.seed) == ("raw", "D\n", 1, 3)
    assert (form.delimiter, form.prefix, form.separator, len(form.pool)) == (" ", "", "\n\n", 2)
    changed = load_harness(written(tmp_path, doc_to_target="gold", doc_to_choice=["a", "b"]), "dev")
    assert (changed.kind, changed.fingerprint != task.fingerprint) == ("labels", True)
    named = written(tmp_path, doc_to_choice={"x": "yes", "y": "no"}, doc_to_target="yes")
    assert [e.gold for e in load_harness(named, "dev").examples] == [0, 0]


def test_the_fingerprint_follows_all_that_is_read_and_nothing_else(tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "read.jsonl", [{"q": "x", "c": ["a", "b"], "g": 0}])
    base = tmp_path / "base.yaml"
    base.write_text("doc_to_text: '{{q}}'\n", encoding="utf-8")
    path = tmp_path / "task.yaml"
    path.write_text(
        "include: base.yaml\ndataset_path: json\noutput_type: multiple_choice\n"
        "dataset_kwargs: {data_files: {test: read.jsonl, train: not-here.jsonl}}\n"
        "test_split: test\ndoc_to_choice: '{{c}}'\ndoc_to_target: g\n",
        encoding="utf-8",
    )
    first = load_harness(path, "dev").fingerprint
    assert load_harness(path, "dev").fingerprint == first
    base.write_text("doc_to_text: 'Q: {{q}}'\n", encoding="utf-8")
    second = load_harness(path, "dev").fingerprint
    rows.write_text(rows.read_text(encoding="utf-8").replace("x", "y"), encoding="utf-8")
    assert len({first, second, load_harness(path, "dev").fingerprint}) == 3
    rows.unlink()
    with pytest.raises(InputError, match=r"read\.jsonl"):
        load_harness(path, "dev")


def test_a_row_is_no_solved_example_for_itself(tmp_path: Path) -> None:
    """The harness draws from the test split too, if the file names it."""
    path = written(tmp_path, num_fewshot=1, fewshot_split="test")
    first, second = load_harness(path, "test").examples
    assert first.contexts == ("Q: rows 1\nA: b1\n\nQ: rows 0\nA:",)
    assert second.contexts == ("Q: rows 0\nA: a0\n\nQ: rows 1\nA:",)


def test_choices_may_be_a_tuple(tmp_path: Path) -> None:
    """As of a function, or of a template that writes one; lm-eval takes both."""
    task = load_harness(written(tmp_path, doc_to_choice="{{(one, two)}}"), "test")
    assert [e.choices for e in task.examples] == [("a0", "b0"), ("a1", "b1")]


def test_a_temperature_may_be_a_text(tmp_path: Path) -> None:
    keys = {"output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "one"}
    task = load_harness(written(tmp_path, **keys, generation_kwargs={"temperature": "0.0"}), "test")
    assert task.harness and not task.harness.notes
    assert generation_options(task.harness)["temperature"] == 0.0


def test_written_answers(tmp_path: Path) -> None:
    kinds = {"output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "{{[one]}}"}
    task = load_harness(written(tmp_path, **kinds), "test")
    assert task.examples[1].references == ("a1",)
    assert (task.form.stop, task.form.max_tokens) == (("\n\n",), 256)
    until = {"until": ["x"], "max_gen_toks": 9, "do_sample": False, "temperature": 0.0}
    form = load_harness(written(tmp_path, **kinds, generation_kwargs=until), "test").form
    assert (form.stop, form.max_tokens) == (("x",), 9)


def test_columns_of_a_csv_file_have_different_names(tmp_path: Path) -> None:
    # As pandas names them.
    assert column_names(["", "q", "r", "r"]) == ["Unnamed: 0", "q", "r", "r.1"]
    assert column_names(["r", "r.1", "r"]) == ["r", "r.1", "r.2"]
    assert column_names(["r", "r", "r.1"]) == ["r", "r.2", "r.1"]
    assert column_names(["a", "", "Unnamed: 1"]) == ["a", "Unnamed: 1.1", "Unnamed: 1"]
    kwargs: dict[str, Any] = {"data_files": {"test": "d.csv", "dev": "d.csv"}}
    asked = {"doc_to_text": "r: {{r}}", "doc_to_choice": ["ja", "no"], "doc_to_target": 0}
    path = written(tmp_path, dataset_path="csv", dataset_kwargs=kwargs, **asked)
    (tmp_path / "d.csv").write_text(",q,r,r\n0,x,5,6\n1,y,7,8\n", encoding="utf-8")
    fields = load_harness(path, "test").examples[0].fields
    assert fields == {"Unnamed: 0": 0, "q": "x", "r": 5, "r.1": 6}
    kwargs["column_names"] = ["a", "a", "r", "s"]
    path = written(tmp_path, dataset_path="csv", dataset_kwargs=kwargs, **asked)
    with pytest.raises(InputError, match="two column names are equal"):
        load_harness(path, "test")


def test_empty_lines_of_a_text_are_rows(tmp_path: Path) -> None:
    kwargs = {"data_files": {"test": "d.txt", "dev": "d.txt"}}
    asked = {"doc_to_text": "<{{text}}>", "doc_to_choice": ["ja", "no"], "doc_to_target": 0}
    path = written(tmp_path, dataset_path="text", dataset_kwargs=kwargs, **asked)
    (tmp_path / "d.txt").write_bytes("one\r\ntwo \n\n \rfo\u2028ur\n".encode())
    task = load_harness(path, "test")
    # The rows of `datasets` 5.2 for this file.
    assert [e.fields["text"] for e in task.examples] == ["one", "two ", "", " ", "fo\u2028ur"]
    rolls = {"output_type": "loglikelihood_rolling", "doc_to_target": "text", "doc_to_choice": None}
    path = written(tmp_path, dataset_path="text", dataset_kwargs=kwargs, **rolls, doc_to_text="")
    with pytest.raises(InputError, match=r"lines 3, 4: .* a text without words; delete such rows"):
        load_harness(path, "test")


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        # lm-eval 0.4.13 counts "iki" as wrong for the second row of the first case, which it
        # compares with the text of the list, and "b" as right for that of the second: a character.
        (
            ["bir", "['bir', 'iki']"],
            "line 2: doc_to_target gives ['bir', 'iki'], and for the first",
        ),
        (["['bir', 'iki']", "bir"], "line 2: doc_to_target gives 'bir', and for the first row a l"),
        (["[1, 2]", "[3]"], "line 1: doc_to_target gives [1, 2], a list of numbers"),
        (["['1', 'bir']", "['iki']"], ""),
        (["1", "[bir"], ""),
    ],
)
def test_answers_are_lists_in_each_row_or_in_none(
    tmp_path: Path, answers: list[str], words: str
) -> None:
    kinds = {"output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "{{a}}"}
    path = written(tmp_path, **kinds)
    write_jsonl(
        tmp_path / "rows.jsonl", [{"question": a, "a": a, "one": 1, "two": 2} for a in answers]
    )
    if not words:
        assert load_harness(path, "test").examples
        return
    with pytest.raises(InputError) as caught:
        load_harness(path, "test")
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"process_docs": "x", "filter_list": "y"}, "2 problems"),
        (
            {"process_results": "x"},
            "`process_results` is not supported; m2m has its own metrics",
        ),
        ({"doc_to_image": "x"}, "m2m evaluates texts only"),
        ({"dataset_path": "allenai/ai2_arc", "dataset_kwargs": None}, "is not on this machine"),
        (
            {"dataset_kwargs": {"data_files": "x.jsonl", "features": {}}},
            "dataset_kwargs has features",
        ),
        ({"dataset_kwargs": {"data_files": "https://x.y/z.jsonl"}}, "the split 'test' is used"),
        ({"dataset_kwargs": {"data_files": {"test": "https://x/z.json"}}}, "data_files names http"),
        ({"test_split": "train"}, "the split 'train' is used, data_files has test, dev"),
        ({"test_split": None, "validation_split": None}, "has neither `test_split` nor"),
        ({"output_type": "rolling"}, "output_type is 'rolling'"),
        ({"doc_to_choice": None}, "without `doc_to_choice`"),
        ({"doc_to_text": None}, "`doc_to_text` is missing"),
        ({"doc_to_text": "nothing"}, "doc_to_text is 'nothing', and the rows have no such field"),
        ({"doc_to_text": "input text"}, "doc_to_text is 'input text', and the rows have no such"),
        (
            {"doc_to_target": "Answer Key", "doc_to_choice": ["a", "b"]},
            "doc_to_target is 'Answer Key', and the rows have no such field",
        ),
        ({"doc_to_text": "{{nothing}}"}, "doc_to_text: 'nothing' is undefined"),
        ({"doc_to_text": "{{question | shuffle('a')}}"}, "is not understood"),
        ({"doc_to_text": "{% for a in range(10**9) %}{% endfor %}"}, "compute powers"),
        ({"doc_to_target": "{{one}}x"}, "which is none of the choices"),
        ({"doc_to_target": "²"}, "which is none of the choices"),
        ({"doc_to_target": "1" * 5000}, "which is none of the choices"),
        ({"doc_to_target": -1}, "which is none of the choices"),
        ({"doc_to_target": [0, 1]}, "several right choices"),
        ({"doc_to_choice": "{{one}}"}, "doc_to_choice: malformed"),
        ({"doc_to_choice": ["a"]}, "expected a list of two or more"),
        ({"fewshot_config": {"sampler": "balanced"}}, "expected default or first_n"),
        ({"num_fewshot": 5}, "5 solved examples are asked for, found 2 rows"),
        ({"metric_list": ["acc"]}, "`metric_list` is ['acc'], expected a list of keys and values"),
        ({"include": "task.yaml"}, "includes itself"),
        ({"group": "g", "task": ["a", "b"]}, "is the group 'g', no task"),
        ({"generation_kwargs": {"guide": 1}}, "generation_kwargs has guide"),
        ({"generation_kwargs": {1: 2}}, "generation_kwargs has 1"),
        ({"generation_kwargs": {"temperature": [1]}}, "temperature is [1], expected a number"),
        ({"dataset_kwargs": {1: 2}}, "dataset_kwargs has 1"),
        ({"dataset_kwargs": {"data_files": {1: "rows.jsonl"}}}, "data_files has 1"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_harness(written(tmp_path, **changes), "test")
    assert words in caught.value.message
    assert caught.value.hint
    assert "task.yaml" in caught.value.message or "rows.jsonl" in caught.value.message


@pytest.mark.parametrize(
    "given",
    [1, {"filter": 1}, {"filter": [1]}, {"filter": [{"function": [1]}]}, {"filter": ["map"]}],
)
def test_filters_that_are_none_are_named(tmp_path: Path, given: Any) -> None:
    changes = {"output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "one"}
    task = load_harness(written(tmp_path, **changes, filter_list=[given]), "test")
    assert task.harness and "is not supported" in task.harness.notes[0]


def test_sampling_is_read_as_greedy_and_said(tmp_path: Path) -> None:
    changes = {"output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "one"}
    options = {"do_sample": True, "temperature": 0.8, "until": [], "max_new_tokens": 7}
    path = written(tmp_path, **changes, generation_kwargs=options, repeats=3)
    task = load_harness(path, "test")
    assert (task.form.stop, task.form.max_tokens) == ((), 7)
    assert task.harness
    chance, repeats = task.harness.notes
    assert "by chance" in chance
    assert "each answer 3 times" in repeats


@pytest.mark.parametrize("key", ["doc_to_text", "doc_to_target", "doc_to_choice", "include"])
@pytest.mark.parametrize("value", ["[a, [!function utils.go]]", "2020-01-01", "!function a.b"])
def test_a_tag_where_it_counts_is_refused(tmp_path: Path, key: str, value: str) -> None:
    path = written(tmp_path, **{key: "HERE"})
    text = path.read_text(encoding="utf-8").replace('"HERE"', value)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        load_harness(path, "test")


def test_a_tag_without_effect_is_read(tmp_path: Path) -> None:
    """Real task files name aggregations by `!function`; m2m reports metrics of its own."""
    path = written(tmp_path, metric_list="HERE")
    plain = load_harness(written(tmp_path), "test")
    path = written(tmp_path, metric_list="HERE")
    value = "[{metric: acc, aggregation: !function utils.mean}]"
    text = path.read_text(encoding="utf-8").replace('"HERE"', value)
    path.write_text(text, encoding="utf-8")
    tagged = load_harness(path, "test")
    assert tagged.examples == plain.examples
    assert tagged.fingerprint != plain.fingerprint


def test_a_recipe_may_change_how_it_is_asked_but_not_how_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    target = Target("t", path, path, template="chat", instruction="Go.", metric="accuracy")
    form = load_target(target, "test").form
    assert (form.style, form.instruction, form.prefix, form.delimiter) == ("chat", "Go.", "", None)
    with pytest.raises(InputError, match=r"says how its rows are read, and prompt is set"):
        load_target(Target("t", path, prompt="{question}"), "dev")
    one = written(tmp_path, validation_split=None)
    target = Target("t", one, one)
    with pytest.raises(InputError, match="the same rows"):
        refuse_same_rows(load_target(target, "dev"), load_target(target, "test"))


def test_columns_of_numbers_in_csv_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("q,n,x,t\na,1,0.5,07\nb,2,1.,c\n", encoding="utf-8")
    files = {"data_files": {"test": "rows.csv"}}
    changes = {"output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "{{q}}"}
    path = written(
        tmp_path, dataset_path="csv", dataset_kwargs=files, **changes, doc_to_text="{{t}}"
    )
    first, second = load_harness(path, "test").examples
    assert first.fields == {"q": "a", "n": 1, "x": 0.5, "t": "07"}
    assert second.line == 3


@pytest.mark.parametrize(
    "place",
    [
        "org/set/sw/test.jsonl",
        "org/set/sw_test.jsonl",
        "org/set/data/sw/test-00000-of-00001.jsonl",
        "org--set/sw/test.jsonl",
        "set/sw/test.jsonl",
        "datasets--org--set/snapshots/abc/sw/test.jsonl",
    ],
)
def test_a_set_of_the_hub_is_found_in_a_local_folder(tmp_path: Path, place: str) -> None:
    hub = {"dataset_path": "org/set", "dataset_name": "sw", "dataset_kwargs": None}
    path = written(tmp_path, **hub)
    rows = [{"question": "q", "one": "a", "two": "b", "gold": 1}] * 2
    file = tmp_path / "data" / place
    file.parent.mkdir(parents=True)
    write_jsonl(file, rows)
    other = file.parent / "dev.jsonl"  # another split, and never this one
    write_jsonl(other, [{"question": "other"}])
    task = load_harness(path, "test", roots=[tmp_path / "data"])
    assert [example.gold for example in task.examples] == [1, 1]
    with pytest.raises(InputError, match=r"org/set is not on this machine") as caught:
        load_harness(path, "test", roots=[tmp_path / "elsewhere"])
    assert "hf download org/set" in str(caught.value.hint)


WRITTEN = {"output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "{{one}}"}


@pytest.mark.parametrize(
    ("row", "changes", "words"),
    [
        ({"one": None}, WRITTEN, "doc_to_target: it is the text None, and one is null"),
        ({"one": None}, WRITTEN | {"doc_to_target": "one"}, "doc_to_target: the row has no 'one'"),
        ({"question": None}, {"doc_to_text": "{{question}}"}, "doc_to_text: it is the text None"),
        ({"gold": "²"}, {}, "doc_to_target gives '²', which is none of the choices"),
    ],
)
def test_one_bad_row_is_refused_with_its_line(
    tmp_path: Path, row: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    path = written(tmp_path, **changes)
    good = {"question": "q", "one": "a", "two": "b", "gold": 0}
    write_jsonl(tmp_path / "rows.jsonl", [good, good | row, good])
    with pytest.raises(InputError) as caught:
        load_harness(path, "test")
    assert f"rows.jsonl: line 2: {words}" in caught.value.message
    write_jsonl(tmp_path / "rows.jsonl", [good, good | {"one": "None"}, good])
    assert len(load_harness(path, "test").examples) == 3  # the text is an answer like any other


def test_written_answers_may_be_places_of_choices(tmp_path: Path) -> None:
    """The harness takes the choice at this place (ConfigurableTask.process_results)."""
    for target in ("gold", "{{gold}}"):
        changes = WRITTEN | {"doc_to_choice": ["no", "yes"], "doc_to_target": target}
        task = load_harness(written(tmp_path, **changes), "test")
        assert [example.references for example in task.examples] == [("no",), ("yes",)]


def test_blank_answers_are_answers(tmp_path: Path) -> None:
    path = written(tmp_path, **WRITTEN)
    write_jsonl(
        tmp_path / "rows.jsonl", [{"question": "q", "one": text} for text in ("a", "", " ")]
    )
    assert [e.references for e in load_harness(path, "test").examples] == [("a",), ("",), (" ",)]


def test_shots_may_be_asked_for_if_the_file_leaves_them_open(tmp_path: Path) -> None:
    path = written(tmp_path, fewshot_split="dev")
    target = Target("t", path, path, shots=1, metric="accuracy")
    context = load_target(target, "test").examples[0].contexts[0]
    assert context.startswith("Q: dev ")
    assert context.endswith("\n\nQ: rows 0\nA:")
    with pytest.raises(InputError, match="num_fewshot is 2, and shots = 1"):
        load_target(Target("t", written(tmp_path, num_fewshot=2), shots=1), "dev")


def test_prompts_that_are_equal_do_not_empty_the_solved_examples(tmp_path: Path) -> None:
    path = written(tmp_path, fewshot_split="dev", num_fewshot=1, doc_to_text="Judge:")
    assert load_harness(path, "test").examples[0].contexts[0].count("Judge:") == 2
