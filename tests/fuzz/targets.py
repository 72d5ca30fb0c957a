"""The targets: for each reader of strangers' files, a function of bytes that reads them.

A case is bytes: the name of a file, a newline and the content that this file gets in a folder whose
other files are valid. A case may be read or be refused in m2m's own words; all else is a finding.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from m2m.adapter import check_adapter, load_adapter
from m2m.checkpoint import BaseModel
from m2m.checkpoint.gguf_source import open_gguf
from m2m.checkpoint.hf_source import open_folder
from m2m.checkpoint.model_source import ModelSource
from m2m.dataset import encode, load_dataset
from m2m.errors import M2MError
from m2m.evaluate.harness import load_harness
from m2m.evaluate.tasks import load_task, requests
from m2m.formats.gguf import GGUFFile
from m2m.formats.journal import Journal
from m2m.formats.records import read_records
from m2m.formats.safetensors import SafetensorsFile
from m2m.mix.trial import Trial
from m2m.pipeline.inputs import make_formatter
from m2m.pipeline.merge_runs import merge_runs
from m2m.recipe import load_recipe
from m2m.report.page import page
from m2m.results.facts import csv_tables, read_facts
from m2m.results.table import as_csv
from m2m.templates.parent import Refused
from m2m.tokenizer import ChatTemplate, Formatter
from m2m.tokenizer.sentencepiece_model import read_sentencepiece
from m2m.tuner.checkpointing import load_checkpoint
from m2m.tuner.result import finished
from tests import tiny
from tests.fuzz import valid
from tests.templates import BOS, CALLING, CONVERSATIONS, EOS, TOOLS, of_task, pico_tokenizer

CORPUS = Path(__file__).parent / "corpus"


def _source(source: ModelSource) -> None:
    source.check_vocabulary()
    for name in source.config.weight_shapes():
        source.read(name)


def _gguf(path: Path) -> None:
    file = GGUFFile(path)
    for name in file.tensors:
        file.array(name)
    _source(open_gguf(path))
    make_formatter(file, "chat").prompt_ids("Habari?")


def _safetensors(path: Path) -> None:
    file = SafetensorsFile(path)
    for name in file.names:
        file.raw(name)
        file.array(name)


def _folder(path: Path) -> None:
    _source(open_folder(path.parent))


def _adapter(path: Path) -> None:
    check_adapter(load_adapter(path.parent), tiny.pico_config(), "f" * 64)


def _training(path: Path) -> None:
    result = finished(path.parent, valid.TRAIN, valid.ORIGIN, 6, 1)
    if result is not None:
        float(result.loss_first + result.loss_last + result.kept_step + result.tokens)


def _model(path: Path) -> None:
    base = BaseModel.open(path.parent)
    base.fingerprint  # noqa: B018 (computed)
    make_formatter(base.gguf, "chat")


def _checkpoint(path: Path) -> None:
    load_checkpoint(path, "me", {"a": np.ones((2, 3), np.float32)})


def _journal(path: Path) -> None:
    Journal(path).replay()


def _trials(path: Path) -> None:
    seen: dict[str, set[int]] = {}
    for number, line in enumerate(Journal(path).replay(), 1):
        trial = Trial.from_json(line, f"{path}:{number}")
        trial.check_against({"t": 3}, f"{path}:{number}")
        trial.without(seen)


@cache
def _formatter() -> Formatter:
    return Formatter(pico_tokenizer(), ChatTemplate(tiny.CHATML, BOS, EOS))


def _records(path: Path) -> None:
    """Read rows whose columns only a recipe could explain, such as those of translations."""
    read_records(path)


def _dataset(path: Path) -> None:
    encode(load_dataset(path), _formatter(), 512, path)


def _target(path: Path) -> None:
    requests(load_task(path), _formatter())


def _task(path: Path) -> None:
    for part in ("dev", "test"):
        requests(load_harness(path.parent / "task.yaml", part), _formatter())  # type: ignore[arg-type]


def _source_text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def _conversations(path: Path) -> None:
    formatter = Formatter(pico_tokenizer(), ChatTemplate(_source_text(path), BOS, EOS))
    formatter.prompt_ids("Habari?")
    for messages in CONVERSATIONS.values():
        formatter.samples(messages)


def _tools(path: Path) -> None:
    template = ChatTemplate(_source_text(path), BOS, EOS)
    template.check(CALLING, TOOLS)


def _text_template(path: Path) -> None:
    with contextlib.suppress(Refused):  # in words
        template = of_task(_source_text(path))
        for row in (
            valid.CHOICE,
            {"question": "é" * 3000, "choices": list("ab") * 50, "answer": 0, "facet": 1},
        ):
            template.render(row)


def _report(path: Path) -> None:
    facts = read_facts(_run_of(path))
    page(facts)
    for table in csv_tables(facts):
        as_csv(table)


def _merge(path: Path) -> None:
    run = _run_of(path)
    into = run.parent / "into"
    shutil.rmtree(into, ignore_errors=True)
    merge_runs(into, [run])


def _run_of(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.name == "run")


@dataclass(frozen=True)
class Target:
    """A reader of strangers' files.

    Attributes:
        make: writes the valid files into an empty folder.
        files: those that a case may replace, relative to that folder.
        reads: all are called with the path of the replaced file; each may refuse it.
        corpus: folders of `tests/field/corpus` whose files are cases, with the name they get.
    """

    name: str
    make: Callable[[Path], None]
    files: Sequence[str]
    reads: Sequence[Callable[[Path], object]]
    corpus: Sequence[tuple[str, str]] = ()

    def seeds(self, folder: Path) -> list[bytes]:
        """Cases: the valid files in `folder` as `make` made them, and others kept by hand."""
        out = [as_case(name, (folder / name).read_bytes()) for name in self.files]
        for name in self.files:
            out += [as_case(name, text.encode()) for text in valid.MORE.get(name, ())]
        for kept, name in self.corpus:
            for path in sorted((CORPUS.parents[1] / "field" / "corpus" / kept).iterdir()):
                renamed = str(Path(name).with_suffix(path.suffix)) if kept == "rows" else name
                out.append(as_case(renamed, path.read_bytes()))
        return out + [path.read_bytes() for path in sorted((CORPUS / self.name).glob("*"))]


class Reader:
    """A target with its folder of valid files, ready for cases."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target, self.folder = target, folder
        target.make(folder)
        self.seeds = target.seeds(folder)
        self.valid = dict(map(parted, self.seeds[: len(target.files)]))
        for case in self.seeds[: len(target.files)]:
            refused = self.read(case)
            assert refused < len(target.reads), f"{parted(case)[0]} is not valid: correct the maker"

    def read(self, case: bytes) -> int:
        """Read a case with all readers; how many of them refused it in m2m's words."""
        name, content = parted(case)
        if name not in self.valid:
            return len(self.target.reads)
        path, refused = self.folder / name, 0
        # A new file, not the old one with other content: a reader may still have that mapped.
        path.unlink()
        path.write_bytes(content)
        try:
            for read in self.target.reads:
                try:
                    read(path)
                except M2MError as error:
                    assert error.message, "an error without a message"
                    refused += 1
        finally:
            path.unlink()
            path.write_bytes(self.valid[name])
        return refused


def as_case(name: str, content: bytes) -> bytes:
    return name.encode() + b"\n" + content


def parted(case: bytes) -> tuple[str, bytes]:
    """The name of the file, and its content."""
    name, _, content = case.partition(b"\n")
    return name.decode("utf-8", "replace"), content


def _all(place: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{place}/{name}" for name in names)


_RUN = _all(
    "run", "recipe.json", "ranking.json", "confirm.json", "export.json", "steps.jsonl",
    "study.jsonl", "confirm.jsonl", "shares/1-of-2/study.jsonl", "adapters/copy/m2m.json",
    "adapters/copy/adapter_config.json", "adapters/copy/adapter_model.safetensors",
)  # fmt: skip
_HF = _all(
    "hf", "config.json", "tokenizer_config.json", "model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
)  # fmt: skip
_LIST: tuple[Any, ...] = (
    Target("chat-template", valid.chat_template, ("chat.jinja",), (_conversations, _tools)),
    Target("task-template", valid.task_template, ("text.jinja",), (_text_template,)),
    Target(
        "task-file",
        valid.task,
        ("task.yaml", "other.yaml", "rows.jsonl"),
        (_task,),
    ),
    # Every format that `read_records` reads must be here: a test compares.
    Target(
        "rows",
        valid.rows,
        tuple(valid.ROWS),
        (_records, _dataset, _target),
        (("rows", "x"), ("target", "x.jsonl")),
    ),
    Target("gguf", valid.gguf, ("x.gguf",), (_gguf,), (("gguf", "x.gguf"),)),
    Target(
        "safetensors",
        valid.weights,
        ("x.safetensors",),
        (_safetensors,),
        (("safetensors", "x.safetensors"),),
    ),
    Target(
        "model-folder",
        valid.model_folder,
        _HF,
        (_folder,),
        (("index", "hf/model.safetensors.index.json"),),
    ),
    Target("tokenizer.json", valid.model_folder, ("hf/tokenizer.json",), (_folder,)),
    Target("tokenizer.model", valid.sentencepiece, ("spm/tokenizer.model",), (read_sentencepiece,)),
    Target(
        "peft",
        valid.adapter,
        _all("lora", "adapter_config.json", "adapter_model.safetensors", "m2m.json"),
        (_adapter, _training),
        (("adapter_config", "lora/adapter_config.json"),),
    ),
    Target("model", valid.model, ("pico/m2m-model.json",), (_model,)),
    Target(
        "journal",
        valid.journal,
        ("study.jsonl",),
        (_journal, _trials),
        (("journal", "study.jsonl"),),
    ),
    Target("checkpoint", valid.checkpoint, ("x.checkpoint",), (_checkpoint,)),
    Target("run", valid.run, _RUN, (_report, _merge)),
    Target("recipe", valid.recipe, ("recipe.toml",), (load_recipe,), (("recipe", "recipe.toml"),)),
)
TARGETS: dict[str, Target] = {target.name: target for target in _LIST}
