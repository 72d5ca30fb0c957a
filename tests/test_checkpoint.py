"""Base models: import, what llama.cpp makes of it, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest

from m2m.checkpoint import (
    BaseModel,
    find_model,
    gguf_rules,
    import_model,
    list_models,
    remove_model,
)
from m2m.errors import InputError, ResourceError
from m2m.formats.atomic import write_json
from m2m.formats.gguf import (
    GGMLQuantizationType,
    GGUFFile,
    GGUFTensorSpec,
    GGUFValue,
    GGUFValueType,
    write_gguf,
)
from m2m.formats.safetensors import SafetensorsFile, TensorSpec, write_safetensors
from m2m.nn.decoder import Decoder
from tests.tiny import (
    gguf_name,
    gguf_rows,
    pico_config,
    pico_gguf,
    pico_metadata,
    pico_model,
    pico_tokens,
    pico_weights,
)

BF16, Q8_0 = GGMLQuantizationType.BF16, GGMLQuantizationType.Q8_0


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pico_model(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("tie", [True, False])
def test_import_keeps_every_weight(tmp_path: Path, tie: bool) -> None:
    config = pico_config(tie=tie)
    info = import_model(pico_gguf(tmp_path / "x.gguf", tie=tie), tmp_path / "m", name="m")
    model = BaseModel.open(tmp_path / "m")
    assert model.config == config
    assert set(model.weights) == set(config.weight_shapes())
    for name, array in pico_weights(0, config).items():
        np.testing.assert_array_equal(model.weights[name], array)
        np.testing.assert_array_equal(model.compact_weights[name], array)
        assert model.compact_weights[name].dtype == (np.float16 if array.ndim > 1 else np.float32)
    assert info == model.info
    assert (info.name, info.architecture, info.dtype) == ("m", "llama", "F16")
    assert info.parameters == sum(array.size for array in pico_weights(0, config).values())
    assert (info.licence, info.source, info.source_types) == ("apache-2.0", "x.gguf", ("F32",))
    assert info.bytes == sum(path.stat().st_size for path in (tmp_path / "m").iterdir())
    with pytest.raises(KeyError):
        model.weights["absent"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "x.gguf"]


def test_the_pattern_file_keeps_metadata_and_order(pico: Path) -> None:
    source = GGUFFile(pico.with_name("pico-source.gguf"))
    pattern = BaseModel.open(pico).gguf
    expected = source.metadata | {"general.file_type": GGUFValue.uint32(1)}
    assert pattern.metadata == expected
    assert list(pattern.metadata) == list(expected)
    assert list(pattern.tensors) == list(source.tensors)
    for name, tensor in pattern.tensors.items():
        assert tensor.type.name == ("F32" if len(tensor.shape) == 1 else "F16")
        np.testing.assert_array_equal(pattern.array(name), source.array(name))


def llama_logits(path: Path, ids: list[int]) -> Any:
    model = llama_cpp.Llama(
        str(path), n_ctx=64, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
    )
    try:
        model.eval(ids)
        return model.scores[: len(ids)].copy()
    finally:
        model.close()


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3", "gemma3"])
def test_our_decoder_and_llama_cpp_agree_on_source_and_pattern(
    tmp_path: Path, architecture: str
) -> None:
    ids = [1, 50, 120, 7, 280]
    source = pico_gguf(tmp_path / "x.gguf", architecture=architecture)
    import_model(source, tmp_path / "m", name="m")
    model = BaseModel.open(tmp_path / "m")
    assert model.config == pico_config(architecture=architecture)
    ours = Decoder(model.config, model.weights).logits(np.array(ids))
    theirs = llama_logits(source, ids)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)
    # llama.cpp rounds activations to F16 where weights are F16.
    np.testing.assert_allclose(llama_logits(tmp_path / "m" / "base.gguf", ids), theirs, atol=0.02)


def test_config_json_is_what_transformers_reads(pico: Path) -> None:
    config = json.loads((pico / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["rms_norm_eps"] == 1e-5  # the decimal, not the float32's digits
    assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)
    assert config["torch_dtype"] == "float16"


def test_the_tokenizer_comes_with_the_model(pico: Path) -> None:
    tokenizer = BaseModel.open(pico).tokenizer
    assert tokenizer.vocab_size == len(pico_tokens())
    assert tokenizer.decode(tokenizer.encode("the user and Ümläute")) == "the user and Ümläute"


def test_bf16_stays_bf16(tmp_path: Path) -> None:
    source = pico_gguf(tmp_path / "x.gguf", type=BF16)
    import_model(source, tmp_path / "m", name="m", licence="MIT")
    model = BaseModel.open(tmp_path / "m")
    assert (model.info.dtype, model.info.licence) == ("BF16", "MIT")
    assert model.gguf.value("general.file_type") == 32
    for name in model.gguf.tensors:
        np.testing.assert_array_equal(model.gguf.array(name), GGUFFile(source).array(name))


def _quantized(path: Path) -> Path:
    config = pico_config()
    specs, data = [], []
    for name, array in pico_weights().items():
        kind = GGMLQuantizationType.F32 if array.ndim == 1 else Q8_0
        specs.append(GGUFTensorSpec(gguf_name(name), array.shape, kind))
        data.append(gguf.quantize(gguf_rows(config, name, array), kind))
    write_gguf(path, pico_metadata(config), specs, data)
    return path


def test_quantised_sources_are_widened(tmp_path: Path) -> None:
    source = GGUFFile(_quantized(tmp_path / "q.gguf"))
    import_model(source.path, tmp_path / "m", name="m")
    model = BaseModel.open(tmp_path / "m")
    assert model.info.source_types == ("F32", "Q8_0")
    for name in source.tensors:
        expected = source.array(name)
        if expected.ndim == 2:
            expected = expected.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(model.gguf.array(name), expected)


def test_import_holds_about_one_tensor(tmp_path: Path) -> None:
    source = pico_gguf(tmp_path / "x.gguf", layers=64)
    largest = max(array.nbytes for array in pico_weights().values())
    import_model(source, tmp_path / "warm", name="warm")  # imports, caches
    tracemalloc.start()
    try:
        import_model(source, tmp_path / "m", name="m")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    weights = (tmp_path / "m" / "base.gguf").stat().st_size
    assert weights > 3_000_000
    assert peak < 6 * largest + 1_000_000  # tables of the tensors and vocabulary are the rest


def test_fingerprint_follows_content_not_place(pico: Path, tmp_path: Path) -> None:
    first = BaseModel.open(pico).fingerprint
    assert len(first) == 64
    copied = shutil.copytree(pico, tmp_path / "copy", copy_function=shutil.copy)
    assert BaseModel.open(copied).fingerprint == first
    assert BaseModel.open(copied).fingerprint == first
    data = bytearray((copied / "base.gguf").read_bytes())
    data[-100] ^= 1
    (copied / "base.gguf").write_bytes(data)
    assert BaseModel.open(copied).fingerprint != first
    other = pico_model(tmp_path, seed=1)
    assert BaseModel.open(other).fingerprint != BaseModel.open(pico).fingerprint


def test_two_imports_of_one_file_are_equal_byte_for_byte(pico: Path, tmp_path: Path) -> None:
    import_model(pico.with_name("pico-source.gguf"), tmp_path / "m", name="pico")
    for name in ("base.gguf", "config.json"):
        assert (tmp_path / "m" / name).read_bytes() == (pico / name).read_bytes()


def test_models_are_listed_and_found(pico: Path) -> None:
    root = pico.parent
    assert [info.name for info in list_models(root)] == ["pico"]
    assert list_models(root / "absent") == []
    assert find_model("pico", [root / "absent", root]).path == pico
    assert find_model(str(pico), []).path == pico
    with pytest.raises(InputError, match="'other'") as caught:
        find_model("other", [root])
    assert "pico" in str(caught.value.hint)
    with pytest.raises(InputError, match="is not an m2m model"):
        BaseModel.open(root)


def test_only_models_are_removed(tmp_path: Path) -> None:
    import_model(pico_gguf(tmp_path / "x.gguf"), tmp_path / "m", name="m")
    with pytest.raises(InputError, match="nothing was deleted"):
        remove_model(tmp_path)
    remove_model(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["x.gguf"]


def test_an_m2m_model_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    source = pico_gguf(tmp_path / "x.gguf")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years", encoding="utf-8")
    with pytest.raises(InputError, match="not an m2m model"):
        import_model(source, tmp_path / "mine", name="mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()
    import_model(source, tmp_path / "m", name="m")
    import_model(pico_gguf(tmp_path / "y.gguf", 5), tmp_path / "m", name="m")
    assert BaseModel.open(tmp_path / "m").info.source == "y.gguf"


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b", "é"])
def test_names_that_are_no_folder_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="model name"):
        import_model(tmp_path / "x.gguf", tmp_path / "m", name=name)


_number, _string = GGUFValue.uint32, GGUFValue.string
_REFUSED: dict[str, tuple[dict[str, GGUFValue], str]] = {
    "another family": ({"general.architecture": _string("mamba")}, "'mamba'"),
    "no family": ({"general.architecture": _number(3)}, "architecture is 3"),
    "layers without end": ({"llama.block_count": _number(2**32 - 1)}, "block_count is 4294967295"),
    "no heads": ({"llama.attention.head_count": _number(0)}, "head_count is 0"),
    "heads per layer": (
        {"llama.attention.head_count": GGUFValue.array(GGUFValueType.INT32, [4, 4])},
        "head_count is",
    ),
    "heads that share nothing": ({"llama.attention.head_count_kv": _number(3)}, "3 K/V heads"),
    "another width": ({"llama.feed_forward_length": _number(128)}, "its config says"),
    "more layers than tensors": ({"llama.block_count": _number(3)}, "blk.2"),
    "fewer layers": ({"llama.block_count": _number(1)}, "blk.1"),
    "partial rotation": ({"llama.rope.dimension_count": _number(8)}, "rope.dimension_count"),
    "scaled rotation": ({"llama.rope.scaling.type": _string("dynamic")}, "rotary"),
    "no factor": ({"llama.rope.scaling.type": _string("yarn")}, "scaling.factor is None"),
    "experts": ({"llama.expert_count": _number(8)}, "expert_count is 8"),
    "a split model": ({"split.count": _number(2)}, "split"),
    "infinite epsilon": (
        {"llama.attention.layer_norm_rms_epsilon": GGUFValue.float32(float("inf"))},
        "epsilon",
    ),
    "another vocabulary": ({"tokenizer.ggml.model": _string("bert")}, "bert"),
    "another pre-tokeniser": ({"tokenizer.ggml.pre": _string("klingon")}, "klingon"),
    "too few tokens": (
        {
            "tokenizer.ggml.tokens": GGUFValue.array(GGUFValueType.STRING, pico_tokens()[:290]),
            "tokenizer.ggml.token_type": GGUFValue.array(GGUFValueType.INT32, [1] * 290),
        },
        "290",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", _REFUSED)
def test_what_m2m_cannot_compute_is_refused_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    metadata, said = _REFUSED[case]
    source = pico_gguf(tmp_path / "x.gguf", metadata=metadata)
    with pytest.raises(InputError, match=said):
        import_model(source, tmp_path / "m", name="m")
    assert [path.name for path in tmp_path.iterdir()] == ["x.gguf"]


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    source = pico_gguf(tmp_path / "x.gguf")
    tensor = GGUFFile(source).tensors["blk.1.ffn_up.weight"]
    for bits in ("0000c07f", "0000807f"):  # NaN, infinity
        data = bytearray(source.read_bytes())
        data[tensor.offset : tensor.offset + 4] = bytes.fromhex(bits)
        source.write_bytes(data)
        with pytest.raises(InputError, match=r"blk\.1\.ffn_up\.weight has values"):
            import_model(source, tmp_path / "m", name="m")
    assert not (tmp_path / "m").exists()


def test_a_full_disk_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pico_gguf(tmp_path / "x.gguf")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ResourceError, match=r"needs \d+\.\d kB, 1000 bytes are free"):
        import_model(source, tmp_path / "m", name="m")


def test_a_folder_is_no_gguf_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        import_model(tmp_path, tmp_path / "m", name="m")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("config.json", {"hidden_size": 128}, "its config says"),
        ("config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ("config.json", {"model_type": "bert"}, "bert"),
        ("config.json", {"rope_scaling": {"factor": 2}}, "rope_scaling"),
        ("m2m-model.json", {"format_version": 99}, "format version 99"),
        ("m2m-model.json", {"parameters": "many"}, "parameters is 'many'"),
    ],
)
def test_a_damaged_folder_is_refused_with_the_file(
    pico: Path, tmp_path: Path, name: str, change: dict[str, Any], said: str
) -> None:
    folder = shutil.copytree(pico, tmp_path / "m")
    data = json.loads((folder / name).read_text(encoding="utf-8")) | change
    (folder / name).write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        BaseModel.open(folder)


def test_a_truncated_folder_is_refused(pico: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pico, tmp_path / "m")
    data = (folder / "base.gguf").read_bytes()
    (folder / "base.gguf").write_bytes(data[:-1])
    with pytest.raises(InputError, match=r"base\.gguf"):
        BaseModel.open(folder)


def test_a_folder_of_another_models_weights_is_refused(pico: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pico, tmp_path / "m")
    shutil.copy(pico_gguf(tmp_path / "x.gguf", layers=3), folder / "base.gguf")
    with pytest.raises(InputError, match=r"(?s)base\.gguf.*blk\.2"):
        BaseModel.open(folder)


def test_quantized_weights_are_no_base(pico: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pico, tmp_path / "m")
    _quantized(folder / "base.gguf")
    with pytest.raises(InputError, match="is Q8_0, expected F16, BF16, F32"):
        BaseModel.open(folder)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3"])
def test_a_folder_of_an_older_m2m_is_the_same_model(tmp_path: Path, architecture: str) -> None:
    """It holds the weights twice, and results that were made with it stay valid."""
    new = tmp_path / "new"
    import_model(pico_gguf(tmp_path / "x.gguf", architecture=architecture), new, name="m")
    folder = shutil.copytree(new, tmp_path / "old")
    base, specs, arrays = BaseModel.open(new), [], []
    for name in base.weights:
        array = base.weights.file.raw(name)
        specs.append(TensorSpec(name, base.weights.file.dtype(name), array.shape))
        arrays.append(array)
    write_safetensors(folder / "model.safetensors", specs, arrays, {"format": "pt"})
    info = json.loads((folder / "m2m-model.json").read_text(encoding="utf-8"))
    write_json(folder / "m2m-model.json", info | {"format_version": 1, "files": {}})
    old = BaseModel.open(folder)
    assert isinstance(old.weights.file, SafetensorsFile)
    for name, array in base.weights.items():
        np.testing.assert_array_equal(array, old.weights[name])
        np.testing.assert_array_equal(base.compact_weights[name], old.compact_weights[name])
    whole = hashlib.sha256()
    for name in ("model.safetensors", "config.json", "base.gguf"):
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        whole.update(f"{name} {digest}\n".encode())
    assert old.fingerprint == whole.hexdigest() == base.fingerprint
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors"):
        BaseModel.open(folder)


@pytest.mark.model
@pytest.mark.slow  # 135M parameters at F32
def test_the_starter_is_whole(starter: Path) -> None:
    model = BaseModel.open(starter)
    assert model.info.parameters == 134_515_008
    assert model.config.num_layers == 30
    assert model.config.tie_word_embeddings
    expected = gguf_rules(model.config).join("blk.7.attn_q.weight", model.weights.file.raw)
    ids = model.tokenizer.encode("The capital of France is")
    ours = Decoder(model.config, model.weights).logits(np.array(ids))
    assert model.tokenizer.decode([int(ours[-1].argmax())]) == " Paris"
    np.testing.assert_allclose(llama_logits(starter / "base.gguf", ids), ours, atol=0.2)
    found = model.gguf.raw("blk.7.attn_q.weight").view(np.float16).reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)
