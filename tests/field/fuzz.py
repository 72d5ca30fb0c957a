"""Valid files, damaged in thousands of ways, and read: only m2m's own errors may come out.

`python -m tests.field.fuzz FOLDER SEED COUNT [KIND...]` damages COUNT files of each kind and reads
them in this process, whose memory is limited to what it has now and a little more, with an alarm
against reading for ever. It ends at the first case that is not refused in words, and leaves it in
FOLDER. The damage is in bytes, in JSON values and in GGUF key-values.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2m.adapter import Adapter, check_adapter, load_adapter, save_adapter
from m2m.checkpoint import BaseModel
from m2m.checkpoint.gguf_source import open_gguf
from m2m.checkpoint.hf_source import open_folder
from m2m.checkpoint.source import Source
from m2m.dataset import encode, load_dataset
from m2m.errors import M2MError
from m2m.evaluate.harness import load_harness
from m2m.evaluate.metrics import Scores
from m2m.evaluate.tasks import load_task, requests
from m2m.formats.gguf import GGUFFile, GGUFValue, GGUFValueType, plan_gguf
from m2m.formats.gguf_header import GGUFTensorSpec
from m2m.formats.journal import Journal
from m2m.formats.safetensors import SafetensorsFile
from m2m.mix.mixture import Mixture
from m2m.mix.study import Study
from m2m.mix.trial import Trial
from m2m.nn.lora import LoraPair
from m2m.pipeline.inputs import make_formatter
from m2m.recipe import Train, load_recipe
from m2m.tokenizer.sentencepiece_model import read_sentencepiece
from m2m.tuner.checkpointing import load_checkpoint, save_checkpoint
from m2m.tuner.result import Origin, TrainResult, finished, identity, write_result
from tests import tiny
from tests.pipeline.scenario import RECIPE
from tests.tiny_folder import pico_folder

SECONDS = 2.0
MEMORY = 192 << 20  # bytes beyond what the process has when it begins; the files have 0.4 MB

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**63, -(2**63), 10**40,
    0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, float("inf"), float("nan"), "", " ", "0", "x", "é\ud800",
    "../../../etc/passwd", "/etc/passwd", "C:\\x", "..", "\0", "x" * 5000, "%s%n", "{{ 7 * 7 }}",
    "{% for a in range(99999999) %}x{% endfor %}", "llama", "gpt2", "t5", "BPE", "linear",
    [], {}, [[]], [None], [1, 2], ["a", "a"], {"a": {}}, [0] * 1000, {"type": "Sequence"},
]  # fmt: skip
WORDS = [
    b"\0", b"\xff", b"\x80", b"\r\n", b"\xef\xbb\xbf", b"\xff\xfe", b'"', b"{", b"[" * 200, b",",
    b"]]", b"9" * 400, b"1e999", b"NaN", b"\\u0000", b"\\ud800", b"null", b"true", b"= [[", b"'''",
    b"1979-05-27", b"0x7f", (2**63).to_bytes(8, "little"), (2**64 - 1).to_bytes(8, "little"),
    (2**32 - 1).to_bytes(4, "little"), (2**31).to_bytes(4, "little"), bytes(8), b"\xe2\x80\xa8",
]  # fmt: skip


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Bytes with one to four wounds, more often near the beginning, where headers are."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        size = max(1, len(out))
        near = chance.random() < 0.7
        at = chance.randrange(min(size, 4096) if near else size)
        length = chance.choice((1, 1, 4, 8, 40))
        kind = chance.randrange(7)
        if kind == 0:
            out[at : at + 1] = bytes([out[at] ^ 1 << chance.randrange(8)]) if out else b"x"
        elif kind == 1:
            out[at : at + length] = chance.randbytes(length)
        elif kind == 2:
            del out[at : at + length]
        elif kind == 3:
            out[at:at] = out[max(0, at - 64) : at] * chance.randrange(1, 4)
        elif kind == 4:
            del out[at:]
        else:
            word = chance.choice(WORDS)
            out[at : at + (len(word) if kind == 5 else 0)] = word
    return bytes(out)


def damaged_json(value: Any, chance: random.Random) -> Any:
    """A JSON value in which one to three parts are others, gone or repeated."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return chance.choice(ODD)
        holder, key = chance.choice(places)
        kind = chance.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif kind == 2 and isinstance(holder, dict):
            holder[str(chance.choice(ODD))] = holder.pop(key)
        elif kind == 3:
            other, place = chance.choice(places)
            holder[key] = copy.deepcopy(other[place]) if place in _keys(other) else None
        else:
            holder[key] = copy.deepcopy(chance.choice(ODD))
    return value


def _keys(holder: Any) -> Any:
    return holder if isinstance(holder, dict) else range(len(holder))


def _places(value: Any) -> Any:
    for key in list(_keys(value)) if isinstance(value, (dict, list)) else ():
        yield value, key
        # Long lists are all alike.
        if not isinstance(value, list) or key < 3:
            yield from _places(value[key])


def damaged_gguf(file: GGUFFile, chance: random.Random) -> bytes:
    """A well-formed GGUF whose key-values or tensors are odd."""
    metadata, types = dict(file.metadata), list(GGUFValueType)
    types.remove(GGUFValueType.ARRAY)
    for _ in range(chance.choice((1, 1, 2, 3))):
        key = chance.choice(
            [*metadata, "split.count", "general.alignment", "tokenizer.ggml.scores"]
        )
        metadata[key] = _odd_value(metadata.get(key), chance, types)
        if chance.random() < 0.2:
            del metadata[key]
    specs, parts = [], []
    for tensor in file.tensors.values():
        shape = tensor.shape
        if chance.random() < 0.02:
            shape = chance.choice((shape[::-1], (1, *shape), (math_prod(shape),)))
        if chance.random() < 0.01:
            continue
        raw = file.raw(tensor.name)
        specs.append(GGUFTensorSpec(tensor.name, shape, tensor.type))
        parts.append(raw.tobytes() + bytes(-len(raw) % 32))
    alignment = metadata.get("general.alignment")
    if alignment is not None:
        return damaged(file_bytes(file), chance)
    header, _, _ = plan_gguf(metadata, specs)
    return header + b"".join(parts)


def file_bytes(file: GGUFFile) -> bytes:
    return file.path.read_bytes()


def math_prod(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _odd_value(
    old: GGUFValue | None, chance: random.Random, types: list[GGUFValueType]
) -> GGUFValue:
    if old is not None and old.item_type is not None and chance.random() < 0.7:
        items = list(old.value)
        at = chance.randrange(max(1, len(items)))
        change = chance.randrange(4)
        if change == 0:
            items = items[:at]
        elif change == 1:
            items = [*items, *items[:at]]
        elif change == 2 and items:
            items[at] = chance.choice(items)
        elif items:
            odd = ["", "x" * 300, "\0", "<0xZZ>", "a b c", " "]
            items[at] = chance.choice(odd) if isinstance(items[0], str) else type(items[0])(99)
        return GGUFValue.array(old.item_type, items)
    kind = chance.choice([old.type, *types] if old is not None and not old.item_type else types)
    if kind == GGUFValueType.STRING:
        texts = [v for v in ODD if isinstance(v, str) and "\ud800" not in v]
        return GGUFValue.string(chance.choice(texts))
    if kind in (GGUFValueType.FLOAT32, GGUFValueType.FLOAT64):
        value: Any = chance.choice([0.0, -1.0, 1e30, 1e-30, float("nan"), float("inf"), 2.0])
    elif kind == GGUFValueType.BOOL:
        value = chance.random() < 0.5
    else:
        high = {"8": 127, "16": 2**15 - 1, "32": 2**31 - 1, "64": 2**63 - 1}
        most = next(v for k, v in high.items() if kind.name.endswith(k))
        value = chance.choice([0, 1, 2, 3, 7, 64, most])
    if chance.random() < 0.1:
        return GGUFValue.array(kind, [value] * chance.choice((0, 1, 5)))
    return GGUFValue(kind, value)


@dataclass(frozen=True)
class Kind:
    """A kind of file: the valid ones, how they are damaged, and who reads them."""

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    json: bool = False
    gguf: bool = False


def _one(name: str, content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_text(content, encoding="utf-8", newline="")
        return path

    return make


def _weights(folder: Path) -> Path:
    return pico_folder(folder / "hf") / "model.safetensors"


def _part_of(name: str) -> Callable[[Path], Path]:
    return lambda folder: pico_folder(folder / "hf", shards=2) / name


def _model(folder: Path) -> Path:
    return tiny.pico_model(folder) / "m2m-model.json"


def _adapter(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        a, b = (rng.standard_normal(s).astype(np.float32) for s in ((4, 64), (64, 4)))
        pairs = {"model.layers.0.self_attn.q_proj": LoraPair(a, b, 2.0)}
        save_adapter(folder / "lora", Adapter(4, 8.0, pairs, "pico", "f" * 64, "lora"))
        return folder / "lora" / name

    return make


def _sentencepiece(folder: Path) -> Path:
    from tests.tokenizer.folders import spm_folder

    return spm_folder(folder / "spm", vocab_size=400) / "tokenizer.model"


def _checkpoint(folder: Path) -> Path:
    path = folder / "x.checkpoint.safetensors"
    save_checkpoint(path, "me", {"step": 3, "losses": [1.0]}, {"a": np.ones((2, 3), np.float32)})
    return path


def _journal(folder: Path) -> Path:
    path = folder / "study.jsonl"
    for number in range(3):
        Journal(path).append({"schema": 1, "key": f"k{number}", "scores": {"a": [1.5]}})
    return path


def _trials(folder: Path) -> Path:
    loglik, lengths = np.full((3, 2), -1.5), np.ones((3, 2), np.int64)
    scores = Scores("choices", loglik, lengths, lengths, np.zeros(3, np.int64))
    trial = Trial(Mixture(("a",), (1.0,)), {"t": scores}, {"gain": 1.0, "cosine": 1.0}, 9, 0.5)
    path = folder / "study.jsonl"
    for number in range(3):
        Journal(path).append({"schema": 1, "key": f"k{number}", **trial.as_json()})
    return path


def _read_trials(path: Path) -> None:
    study = Study(Journal(path), None, lambda trial: 0.0)  # type: ignore[arg-type]
    for line in study._known.values():
        Trial.from_json(line)


CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
ALPACA = {"instruction": "a", "input": "b", "output": "c", "history": [["x", "y"]], "system": "s"}
SHARES = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
SEGMENTS = {"segments": [{"text": "a", "label": False}, {"text": "b", "label": True}]}
CHOICE = {"question": "a?", "choices": ["x", "y", "z"], "answer": 1, "facet": "f"}
ANSWER = {"prompt": "a", "answer": "b"}
# The third row: another question and answer; a place that shows counting from 0.
OTHER: dict[str, Any] = {"answer": {"prompt": "d", "answer": "c"}, "choices": {"answer": 0}}


def _read_source(source: Source) -> None:
    source.check_vocabulary()
    for name in source.config.weight_shapes():
        source.read(name)


def _read_gguf(path: Path) -> None:
    file = GGUFFile(path)
    for name in file.tensors:
        file.array(name)
    _read_source(open_gguf(path))
    make_formatter(file, "chat").prompt_ids("Habari?")


def _read_safetensors(path: Path) -> None:
    file = SafetensorsFile(path)
    for name in file.names:
        file.raw(name)
        file.array(name)


TRAIN = Train(steps=3, rank=4)
ORIGIN = Origin("lora", "pico", "f" * 64, "d" * 64)


def _training(folder: Path) -> Path:
    path = _adapter("m2m.json")(folder)
    result = TrainResult(load_adapter(path.parent), 3, 99, [3.0, 2.0, 1.0], 1.0, 0, [(3, 1.0)])
    write_result(path.parent, result, TRAIN, ORIGIN, identity(TRAIN, ORIGIN, 6, 1))
    return path


def _read_training(path: Path) -> None:
    found = finished(path.parent, TRAIN, ORIGIN, 6, 1)
    if found is not None:
        float(found.loss_first + found.loss_last + found.kept_step + found.tokens + found.steps)


def _read_adapter(path: Path) -> None:
    adapter = load_adapter(path.parent)
    check_adapter(adapter, tiny.pico_config(), "f" * 64)


def _read_model(path: Path) -> None:
    base = BaseModel.open(path.parent)
    base.fingerprint  # noqa: B018 (computed)
    make_formatter(base.gguf, "chat")


class Formatters:
    """The pico model's formatter, made once."""

    made: Any = None

    @classmethod
    def get(cls, folder: Path) -> Any:
        if cls.made is None:
            path = tiny.pico_gguf(folder / "formatter.gguf")
            cls.made = make_formatter(GGUFFile(path), "chat")
        return cls.made


def _read_dataset(path: Path) -> None:
    encode(load_dataset(path), Formatters.get(path.parent.parent), 512, path)


def _read_target(path: Path) -> None:
    requests(load_task(path), Formatters.get(path.parent.parent))


def _lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _recipe(folder: Path) -> Path:
    for name in ("copy", "reverse", "upper", "dev", "test"):
        (folder / f"{name}.jsonl").touch()
    return _one("recipe.toml", RECIPE)(folder)


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


def _task_file(content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        rows = [CHOICE | {"question": f"{x}?", "answer": n % 3} for n, x in enumerate("abcdefgh")]
        (folder / "rows.jsonl").write_text(_lines(*rows[:4]), encoding="utf-8")
        (folder / "other.jsonl").write_text(_lines(*rows[4:]), encoding="utf-8")
        return _one("task.yaml", content)(folder)

    return make


def _read_task_file(path: Path) -> None:
    formatter = Formatters.get(path.parent.parent)
    for part in ("dev", "test"):
        requests(load_harness(path, part), formatter)  # type: ignore[arg-type]


KINDS = [
    Kind("gguf", lambda folder: tiny.pico_gguf(folder / "x.gguf"), _read_gguf, gguf=True),
    Kind("safetensors", _weights, _read_safetensors),
    Kind("weights", _weights, lambda path: _read_source(open_folder(path.parent))),
    *(
        Kind(name, _part_of(name), lambda path: _read_source(open_folder(path.parent)), json=True)
        for name in (
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "model.safetensors.index.json",
        )
    ),
    Kind("tokenizer.model", _sentencepiece, read_sentencepiece),
    Kind("adapter_config.json", _adapter("adapter_config.json"), _read_adapter, json=True),
    Kind("adapter_model", _adapter("adapter_model.safetensors"), _read_adapter),
    Kind("m2m.json", _adapter("m2m.json"), _read_adapter, json=True),
    Kind("training", _training, _read_training, json=True),
    Kind("m2m-model.json", _model, _read_model, json=True),
    Kind("recipe", _recipe, load_recipe),
    Kind("trials", _trials, _read_trials, json=True),
    Kind("journal", _journal, lambda path: Journal(path).replay()),
    Kind(
        "checkpoint",
        _checkpoint,
        lambda path: load_checkpoint(path, "me", {"a": np.ones((2, 3), np.float32)}),
    ),
    *(
        Kind(f"{name}.jsonl", _one("x.jsonl", _lines(row, row, row)), _read_dataset, json=True)
        for name, row in (
            ("chat", CHAT),
            ("alpaca", ALPACA),
            ("sharegpt", SHARES),
            ("segments", SEGMENTS),
            ("pairs", {"prompt": "a", "completion": "b"}),
            ("text", {"text": "Habari za asubuhi"}),
        )
    ),
    *(
        Kind(
            f"{name} target",
            _one("x.jsonl", _lines(row, {**row, "id": 1}, row | OTHER.get(name, {}))),
            _read_target,
            json=True,
        )
        for name, row in (("choices", CHOICE), ("answer", ANSWER), ("text", {"text": "a b c"}))
    ),
    Kind(
        "json", _one("x.json", json.dumps([{"prompt": "a", "completion": "b"}] * 3)), _read_dataset
    ),
    Kind("task file", _task_file(json.dumps(TASK)), _read_task_file, json=True),
    Kind("task file in blocks", _task_file(TASK_YAML), _read_task_file),
    Kind("csv", _one("x.csv", 'prompt,completion\r\na,b\r\n"c, d","e\nf"\r\n'), _read_dataset),
    Kind("tsv", _one("x.tsv", "prompt\tcompletion\na\tb\n"), _read_dataset),
    Kind("txt", _one("x.txt", "Habari\r\nza asubuhi\n"), _read_dataset),
]


class Slow(BaseException):
    """The alarm rang."""


class Fuzzer:
    """Damages the valid file of a kind over and over."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.path = kind.make(folder)
        self.valid = self.path.read_bytes()
        self.file = GGUFFile(self.copied()) if kind.gguf else None
        kind.read(self.path)  # the valid file: an error here is one of this module

    def copied(self) -> Path:
        """The valid file beside the one that is damaged: a map must not change under us."""
        return Path(shutil.copyfile(self.path, self.path.with_suffix(".valid")))

    def case(self, chance: random.Random) -> bytes:
        if self.file is not None and chance.random() < 0.5:
            return damaged_gguf(self.file, chance)
        if not self.kind.json or chance.random() < 0.4:
            return damaged(self.valid, chance)
        text = self.valid.decode("utf-8")
        if self.path.suffix == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines()]
            rows = damaged_json(rows, chance)
            rows = rows if isinstance(rows, list) else [rows]
            return _lines(*rows).encode("utf-8", "backslashreplace")
        value = damaged_json(json.loads(text), chance)
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")

    def read(self) -> bool:
        """Whether the file as it lies is refused, in m2m's words."""
        try:
            self.kind.read(self.path)
        except M2MError as error:
            if not error.message:
                raise AssertionError("an error without a message") from error
            return True
        return False


def _limit_memory() -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _ring(number: int, frame: Any) -> None:
    raise Slow(f"longer than {SECONDS} s")


def main() -> int:
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    wanted = set(sys.argv[4:])
    fuzzers = []
    for kind in KINDS:
        if not wanted or kind.name in wanted:
            place = folder / kind.name.replace(" ", "-")
            place.mkdir(parents=True)
            fuzzers.append(Fuzzer(kind, place))
    if sys.platform == "linux":
        _limit_memory()
    signal.signal(signal.SIGPROF, _ring)
    return max([_fuzz(fuzzer, seed, count, folder) for fuzzer in fuzzers])


def _fuzz(fuzzer: Fuzzer, seed: int, count: int, folder: Path) -> int:
    """How many of `count` cases of a kind were not refused in words."""
    name, suffix = fuzzer.kind.name, fuzzer.path.suffix
    chance = random.Random(f"{seed} {name}")
    failures, refused, slowest = 0, 0, 0.0
    for number in range(count):
        data = fuzzer.case(chance)
        fuzzer.path.unlink()
        fuzzer.path.write_bytes(data)
        started = time.process_time()  # a busy neighbour is no hang
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            refused += fuzzer.read()
        except (Exception, Slow) as error:  # noqa: BLE001 (they are what is sought)
            signal.setitimer(signal.ITIMER_PROF, 0)
            failures += 1
            shutil.copyfile(fuzzer.path, folder / f"bad-{name}-{number}{suffix}".replace(" ", "-"))
            print(f"FAILED {name} case {number}: {error!r:.200}")  # noqa: T201
            traceback.print_exc(limit=-4, file=sys.stdout)
        signal.setitimer(signal.ITIMER_PROF, 0)
        slowest = max(slowest, time.process_time() - started)
    print(f"{name}: {refused} of {count} refused, slowest {slowest:.2f} s")  # noqa: T201
    return failures


if __name__ == "__main__":
    sys.exit(main())
