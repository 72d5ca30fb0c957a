"""Kind: one number called better than another, though the two measure different things.

Perplexity is per token: a tokenizer that cuts a text into more tokens makes it smaller. Windows of
a text hold other parts of it with another tokenizer.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.commands.eval import compare_models
from m2m.formats.gguf import GGUFValue, GGUFValueType
from m2m.recipe import Target
from tests.tiny import MERGES, pico_gguf, write_jsonl

TEXTS = ["the sea and the rest of it", "a bus to the form", "on the user list"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The same weights with all merges and with five, and other weights with all merges."""
    folder = tmp_path_factory.mktemp("models")
    few = {"tokenizer.ggml.merges": GGUFValue.array(GGUFValueType.STRING, MERGES[:5])}
    return [
        str(pico_gguf(folder / "all.gguf")),
        str(pico_gguf(folder / "few.gguf", metadata=few)),
        str(pico_gguf(folder / "seed.gguf", 1)),
    ]


def task_of(folder: Path) -> Path:
    texts = [f"{text} {i}" for text in TEXTS for i in range(4)]
    rows = [{"prompt": text, "answer": text[::-1][:12]} for text in texts]
    return write_jsonl(folder / "t.jsonl", rows)


@pytest.mark.slow
def test_perplexity_of_two_tokenizers_is_not_compared(tmp_path: Path, models: list[str]) -> None:
    task = task_of(tmp_path)
    found = compare_models(models, [task], Target("t", task)).as_json()["differences"]
    reasons = {(Path(e["model"]).stem, e["metric"]): e["reason"] for e in found if e["reason"]}
    assert reasons == {("few", "perplexity"): "other tokenizer"}
    for each in found:
        assert each["comparable"] == (each["ahead"] is not None) == (not each["reason"])
    assert {"bits_per_byte", "contrast_bits", "answer_match"} <= {e["metric"] for e in found}


@pytest.mark.slow
def test_the_table_says_what_is_not_comparable(tmp_path: Path, models: list[str]) -> None:
    task = task_of(tmp_path)
    shown = CliRunner().invoke(cli, ["eval", *models[:2], str(task), "--quiet"])
    (line,) = (each for each in shown.stdout.splitlines() if "not comparable" in each)
    assert line.split()[:4] == ["perplexity", "few.gguf", "-", "-"]
    assert line.rstrip().endswith("not comparable: other tokenizer")


@pytest.mark.slow
def test_windows_of_two_tokenizers_are_not_paired(tmp_path: Path, models: list[str]) -> None:
    text = tmp_path / "t.txt"
    text.write_text(" ".join(TEXTS * 20), encoding="utf-8")
    how = replace(Target("t", text), window=32)
    found = compare_models(models, [text], how).as_json()["differences"]
    apart = {(Path(e["model"]).stem, e["metric"]): e["reason"] for e in found}
    for metric in ("bits_per_byte", "perplexity"):
        assert apart["few", metric] == "other tokenizer, so other windows"
        assert apart["seed", metric] == ""
    text.write_text("\n".join(f"{each} {i}" for each in TEXTS for i in range(4)), encoding="utf-8")
    rows = compare_models(models, [text], replace(how, window=0)).as_json()["differences"]
    assert {e["metric"] for e in rows if not e["comparable"]} == {"perplexity"}
    assert json.dumps(rows)


def test_nothing_is_better_on_three_questions(tmp_path: Path, models: list[str]) -> None:
    # A bootstrap of one question has an interval without any width: "+2.0 to +2.0 better".
    rows = [{"prompt": text, "answer": text[::-1]} for text in TEXTS] * 5
    task = write_jsonl(tmp_path / "t.jsonl", rows)
    found = compare_models([models[0], models[2]], [task], Target("t", task)).as_json()
    assert {e["reason"] for e in found["differences"]} == {"3 questions, at least 10 are needed"}
