"""Kind: which way a number is better is known, or asked for; it is never guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.evaluate.metric import Metric
from m2m.evaluate.metrics import METRICS
from m2m.mix.mixture import subsets
from m2m.mix.tables import propose_from
from tests.mix.test_tables import EFFECT, written

NUMBERS = (0.9, 0.1, 0.5)


def table(folder: Path, metric: str, direction: str = "") -> Path:
    """Three runs: only a (0.9), only b (0.1), both (0.5)."""
    (folder / "ratios.csv").write_text("run_id,a,b\n1,1,0\n2,0,1\n3,.5,.5\n", "utf-8")
    rows = "".join(f"{run},{value}\n" for run, value in enumerate(NUMBERS, 1))
    (folder / "metrics.csv").write_text(f"run_id,{metric}\n{rows}", "utf-8")
    if direction:
        (folder / "directions.csv").write_text(f"metric,better\n{metric},{direction}\n", "utf-8")
    return folder


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda m: m.name)
@pytest.mark.parametrize("target", ["glossary", "loss", "calibration", "bpb x", ""])
def test_a_metric_of_m2m_is_known_by_its_exact_name(
    tmp_path: Path, metric: Metric, target: str
) -> None:
    found = propose_from(table(tmp_path, f"{target} {metric.name}".strip()))
    assert found.higher_is_better == metric.higher_is_better
    assert found.proposals[0].mixture.datasets == (("a",) if metric.higher_is_better else ("b",))


@pytest.mark.parametrize("metric", ["val_loss", "loss", "bpb", "score", "ECE", "my_accuracy"])
def test_another_metric_is_asked_for(tmp_path: Path, metric: str) -> None:
    command = ["search", "--from-csv", str(table(tmp_path, metric))]
    asked = CliRunner().invoke(cli, command)
    assert asked.exit_code == 1
    assert f"a higher or a lower '{metric}' is better" in asked.stderr
    assert "--lower-is-better" in asked.stderr
    for option, best in (("--lower-is-better", "b"), ("--higher-is-better", "a")):
        found = json.loads(CliRunner().invoke(cli, [*command, option, "--json"]).stdout)
        assert found["proposals"][0]["datasets"] == [best]
        assert found["higher_is_better"] == (best == "a")


def test_a_file_may_say_it_and_the_user_has_the_last_word(tmp_path: Path) -> None:
    folder = table(tmp_path, "score", "lower")
    assert not propose_from(folder).higher_is_better
    assert propose_from(folder, higher=True).higher_is_better
    table(tmp_path, "score", "up")
    with pytest.raises(Exception, match="better is 'up'"):
        propose_from(folder)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_search_writes_the_direction_of_its_numbers(tmp_path: Path, sign: float) -> None:
    folder = written(tmp_path / "run", list(subsets(tuple(EFFECT))), "t unheard of", sign)
    assert propose_from(folder).higher_is_better == (sign > 0)
