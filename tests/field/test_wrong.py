"""Well-formed and yet wrong: found before any long work, and named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from m2m.adapter import Adapter, save_adapter
from m2m.checkpoint import import_model
from m2m.commands.merge import merge_adapters
from m2m.errors import InputError, M2MError
from m2m.formats.safetensors import SafetensorsFile, TensorSpec, write_safetensors
from m2m.nn.lora import LoraPair
from m2m.pipeline.inputs import read_inputs
from m2m.pipeline.leaks import find_leaks, refuse_leaks
from m2m.recipe import Merge, load_recipe
from tests.tiny import choice_rows, pico_config, pico_gguf, pico_model, write_jsonl
from tests.tiny_folder import pico_folder, pico_tokenizer_files

Q0 = "model.layers.0.self_attn.q_proj"


def refused(recipe: Path) -> str:
    """The message with which a run does not begin."""
    with pytest.raises(M2MError) as caught:
        read_inputs(load_recipe(recipe))
    return caught.value.message


def adapter(folder: Path, width: int = 64, rank: int = 4, value: float = 0.1) -> Path:
    a = np.full((rank, width), value, np.float32)
    pairs = {Q0: LoraPair(a, np.full((64, rank), 0.1, np.float32), 2.0)}
    save_adapter(folder, Adapter(rank, 2.0 * rank, pairs, "pico"))
    return folder


def merge(folder: Path, *adapters: Path) -> None:
    base = pico_model(folder / "models")
    merge_adapters(str(base), [str(a) for a in adapters], Merge(), "f32", None, folder / "m.gguf")


def test_an_adapter_for_other_shapes_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{Q0}: the adapter is for \[64, 32\], the model has"):
        merge(tmp_path, adapter(tmp_path / "narrow", width=32))


def test_an_adapter_whose_config_tells_another_rank_is_named(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps(config | {"r": 8}), encoding="utf-8")
    with pytest.raises(InputError, match=rf"{Q0} has rank 4, adapter_config.json says 8"):
        merge(tmp_path, folder)


def test_adapters_of_different_ranks_merge_all_the_same(tmp_path: Path) -> None:
    merge(tmp_path, adapter(tmp_path / "a", rank=2), adapter(tmp_path / "b", rank=5))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_adapter_with_values_that_are_none_is_named(tmp_path: Path, value: float) -> None:
    with pytest.raises(InputError, match=rf"{Q0}.lora_A.weight has values that are not finite"):
        merge(tmp_path, adapter(tmp_path / "a", value=value))


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    folder = pico_folder(tmp_path / "hf")
    path = folder / "model.safetensors"
    file = SafetensorsFile(path)
    arrays = {name: file.array(name).copy() for name in file.names}
    arrays["model.layers.1.mlp.up_proj.weight"][3, 5] = np.nan
    specs = [TensorSpec(name, "F32", array.shape) for name, array in arrays.items()]
    write_safetensors(path, specs, arrays.values())
    with pytest.raises(
        InputError, match=r"layers\.1\.mlp\.up_proj\.weight has values that are not"
    ):
        import_model(folder, tmp_path / "m", name="m")


def test_the_tokenizer_of_a_larger_model_is_named(tmp_path: Path) -> None:
    folder = pico_folder(tmp_path / "hf")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"] |= {f"new{i}": 400 + i for i in range(9)}
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="the model has embeddings of 295 tokens") as caught:
        import_model(folder, tmp_path / "m", name="m")
    assert "another model's" in str(caught.value.hint)
    pico_tokenizer_files(folder)
    import_model(folder, tmp_path / "m", name="m")


def test_a_gguf_with_the_vocabulary_of_another_model_is_named(tmp_path: Path) -> None:
    from m2m.formats.gguf import GGUFValue, GGUFValueType
    from tests.tiny import pico_tokens

    tokens = GGUFValue.array(GGUFValueType.STRING, pico_tokens()[:-5])
    types = GGUFValue.array(GGUFValueType.INT32, [1] * (len(pico_tokens()) - 5))
    keys = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    source = pico_gguf(tmp_path / "x.gguf", metadata=keys)
    with pytest.raises(InputError, match="has 290 tokens and 295 rows of embeddings"):
        import_model(source, tmp_path / "m", name="m")


ROW = {"prompt": "a", "completion": "b"}
LONG = "abcdefghij " * 400  # far beyond the pico model's context of 512 tokens
EDITS: list[tuple[str, str, Callable[[Path], object], str]] = [
    (
        "latin-1",
        "copy.jsonl",
        lambda path: path.write_bytes('{"prompt": "café", "completion": "b"}'.encode("latin-1")),
        r"copy\.jsonl:1: byte 0xe9 is not UTF-8",
    ),
    (
        "empty completion",
        "copy.jsonl",
        lambda path: write_jsonl(path, [ROW, ROW | {"completion": " "}]),
        r'copy\.jsonl: line 2: "completion" is empty',
    ),
    (
        "long row",
        "copy.jsonl",
        lambda path: write_jsonl(path, [ROW, ROW, ROW | {"prompt": LONG}]),
        r"copy\.jsonl: line 3: [\d,]+ tokens, at most 256 fit \(batch_tokens\)",
    ),
    (
        "long question",
        "dev.jsonl",
        lambda path: write_jsonl(path, [{"question": LONG, "choices": ["a", "b"], "answer": 0}]),
        r"dev\.jsonl: line 1: [\d,]+ tokens, the model reads 512",
    ),
    (
        "long answer",
        "test.jsonl",
        lambda path: write_jsonl(path, [{"question": "a", "choices": ["a", LONG], "answer": 0}]),
        r"test\.jsonl: line 1: [\d,]+ tokens, the model reads 512",
    ),
    (
        "no rows",
        "reverse.jsonl",
        lambda path: path.write_text("\n\n", encoding="utf-8"),
        r"reverse\.jsonl has no rows",
    ),
    (
        "a name twice",
        "recipe.toml",
        lambda path: path.write_text(
            path.read_text(encoding="utf-8").replace('"upper"', '"Copy"', 1), encoding="utf-8"
        ),
        r"two datasets are called Copy",
    ),
]


@pytest.mark.parametrize(
    ("name", "edit", "said"), [e[1:] for e in EDITS], ids=[e[0] for e in EDITS]
)
def test_it_is_told_before_any_work(
    recipe: Path, name: str, edit: Callable[[Path], object], said: str
) -> None:
    edit(recipe.parent / name)
    assert re.search(said, refused(recipe))
    assert not (recipe.parent / "m2m-runs").exists()


def test_rows_longer_than_the_models_context_are_told_though_max_length_allows_them(
    recipe: Path,
) -> None:
    text = recipe.read_text(encoding="utf-8")
    text = text.replace("batch_tokens = 256", "batch_tokens = 4096\nmax_length = 4096")
    recipe.write_text(text, encoding="utf-8")
    write_jsonl(recipe.parent / "copy.jsonl", [{"prompt": LONG, "completion": "b"}])
    assert pico_config().max_position_embeddings == 512
    assert "at most 512 fit" in refused(recipe)


def test_all_of_it_is_told_at_once(recipe: Path) -> None:
    for _, name, edit, _ in EDITS:
        if name in ("copy.jsonl", "dev.jsonl", "reverse.jsonl"):
            edit(recipe.parent / name)
    said = refused(recipe)
    assert "3 problems" in said
    shutil.rmtree(recipe.parent)


def test_a_dataset_may_have_the_rows_of_a_target_but_not_those_of_its_own(recipe: Path) -> None:
    write_jsonl(recipe.parent / "copy.jsonl", choice_rows("reverse", 20, seed=7))
    assert not find_leaks(read_inputs(load_recipe(recipe)))
    shutil.copyfile(recipe.parent / "dev.jsonl", recipe.parent / "copy.jsonl")
    leaks = find_leaks(read_inputs(load_recipe(recipe)))
    with pytest.raises(InputError, match=r"also dev or test questions[^$]*of copy"):
        refuse_leaks(leaks, recipe)
