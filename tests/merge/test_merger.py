from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2m.checkpoint import BaseModel
from m2m.errors import InputError
from m2m.formats.records import read_object
from m2m.formats.safetensors import SafetensorsFile
from m2m.merge.merger import Merger
from m2m.nn.decoder import Decoder
from m2m.nn.lora import LoraPair, lora_delta
from m2m.recipe import Merge
from tests.merge.conftest import adapter
from tests.tiny import pico_model

TOKENS = np.arange(3, 40)


def test_a_merged_folder_says_what_the_adapters_say(base: BaseModel, tmp_path: Path) -> None:
    first, second = adapter(base, 1), adapter(base, 2, rank=8)
    merger = Merger(base, {"a": first, "b": second})
    merger.write_folder(["a", "b"], [0.5, 0.5], tmp_path / "merged", "F32")
    file = SafetensorsFile(tmp_path / "merged" / "model.safetensors")
    weights = {name: file.array(name) for name in file.names}
    merged = Decoder(base.config, weights).logits(TOKENS)
    halves = {
        module: LoraPair(
            np.concatenate([first.pairs[module].a, second.pairs[module].a]),
            np.concatenate([first.pairs[module].b, second.pairs[module].b * 0.5], axis=1),
            0.5 * first.pairs[module].scale,
        )
        for module in first.pairs
    }
    assert first.pairs["model.layers.0.mlp.up_proj"].scale == 2.0
    assert second.pairs["model.layers.0.mlp.up_proj"].scale == 1.0
    with_lora = Decoder(base.config, base.weights).logits(TOKENS, halves)
    plain = Decoder(base.config, base.weights).logits(TOKENS)
    np.testing.assert_allclose(merged, with_lora, atol=2e-4)
    assert np.abs(merged - plain).max() > 0.01


def test_an_adapter_that_leaves_modules_alone_leaves_their_weights_alone(base: BaseModel) -> None:
    merger = Merger(base, {"q": adapter(base, 1, modules=("q_proj",)), "all": adapter(base, 2)})
    up = "model.layers.0.mlp.up_proj"
    assert merger.delta(up, ["q"], [1.0]) is None
    changed = dict(merger.changes(["q"], [1.0]))
    assert f"{up}.weight" not in changed
    assert "model.layers.0.self_attn.q_proj.weight" in changed


def test_a_delta_that_is_not_finite_is_refused_by_name(base: BaseModel) -> None:
    broken = adapter(base, 1)
    broken.pairs["model.layers.1.mlp.up_proj"].b[0, 0] = np.nan
    merger = Merger(base, {"broken": broken})
    with pytest.raises(InputError, match=r"layers\.1\.mlp\.up_proj is not finite .*broken"):
        list(merger.changes(["broken"], [1.0]))


def test_an_adapter_of_another_base_is_refused(base: BaseModel, tmp_path: Path) -> None:
    other = BaseModel.open(pico_model(tmp_path, seed=9, name="other"))
    with pytest.raises(InputError, match="base"):
        Merger(base, {"a": adapter(other, 1)})


@pytest.mark.parametrize(
    ("dtype", "name"), [("F32", "float32"), ("F16", "float16"), ("BF16", "bfloat16")]
)
def test_a_merged_folder_names_its_dtype_and_has_the_bases_files(
    tmp_path: Path, dtype: str, name: str
) -> None:
    base = BaseModel.open(pico_model(tmp_path))
    for file in ("tokenizer.json", "chat_template.jinja", "model.safetensors.index.json"):
        (base.path / file).write_text("{}", encoding="utf-8")
    merger = Merger(base, {"a": adapter(base, 1, modules=("q_proj",))})
    merger.write_folder(["a"], [1.0], tmp_path / "merged", dtype)
    assert {path.name for path in (tmp_path / "merged").iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
    }
    config = read_object(tmp_path / "merged" / "config.json")
    assert config == read_object(base.path / "config.json") | {"torch_dtype": name}
    written = SafetensorsFile(tmp_path / "merged" / "model.safetensors")
    assert {written.dtype(n) for n in written.names} == {dtype, "F32"}
    embedding = "model.embed_tokens.weight"
    rounding = 2**-8 if dtype == "BF16" else 0
    np.testing.assert_allclose(
        written.array(embedding), base.weights[embedding], rtol=rounding, atol=0
    )


class TestAdapter:
    """The merged delta as an adapter."""

    def test_a_rank_that_suffices_keeps_the_mixture(self, base: BaseModel) -> None:
        merger = Merger(base, {"a": adapter(base, 1), "b": adapter(base, 2, rank=6)})
        found, kept = merger.adapter(["a", "b"], [0.7, 0.3], rank=10)
        assert kept == pytest.approx({"gain": 1.0, "cosine": 1.0}, abs=1e-6)
        assert (found.rank, found.alpha, found.base_fingerprint) == (10, 10.0, base.fingerprint)
        for module, pair in found.pairs.items():
            delta = merger.delta(module, ["a", "b"], [0.7, 0.3])
            np.testing.assert_allclose(lora_delta(pair), delta, atol=1e-6)

    def test_what_a_small_rank_keeps_is_told(self, base: BaseModel) -> None:
        merger = Merger(base, {"a": adapter(base, 1), "b": adapter(base, 2)}, Merge("ties"))
        found, kept = merger.adapter(["a", "b"], [0.5, 0.5], rank=2)
        ed = ee = dd = 0.0
        for module, pair in found.pairs.items():
            assert pair.rank == 2
            delta = merger.delta(module, ["a", "b"], [0.5, 0.5])
            change = lora_delta(pair)
            ed, ee = ed + np.vdot(change, delta), ee + np.vdot(change, change)
            dd += np.vdot(delta, delta)
        assert kept["gain"] == pytest.approx(ed / dd, rel=1e-3)
        assert kept["cosine"] == pytest.approx(ed / np.sqrt(ee * dd), rel=1e-3)
        assert 0.1 < kept["gain"] < 0.9

    def test_a_mixture_that_changes_nothing_is_no_adapter(self, base: BaseModel) -> None:
        with pytest.raises(InputError, match="leaves the base model as it is"):
            Merger(base, {"a": adapter(base, 1)}).adapter(["a"], [0.0], rank=2)


def test_a_finished_fine_tune_is_not_merged(base: BaseModel) -> None:
    adapters = {"expert": adapter(base, 1), "tuned": adapter(base, 1)}
    merger = Merger(base, adapters, Merge("ties", scale=0.5), finetuned=["tuned"])
    module = "model.layers.0.mlp.up_proj"
    whole = lora_delta(adapters["tuned"].pairs[module])
    np.testing.assert_array_equal(merger.delta(module, ["tuned"], [1.0]), whole)
    np.testing.assert_array_equal(
        merger.delta(module, ["expert"], [1.0]),
        Merger(base, adapters, Merge("ties", scale=0.5)).delta(module, ["tuned"], [1.0]),
    )
