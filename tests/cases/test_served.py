"""An exported model answers as it was scored, asked through its GGUF's own chat template.

A pico model learns a few answers by heart. Then llama-cpp-python's `create_chat_completion` asks
the exported file, as a user's program would, and must get what m2m's own prompt gets.
"""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import pytest

from m2m.adapter import load_adapter
from m2m.checkpoint import BaseModel, import_model
from m2m.commands.chat import Chat
from m2m.dataset import Row, encode
from m2m.dataset.examples import Example
from m2m.evaluate.evaluator import Evaluator
from m2m.evaluate.prompts import Form
from m2m.evaluate.tasks import Task
from m2m.export.lora_gguf import export_lora
from m2m.export.merged_gguf import Provenance, export_gguf
from m2m.formats.gguf import GGUFFile, GGUFValue
from m2m.llamacpp.filetypes import file_type
from m2m.llamacpp.generate import Sampling
from m2m.llamacpp.model import LlamaModel
from m2m.merge.merger import Merger
from m2m.nn.decoder import Decoder
from m2m.pipeline.inputs import make_formatter
from m2m.recipe import Train
from m2m.tokenizer import plain_source
from m2m.tuner.trainer import Origin, Trainer
from tests.templates import KINDS, turn
from tests.tiny import dataset_rows, pico_gguf

ROWS = dataset_rows("reverse", 6)
TRAIN = Train(rank=16, alpha=32, steps=120, batch_tokens=256, learning_rate=1e-2)


def exported(folder: Path, kind: str) -> Path:
    """A model trained on ROWS, its chat template of this kind, or trained without ("plain")."""
    source = KINDS["chatml" if kind == "plain" else kind]
    template = {"tokenizer.chat_template": GGUFValue.string(source)}
    import_model(pico_gguf(folder / "pico.gguf", metadata=template), folder / "base", name="base")
    base = BaseModel.open(folder / "base")
    rows = [
        Row(i, messages=(turn("user", r["prompt"]), turn("assistant", r["completion"])))
        for i, r in enumerate(ROWS, start=1)
    ]
    formatter = make_formatter(base.gguf, "plain" if kind == "plain" else "chat")
    samples = encode(rows, formatter, 256)
    origin = Origin("reverse", "base", base.fingerprint, "print")
    decoder = Decoder(base.config, base.weights)
    Trainer(decoder, samples, TRAIN, folder=folder / "lora", origin=origin).run()
    merger = Merger(base, {"lora": load_adapter(folder / "lora")})
    own = plain_source(bos=False) if kind == "plain" else None
    said = Provenance("pico", "pico", (), own)
    export_gguf(merger, {"lora": 1.0}, file_type("f16"), folder / "out.gguf", said)
    return folder / "out.gguf"


def own_answers(path: Path) -> list[str]:
    """What `m2m` scores: written answers to the same questions."""
    examples = [
        Example(r["prompt"], (r["completion"],), 0, line=i) for i, r in enumerate(ROWS, start=1)
    ]
    task = Task("answer", tuple(examples), path, "print", Form(writes=True, max_tokens=16))
    evaluator = Evaluator(task, make_formatter(GGUFFile(path), "chat"))
    with LlamaModel(path) as model:
        return list(evaluator.evaluate(model).predictions)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["thinks last", "opens", "thinks always", "plain"])
def test_the_exported_model_answers_as_it_was_trained(kind: str, tmp_path: Path) -> None:
    path = exported(tmp_path, kind)
    right = [row["completion"] for row in ROWS]
    assert own_answers(path) == right
    llama = llama_cpp.Llama(str(path), n_ctx=512, verbose=False)
    said = []
    for row in ROWS:
        reply = llama.create_chat_completion(
            [turn("user", row["prompt"])],  # type: ignore[list-item]
            temperature=0.0,
            repeat_penalty=1.0,
            max_tokens=24,
        )
        said.append(reply["choices"][0]["message"]["content"])
        assert reply["choices"][0]["finish_reason"] == "stop"
    llama.close()
    head = {"opens": "\n</think>\n\n", "thinks always": "<think></think>\n"}.get(kind, "")
    assert said == [head + answer for answer in right]


@pytest.mark.slow
def test_a_lora_that_was_trained_without_a_template_is_asked_without(tmp_path: Path) -> None:
    # `m2m chat BASE --lora` asked it in the base's chat template: none of the answers was right.
    exported(tmp_path, "plain")
    base, lora = BaseModel.open(tmp_path / "base"), tmp_path / "lora.gguf"
    export_lora(load_adapter(tmp_path / "lora"), base, lora, "plain")
    for row in ROWS:
        with Chat(str(base.gguf.path), Sampling(max_tokens=20), lora=lora) as talk:
            assert "".join(talk.answer(row["prompt"])).strip() == row["completion"]
