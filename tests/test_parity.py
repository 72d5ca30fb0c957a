"""The starter as m2m reads it against llama.cpp, on real text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from m2m.checkpoint import BaseModel
from m2m.llamacpp.filetypes import file_type
from m2m.llamacpp.surrogate import Surrogate
from m2m.nn.decoder import Decoder
from m2m.pipeline.inputs import make_formatter

TARGET = Path(__file__).parent.parent / "examples" / "swahili" / "target" / "dev.jsonl"


@pytest.mark.model
@pytest.mark.parametrize(("kind", "apart", "agreement"), [("f32", 5e-3, 1.0), ("f16", 0.1, 0.99)])
def test_our_logits_are_those_of_llama_cpp_on_real_text(
    starter: Path, tmp_path: Path, kind: str, apart: float, agreement: float
) -> None:
    """F32 differs by the order of sums only; at F16 llama.cpp rounds activations too."""
    base = BaseModel.open(starter)
    formatter = make_formatter(base.gguf, "chat")
    decoder = Decoder(base.config, base.weights)
    rows = [json.loads(line) for line in TARGET.read_text(encoding="utf-8").splitlines()[:12]]
    same, total = 0, 0
    with Surrogate(base.gguf, file_type(kind), tmp_path, threads=2) as surrogate:
        model = surrogate.load([], exact_cache=kind == "f32")
        for row in rows:
            answer = formatter.answer_ids(row["choices"][row["answer"]])
            ids = [*formatter.prompt_ids(row["question"]), *answer]
            ours, theirs = decoder.logits(np.array(ids)), model.logits(ids)
            assert np.abs(ours - theirs).max() < apart
            same += int((ours.argmax(axis=1) == theirs.argmax(axis=1)).sum())
            total += len(ids)
    assert same >= agreement * total
