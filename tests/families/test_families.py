"""Every family in m2m/families against llama.cpp, from logits to exported files."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from m2m.adapter import Adapter
from m2m.checkpoint import BaseModel, gguf_rules, import_model
from m2m.errors import InputError
from m2m.export.lora_gguf import export_lora
from m2m.families import FAMILIES
from m2m.formats.gguf import GGUFTensorSpec, GGUFValue, write_gguf
from m2m.llamacpp.applied_lora import AdaptedModel
from m2m.llamacpp.filetypes import file_type
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.scratch_model import AdaptedTensor, Surrogate
from m2m.nn.config import Batch, DecoderConfig
from m2m.nn.decoder import Decoder
from m2m.nn.lora import LoraPair, init_lora, lora_delta
from tests.checkpoint.test_gguf_keys import MISFITS, difference, known, loads, names
from tests.families.pico import CONFIGS, family_folder
from tests.nn.test_decoder import check_gradients
from tests.test_parity import tolerance
from tests.tiny import pico_weights

POSITIONS = 32


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> DecoderConfig:
    return CONFIGS[request.param]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[DecoderConfig], BaseModel]:
    """The imported model of a config, made once for all tests."""

    @cache
    def make(config: DecoderConfig) -> BaseModel:
        folder = tmp_path_factory.mktemp("family")
        import_model(family_folder(folder / "hf", config), folder / "m", name="m")
        return BaseModel.open(folder / "m")

    return make


@pytest.fixture
def model(config: DecoderConfig, imported: Callable[[DecoderConfig], BaseModel]) -> BaseModel:
    return imported(config)


def some_ids(config: DecoderConfig) -> list[int]:
    length = min(POSITIONS, config.exact_length)
    return [int(i) for i in np.random.default_rng(1).integers(3, config.vocab_size, length)]


def some_pairs(config: DecoderConfig, dtype: type = np.float32) -> dict[str, LoraPair]:
    rng = np.random.default_rng(2)
    return {
        module: LoraPair(
            pair.a.astype(dtype), (0.1 * rng.standard_normal(pair.b.shape)).astype(dtype), 2.0
        )
        for module, pair in init_lora(config, config.linear_shapes(), 4, 8.0, rng).items()
    }


def test_a_folder_and_its_gguf_are_the_same_model(model: BaseModel, tmp_path: Path) -> None:
    import_model(model.path / "base.gguf", tmp_path / "again", name="again")
    again = BaseModel.open(tmp_path / "again")
    assert again.config == model.config
    assert list(again.gguf.tensors) == list(model.gguf.tensors)
    for name in model.weights:
        np.testing.assert_array_equal(again.weights[name], model.weights[name])


def test_import_keeps_config_and_weights(model: BaseModel, config: DecoderConfig) -> None:
    assert model.config == config
    for name, array in pico_weights(0, config).items():
        if name.endswith("decay.weight"):  # the folder has its logarithm
            np.testing.assert_allclose(model.weights[name], array, rtol=3e-7)
        else:
            np.testing.assert_array_equal(model.weights[name], array)


def test_logits_are_those_of_llama_cpp(model: BaseModel) -> None:
    ids = some_ids(model.config)
    with LlamaModel(model.path / "base.gguf", threads=1, exact_cache=True) as peer:
        theirs = peer.logits(ids)
    ours = Decoder(model.config, model.weights).logits(np.array(ids))
    # base.gguf is F16: llama.cpp rounds activations too.
    assert np.abs(ours - theirs).max() < 0.1
    with Surrogate(model.gguf, file_type("f32"), model.path.parent, threads=1) as surrogate:
        theirs = surrogate.load([], exact_cache=True).logits(ids)
    apart = float(np.abs(ours - theirs).max())
    assert apart < tolerance(model)


def test_gradients_are_finite_differences(config: DecoderConfig) -> None:
    weights = {name: array.astype(np.float64) for name, array in pico_weights(0, config).items()}
    # xIELU jumps by eps at 0 and is bent there, unless 2 softplus(alpha_p) is beta and more of it.
    smooth = {"alpha_p": np.log(np.expm1([0.5])), "alpha_n": np.log(np.expm1([0.5])), "beta": 0.5}
    for name in (name for name in weights if ".act_fn." in name):
        weights[name] = np.asarray((smooth | {"eps": -1e-12})[name.rpartition(".")[2]])
    ids = np.array(some_ids(config) + some_ids(config)[:5])
    places = np.arange(2, len(ids) - 1, 3)
    batch = Batch(ids, np.array([len(ids) - 5, 5]), 0, places, ids[places + 1])
    pairs = some_pairs(config, np.float64)
    # A DeltaNet normalises small sums, which are bent more; a squared ReLU is bent at 0.
    step = 1e-4 if "delta" in config.layer_mixers else 5e-4
    step = 1e-5 if config.activation == "relu2" else step
    check_gradients(Decoder(config, weights, np.float64), batch, pairs, step)


def test_an_adapter_does_in_llama_cpp_what_it_did_in_training(
    model: BaseModel, tmp_path: Path
) -> None:
    config, ids = model.config, some_ids(model.config)
    pairs, decoder = some_pairs(config), Decoder(model.config, model.weights)
    ours = decoder.logits(np.array(ids), pairs)
    assert np.abs(ours - decoder.logits(np.array(ids))).max() > 0.1
    changes = ((f"{module}.weight", lora_delta(pair)) for module, pair in pairs.items())
    merged = [AdaptedTensor(*change) for change in gguf_rules(config).changes(changes)]
    with Surrogate(model.gguf, file_type("f32"), tmp_path, threads=1) as surrogate:
        theirs = surrogate.load(merged, exact_cache=True).logits(ids)
    assert np.abs(ours - theirs).max() < tolerance(model)
    adapter = Adapter(4, 8.0, pairs, "m", model.fingerprint, name="a")
    export_lora(adapter, model, tmp_path / "lora.gguf")
    with AdaptedModel(model.path / "base.gguf", tmp_path / "lora.gguf", threads=1) as peer:
        theirs = peer.logits(ids)
    assert np.abs(ours - theirs).max() < 0.1


def rewritten(model: BaseModel, path: Path, odd: dict[str, GGUFValue]) -> Path:
    """The model's GGUF with other key-values."""
    file = model.gguf
    specs = [
        GGUFTensorSpec(name, tensor.shape, tensor.type) for name, tensor in file.tensors.items()
    ]
    arrays = (file.raw(spec.name).reshape(-1) for spec in specs)
    write_gguf(path, {**file.metadata, **odd}, specs, arrays)
    return path


@pytest.mark.slow
def test_llama_cpp_reads_no_key_that_m2m_does_not_know(model: BaseModel, tmp_path: Path) -> None:
    family = FAMILIES[model.config.architecture]
    own = {*family.neutral, *family.keys}
    table = known(family.architecture) | {f"{family.architecture}.{key}" for key in own}
    for misfit in MISFITS:
        odd = dict.fromkeys(sorted(names(family.architecture) - table), misfit)
        assert loads(rewritten(model, tmp_path / "x.gguf", odd))


@pytest.mark.slow
def test_odd_values_of_its_own_keys_change_both_or_are_refused(
    model: BaseModel, tmp_path: Path
) -> None:
    family = FAMILIES[model.config.architecture]
    reals = [GGUFValue.float32(value) for value in (0.0, 0.25, 3.0, -1.0, float("nan"))]
    whole = [GGUFValue.uint32(value) for value in (0, 1, 3)]
    flags = [GGUFValue.boolean(value) for value in (False, True)]
    cases = {field.gguf: reals for field in family.fields}
    cases |= {key: [*whole, *flags] for key in family.neutral}
    for key, values in cases.items():
        for number, odd in enumerate(values):
            path = rewritten(model, tmp_path / "x.gguf", {f"{family.architecture}.{key}": odd})
            assert not difference(tmp_path / f"{key}-{number}", path, ["abc"]), (key, odd.value)


def changed(config: DecoderConfig, folder: Path, key: str, value: object) -> Path:
    """A pico model whose config.json has another value."""
    path = family_folder(folder, config) / "config.json"
    data = json.loads(path.read_text(encoding="utf-8")) | {key: value}
    path.write_text(json.dumps(data), encoding="utf-8")
    return folder


def test_what_a_family_does_not_compute_is_refused_by_name(
    config: DecoderConfig, tmp_path: Path
) -> None:
    keys = [*FAMILIES[config.architecture].stated(vars(config)), "quantization_config"]
    for key in filter(None, [*keys, FAMILIES[config.architecture].activation]):
        source = changed(config, tmp_path / key, key, "strange")
        with pytest.raises(InputError, match=f"{key} is 'strange'"):
            import_model(source, tmp_path / "m", name="m")


def test_numbers_of_a_family_that_are_none_are_refused(
    config: DecoderConfig, tmp_path: Path
) -> None:
    for field in FAMILIES[config.architecture].fields:
        source = changed(config, tmp_path / field.json, field.json, "x")
        with pytest.raises(InputError, match=f"{field.json} is 'x'"):
            import_model(source, tmp_path / "m", name="m")
        source = changed(config, tmp_path / f"{field.json} null", field.json, None)
        with pytest.raises(InputError, match=f"{field.json} is 'null'"):
            import_model(source, tmp_path / "m", name="m")


def test_a_family_has_one_name_everywhere() -> None:
    for name, family in FAMILIES.items():
        assert family.name == name
    types = [kind for family in FAMILIES.values() for kind in family.model_types]
    assert len(types) == len(set(types))
