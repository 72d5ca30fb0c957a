"""m2m's own decoder against llama.cpp: pico models of every family, and real ones on real text."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m2m.checkpoint import BaseModel, gguf_rules, import_model
from m2m.llamacpp.filetypes import file_type
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.scratch_model import AdaptedTensor, Surrogate
from m2m.nn.config import DecoderConfig
from m2m.nn.decoder import Decoder
from m2m.nn.lora import init_lora, lora_delta
from m2m.pipeline.inputs import make_formatter
from tests.checkpoint.families import VARIANTS
from tests.tiers import rotated
from tests.tiny import write_pico_gguf
from tests.tiny_folder import pico_folder

TARGET = Path(__file__).parent.parent / "examples" / "swahili" / "target" / "dev.jsonl"
SENTENCES = Path(__file__).parent / "golden" / "sentences.txt"


def compare(
    decoder: Decoder, peer: LlamaModel, texts: Sequence[Sequence[int]]
) -> tuple[float, float]:
    """How far logits are apart at most, and how often the same token is the most likely."""
    apart, same, total = 0.0, 0, 0
    for ids in texts:
        ours, theirs = decoder.logits(np.array(ids)), peer.logits(ids)
        apart = max(apart, float(np.abs(ours - theirs).max()))
        same += int((ours.argmax(axis=1) == theirs.argmax(axis=1)).sum())
        total += len(ours)
    return apart, same / total


def tolerance(model: BaseModel) -> float:
    """ggml takes GELU from a table of F16 values (GGML_GELU_FP16, vec.h); all else is F32."""
    return 5e-3 if model.config.activation == "gelu_tanh" else 5e-5


def some_ids(config: DecoderConfig) -> list[int]:
    """Enough to reach beyond windows and short wavelengths; llama.cpp has no window in Mistral."""
    length = (config.architecture == "mistral" and config.sliding_window) or 200
    return [int(i) for i in np.random.default_rng(1).integers(3, config.vocab_size, length)]


@pytest.mark.parametrize(("variant", "kind"), rotated(VARIANTS, ["folder", "gguf"]))
def test_every_family_gives_the_logits_of_llama_cpp(
    tmp_path: Path, variant: str, kind: str
) -> None:
    config = VARIANTS[variant]
    make = pico_folder if kind == "folder" else write_pico_gguf
    import_model(make(tmp_path / "pico.gguf", config), tmp_path / "m", name="m")
    model = BaseModel.open(tmp_path / "m")
    with Surrogate(model.gguf, file_type("f32"), tmp_path, threads=1) as surrogate:
        peer = surrogate.load([], exact_cache=True)
        apart, _ = compare(Decoder(model.config, model.weights), peer, [some_ids(config)])
    assert apart < tolerance(model)


@pytest.mark.parametrize("variant", VARIANTS)
def test_adapters_of_every_family_do_in_llama_cpp_what_they_did_in_training(
    tmp_path: Path, variant: str
) -> None:
    config, rng = VARIANTS[variant], np.random.default_rng(2)
    import_model(write_pico_gguf(tmp_path / "pico.gguf", config), tmp_path / "m", name="m")
    model = BaseModel.open(tmp_path / "m")
    pairs = {
        module: replace(pair, b=0.1 * rng.standard_normal(pair.b.shape, np.float32))
        for module, pair in init_lora(config, config.linear_shapes(), 4, 8.0, rng).items()
    }
    changes = ((f"{module}.weight", lora_delta(pair)) for module, pair in pairs.items())
    tensors = [AdaptedTensor(*change) for change in gguf_rules(config).changes(changes)]
    with Surrogate(model.gguf, file_type("f32"), tmp_path, threads=1) as surrogate:
        theirs = surrogate.load(tensors, exact_cache=True).logits(some_ids(config))
    ids = np.array(some_ids(config))
    decoder = Decoder(model.config, model.weights)
    ours = decoder.logits(ids, pairs)
    assert np.abs(ours - decoder.logits(ids)).max() > 0.5
    assert np.abs(ours - theirs).max() < tolerance(model)


@pytest.mark.model
@pytest.mark.slow  # 135M parameters
@pytest.mark.parametrize(("kind", "apart", "agreement"), [("f32", 5e-3, 1.0), ("f16", 0.1, 0.99)])
def test_our_logits_are_those_of_llama_cpp_on_real_text(
    starter: Path, tmp_path: Path, kind: str, apart: float, agreement: float
) -> None:
    """F32 differs by the order of sums only; at F16 llama.cpp rounds activations too."""
    base = BaseModel.open(starter)
    formatter = make_formatter(base.gguf, "chat")
    rows = [json.loads(line) for line in TARGET.read_text(encoding="utf-8").splitlines()[:12]]
    texts = [
        formatter.prompt_ids(row["question"]) + formatter.answer_ids(row["choices"][row["answer"]])
        for row in rows
    ]
    with Surrogate(base.gguf, file_type(kind), tmp_path, threads=2) as surrogate:
        peer = surrogate.load([], exact_cache=kind == "f32")
        found = compare(Decoder(base.config, base.weights), peer, texts)
    assert found[0] < apart
    assert found[1] >= agreement


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gemma 3 270M, imported from the GGUF file that M2M_GEMMA names."""
    path = Path(os.environ.get("M2M_GEMMA", "no-gemma.gguf"))
    if not path.is_file():
        pytest.skip("needs Gemma 3 270M: M2M_GEMMA names no file")
    folder = tmp_path_factory.mktemp("gemma") / "gemma"
    import_model(path, folder, name="gemma")
    return folder


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize(("name", "within"), [("starter", 5e-3), ("gemma", 0.3)])
def test_fifty_sentences_of_many_languages(
    name: str, within: float, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Same ids, same logits but for the order of sums, and for Gemma but for ggml's GELU table."""
    model = BaseModel.open(request.getfixturevalue(name))
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    assert len(sentences) == 50
    tokenizer = model.tokenizer
    begin = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
    with Surrogate(model.gguf, file_type("f32"), tmp_path, threads=2) as surrogate:
        peer = surrogate.load([], exact_cache=True)
        texts = [tokenizer.encode(sentence) for sentence in sentences]
        assert texts == [peer.tokenize(sentence) for sentence in sentences]
        decoder = Decoder(model.config, model.weights)
        apart, same = compare(decoder, peer, [[*begin, *ids] for ids in texts])
    assert apart < within
    assert same >= 0.99
