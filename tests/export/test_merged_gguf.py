"""Exported models against llama.cpp's own quantiser on the same merged weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2m.adapter import Adapter
from m2m.checkpoint import BaseModel, import_model
from m2m.export.merged_gguf import Provenance, export_gguf, remedy, requantize
from m2m.formats.gguf import GGUFFile, GGUFValue
from m2m.llamacpp.asking import own_template
from m2m.llamacpp.filetypes import FILE_TYPES, file_type
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.quantize import Survival
from m2m.merge.merger import Merger
from m2m.nn.decoder import Decoder
from m2m.nn.lora import LoraPair
from m2m.recipe import QUANTIZATIONS
from tests.llamacpp.conftest import Quantizer, llama_quantize, wide
from tests.merge.conftest import adapter, base
from tests.tiny import merged_weights, pico_gguf

__all__ = ["base", "llama_quantize", "wide"]  # fixtures

IDS = [1, 80, 90, 100, 110, 120, 130, 140]


def exact_adapter(base: BaseModel) -> Adapter:
    """An adapter whose merge with an F16 base is exact in F16: it moves whole columns of F16."""
    rng = np.random.default_rng(5)
    pairs = {}
    for module, (rows, columns) in base.config.linear_shapes().items():
        chosen = rng.choice(columns, 4, replace=False)
        before = base.weights[f"{module}.weight"][:, chosen]
        after = (before + rng.normal(0, 0.05, (rows, 4))).astype(np.float16).astype(np.float32)
        pairs[module] = LoraPair(np.eye(columns, dtype=np.float32)[chosen], after - before, 1.0)
    return Adapter(4, 4.0, pairs, base.name, base.fingerprint)


@pytest.fixture(scope="module")
def merger(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> Merger:
    """A base whose rows fit the K-quants, and an adapter that F16 holds exactly."""
    folder = tmp_path_factory.mktemp("models") / "wide"
    import_model(wide, folder, name="wide")
    opened = BaseModel.open(folder)
    return Merger(opened, {"a": exact_adapter(opened)})


@pytest.fixture(scope="module")
def merged_f16(merger: Merger, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("merged") / "f16.gguf"
    export_gguf(merger, {"a": 1.0}, file_type("f16"), out)
    return out


def test_the_recipe_offers_types_that_can_be_written() -> None:
    assert set(QUANTIZATIONS) <= set(FILE_TYPES)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] * ("k_m" in kind)) for kind in QUANTIZATIONS],
)
def test_every_type_is_what_llama_quantize_makes_of_the_merged_file(
    merger: Merger, merged_f16: Path, kind: str, llama_quantize: Quantizer, tmp_path: Path
) -> None:
    out, target = tmp_path / "out.gguf", file_type(kind)
    counts, survival = export_gguf(merger, {"a": 1.0}, target, out)
    ours, theirs = GGUFFile(out), GGUFFile(llama_quantize(merged_f16, target, False))
    assert ours.metadata == theirs.metadata
    assert {t.name: t.type for t in ours.tensors.values()} == {
        t.name: t.type for t in theirs.tensors.values()
    }
    for name in ours.tensors:
        np.testing.assert_array_equal(ours.raw(name), theirs.raw(name), name)
    assert sum(counts.values()) == len(ours.tensors)
    assert survival.gain == pytest.approx(1.0, abs=0.1)


def test_all_but_the_weights_is_the_bases(merger: Merger, merged_f16: Path) -> None:
    written = GGUFFile(merged_f16).metadata
    template = own_template(str(merger.base.gguf.value("tokenizer.chat_template")))
    assert written == merger.base.gguf.metadata | {
        "general.quantization_version": written["general.quantization_version"],
        "tokenizer.chat_template": GGUFValue.string(template),
    }


def test_the_file_answers_as_the_merged_weights(base: BaseModel, tmp_path: Path) -> None:
    merger = Merger(base, {"a": adapter(base, 1), "b": adapter(base, 2)})
    weights = {"a": 0.7, "b": 0.3}
    export_gguf(merger, weights, file_type("f32"), tmp_path / "m.gguf")
    changed = merged_weights(merger, weights)
    ours = Decoder(base.config, {**base.weights, **changed}).logits(np.array(IDS))
    with LlamaModel(tmp_path / "m.gguf", threads=1, exact_cache=True) as model:
        np.testing.assert_allclose(model.logits(IDS), ours, atol=3e-4)


def test_where_it_comes_from_is_written(base: BaseModel, tmp_path: Path) -> None:
    said = Provenance("tuned", "pico", (("school", "share 0.5"), ("things", "share 0.5")))
    merger = Merger(base, {"a": adapter(base, 1)})
    export_gguf(merger, {"a": 1.0}, file_type("q8_0"), tmp_path / "m.gguf", said)
    file = GGUFFile(tmp_path / "m.gguf")
    assert file.value("general.name") == "tuned"
    assert file.value("general.base_model.0.name") == "pico"
    assert file.value("general.dataset.count") == 2
    assert file.value("general.dataset.1.description") == "share 0.5"
    template = own_template(str(base.gguf.value("tokenizer.chat_template")))
    assert file.value("tokenizer.chat_template") == template


def test_a_lost_delta_gets_a_finer_type_and_a_lora(base: BaseModel, tmp_path: Path) -> None:
    small = adapter(base, 1)
    for pair in small.pairs.values():
        pair.b[:] *= 0.01
    merger, target = Merger(base, {"a": small}), file_type("q4_0")
    _, survival = export_gguf(merger, {"a": 1.0}, target, tmp_path / "m.gguf")
    said = remedy(merger, {"a": 1.0}, target, survival, "so")
    assert said is not None
    assert said.startswith("f16 keeps 0.9")
    assert said.endswith("; or put the adapter on the unchanged base: so")
    assert remedy(merger, {"a": 1.0}, target, Survival(1.0, 1.0, 1.0), "so") is None


def test_requantizing_keeps_metadata_and_counts_types(
    tmp_path: Path, llama_quantize: Quantizer
) -> None:
    source = pico_gguf(tmp_path / "source.gguf")
    counts = requantize(source, tmp_path / "out.gguf", "q4_k_m")
    theirs = GGUFFile(llama_quantize(source, file_type("q4_k_m"), False))
    assert GGUFFile(tmp_path / "out.gguf").metadata == theirs.metadata
    assert sum(counts.values()) == len(theirs.tensors)
    assert counts["f32"] == sum(t.type.name == "F32" for t in theirs.tensors.values())
