from __future__ import annotations

import dataclasses
import tomllib

from m2m.mix.mixture import Mixture
from m2m.report.facts import Model
from m2m.report.recipe_text import recipe_lines
from m2m.report.tables import cost_table, tables
from m2m.report.words import findings, plus_minus
from tests.report import samples


def test_the_answer_comes_first_and_ties_are_called_ties() -> None:
    said = findings(samples.facts())
    assert said[0] == (
        "Fine-tune on aa: 0.410 ± 0.020 choice_bits on test; the unchanged base gets 0.010 ± 0.020."
    )
    assert said[1] == "On test it is better than: the unchanged base by +0.400 (+0.300 to +0.500)."
    assert said[2].startswith("On test it is worse than: aa + bb + cc by -0.300")
    assert said[3].startswith("On test it cannot be told from: aa + bb by +0.010 (-0.100 to")
    assert "2 of 7 mixtures cannot be told from the best (95 %, all considered): aa" in said[4]
    assert said[5] == "On average over mixtures. Helpful: aa. Neutral: bb, cc."
    assert "as many steps as one expert" in said[6]
    assert said[7].startswith("But on the facet text aa + bb + cc looks better: 0.400 ± 0.020")


def test_a_lone_best_an_untested_and_an_unconfirmed_one() -> None:
    facts = samples.facts()
    assert facts.ranking is not None
    assert facts.confirmation is not None
    places = tuple(dataclasses.replace(p, tied_with_best=p.rank == 1) for p in facts.ranking.places)
    alone = dataclasses.replace(facts.ranking, places=places)
    assert "ahead of all other 6" in " ".join(findings(samples.facts(ranking=alone)))

    def untested(model: Model) -> Model:
        return dataclasses.replace(model, test={}, ahead=None)

    models = tuple(map(untested, facts.confirmation.models))
    without = dataclasses.replace(facts.confirmation, models=models)
    said = " ".join(findings(samples.facts(confirmation=without, breakdowns=())))
    assert "on dev; the unchanged base" in said
    assert "no test set" in said
    assert "Nothing is confirmed yet" in findings(samples.facts(confirmation=None))[-1]


def test_no_facet_is_named_where_the_winner_is_as_good() -> None:
    facts = samples.facts()
    facet = facts.breakdowns[0].facets[0]
    level = dataclasses.replace(facet, values=((0.1, 0.05),) * 5)
    same = dataclasses.replace(facts.breakdowns[0], facets=(level,))
    assert not any("facet" in each for each in findings(samples.facts(breakdowns=(same,))))


def test_small_words() -> None:
    assert plus_minus(None) == "-"
    assert plus_minus((0.5, float("nan"))) == "0.500"
    assert Mixture(("a", "b"), (0.7, 0.3)).label == "70 % a + 30 % b"
    assert samples.uniform("a", "b", "c", "d").short(4) == "all 4 datasets in equal shares"


def test_energy_is_power_times_time() -> None:
    table = cost_table(samples.facts(watts=20.0))
    assert table.rows[0] == ("train", "1 h 00 min", "1.00 GiB", "20 Wh")
    assert table.rows[-1] == ("all", "1 h 30 min", "2.00 GiB", "30 Wh")
    assert "20 W" in table.caption


def test_every_table_is_rectangular() -> None:
    for table in tables(samples.facts()):
        assert {len(row) for row in table.rows} == {len(table.heads)}, table.name


def test_the_recipe_is_toml_that_says_the_same() -> None:
    settings = samples.facts(text='quote " back\\slash\n\x7f Yorùbá').settings
    lines = recipe_lines(settings)
    assert tomllib.loads("\n".join(line for line, _ in lines)) == settings
    changed = {line for line, differs in lines if differs}
    assert "steps = 20" in changed
    assert 'template = "chat"' not in changed
