"""A recipe, rows and file names of a stranger, through a whole run: what is written is text.

The kind: a field that reaches a file or the terminal by a way that no test of a single medium
takes. All fields of strangers are hostile at once, and every file of the run's folder is read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.escaping import quoted
from tests.hostile import HOSTILE, controls, formulas, read_modelfile
from tests.pipeline.scenario import make_scenario
from tests.tiny import write_jsonl

# TOML holds no surrogates.
EVIL = "\n".join(text for text in HOSTILE.values() if "\ud800" not in text)
TEXTS = {".json", ".jsonl", ".csv", ".html", ".md", ".log"}


def hostile_scenario(folder: Path) -> Path:
    recipe = make_scenario(folder)
    data, target = "c\x9b2J\u202eopy.jsonl", folder / "dev.jsonl"
    (folder / "copy.jsonl").rename(folder / data)
    rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    write_jsonl(target, [{**row, "facet": (EVIL, "plain")[i % 2]} for i, row in enumerate(rows)])
    text = recipe.read_text(encoding="utf-8")
    text = text.replace("[base]", f"[base]\nhub = {quoted(EVIL)}")
    text = text.replace('"CC0-1.0"', f"{quoted(EVIL)}\nsource = {quoted(EVIL)}")
    text = text.replace('"copy.jsonl"', f"{quoted(data)}\nnotes = {quoted(EVIL)}")
    recipe.unlink()
    named = folder / "r\u202e\x1b[2J\u200d.toml"
    named.write_text(text, encoding="utf-8")
    return named


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such file names")
@pytest.mark.slow
def test_a_whole_run_of_strangers_texts(tmp_path: Path) -> None:
    recipe = hostile_scenario(tmp_path)
    for command in (["data", "check"], ["run", "--anyway"], ["report"], ["report", "--json"]):
        done = CliRunner().invoke(cli, [*command, str(recipe)])
        assert done.exit_code == 0, done.output
        assert not controls(done.output)
    json.loads(done.stdout)
    (folder,) = (tmp_path / "m2m-runs").iterdir()
    (made,) = folder.glob("export/Modelfile")
    written = [path for path in folder.rglob("*") if path.suffix in TEXTS]
    assert {path.suffix for path in written} == TEXTS
    for path in (made, *written):
        assert not controls(path.read_text(encoding="utf-8"), "\n\t"), path.name
    names = ["from", "template", "stop", "stop", "num_ctx", "temperature", "license"]
    found = read_modelfile(made.read_text(encoding="utf-8"))
    assert [name for name, _ in found] == names
    assert (made.parent / found[0][1]).is_file()
    assert not formulas((folder / "report" / "data.csv").read_text(encoding="utf-8"))
