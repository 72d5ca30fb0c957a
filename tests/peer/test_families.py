"""transformers and PEFT compute what m2m computes, in every family."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.peer,
    # The peers warn about each other.
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
torch = pytest.importorskip("torch", reason="scripts/install-peers makes the venv for this")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # noqa: E402
from transformers.models.auto.modeling_auto import (  # noqa: E402
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)

from m2m.checkpoint import BaseModel, import_model  # noqa: E402
from m2m.errors import InputError  # noqa: E402
from m2m.families import FAMILIES  # noqa: E402
from m2m.families.refused import REFUSED  # noqa: E402
from m2m.formats.atomic import write_json  # noqa: E402
from m2m.merge.merger import Merger  # noqa: E402
from m2m.nn.config import Batch, DecoderConfig  # noqa: E402
from m2m.nn.decoder import Decoder  # noqa: E402
from m2m.nn.lora import LoraPair, init_lora  # noqa: E402
from m2m.recipe import PROJECTIONS  # noqa: E402
from tests.checkpoint.families import VARIANTS  # noqa: E402
from tests.families.pico import CONFIGS, family_folder  # noqa: E402
from tests.peer.test_training import factors, relative  # noqa: E402
from tests.tiny import pico_weights  # noqa: E402
from tests.tiny_folder import pico_folder, pico_tokenizer_files  # noqa: E402

LENGTH = 200  # beyond every window
# The code of MiniCPM and EXAONE 3.5 is on the hub only.
OTHERS = [
    name
    for name, config in CONFIGS.items()
    if name not in VARIANTS and FAMILIES[config.architecture].model_types[0] in CONFIG_MAPPING_NAMES
]


@pytest.fixture(params=VARIANTS)
def config(request: pytest.FixtureRequest) -> DecoderConfig:
    return VARIANTS[request.param]


def hf_model(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.mark.parametrize("variant", OTHERS)
def test_logits_of_every_other_family(tmp_path: Path, variant: str) -> None:
    config = CONFIGS[variant]
    folder, ids = family_folder(tmp_path / "hf", config), some_ids(config)
    ours = Decoder(config, pico_weights(0, config)).logits(ids)
    with torch.no_grad():
        theirs = hf_model(folder)(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
    # transformers computes MPT's GELU by erf, llama.cpp and m2m by tanh.
    np.testing.assert_allclose(ours, theirs, atol=2e-3 if variant == "mpt" else 1e-4)


@pytest.mark.parametrize("variant", OTHERS)
def test_what_transformers_saves_of_every_other_family_is_imported(
    tmp_path: Path, variant: str
) -> None:
    config, saved = CONFIGS[variant], tmp_path / "saved"
    hf_model(family_folder(tmp_path / "hf", config)).save_pretrained(saved)
    pico_tokenizer_files(saved)
    import_model(saved, tmp_path / "m", name="m")
    assert BaseModel.open(tmp_path / "m").config == config


def check_text_part(folder: Path, settings: Any, kind: type, config: DecoderConfig) -> None:
    """A model with a vision part, as transformers saves it, is imported as its text part."""
    torch.manual_seed(0)
    model = kind(settings).eval()
    for parameter in model.parameters():
        parameter.data = (parameter.data + 0.05 * torch.randn_like(parameter)).half().float()
    model.save_pretrained(folder / "hf")
    pico_tokenizer_files(folder / "hf")
    import_model(folder / "hf", folder / "m", name="m")
    base, ids = BaseModel.open(folder / "m"), some_ids(config)
    assert base.config == config
    with torch.no_grad():
        theirs = model(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
    ours = Decoder(base.config, base.weights).logits(ids)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_qwen3_5_with_a_vision_part_is_imported_without_it(tmp_path: Path) -> None:
    """The released files are of this class; also heads of values that outnumber those of keys."""
    config = CONFIGS["qwen3_5"]
    text = json.loads((family_folder(tmp_path / "x", config) / "config.json").read_text("utf-8"))
    vision = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32}
    settings = transformers.Qwen3_5Config(
        text_config=text,
        vision_config=vision | {"out_hidden_size": config.hidden_size},
        tie_word_embeddings=True,
    )
    check_text_part(tmp_path, settings, transformers.Qwen3_5ForConditionalGeneration, config)


def test_a_ministral_3_with_a_vision_part_is_imported_without_it(tmp_path: Path) -> None:
    config = CONFIGS["ministral3"]
    text = json.loads((family_folder(tmp_path / "x", config) / "config.json").read_text("utf-8"))
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    settings = transformers.Mistral3Config(
        text_config=text,
        vision_config=vision | {"model_type": "pixtral", "num_attention_heads": 2, "head_dim": 16},
        tie_word_embeddings=True,
    )
    check_text_part(tmp_path, settings, transformers.Mistral3ForConditionalGeneration, config)


def test_dynamic_scaling_changes_nothing_up_to_the_trained_length(tmp_path: Path) -> None:
    config = CONFIGS["llama"]
    folder, ids = family_folder(tmp_path / "hf", config), some_ids(config)
    path = folder / "config.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data |= {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}
    path.write_text(json.dumps(data), encoding="utf-8")
    info = import_model(folder, tmp_path / "m", name="m")
    assert any("It changes nothing up to 512 tokens" in warning for warning in info.warnings)
    base = BaseModel.open(tmp_path / "m")
    ours = Decoder(base.config, base.weights).logits(ids)
    with torch.no_grad():
        theirs = hf_model(folder)(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert base.config == config


def test_granite_4_is_imported_as_granite(tmp_path: Path) -> None:
    """transformers computes Granite 4 without experts and Mamba layers as m2m does Granite 3."""
    config = CONFIGS["granite"]
    settings = transformers.GraniteMoeHybridConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        shared_intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        num_local_experts=0,
        layer_types=["attention"] * config.num_layers,
        position_embedding_type="rope",
        embedding_multiplier=config.embedding_scale,
        residual_multiplier=config.residual_scale,
        attention_multiplier=config.query_scale,
        logits_scaling=config.logit_divisor,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    model = transformers.GraniteMoeHybridForCausalLM(settings).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    model.save_pretrained(tmp_path / "hf")
    pico_tokenizer_files(tmp_path / "hf")
    import_model(tmp_path / "hf", tmp_path / "m", name="m")
    base, ids = BaseModel.open(tmp_path / "m"), some_ids(config)
    with torch.no_grad():
        theirs = model(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
    ours = Decoder(base.config, base.weights).logits(ids)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def some_ids(config: DecoderConfig) -> Any:
    return np.random.default_rng(1).integers(3, config.vocab_size, LENGTH)


@pytest.mark.parametrize("new", [False, True], ids=["old", "new"])
def test_logits_of_the_folder_and_of_what_was_imported(
    tmp_path: Path, config: DecoderConfig, new: bool
) -> None:
    source = pico_folder(tmp_path / "hf", config, new=new)
    import_model(source, tmp_path / "m", name="m")
    base = BaseModel.open(tmp_path / "m")
    ids = some_ids(config)
    ours = Decoder(base.config, base.weights).logits(ids)
    Merger(base, {}).write_folder([], [], tmp_path / "written")  # from base.gguf
    for folder in (source, tmp_path / "written"):
        with torch.no_grad():
            theirs = hf_model(folder)(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_what_transformers_saves_is_imported(tmp_path: Path, config: DecoderConfig) -> None:
    """Its own config.json, with every key it knows, and its own shards."""
    saved = tmp_path / "saved"
    hf_model(pico_folder(tmp_path / "hf", config)).save_pretrained(saved, max_shard_size="100KB")
    assert len(list(saved.glob("*.safetensors"))) > 1
    pico_tokenizer_files(saved)
    import_model(saved, tmp_path / "m", name="m")
    base = BaseModel.open(tmp_path / "m")
    assert base.config == config
    for name, array in pico_weights(0, config).items():
        np.testing.assert_array_equal(base.weights[name], array)


def test_gradients_of_adapters(tmp_path: Path, config: DecoderConfig) -> None:
    rng = np.random.default_rng(0)
    pairs = {
        module: dataclasses.replace(pair, b=0.1 * rng.standard_normal(pair.b.shape, np.float32))
        for module, pair in init_lora(config, PROJECTIONS, 4, 8.0, rng).items()
    }
    ids = some_ids(config)
    places = np.arange(LENGTH // 2, LENGTH - 1)
    batch = Batch(ids.astype(np.int32), np.array([LENGTH]), 0, places, ids[places + 1])
    decoder = Decoder(config, pico_weights(0, config))
    nats, _, grads = decoder.loss_and_grads(batch, pairs)
    model = peft_model(hf_model(pico_folder(tmp_path / "hf", config)), pairs)
    tokens = torch.from_numpy(ids)
    logits = model(input_ids=tokens[None]).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[places], tokens[places + 1], reduction="sum")
    loss.backward()
    assert nats == pytest.approx(loss.item(), rel=1e-6)
    for module in pairs:
        for mine, theirs in zip(grads[module], factors(model, module), strict=True):
            assert relative(mine, theirs.grad) < 1e-4


def peft_model(base: Any, pairs: dict[str, LoraPair]) -> Any:
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=8.0, target_modules=list(PROJECTIONS)
    )
    model = peft.get_peft_model(base, settings)
    with torch.no_grad():
        for module, pair in pairs.items():
            for theirs, mine in zip(factors(model, module), (pair.a, pair.b), strict=True):
                theirs.copy_(torch.from_numpy(mine))
    return model


def test_every_other_causal_model_is_refused_by_name(tmp_path: Path) -> None:
    """A model type of transformers is a family, or is refused with the reason."""
    known = {kind for f in FAMILIES.values() for kind in (*f.model_types, *f.spellings)}
    others = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys() - known)
    assert len(others) > 100
    for kind in others:
        folder = tmp_path / kind
        folder.mkdir()
        write_json(folder / "config.json", {"model_type": kind})
        with pytest.raises(InputError, match=re.escape(f"model_type is '{kind}'")) as caught:
            import_model(folder, tmp_path / "m", name="m")
        assert kind not in REFUSED or REFUSED[kind] in caught.value.message
