from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from m2m.cli.evaluate import ASKING, evaluate
from m2m.cli.main import CONTEXT, cli
from m2m.commands import eval as eval_module
from m2m.recipe import Target
from tests.tiny import pico_gguf, pico_target

OTHER: dict[str, Any] = {
    "metric": "f1", "prompt": "{q}", "answer": "{a}", "choices": ("x", "y"), "answers": "letter",
    "template": "raw", "instruction": "Do.", "shots": 3, "shots_from": Path("p.jsonl"),
    "shots_seed": 4,
    "answer_prefix": "A: ", "answer_suffix": ".", "stop": ("\n",), "max_tokens": 7, "window": 512,
    "system": "{s}", "text": "{t}", "messages": "{m}",
    "encoding": "cp1252", "header": "no", "quotes": "text", "bad_rows": "skip",
}  # fmt: skip


class Seen(Exception):
    """What reached the pipeline."""


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> Any:
    def stop(models: Any, tasks: Any, how: Target, lora: Any, *_: Any) -> None:
        raise Seen(models, tasks, how, lora)

    monkeypatch.setattr(eval_module, "compare_models", stop)

    def run(*arguments: str) -> tuple[list[str], list[Path], Target, Path | None]:
        found = CliRunner().invoke(evaluate, ["m", "t.jsonl", *arguments], **CONTEXT)
        assert isinstance(found.exception, Seen), found.output
        seen: tuple[list[str], list[Path], Target, Path | None] = found.exception.args
        return seen

    return run


def test_models_and_tasks_are_told_apart(reached: Any) -> None:
    models, tasks, how, lora = reached("n.gguf", "u.YAML", "v.txt", "--lora", "l.gguf")
    assert models == ["m", "n.gguf"]
    assert tasks == [Path("t.jsonl"), Path("u.YAML"), Path("v.txt")]
    assert (how, lora) == (Target("task", Path("t.jsonl")), Path("l.gguf"))


def test_everything_that_a_target_says_about_asking_is_an_option(reached: Any) -> None:
    named = {s.name for s in dataclasses.fields(Target) if "hidden" not in s.metadata}
    assert (
        set(ASKING)
        == {*OTHER, "labels", "where"}
        == named - {"name", "dev", "test", "test_where", "weight", "like", "data_root"}
    )
    for name, value in OTHER.items():
        values = value if isinstance(value, tuple) else (value,)
        option = f"--{name.replace('_', '-')}"
        how = reached(*(text for each in values for text in (option, str(each))))[2]
        assert getattr(how, name) == value
    how = reached("--labels", "0=bad", "--labels", "1=a=b", "--where", "n=1", "--where", "n=2")[2]
    assert (how.labels, how.where) == ((("0", "bad"), ("1", "a=b")), (("n", ("1", "2")),))


def test_the_number_of_right_answers_comes_before_the_metrics(tmp_path: Path) -> None:
    model = str(pico_gguf(tmp_path / "pico.gguf"))
    task = pico_target(tmp_path / "dev.jsonl", "copy", count=20)
    shown = CliRunner().invoke(cli, ["eval", model, str(task)]).stdout
    found = json.loads(CliRunner().invoke(cli, ["eval", model, str(task), "--json"]).stdout)
    accuracy = found["results"][0]["metrics"]["accuracy"]["value"]
    assert f"Right: pico.gguf {round(20 * accuracy)} of 20\n" in shown
    assert shown.index("Right: ") < shown.index("choice_bits")
