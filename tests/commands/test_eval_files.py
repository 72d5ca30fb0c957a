"""Files of `m2m eval --out`, against what lm-eval 0.4.13 itself wrote for the same tasks."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.commands.eval import Reading, compare_models
from m2m.commands.eval_files import write_results
from m2m.errors import InputError
from m2m.recipe import Target
from tests.tiny import pico_gguf, write_jsonl

FOLDER = Path(__file__).parent.parent / "golden" / "harness"
GOLDEN = FOLDER / "files.json"
TASKS = ("choices", "labels", "written", "filters", "rolling", "likelihood")
STARTED = datetime.datetime(2026, 1, 2, 3, 4, 5, 6)


def written(model: Path, folder: Path) -> list[Path]:
    tasks = [FOLDER / f"{name}.yaml" for name in TASKS]
    compared = compare_models([str(model)], tasks, Target("t", tasks[0]))
    return write_results(compared, folder, STARTED)


def test_fields_and_hashes_are_those_of_the_harness(tmp_path: Path) -> None:
    paths = written(pico_gguf(tmp_path / "pico.gguf"), tmp_path / "out")
    assert [path.name for path in paths] == [
        *(f"samples_m2m_{name}_2026-01-02T03-04-05.000006.jsonl" for name in TASKS),
        "results_2026-01-02T03-04-05.000006.json",
    ]
    results = json.loads(paths[-1].read_text(encoding="utf-8"))
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))["tasks"]
    assert recorded.keys() == {f"m2m_{name}" for name in TASKS}
    for path, task_name in zip(paths, TASKS, strict=False):
        name, task = f"m2m_{task_name}", recorded[f"m2m_{task_name}"]
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert [*rows[0]] == task["fields"]
        assert rows[0]["arguments"] == task["arguments"]
        for row, known in zip(rows, task["rows"], strict=False):
            assert {key: row[key] for key in known} == known, name
        assert results["task_hashes"][name] == task["task_hash"]
        assert results["results"][name].keys() == set(task["results"])
        assert (
            set(task["config"]) - {"fewshot_config", "metadata"} <= results["configs"][name].keys()
        )
        assert results["n-samples"][name]["effective"] * len(set(r["filter"] for r in rows)) == len(
            rows
        )


def test_rows_of_ones_own_have_the_same_form(tmp_path: Path) -> None:
    rows = [{"prompt": f"say {w}", "answer": w} for w in ("ab", "cd", "éf")]
    task, model = write_jsonl(tmp_path / "mine.jsonl", rows), pico_gguf(tmp_path / "pico.gguf")
    command = ["eval", str(model), str(task), "--max-tokens", "3", "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(cli, [*command, "--json"])
    assert shown.exit_code == 0, shown.output
    (path,) = (tmp_path / "out").rglob("results_*.json")
    assert f"Results in the form of lm-evaluation-harness: {path}" in shown.stderr
    data = json.loads(shown.stdout)
    assert (data["schema"], len(data["results"])) == (2, 1)
    (samples,) = (tmp_path / "out").rglob("samples_mine_*.jsonl")
    first = json.loads(samples.read_text(encoding="utf-8").splitlines()[0])
    assert first["doc"] == {"line": 1, "prompt": "say ab", "answer": "ab"}
    context = first["arguments"]["gen_args_0"]["arg_0"]
    assert "say ab" in context
    assert context != "say ab"  # the whole prompt, with the template
    assert {"contrast_bits", "answer_match"} <= set(first["metrics"])


def test_a_name_leads_nowhere_else_and_is_there_once(tmp_path: Path) -> None:
    model, paths = pico_gguf(tmp_path / "pico.gguf"), []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        rows = [{"text": f"abc {i}"} for i in range(2)]
        paths.append(write_jsonl(tmp_path / folder / "same.jsonl", rows))
    keys = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "same.jsonl"}}}
    keys |= {"task": "../../x/y\n", "test_split": "test", "output_type": "loglikelihood_rolling"}
    keys |= {"doc_to_text": "", "doc_to_target": "text"}
    file = tmp_path / "a" / "t.yaml"
    file.write_text(json.dumps(keys), encoding="utf-8")
    compared = compare_models([str(model)], [file], Target("t", file))
    for path in write_results(compared, tmp_path / "out", STARTED):
        assert path.parent.parent == tmp_path / "out"
    with pytest.raises(InputError, match="two of the tasks are called 'same'"):
        compare_models([str(model)], paths, Target("t", paths[0]), reading=Reading(by_name=True))


def test_each_list_of_filters_and_the_last_of_two_metrics_count(tmp_path: Path) -> None:
    """As in lm-eval 0.4.13, which writes these keys, versions, and 1.0 for the second task."""
    rows = [{"q": f"ask {i}", "g": "Ja"} for i in range(3)]
    write_jsonl(tmp_path / "d.jsonl", rows)
    keys = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "d.jsonl"}}}
    keys |= {"test_split": "test", "doc_to_text": "q"}
    take = [{"function": "take_first"}]
    regex = [{"function": "regex", "regex_pattern": "ZZZ", "fallback": "ja"}, *take]
    choices = {
        **keys,
        "task": "choose",
        "output_type": "multiple_choice",
        "doc_to_choice": ["ja", "no"],
        "doc_to_target": 0,
        "filter_list": [{"name": "first", "filter": take}, {"name": "second", "filter": take}],
    }
    text = {**keys, "output_type": "generate_until", "doc_to_target": "g"}
    text["generation_kwargs"] = {"max_gen_toks": 2, "until": []}
    exact = {"metric": "exact_match"}
    twice = {
        **text,
        "task": "twice",
        "filter_list": [{"name": "k", "filter": regex}],
        "metric_list": [exact, {**exact, "ignore_case": True}],
    }
    unknown = {**text, "task": "unknown", "metric_list": [{"metric": "f1", "aggregation": "f1"}]}
    group = {"group": "all", "task": ["choose", "twice", "unknown"], "metadata": {"version": 3.0}}
    for name, made in (("c", choices), ("t", twice), ("u", unknown), ("g", group)):
        (tmp_path / f"{name}.yaml").write_text(json.dumps(made), encoding="utf-8")
    compared = compare_models(
        [str(pico_gguf(tmp_path / "pico.gguf"))], [tmp_path / "g.yaml"], Target("t", tmp_path)
    )
    written_files = write_results(compared, tmp_path / "out", STARTED)
    data = json.loads(written_files[-1].read_text(encoding="utf-8"))
    results, about = data["results"], ("name", "alias", "sample_len")
    assert [key for key in results["choose"] if key not in about and "stderr" not in key] == [
        *("acc,first", "acc_norm,first", "acc,second", "acc_norm,second")
    ]
    samples = written_files[0].read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["filter"] for row in samples] == ["first"] * 3 + ["second"] * 3
    assert results["twice"]["exact_match,k"] == 1.0
    assert data["versions"] == {
        "all": "3.0",
        **dict.fromkeys(("choose", "twice", "unknown"), "Yaml"),
    }
    others = [key for key in results["unknown"] if key not in about]
    assert "m2m_f1,none" in others
    assert all(key.startswith("m2m_") for key in others)  # no name of lm-eval's


def test_standard_errors_count_every_row(tmp_path: Path) -> None:
    """Also equal ones: lm-eval's error of a mean is the sample deviation by the root of n."""
    rows = [{"q": "say", "a": word, "b": "x"} for word in ("ab", "cd", "ab", "ab")]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    keys = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}}}
    keys |= {"task": "t", "test_split": "test", "output_type": "multiple_choice"}
    keys |= {"doc_to_text": "{{q}}", "doc_to_choice": "{{[a, b]}}", "doc_to_target": 0}
    keys |= {"metric_list": [{"metric": "brier_score"}]}
    file = tmp_path / "t.yaml"
    file.write_text(json.dumps(keys), encoding="utf-8")
    model = pico_gguf(tmp_path / "pico.gguf")
    compared = compare_models([str(model)], [file], Target("t", file))
    (made,) = compared.results[0].reported
    each = made.metric.per_example(made.scores)
    assert made.scores.same
    (path,) = [p for p in write_results(compared, tmp_path / "out", STARTED) if "results" in p.name]
    results = json.loads(path.read_text(encoding="utf-8"))["results"]["t"]
    assert results["brier_score_stderr,none"] == pytest.approx(each.std(ddof=1) / 2)
    assert results["brier_score_stderr,none"] != pytest.approx(made.score.stderr)
