"""GGUF LoRAs: what is in them, and that llama.cpp computes the merged model with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m2m.checkpoint import BaseModel, import_model
from m2m.commands.chat import Chat
from m2m.errors import InputError
from m2m.export.lora_gguf import export_lora
from m2m.export.merged_gguf import export_gguf, requantize
from m2m.formats.gguf import GGUFFile
from m2m.llamacpp.applied_lora import AdaptedModel
from m2m.llamacpp.filetypes import file_type
from m2m.llamacpp.generate import Sampling
from m2m.llamacpp.model import LlamaModel
from m2m.merge.merger import Merger
from m2m.nn.decoder import Decoder
from m2m.nn.lora import LoraPair
from tests.families.pico import family_folder
from tests.merge.conftest import adapter, base
from tests.tiny import TRAITS, gguf_name, gguf_rows, merged_weights, pico_config, pico_model

__all__ = ["base"]  # fixture

IDS = [1, 80, 90, 100, 110, 120, 130, 140]
QUERY = "model.layers.1.self_attn.q_proj"


def test_the_file_is_what_llama_cpp_expects(base: BaseModel, tmp_path: Path) -> None:
    made = adapter(base, 1)
    export_lora(made, base, tmp_path / "lora.gguf")
    file = GGUFFile(tmp_path / "lora.gguf")
    assert file.value("general.type") == "adapter"
    assert file.value("general.architecture") == "llama"
    assert file.value("adapter.type") == "lora"
    with pytest.raises(InputError, match="gguf is a LoRA") as error:
        Chat(str(tmp_path / "lora.gguf"), Sampling())
    assert f"{base.name} and `--lora" in str(error.value.hint)
    assert file.value("adapter.lora.alpha") == 4.0  # the rank: readers scale by alpha / rank
    assert len(file.tensors) == 2 * len(made.pairs)
    pair, name = made.pairs[QUERY], gguf_name(f"{QUERY}.weight")
    np.testing.assert_array_equal(file.array(f"{name}.lora_a"), pair.a)
    rows = gguf_rows(base.config, f"{QUERY}.weight", pair.b * np.float32(pair.scale))
    np.testing.assert_array_equal(file.array(f"{name}.lora_b"), rows)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_base_and_lora_answer_as_the_merged_model(
    base: BaseModel, tmp_path: Path, scale: float
) -> None:
    """Ranks and scales that differ between modules, and only some of the modules."""
    made = adapter(base, 1, rank=6, modules=("q_proj", "k_proj", "o_proj", "down_proj"))
    narrow = made.pairs[QUERY]
    made.pairs[QUERY] = LoraPair(narrow.a[:3], narrow.b[:, :3], 3.0)
    export_lora(made, base, tmp_path / "lora.gguf")
    merger = Merger(base, {"a": made})
    changed = merged_weights(merger, {"a": scale})
    ours = Decoder(base.config, {**base.weights, **changed}).logits(np.array(IDS))
    path, options = tmp_path / "base.gguf", {"threads": 1, "exact_cache": True}
    requantize(base.gguf.path, path, "f32")  # so that nothing rounds
    with AdaptedModel(path, tmp_path / "lora.gguf", scale, **options) as model:
        np.testing.assert_allclose(model.logits(IDS), ours, atol=3e-4)
        long = [3 + i % 250 for i in range(300)]
        first = model.logits(long)[:8]  # a new, larger context has the adapter too
    with LlamaModel(path, **options) as plain:
        assert np.abs(plain.logits(IDS) - ours).max() > 0.05
        assert np.abs(plain.logits(long)[:8] - first).max() > 0.05


@pytest.mark.parametrize("architecture", TRAITS)
def test_every_family_in_llama_cpp(architecture: str, tmp_path: Path) -> None:
    """The merged file against base and LoRA, both in llama.cpp."""
    source = family_folder(tmp_path / "source", pico_config(architecture=architecture))
    import_model(source, tmp_path / "base", name="base")
    base, logits = BaseModel.open(tmp_path / "base"), []
    made = adapter(base, 1)
    export_lora(made, base, tmp_path / "lora.gguf")
    requantize(base.gguf.path, tmp_path / "base.gguf", "f32")
    merger = Merger(base, {"a": made})
    export_gguf(merger, {"a": 1.0}, file_type("f32"), tmp_path / "merged.gguf")
    for model in (
        AdaptedModel(tmp_path / "base.gguf", tmp_path / "lora.gguf", exact_cache=True),
        LlamaModel(tmp_path / "merged.gguf", exact_cache=True),
        LlamaModel(tmp_path / "base.gguf", exact_cache=True),
    ):
        with model:
            logits.append(model.logits(IDS))
    np.testing.assert_allclose(logits[0], logits[1], atol=3e-4)
    assert np.abs(logits[0] - logits[2]).max() > 0.05


def test_what_does_not_fit_is_refused(base: BaseModel, tmp_path: Path) -> None:
    other = BaseModel.open(pico_model(tmp_path, seed=9, name="other"))
    with pytest.raises(InputError, match="another base"):
        export_lora(adapter(other, 1), base, tmp_path / "lora.gguf")
    odd = replace(adapter(base, 1), pairs={"lm_head": adapter(base, 1).pairs[QUERY]})
    with pytest.raises(InputError, match="lm_head"):
        export_lora(odd, base, tmp_path / "lora.gguf")
    assert not (tmp_path / "lora.gguf").exists()
