from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m2m.commands.eval import Reading, compare_models, write_samples
from m2m.errors import InputError, Interrupted
from m2m.evaluate.metrics import METRICS
from m2m.export.merged_gguf import requantize
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import Target, load_recipe
from tests.pipeline.scenario import make_scenario
from tests.tiny import StopAfter, choice_rows, pico_gguf, write_jsonl


class Scene:
    """Two models, and tasks of every kind."""

    def __init__(self, folder: Path) -> None:
        self.models = [str(pico_gguf(folder / f"m{seed}.gguf", seed)) for seed in (0, 1)]
        facets = [{**row, "lang": "ab"[i % 2]} for i, row in enumerate(choice_rows("copy", 12))]
        words = ("ab", "cde", "fg", "h i", "jk", "lmn", "op", "q r", "st", "uvw", "xy", "z a")
        answers = [{"prompt": f"say {w}", "answer": w} for w in words]
        rows = {
            "choices": facets,
            "labels": [
                {**row, "choices": ["x", "yy"], "answer": i % 2} for i, row in enumerate(facets)
            ],
            "answer": answers,
            "text": [{"text": f"a b {word}"} for word in words],
        }
        self.tasks = {k: write_jsonl(folder / f"{k}.jsonl", v) for k, v in rows.items()}
        self.how = Target("t", self.tasks["choices"], max_tokens=6)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scene"))


def test_one_model_on_one_task_has_its_facets(scene: Scene) -> None:
    data = compare_models(scene.models[:1], [scene.tasks["choices"]], scene.how).as_json()
    assert (data["schema"], data["differences"], data["warnings"]) == (2, [], [])
    (found,) = data["results"]
    assert found["model"] == scene.models[0]
    assert found["examples"] == 12
    assert {name: part["examples"] for name, part in found["facets"].items()} == {"a": 6, "b": 6}
    for part in (found, *found["facets"].values()):
        assert all(m["stderr"] >= 0 for m in part["metrics"].values())
        assert next(iter(part["metrics"])) == "choice_bits"


def test_a_fall_of_a_metric_that_is_better_low_has_a_minus_and_is_better(scene: Scene) -> None:
    models = [scene.models[0], scene.models[1]]
    found = compare_models(models, [scene.tasks["text"]], scene.how).as_json()
    one, other = (each["metrics"]["perplexity"]["value"] for each in found["results"])
    (entry,) = [each for each in found["differences"] if each["metric"] == "perplexity"]
    assert entry["difference"]["estimate"] == pytest.approx(other - one)
    assert entry["ahead"]["estimate"] == pytest.approx(one - other)
    low, high = entry["difference"]["ci95"]
    assert low <= other - one <= high
    assert entry["ahead"]["ci95"] == [-high, -low]


@pytest.mark.slow
def test_a_type_is_named_and_a_rounded_file_is_not_rounded_again(
    scene: Scene, tmp_path: Path
) -> None:
    model, task = scene.models[0], [scene.tasks["choices"]]
    stored = compare_models([model], task, scene.how).as_json()["results"]
    auto = compare_models([model], task, scene.how, reading=Reading(type="auto"))
    assert [stored[0]["type"], auto.results[0].type] == ["f32", "f32"], "a file is as it is stored"
    small = tmp_path / "small.gguf"
    requantize(Path(model), small, "q4_0")
    coarse = Reading(type="q4_0")
    mixed = compare_models([model, str(small)], task, scene.how, reading=coarse).as_json()
    one, other = mixed["results"]
    assert one["type"] == other["type"] == "q4_0"
    assert one["metrics"] == other["metrics"], "made here and by m2m quantize"
    assert one["metrics"] != stored[0]["metrics"]
    assert not any("different types" in warning for warning in mixed["warnings"])
    unlike = compare_models([model, str(small)], task, scene.how).warnings
    assert any("different types: m0.gguf in f32, small.gguf in q4_0" in text for text in unlike)
    with pytest.raises(InputError, match="its weights are q4_0 already"):
        compare_models([str(small)], task, scene.how, reading=Reading(type="q8_0"))


def test_models_are_compared_with_the_first_on_the_same_examples(scene: Scene) -> None:
    tasks = [scene.tasks[kind] for kind in ("labels", "answer", "text")]
    found = compare_models([*scene.models, scene.models[0]], tasks, scene.how)
    data = found.as_json()
    assert [each["task"] for each in data["results"][:3]] == list(map(str, tasks))
    assert len(data["results"]) == 9
    values = {
        (each["task"], each["name"], name): measured["value"]
        for each in data["results"]
        for name, measured in each["metrics"].items()
    }
    for each in data["differences"]:
        sign = 1 if METRICS[each["metric"]].higher_is_better else -1
        lead, (low, high) = each["ahead"]["estimate"], each["ahead"]["ci95"]
        mine, first = (values[each["task"], each[w], each["metric"]] for w in ("model", "against"))
        assert lead == pytest.approx(sign * (mine - first))
        assert each["against"] == scene.models[0]
        if each["model"] == scene.models[0]:
            assert lead == low == high == 0
    named = {(Path(each["task"]).stem, each["metric"]) for each in data["differences"]}
    assert {("answer", "chrf"), ("labels", "macro_f1"), ("text", "perplexity")} <= named
    np.testing.assert_array_equal(found.results[0].scores.loglik, found.results[6].scores.loglik)


def test_one_metric_alone_and_no_needless_writing(scene: Scene) -> None:
    task = [scene.tasks["answer"]]
    silent = compare_models(scene.models, task, replace(scene.how, metric="accuracy"))
    assert not silent.results[0].scores.predictions
    assert all(list(each["metrics"]) == ["accuracy"] for each in silent.as_json()["results"])
    assert [each.metric for each in silent.differences] == ["accuracy"]
    with pytest.raises(InputError, match="macro_f1"):
        compare_models(scene.models, task, replace(scene.how, metric="macro_f1"))


def test_samples_are_a_row_for_each_model_task_and_example(scene: Scene, tmp_path: Path) -> None:
    found = compare_models(scene.models, list(scene.tasks.values()), scene.how)
    write_samples(found, tmp_path / "log.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 2 * (12 + 12 + 12 + 12)
    first = rows[0]
    assert (first["line"], first["facet"], len(first["loglik"])) == (1, "a", 4)
    assert first["prompt"] in first["contexts"][0] != first["prompt"]  # the whole prompt
    hits = [r["chosen"] == r["answer"] for r in rows[:12]]
    accuracy = METRICS["accuracy"].value(found.results[0].scores, None)[0]
    assert np.mean(hits) == pytest.approx(accuracy)
    answers = [r for r in rows if "written" in r]
    assert len(answers) == 24
    assert answers[0]["references"] == ["ab"]
    texts = [r for r in rows if "text" in r]
    assert texts[1]["text"] == "a b cde"


def test_a_stop_is_kept(scene: Scene) -> None:
    with pytest.raises(Interrupted):
        compare_models(scene.models, [scene.tasks["text"]], scene.how, progress=StopAfter())


@pytest.mark.slow  # a real run
def test_a_search_goes_by_what_the_models_write(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    for name in ("dev", "test"):
        rows = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        answers = [
            {"ask": r["question"], "say": r["choices"][r["answer"]], "lang": "x"} for r in rows
        ]
        write_jsonl(tmp_path / f"{name}.jsonl", answers)
    text = recipe.read_text(encoding="utf-8")
    asked = 'metric = "chrf"\nprompt = "{ask}"\nanswer = "{say}"\nshots = 1\nmax_tokens = 5\n'
    shots = 'shots_from = "pool.jsonl"\n'
    write_jsonl(
        tmp_path / "pool.jsonl", [{"ask": "copy ab", "say": "ab"}, {"ask": "c", "say": "d"}]
    )
    changed = text.replace('name = "copying"\n', 'name = "copying"\n' + asked + shots)
    recipe.write_text(changed, encoding="utf-8")
    found = Run(load_recipe(recipe), Silent()).search()
    assert (found.metric, found.higher_is_better, found.examples) == ("chrf", True, 16)
    assert len({each.score for each in found.places}) > 1
    assert all(each.stderr > 0 for each in found.places if each.score > 0)
    again = Run(load_recipe(recipe), Silent()).search()
    assert again.places == found.places
    line = json.loads((recipe.parent / "m2m-runs/recipe/study.jsonl").read_text().splitlines()[0])
    assert len(line["scores"]["copying"]["predictions"]) == 16
