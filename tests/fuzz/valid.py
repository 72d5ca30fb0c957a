"""Valid files and folders, which the fuzzers damage; all are made, none is downloaded."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from m2m.adapter import Adapter, load_adapter, save_adapter
from m2m.evaluate.metrics import Scores
from m2m.formats.journal import Journal
from m2m.mix.mixture import Mixture
from m2m.mix.trial import Trial
from m2m.nn.lora import LoraPair
from m2m.recipe import Train
from m2m.tuner.checkpointing import save_checkpoint
from m2m.tuner.result import Origin, TrainResult, identity, write_result
from tests import tiny
from tests.field.places import m2m, small_scenario
from tests.pipeline.scenario import RECIPE
from tests.templates import KINDS as CHAT_TEMPLATES
from tests.tiny_folder import pico_folder

TRAIN = Train(steps=3, rank=4)
ORIGIN = Origin("lora", "pico", "f" * 64, "d" * 64)

CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
CHOICE = {"question": "a?", "choices": ["x", "y", "z"], "answer": 1, "facet": "f"}
# Rows of every shape that datasets and targets may have.
SHAPES: dict[str, list[dict[str, Any]]] = {
    "chat": [CHAT] * 3,
    "alpaca": [
        {"instruction": "a", "input": "b", "output": "c", "history": [["x", "y"]], "system": "s"}
    ]
    * 3,
    "sharegpt": [
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    ]
    * 3,
    "segments": [{"segments": [{"text": "a", "label": False}, {"text": "b", "label": True}]}] * 3,
    "pairs": [{"prompt": "a", "completion": "b"}] * 3,
    "text": [{"text": "Habari za asubuhi"}, {"text": "a b c", "id": 1}, {"text": "d"}],
    # The third row: another question and answer; a place that shows counting from 0.
    "answer": [{"prompt": "a", "answer": "b"}] * 2 + [{"prompt": "d", "answer": "c"}],
    "choices": [CHOICE, CHOICE | {"id": 1}, CHOICE | {"answer": 0}],
}
TASK = {
    "task": "skill",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "rows.jsonl", "validation": ["other.jsonl"]}},
    "test_split": "test",
    "validation_split": "validation",
    "output_type": "multiple_choice",
    "description": "Answer.",
    "doc_to_text": "{{question}}\nAnswer:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "answer",
    "num_fewshot": 1,
    "fewshot_config": {"sampler": "first_n"},
    "metadata": {"version": 1.0},
}
TASK_YAML = """\
task: skill  # as lm-evaluation-harness has them
dataset_path: json
dataset_kwargs:
  data_files: {test: rows.jsonl, validation: [other.jsonl]}
test_split: test
validation_split: validation
output_type: generate_until
doc_to_text: "Q: {{question}}\\nA:"
doc_to_target: >-
  {{choices[answer]}}
generation_kwargs:
  until:
    - "\\n"
  max_gen_toks: 8
num_fewshot: 2
"""
TASK_TEMPLATES = {
    "fields": "{{question}} {{choices[answer]}} {% if facet %}({{ facet }}){% endif %}",
    "list": "{% for c in choices %}{{ loop.index }}. {{ c | trim }}\n{% endfor %}",
    "filters": "{{ choices | join(', ') | upper | replace('X', 'y') }} {{ '%s' % question }}",
    "numbers": "{{ ['a', 'b', 'c'].index('b') + answer * 2 // 3 }} {{ choices | length }}",
}


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write(path: Path, data: str | bytes) -> None:
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))


def gguf(folder: Path) -> None:
    tiny.pico_gguf(folder / "x.gguf")


def weights(folder: Path) -> None:
    whole = pico_folder(folder / "whole")
    shutil.copyfile(whole / "model.safetensors", folder / "x.safetensors")
    shutil.rmtree(whole)


def model_folder(folder: Path) -> None:
    pico_folder(folder / "hf", shards=2)


def sentencepiece(folder: Path) -> None:
    from tests.tokenizer.folders import spm_folder

    spm_folder(folder / "spm", vocab_size=400)


def adapter(folder: Path) -> None:
    """A PEFT folder of m2m's own, with the record of its training."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((4, 64), (64, 4)))
    pairs = {"model.layers.0.self_attn.q_proj": LoraPair(a, b, 2.0)}
    place = folder / "lora"
    save_adapter(place, Adapter(4, 8.0, pairs, "pico", "f" * 64, "lora"))
    result = TrainResult(load_adapter(place), 3, 99, [3.0, 2.0, 1.0], 1.0, 0, [(3, 1.0)])
    write_result(place, result, TRAIN, ORIGIN, identity(TRAIN, ORIGIN, 6, 1))


def model(folder: Path) -> None:
    tiny.pico_model(folder)


def checkpoint(folder: Path) -> None:
    state = {"step": 3, "losses": [1.0]}
    save_checkpoint(folder / "x.checkpoint", "me", state, {"a": np.ones((2, 3), np.float32)})


def journal(folder: Path) -> None:
    loglik, lengths = np.full((3, 2), -1.5), np.ones((3, 2), np.int64)
    scores = Scores("choices", loglik, lengths, lengths, np.zeros(3, np.int64))
    trial = Trial(Mixture(("a",), (1.0,)), {"t": scores}, {"gain": 1.0, "cosine": 1.0}, 9, 0.5)
    for number in range(3):
        Journal(folder / "study.jsonl").append(
            {"schema": 1, "key": f"k{number}", **trial.as_json()}
        )


def recipe(folder: Path) -> None:
    for name in ("copy", "reverse", "upper", "dev", "test"):
        (folder / f"{name}.jsonl").touch()
    write(folder / "recipe.toml", RECIPE)


def zipped(name: str, text: str) -> bytes:
    """An archive with one file, the same bytes each time."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), text)
    return data.getvalue()


_TMX = """<?xml version="1.0"?><tmx version="1.4"><header srclang="en"/><body>
<tu><tuv xml:lang="en"><seg>a</seg></tuv><tuv xml:lang="sw"><seg>b<ph>&amp;</ph></seg></tuv></tu>
</body></tmx>"""
_XLIFF = """<xliff version="1.2"><file source-language="en" target-language="sw"><body>
<trans-unit id="1"><source>a</source><target state="final">b</target></trans-unit>
</body></file></xliff>"""
_PAIRS = lines(SHAPES["pairs"])
ROWS: dict[str, str | bytes] = {
    "x.jsonl": _PAIRS,
    "x.json": json.dumps(SHAPES["pairs"]),
    "x.csv": 'prompt,completion\r\na,b\r\n"c, d","e\nf"\r\n',
    "x.tsv": "prompt\tcompletion\na\tb\n",
    "x.txt": "Habari\r\nza asubuhi\n",
    "x.po": 'msgid ""\nmsgstr ""\n\n#, fuzzy\nmsgid "a"\nmsgstr "b"\n\nmsgid "c"\nmsgstr "d"\n',
    "x.tmx": _TMX,
    "x.xlf": _XLIFF,
    "x.zip": zipped("x.csv", "prompt,completion\na,b\n"),
    "x.jsonl.gz": gzip.compress(_PAIRS.encode(), mtime=0),
    "x.jsonl.bz2": bz2.compress(_PAIRS.encode()),
    "x.jsonl.xz": lzma.compress(_PAIRS.encode()),
}


def rows(folder: Path) -> None:
    """A file of every format that m2m reads rows from without another package."""
    for name, data in ROWS.items():
        write(folder / name, data)


def task(folder: Path) -> None:
    asked = [CHOICE | {"question": f"{x}?", "answer": n % 3} for n, x in enumerate("abcdefgh")]
    write(folder / "rows.jsonl", lines(asked[:4]))
    write(folder / "other.jsonl", lines(asked[4:]))
    write(folder / "other.yaml", "num_fewshot: 1\ndescription: Answer.\n")
    write(folder / "task.yaml", TASK_YAML)


def chat_template(folder: Path) -> None:
    write(folder / "chat.jinja", CHAT_TEMPLATES["chatml"])


def task_template(folder: Path) -> None:
    write(folder / "text.jinja", TASK_TEMPLATES["fields"])


def run(folder: Path) -> None:
    """The folder of a finished run, with the share of another machine."""
    path = small_scenario(folder / "scenario")
    done = m2m("run", path)
    assert done.returncode == 0, done.stderr
    shutil.move(path.parent / "m2m-runs" / "recipe", folder / "run")
    shutil.rmtree(folder / "scenario")
    share = folder / "run" / "shares" / "1-of-2"
    share.mkdir(parents=True)
    shutil.copyfile(folder / "run" / "study.jsonl", share / "study.jsonl")


# Other valid contents of some files, which reach code that the first does not.
MORE: dict[str, list[str]] = {
    "x.jsonl": [lines(shape) for shape in SHAPES.values()],
    "x.json": [
        json.dumps(shape)
        for shape in (
            {"prompt": ["a"], "completion": ["b"]},
            {"prompt": {"0": "a"}, "completion": {"0": "b"}},
            {"q1": {"prompt": "a"}, "q2": {"prompt": "b"}},
            {"columns": ["prompt", "completion"], "data": [["a", "b"]]},
            {"data": SHAPES["pairs"]},
            [["prompt", "completion"], ["a", "b"]],
        )
    ],
    "x.tsv": ['prompt\tcompletion\n"a\tb\nc\td"\n', "sep=;\na;b\n"],
    "x.csv": ["question,choices,answer\r\na?,x|y|z,1\r\n", "text;id\r\na;1\r\n"],
    "task.yaml": [json.dumps(TASK), "include: other.yaml\n" + TASK_YAML],
    "chat.jinja": list(CHAT_TEMPLATES.values()),
    "text.jinja": list(TASK_TEMPLATES.values()),
}
