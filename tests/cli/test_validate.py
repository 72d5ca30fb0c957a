from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from tests.pipeline.scenario import copied


@pytest.mark.slow
def test_validate_prints_its_fields_and_a_table(finished_run: Path, tmp_path: Path) -> None:
    recipe = str(copied(finished_run, tmp_path))
    arguments = ["validate", recipe, "--mixtures", "4", "--budget", "7"]
    found = CliRunner().invoke(cli, [*arguments, "--json", "--quiet"], catch_exceptions=False)
    printed = json.loads(found.stdout)
    assert {"spearman", "spearman_ci95", "pearson", "regret", "mixtures"} <= printed.keys()
    assert {"merge_to_mix", "all", "best_single", "random"} <= printed["regret"].keys()
    assert {each["steps"] for each in printed["mixtures"]} == {7}
    assert {"datasets", "surrogate", "finetuned"} <= printed["mixtures"][0].keys()
    table = CliRunner().invoke(cli, [*arguments, "--quiet"], catch_exceptions=False).stdout
    for words in ("Spearman", "on test", "mean of the", "fine-tunes: 7", "Merge to Mix:", "first"):
        assert words in table
    refused = CliRunner().invoke(cli, ["validate", recipe, "--budget", "some"])
    assert refused.exit_code == 2
