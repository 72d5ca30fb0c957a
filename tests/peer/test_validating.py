"""The whole method again in PyTorch: the fine-tunes, merges and scores are m2m's."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.peer
pytest.importorskip("torch", reason="scripts/install-peers makes the venv for this")

from tests.pipeline.scenario import make_scenario  # noqa: E402

ROOT = Path(__file__).parents[2]
OWN = ROOT / ".venv" / "bin" / "python"  # which has llama.cpp, and no PyTorch
PLAIN = "as the recipe says"


def run(python: Path | str, *arguments: str | Path) -> str:
    found = subprocess.run(
        [python, *map(str, arguments)], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.skipif(not OWN.exists(), reason="scripts/setup makes the venv that m2m runs in")
def test_every_fine_tune_of_a_recipe(tmp_path: Path) -> None:
    recipe = make_scenario(tmp_path)
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text + '\n[quantize]\ntype = "f16"\n', encoding="utf-8")
    run(OWN, "-m", "m2m", "validate", recipe, "-q")
    validated = tmp_path / "m2m-runs" / "recipe" / "validate-fixed.csv"
    (tmp_path / validated.name).write_bytes(validated.read_bytes())

    plan, found = tmp_path / "plan.npz", tmp_path / "found"
    run(OWN, "scripts/research/validate_peer_plan.py", recipe, plan)
    base = tmp_path / "models" / "pico" / "base.gguf"
    run(sys.executable, "scripts/research/validate_peer.py", plan, base, found)
    arrays = {}
    for path in found.glob("*.npz"):
        with np.load(path) as some:
            arrays |= dict(some)

    confirmed = tmp_path / "m2m-runs" / "recipe" / "confirm" / "12" / "copy+upper" / "m2m.json"
    losses = json.loads(confirmed.read_text(encoding="utf-8"))["losses"]
    assert arrays["losses fixed-0|copy+upper"] == pytest.approx(losses, abs=1e-4)
    # A mean of one is itself; a warm start goes on from what all datasets taught.
    expert = arrays[f"dev {PLAIN}|copy"]
    assert arrays[f"dev {PLAIN}|fixed|copy"] == pytest.approx(expert, abs=1e-4)
    assert len(arrays["losses warm"]) == 4
    assert arrays["losses warm start|copy"][0] < 0.9 * arrays[f"losses {PLAIN}|copy"][0]

    table = run(OWN, "scripts/research/validate_peer_table.py", recipe, found)
    with validated.open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 7
    apart = re.search(r"own 7 fine-tunes .* apart by \S+ on average and (\S+) at most", table)
    assert apart is not None
    assert float(apart[1]) < 0.02
    for name in ("mean of singles", "replay 25 %", "growth 0.5", "steps x 4", "32 questions"):
        assert len(re.findall(rf"^\| {re.escape(name)} \|", table, re.MULTILINE)) >= 1, name
