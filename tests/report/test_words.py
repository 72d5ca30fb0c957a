from __future__ import annotations

import dataclasses
import json
import tomllib
from dataclasses import replace
from pathlib import Path

from m2m.evaluate.score import Score
from m2m.formats.json_text import json_text
from m2m.mix.mixture import Mixture
from m2m.recipe import SECTIONS, load_recipe
from m2m.recipe.whole import recipe_json
from m2m.report.page import recipe_lines
from m2m.report.words import findings, four_questions, warnings
from m2m.results.facts import cost_table, csv_tables, tables
from m2m.results.stage import Stage
from tests.conftest import REPOSITORY
from tests.pipeline.scenario import make_scenario
from tests.report import samples


def test_the_answer_comes_first_and_ties_are_called_ties() -> None:
    assert four_questions(replace(samples.facts(), more_rows=None)) == [
        (
            "What should we train on?",
            [
                "Fine-tune on aa or on y.",
                "Adding aa usually raised the score. Adding bb, cc made no clear difference. "
                "(Changes below 0.02 do not count.)",
                "But on the facet text aa + bb + cc looks better: 0.400 ± 0.020 against 0.200 ± "
                "0.020.",
            ],
        ),
        (
            "How sure is this?",
            [
                "Why.",
                "The quick search could not separate 2 of the 7 mixtures: aa; aa + bb.",
                "Every model was trained for 20 steps. For longer training, the answer can change.",
                *samples.judged().sentences,
                "1 warning below.",
            ],
        ),
        (
            "What did it cost?",
            [
                "1 h 30 min of work, 2.0 GiB of memory at most (about 30 Wh, if the machine draws "
                "20 W). The longest step was train: 1 h 00 min.",
            ],
        ),
        (
            "What next?",
            [
                "More.",
                "aa helps (worth +0.100, 95 % range 0.050 to 0.140); how often its rows were "
                "seen is not known, so it cannot be said whether it needs rows or steps.",
                "What a hundred more rows would bring was not measured. `m2m more-rows RECIPE` "
                "measures it.",
                "About 50 different dev questions would separate aa from aa + bb in the search.",
            ],
        ),
    ]


def test_an_unfinished_run_says_what_to_type_next() -> None:
    answers = dict(four_questions(samples.facts(confirmation=None)))
    assert answers["What should we train on?"][0] == (
        "The quick search proposes aa. Nothing is confirmed yet."
    )
    assert "`m2m confirm RECIPE`" in answers["What next?"][0]


def test_the_quick_search_is_not_said_to_have_found_what_it_did_not() -> None:
    facts = samples.facts()
    assert facts.ranking is not None
    assert facts.confirmation is not None
    places = tuple(dataclasses.replace(p, tied_with_best=p.rank == 1) for p in facts.ranking.places)
    alone = dataclasses.replace(facts.ranking, places=places)
    said = " ".join(findings(samples.facts(ranking=alone)))
    assert "In the quick search aa scored clearly better than the other 6." in said
    second = dataclasses.replace(facts.confirmation, winning=3)
    said = " ".join(findings(samples.facts(ranking=alone, confirmation=second)))
    assert "aa + bb was number 2 there, 0.250 behind aa." in said
    one = dataclasses.replace(facts.ranking, places=places[:1])
    assert "quick search" not in " ".join(findings(samples.facts(ranking=one)))
    every = tuple(dataclasses.replace(place, tied_with_best=True) for place in places)
    said = " ".join(findings(samples.facts(ranking=dataclasses.replace(alone, places=every))))
    assert "The quick search could not separate any of the 7 mixtures." in said


def test_nothing_is_said_of_datasets_if_nothing_was_learned() -> None:
    facts = samples.facts()
    assert facts.ranking is not None
    unknown = dataclasses.replace(facts.ranking, verdicts=dict.fromkeys("ab", "unknown"))
    said = " ".join(findings(samples.facts(ranking=unknown)))
    assert "No mixture was better than guessing" in said
    assert "Adding" not in said
    lower = dataclasses.replace(facts.ranking, higher_is_better=False)
    said = " ".join(findings(samples.facts(ranking=lower)))
    assert "Adding aa usually improved the score." in said


def test_a_claim_about_the_test_questions_is_only_made_if_it_is_true() -> None:
    tested = samples.confirmation(("aa", "bb", "cc"))
    assert "did not help to choose it" in tested.chosen_by
    assert "too optimistic" in dataclasses.replace(tested, ahead=None).chosen_by
    shared = dataclasses.replace(tested, shared={"t": (3, 19)}).chosen_by
    assert "3 of 19 of t" in shared
    assert "did not help" not in shared


def test_no_facet_is_named_where_the_winner_is_as_good() -> None:
    facts = samples.facts()
    assert facts.confirmation is not None
    breakdown = facts.confirmation.breakdowns[0]
    level = dataclasses.replace(breakdown.facets[0], values=(Score(0.1, 0.05),) * 5)
    same = dataclasses.replace(breakdown, facets=(level,))
    even = dataclasses.replace(facts.confirmation, breakdowns=[same])
    assert not any("facet" in each for each in findings(samples.facts(confirmation=even)))


def test_small_words() -> None:
    assert Score(0.5).text() == "0.500"
    assert Score(0.5, 0.01).text(2) == "0.50 ± 0.01"
    assert Mixture(("a", "b"), (0.7, 0.3)).label == "70 % a + 30 % b"
    assert samples.uniform("a", "b", "c", "d").short(4) == "all 4 datasets in equal proportions"


def test_energy_is_power_times_time() -> None:
    table = cost_table(samples.facts(watts=20.0))
    rows = [row for row, _ in table.shown()]
    assert rows[0] == ["train", "1 h 00 min", "1.00 GiB", "20 Wh"]
    assert rows[-1] == ["all", "1 h 30 min", "2.00 GiB", "30 Wh"]
    assert "20 W" in table.caption
    assert "GPU" not in table.caption


def test_energy_of_a_gpu_is_added_if_it_is_known() -> None:
    asked = {"limits": {"device": "gpu"}}
    facts = samples.facts(watts=20.0, settings=asked)
    assert "no GPU said what it draws" in cost_table(facts).caption
    stages = (Stage("train", 3600.0, 2**30, 36000.0), Stage("search", 1800.0, 2**31))
    table = cost_table(samples.facts(watts=20.0, settings=asked, stages=stages))
    assert [row[-1] for row, _ in table.shown()] == ["30 Wh", "10 Wh", "40 Wh"]
    assert "as they measure it, is added" in table.caption


def test_every_csv_file_is_described() -> None:
    page = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
    described = page.partition("## The report's CSV files")[2]
    for table in csv_tables(samples.facts()):
        assert f"`{table.name}.csv`" in described, table.name


def test_every_table_is_rectangular() -> None:
    for table in tables(samples.facts()):
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.name
        assert {len(row) for row, _ in table.shown()} == {len(table.heads)}, table.name


def test_the_recipe_is_toml_that_says_the_same() -> None:
    settings = samples.facts(text='quote " back\\slash\n\x7f Yorùbá').settings
    lines = recipe_lines(settings)
    read = tomllib.loads("\n".join(line for line, _ in lines))
    assert read["datasets"] == settings["datasets"]
    assert all({**read[name], **settings[name]} == read[name] for name in ("base", "train"))
    changed = {line for line, differs in lines if differs}
    assert "steps = 20" in changed
    assert 'template = "chat"' not in changed


def test_the_recipe_of_a_report_has_every_setting_and_can_be_run(tmp_path: Path) -> None:
    path = make_scenario(tmp_path)
    recipe = load_recipe(path)
    copy = path.with_name("copy.toml")
    text = "\n".join(line for line, _ in recipe_lines(json.loads(json_text(recipe_json(recipe)))))
    copy.write_text(text, encoding="utf-8")
    assert recipe_json(load_recipe(copy), whole=True) == recipe_json(recipe, whole=True)
    for section, kind in SECTIONS.items():
        written = tomllib.loads(text).get(section, {})
        for spec in dataclasses.fields(kind):
            left_out = spec.default in (None, "", ()) or "one_of" in spec.metadata
            assert spec.name in written or left_out, f"[{section}] {spec.name}"


def test_warnings_that_say_the_same_of_several_datasets_are_one() -> None:
    facts = samples.facts(("aa", "aa_b", "cc"))
    said = [
        "Training on aa changed the model too much (20%).",
        "aa_b: no licence is given: ask the owner of aa_b.",
        "Training on cc changed the model too much (20%).",
        "aa and cc are nearly equal.",
        "cc: no licence is given: ask the owner of cc.",
        "Training on cc changed the model too much (20%).",
        "aab is no dataset.",
        "aa has 3 rows: add rows to aa.",
    ]
    grouped = warnings(dataclasses.replace(facts, warnings=said, remarks=[]))
    assert grouped == [
        "Training on aa, cc changed the model too much (20%).",
        "aa_b, cc: no licence is given: ask the owner of each of them.",
        "aa and cc are nearly equal.",
        "aab is no dataset.",
        "aa has 3 rows: add rows to aa.",
    ]
