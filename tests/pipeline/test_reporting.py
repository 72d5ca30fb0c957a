from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from m2m.errors import InputError, Interrupted
from m2m.formats.atomic import write_json
from m2m.formats.json_text import json_text
from m2m.mix.warnings import few_questions
from m2m.pipeline.run import Run
from m2m.progress import Silent
from m2m.recipe import load_recipe
from m2m.report import write_report
from m2m.results.facts import read_facts
from m2m.results.folder import CONFIRMED, EXPORTED, RECIPE, RunFolder
from m2m.results.outcome import RunResult
from m2m.results.stage import Stage
from m2m.store import fingerprint
from tests.pipeline.scenario import copied, make_scenario


def faceted(path: Path) -> None:
    """Give every other example of a target another facet."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps({**row, "facet": ("odd", "even")[i % 2]}) for i, row in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def finished(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A complete run; its test examples have facets."""
    recipe = copied(finished_run, tmp_path_factory.mktemp("finished"))
    faceted(recipe.parent / "test.jsonl")
    return Run(load_recipe(recipe), Silent()).run()


@pytest.fixture
def folder(finished: RunResult, tmp_path: Path) -> Path:
    """A copy of the run's folder alone, at another place: recipe, data and model are not there."""
    return shutil.copytree(finished.folder, tmp_path / "brought" / "run")


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_the_folder_alone_says_what_the_run_found(finished: RunResult, folder: Path) -> None:
    facts = read_facts(folder)
    assert facts.ranking is not None
    assert facts.confirmation is not None
    searched, confirmed = finished.ranking, finished.confirmation
    home = finished.folder.parent.parent
    assert [p.score for p in facts.ranking.places] == [r.score for r in searched.places]
    assert facts.confirmation.winner.mixture.datasets == confirmed.winner.mixture.datasets
    assert [m.label for m in facts.confirmation.models] == [c.label for c in confirmed.models]
    assert {s.name: s.rows for s in facts.sources} == {
        name: len(path.read_text(encoding="utf-8").splitlines())
        for name in ("copy", "reverse", "upper")
        if (path := home / f"{name}.jsonl")
    }
    assert [c.name for c in facts.stages] == ["train", "search", "confirm", "export"]
    assert {len(c.losses) for c in facts.curves} == {12}
    assert len(facts.curves) >= 4
    assert facts.base["name"] == "pico"
    assert str(home) not in json.dumps(facts.as_json())
    assert facts.ranking.as_json() == searched.as_json() | {"seconds": facts.ranking.seconds}
    assert facts.confirmation.verdict == confirmed.verdict
    assert facts.export is not None


def test_an_adapter_that_the_search_did_not_use_has_no_curve(folder: Path) -> None:
    found = load(folder / "ranking.json")
    found["mixtures"] = [each for each in found["mixtures"] if "upper" not in each["datasets"]]
    write_json(folder / "ranking.json", found)
    names = {curve.name for curve in read_facts(folder).curves}
    assert names >= {"copy", "reverse"}
    assert "upper" not in names


def test_a_run_ends_with_its_report_and_rewriting_it_changes_no_byte(
    finished: RunResult, tmp_path: Path
) -> None:
    written = write_report(read_facts(finished.folder), tmp_path)
    assert finished.report == finished.folder / "report.html"
    for path in (written.html, written.json, *written.csv):
        own = finished.folder / path.relative_to(tmp_path)
        assert own.read_bytes() == path.read_bytes(), path.name


def test_facets_are_broken_down_for_every_model(folder: Path) -> None:
    facts = read_facts(folder)
    assert facts.confirmation is not None
    (found,) = facts.confirmation.breakdowns
    assert (found.part, found.metric) == ("test", "choice_bits")
    assert {facet.name: facet.examples for facet in found.facets} == {"odd": 8, "even": 8}
    assert all(len(f.values) == len(facts.confirmation.models) for f in found.facets)


@pytest.mark.slow
def test_time_adds_up_over_calls_and_interruptions_count(tmp_path: Path) -> None:
    class StopSoon(Silent):
        left = 4

        def stop_requested(self) -> bool:
            self.left -= 1
            return self.left < 0

    recipe = load_recipe(make_scenario(tmp_path))
    with pytest.raises(Interrupted):
        Run(recipe, StopSoon()).search()
    begun = read_facts(recipe.folder)
    assert [stage.name for stage in begun.stages] == ["train"]
    assert begun.seconds > 0
    assert begun.ranking is None
    write_report(begun, recipe.folder)
    Run(recipe, Silent()).search()
    again = read_facts(recipe.folder)
    assert [stage.name for stage in again.stages] == ["train", "search"]
    assert again.stages[0].seconds > begun.stages[0].seconds
    assert again.ranking is not None
    assert again.confirmation is None
    assert "Nothing is confirmed yet" in write_report(again, recipe.folder).html.read_text("utf-8")


def test_few_examples_are_warned_of(folder: Path) -> None:
    facts = read_facts(folder)
    assert facts.ranking is not None
    told = (facts.warnings, facts.ranking.warnings)  # the terminal prints the second
    assert [sum("16 questions of copying are too few" in w for w in each) for each in told] == [
        1,
        1,
    ]
    assert few_questions("copying", 30, 30) == []
    assert few_questions("copying", 30, 29)


def test_a_run_that_was_copied_and_goes_on_has_no_results_of_another_state(
    finished_run: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(copied(finished_run, tmp_path))
    files = RunFolder(recipe.folder)
    before = load(files.path / CONFIRMED)
    Run(recipe, Silent()).confirm()
    after = load(files.path / CONFIRMED)
    assert before["winner"]["adapter"] != after["winner"]["adapter"]
    assert files.is_fresh(EXPORTED)
    older = fingerprint(winner=after["winner"])  # as versions before this one wrote it
    write_json(files.path / EXPORTED, {**load(files.path / EXPORTED), "made_from": older})
    assert files.is_fresh(EXPORTED)
    whole = load(files.path / RECIPE)
    assert files.is_of(CONFIRMED, whole)
    assert not files.is_of(CONFIRMED, {**whole, "train": {**whole["train"], "precision": "bf16"}})
    winner = {**after["winner"], "steps": 1}
    write_json(files.path / CONFIRMED, {**after, "winner": winner})
    assert not files.is_fresh(EXPORTED)


def test_results_that_do_not_belong_together_are_told(folder: Path) -> None:
    assert not any("was made before" in warning for warning in read_facts(folder).warnings)
    ranking = load(folder / "ranking.json")
    ranking["mixtures"][0]["score"] += 0.1
    write_json(folder / "ranking.json", ranking)
    assert any(
        "confirm.json was made before ranking.json changed" in warning
        for warning in read_facts(folder).warnings
    )
    settings = load(folder / "recipe.json")
    settings["train"]["steps"] = 13
    settings["limits"]["threads"] = 5
    write_json(folder / "recipe.json", settings)
    assert sum("was made before" in warning for warning in read_facts(folder).warnings) == 2


@pytest.mark.slow
def test_a_validation_is_shown_where_there_is_one(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("steps = 12", "steps = 4"), encoding="utf-8")
    run = Run(load_recipe(recipe), Silent())
    found = run.validate()
    facts = read_facts(run.folder)
    assert facts.validation is not None
    assert json_text(facts.validation.as_json()) == json_text(found.as_json())
    written = write_report(facts, run.folder)
    assert "Do surrogates predict fine-tunes here?" in written.html.read_text(encoding="utf-8")
    assert "validation" in {path.stem for path in written.csv}
    assert "validate" in {stage.name for stage in facts.stages}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("ranking.json", "{}", "not as m2m writes it"),
        ("ranking.json", '{"mixtures": [', "malformed JSON"),
        ("confirm.json", '{"confirmed": [], "winner": {"label": "a", "how": "b"}}', "not as m2m"),
        ("recipe.json", '{"recipe": 3}', "not as m2m writes it"),
        ("steps.jsonl", '{"name": "train"}\n', "not as m2m writes it"),
        ("steps.jsonl", '{"name": "a", "seconds": 1e999, "peak_rss_bytes": 1}\n', "not as m2m"),
        ("validate.json", '{"mixtures": [{"datasets": 3}]}', "not as m2m writes it"),
        ("export.json", '{"self_test": "x"}', "not as m2m writes it"),
        ("export.json", '{"serving": "abc"}', "not as m2m writes it"),
        ("adapters/copy/m2m.json", '{"losses": "abc"}', "not as m2m writes it"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, name: str, text: str, said: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
        read_facts(folder)
    assert Path(name).name in caught.value.message


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        ("recipe.json", ("inputs", "base"), 0.5),
        ("recipe.json", ("inputs", "base", "warnings"), 0.5),
        ("recipe.json", ("inputs", "datasets", "copy", "rows"), [1]),
        ("recipe.json", ("datasets", 0, "name"), ["a"]),
        ("recipe.json", ("confirm",), 1.0),
        ("ranking.json", ("mixtures", 0), {"datasets": ["copy"], "weights": [0]}),
        ("ranking.json", ("seconds",), 1e308),
        ("ranking.json", ("mixtures", 0, "score"), 10**400),
        ("confirm.json", ("confirmed", 0, "seen"), {"copy": {"rows": 1}}),
    ],
)
def test_a_value_of_another_kind_is_named(
    folder: Path, name: str, keys: tuple[str | int, ...], value: object
) -> None:
    data: Any = load(folder / name)
    part = data
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (folder / name).write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match="not as m2m writes it") as caught:
        read_facts(folder)
    assert name in caught.value.message


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the folder of a run"):
        read_facts(tmp_path)


def test_the_power_is_the_recipes_or_the_one_asked_for(folder: Path) -> None:
    assert read_facts(folder).watts == 30.0
    facts = read_facts(folder, watts=60.0)
    assert facts.energy_kwh(Stage("train", 3600.0, 0)) == pytest.approx(0.06)
