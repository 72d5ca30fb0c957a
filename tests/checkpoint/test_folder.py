"""Import of Hugging Face folders."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.checkpoint import BaseModel, import_model
from m2m.checkpoint.gguf_source import open_gguf
from m2m.checkpoint.hf_source import open_folder
from m2m.errors import InputError
from m2m.formats.gguf import GGMLQuantizationType, GGUFValue
from m2m.formats.safetensors import SafetensorsFile, TensorSpec, write_safetensors
from m2m.llamacpp.model import LlamaModel
from m2m.nn.decoder import Decoder
from tests.tiny import pico_config, pico_gguf, pico_metadata, pico_weights, write_pico_gguf
from tests.tiny_folder import pico_folder, pico_json
from tests.tokenizer.folders import spm_folder


def imported(source: Path, **settings: Any) -> BaseModel:
    import_model(source, source.with_name("m"), name="m", **settings)
    return BaseModel.open(source.with_name("m"))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("shards", [1, 3])
def test_every_weight_and_tokenizer_file_arrives(tmp_path: Path, dtype: str, shards: int) -> None:
    source = pico_folder(tmp_path / "Pico-1.5B", dtype=dtype, shards=shards)
    model = imported(source, licence="MIT")
    assert model.config == pico_config()
    assert model.info.dtype == ("BF16" if dtype == "BF16" else "F16")
    assert (model.info.source, model.info.source_types) == ("Pico-1.5B", (dtype,))
    assert model.info.licence == "MIT"
    stored = {
        name: file.array(name)
        for path in source.glob("*.safetensors")
        for file in [SafetensorsFile(path)]
        for name in file.names
    }
    for name, array in model.weights.items():
        np.testing.assert_array_equal(array, stored[name])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (model.path / name).read_bytes() == (source / name).read_bytes()
    assert not (model.path / "model.safetensors.index.json").exists()
    assert json.loads((model.path / "config.json").read_text("utf-8"))["eos_token_id"] == [2, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Pico-1.5B", "m"]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3"])
def test_base_gguf_is_what_the_converter_makes(tmp_path: Path, architecture: str) -> None:
    """As an import of that GGUF file: same weights, tensors and sizes; vocabulary apart."""
    config = pico_config(architecture=architecture)
    ours = imported(pico_folder(tmp_path / "hf" / "pico", config))
    theirs = imported(write_pico_gguf(tmp_path / "gguf.gguf", config))
    assert ours.config == theirs.config
    for name, array in ours.weights.items():
        np.testing.assert_allclose(array, theirs.weights[name], rtol=0, atol=1e-7)
    for name, tensor in theirs.gguf.tensors.items():
        assert (ours.gguf.tensors[name].type, ours.gguf.tensors[name].shape) == (
            tensor.type,
            tensor.shape,
        )
        np.testing.assert_array_equal(ours.gguf.array(name), theirs.gguf.array(name))
    expected = pico_metadata(config) | {
        "general.name": GGUFValue.string("pico"),
        "general.file_type": GGUFValue.uint32(1),
    }
    for key in expected.keys() - {"general.license"}:
        found, wanted = ours.gguf.metadata[key], expected[key]
        assert found.type == wanted.type
        same = wanted.value if isinstance(wanted.value, str | list) else pytest.approx(wanted.value)
        assert found.value == same


def test_a_unigram_model_is_read_by_llama_cpp_and_scored(tmp_path: Path) -> None:
    source = pico_folder(tmp_path / "x")
    (source / "tokenizer.json").unlink()
    size = pico_config().vocab_size
    spm_folder(
        source,
        model_type="unigram",
        vocab_size=size,
        hard_vocab_limit=False,
        byte_fallback=False,
        normalization_rule_name="nmt_nfkc",
        remove_extra_whitespaces=True,
    )
    model = imported(source)
    text = "\N{FULLWIDTH LATIN SMALL LETTER A}  na he"
    ids = model.tokenizer.encode(text)
    with LlamaModel(model.path / "base.gguf", threads=1) as llama:
        assert ids == llama.tokenize(text, special=False)
        logits = llama.logits(ids)
    ours = Decoder(model.config, model.weights).logits(np.array(ids, np.int32))
    np.testing.assert_allclose(ours, logits, rtol=0, atol=5e-3)


def test_the_licence_is_that_of_the_model_card(tmp_path: Path) -> None:
    source = pico_folder(tmp_path / "x")
    card = "---\nlanguage: [sw]\nlicense: cc-by-nc-4.0\n---\nlicense: none\n"
    (source / "README.md").write_text(card, encoding="utf-8")
    model = imported(source)
    assert model.info.licence == model.gguf.value("general.license") == "cc-by-nc-4.0"
    (source / "README.md").write_text("license: MIT", encoding="utf-8")
    assert imported(source).info.licence is None


def test_a_model_with_eyes_is_read_without_them(tmp_path: Path) -> None:
    config = pico_config(architecture="gemma3")
    weights = pico_weights(0, config)
    for old, prefix in (
        ("language_model.model.", "language_model."),
        ("model.language_model.", ""),
    ):
        source = pico_folder(tmp_path / f"eyes{len(prefix)}" / "x", config)
        data = {"model_type": "gemma3", "text_config": pico_json(config)}
        (source / "config.json").write_text(json.dumps(data), encoding="utf-8")
        renamed = {name.replace("model.", old, 1): array for name, array in weights.items()}
        renamed["lm_head.weight"] = weights["model.embed_tokens.weight"]
        renamed["vision_tower.vision_model.x.weight"] = np.ones((2, 2), np.float32)
        renamed["model.multi_modal_projector.y.weight"] = np.ones((2, 2), np.float32)
        specs = [TensorSpec(name, "F32", array.shape) for name, array in renamed.items()]
        write_safetensors(source / "model.safetensors", specs, renamed.values())
        model = imported(source)
        assert model.config == config
        for name, array in weights.items():
            np.testing.assert_array_equal(model.weights[name], array)


def _rename(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _lose_a_shard(folder: Path) -> None:
    pico_folder(folder / "sharded", shards=2)
    for path in (folder / "sharded").iterdir():
        path.replace(folder / path.name)
    (folder / "sharded").rmdir()
    (folder / "model-00002-of-00002.safetensors").unlink()


def _point_outside(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "../x/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _twice(folder: Path) -> None:
    names = ["model.safetensors", "more.safetensors"]
    (folder / names[1]).write_bytes((folder / names[0]).read_bytes())
    index = {"weight_map": {str(number): name for number, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _rewrite(
    folder: Path, change: Callable[[dict[str, np.ndarray[Any, Any]]], None], dtype: str = "F32"
) -> None:
    weights: dict[str, Any] = dict(pico_weights())
    change(weights)
    specs = [
        TensorSpec(name, dtype if name == "model.norm.weight" else "F32", array.shape)
        for name, array in weights.items()
    ]
    write_safetensors(folder / "model.safetensors", specs, weights.values())


def _whole_numbers(folder: Path) -> None:
    _rewrite(folder, lambda w: w.update({"model.norm.weight": np.ones(64, np.int32)}), "I32")


def _not_finite(folder: Path) -> None:
    def change(weights: dict[str, Any]) -> None:
        weights["model.layers.1.mlp.up_proj.weight"][3, 4] = np.nan

    _rewrite(folder, change)


_BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "is a folder without config.json"),
    "pickled weights": (_rename, "no .safetensors file"),
    "a missing shard": (_lose_a_shard, "missing files: model-00002-of-00002.safetensors"),
    "an index that leads elsewhere": (_point_outside, "weight_map"),
    "a tensor in two files": (_twice, "is in model.safetensors and more.safetensors"),
    "packed integers": (_whole_numbers, "model.norm.weight is I32"),
    "a lost tensor": (lambda f: _rewrite(f, lambda w: w.popitem()), "has no tensor"),
    "NaN": (_not_finite, r"mlp\.up_proj\.weight has values that are not finite"),
    "more embeddings than tokens": (
        lambda f: _rewrite(
            f, lambda w: w.update({"model.embed_tokens.weight": np.ones((300, 64), np.float32)})
        ),
        "embed_tokens.weight is",
    ),
}


@pytest.mark.parametrize("case", _BROKEN)
def test_a_broken_folder_is_refused_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    source = pico_folder(tmp_path / "x")
    damage, said = _BROKEN[case]
    damage(source)
    with pytest.raises(InputError, match=said):
        import_model(source, tmp_path / "m", name="m")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_large_values_need_bf16(tmp_path: Path) -> None:
    source = pico_folder(tmp_path / "x")
    _rewrite(
        source,
        lambda w: w[
            "lm_head.weight" if "lm_head.weight" in w else "model.embed_tokens.weight"
        ].fill(1e5),
    )
    with pytest.raises(InputError, match="too large for F16"):
        import_model(source, tmp_path / "m", name="m")


def test_halves_are_copied_as_they_lie(tmp_path: Path) -> None:
    """Matrices of the type they become are views of the mapped file: nothing is widened."""
    folder = open_folder(pico_folder(tmp_path / "x", dtype="BF16"))
    file = open_gguf(pico_gguf(tmp_path / "x.gguf", type=GGMLQuantizationType.F16))
    for source in (folder, file):
        name = "model.layers.0.mlp.up_proj.weight"
        assert np.shares_memory(source.read(name), source.read(name))


@pytest.mark.slow
def test_import_of_a_folder_holds_no_more_than_a_tensor(tmp_path: Path) -> None:
    source = pico_folder(tmp_path / "x", pico_config(layers=64), shards=2)
    imported(source)  # imports, caches
    tracemalloc.start()
    try:
        imported(source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(path.stat().st_size for path in source.glob("*.safetensors")) > 6_000_000
    assert peak < 2_500_000  # headers, rules, config and vocabulary: not the size of the tensors
