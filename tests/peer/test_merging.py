"""PEFT merges as m2m merges, transformers loads what m2m writes, m2m reads what PEFT writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.peer,
    # The peers warn about each other, and about settings that are tried here on purpose.
    pytest.mark.filterwarnings(
        "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
    ),
]
torch = pytest.importorskip("torch", reason="scripts/install-peers makes the venv for this")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from peft.utils import merge_utils  # noqa: E402

from m2m.adapter import Adapter, load_adapter, save_adapter  # noqa: E402
from m2m.checkpoint import BaseModel, import_model  # noqa: E402
from m2m.errors import InputError  # noqa: E402
from m2m.merge.merger import Merger  # noqa: E402
from m2m.merge.methods import find_method  # noqa: E402
from m2m.merge.peft_names import to_peft  # noqa: E402
from m2m.nn.decoder import Decoder  # noqa: E402
from m2m.nn.lora import LoraPair, lora_delta  # noqa: E402
from m2m.recipe import Merge  # noqa: E402
from tests.families.pico import family_folder  # noqa: E402
from tests.merge.conftest import adapter, base, dense  # noqa: E402
from tests.tiny import TRAITS, merged_weights, pico_config  # noqa: E402

__all__ = ["base"]  # fixture

MODULE = "model.layers.1.mlp.down_proj"
DENSITY = 0.3
IDS = np.arange(3, 40)


@pytest.fixture
def pairs(base: BaseModel) -> list[LoraPair]:
    return [adapter(base, seed, rank).pairs[MODULE] for seed, rank in ((1, 4), (2, 8), (3, 2))]


@pytest.fixture
def deltas(pairs: list[LoraPair]) -> list[Any]:
    return [torch.from_numpy(lora_delta(pair)) for pair in pairs]


@pytest.fixture
def our_chance(monkeypatch: pytest.MonkeyPatch) -> np.random.Generator:
    """A generator for us, and PEFT's coin tosses drawn from its twin."""
    twin = np.random.default_rng(7)

    def bernoulli(chances: Any) -> Any:
        drawn = torch.from_numpy(twin.random(tuple(chances.shape), np.float32))
        return (drawn < chances).to(chances.dtype)

    monkeypatch.setattr(torch, "bernoulli", bernoulli)
    return np.random.default_rng(7)


def ours(method: str, pairs: list[LoraPair], weights: list[float], rng: Any = None) -> np.ndarray:
    rng = rng or np.random.default_rng(0)
    return dense(find_method(method)(pairs, weights, Merge(method, density=DENSITY), rng))


WEIGHTS = [0.5, 0.3, 0.2]
EQUAL = [1 / 3] * 3  # our mean of those that agree is PEFT's with weights of one


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_sums(method: str, pairs: list[LoraPair], deltas: list[Any]) -> None:
    theirs = merge_utils.task_arithmetic(deltas, torch.tensor(WEIGHTS))
    np.testing.assert_allclose(ours(method, pairs, WEIGHTS), theirs, atol=1e-6)


def test_pruning_by_magnitude(pairs: list[LoraPair], deltas: list[Any]) -> None:
    theirs = merge_utils.magnitude_prune(deltas, torch.tensor(WEIGHTS), DENSITY)
    options = Merge("breadcrumbs", density=DENSITY, gamma=0.0)
    found = find_method("breadcrumbs")(pairs, WEIGHTS, options, np.random.default_rng(0))
    np.testing.assert_allclose(found, theirs, atol=1e-6)


def test_ties(pairs: list[LoraPair], deltas: list[Any]) -> None:
    theirs = merge_utils.ties(deltas, torch.ones(3), DENSITY)
    np.testing.assert_allclose(ours("ties", pairs, EQUAL), theirs, atol=1e-6)


def test_dare_with_the_same_masks(
    pairs: list[LoraPair], deltas: list[Any], our_chance: np.random.Generator
) -> None:
    theirs = merge_utils.dare_linear(deltas, torch.tensor(WEIGHTS), DENSITY)
    np.testing.assert_allclose(ours("dare_linear", pairs, WEIGHTS, our_chance), theirs, atol=1e-6)


def test_dare_ties_with_the_same_masks(
    pairs: list[LoraPair], deltas: list[Any], our_chance: np.random.Generator
) -> None:
    theirs = merge_utils.dare_ties(deltas, torch.ones(3), DENSITY)
    np.testing.assert_allclose(ours("dare_ties", pairs, EQUAL, our_chance), theirs, atol=1e-6)


@pytest.fixture
def hf(base: BaseModel, tmp_path: Path) -> Any:
    """The pico base as transformers' model, through the folder that m2m writes."""
    Merger(base, {}).write_folder([], [], tmp_path / "hf", "F32")
    return transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()


def logits(model: Any) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = model(input_ids=torch.from_numpy(IDS)[None]).logits[0].float().numpy()
    return found


@pytest.mark.parametrize(
    ("dtype", "kept", "apart"),
    [("F32", "float32", 2e-4), ("F16", "float16", 0.05), ("BF16", "bfloat16", 0.5)],
)
def test_transformers_loads_the_merged_folder(
    base: BaseModel, tmp_path: Path, dtype: str, kept: str, apart: float
) -> None:
    merger = Merger(base, {"a": adapter(base, 1), "b": adapter(base, 2)})
    merger.write_folder(["a", "b"], [0.6, 0.4], tmp_path / "m", dtype)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype="auto").eval()
    assert model.dtype == getattr(torch, kept)
    changed = merged_weights(merger, {"a": 0.6, "b": 0.4})
    expected = Decoder(base.config, {**base.weights, **changed}).logits(IDS)
    np.testing.assert_allclose(logits(model), expected, atol=apart)
    assert np.abs(logits(model) - Decoder(base.config, base.weights).logits(IDS)).max() > 2 * apart


# The code of MiniCPM and EXAONE 3.5 is on the hub only.
@pytest.mark.parametrize("architecture", sorted(TRAITS.keys() - {"minicpm", "exaone"}))
def test_transformers_loads_every_familys_merged_folder(architecture: str, tmp_path: Path) -> None:
    source = family_folder(tmp_path / "source", pico_config(architecture=architecture))
    import_model(source, tmp_path / "base", name="base")
    base = BaseModel.open(tmp_path / "base")
    merger = Merger(base, {"a": adapter(base, 1)})
    merger.write_folder(["a"], [1.0], tmp_path / "m", "F32")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m").eval()
    changed = merged_weights(merger, {"a": 1.0})
    expected = Decoder(base.config, {**base.weights, **changed}).logits(IDS)
    np.testing.assert_allclose(logits(model), expected, atol=1e-3)


@pytest.fixture
def loaded(base: BaseModel, hf: Any, tmp_path: Path) -> Iterator[tuple[Any, list[Adapter]]]:
    """Two of our adapters, and PEFT's model with both of them."""
    made = [adapter(base, 1, rank=4), adapter(base, 2, rank=8)]
    for name, each in zip("ab", made, strict=True):
        save_adapter(tmp_path / name, each)
    model = peft.PeftModel.from_pretrained(hf, str(tmp_path / "a"), adapter_name="a")
    model.load_adapter(str(tmp_path / "b"), adapter_name="b")
    yield model, made


JOINED = ["gpt2", "gptneox", "bloom", "phi3", "glm", "glm4", "lfm2", "qwen3_5"]


@pytest.mark.parametrize("architecture", JOINED)
def test_peft_loads_adapters_of_families_with_joined_maps(
    architecture: str, tmp_path: Path
) -> None:
    config = pico_config(architecture=architecture)
    import_model(family_folder(tmp_path / "hf", config), tmp_path / "m", name="m")
    base = BaseModel.open(tmp_path / "m")
    mine = adapter(base, 1, 4)
    save_adapter(tmp_path / "a", to_peft(mine, config))
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(tmp_path / "hf"), dtype=torch.float32, attn_implementation="eager"
    )
    model = peft.PeftModel.from_pretrained(model, str(tmp_path / "a")).eval()
    ids = IDS[:8]  # within every window
    with torch.no_grad():
        theirs = model(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
    decoder = Decoder(config, base.weights)
    assert np.abs(decoder.logits(ids, mine.pairs) - decoder.logits(ids)).max() > 0.01
    np.testing.assert_allclose(decoder.logits(ids, mine.pairs), theirs, atol=1e-4)


@pytest.mark.parametrize("rank", [None, 3])
def test_peft_concatenates_and_compresses_to_the_same_deltas(
    base: BaseModel, loaded: tuple[Any, list[Adapter]], rank: int | None
) -> None:
    model, (a, b) = loaded
    kind = {"combination_type": "svd", "svd_rank": rank} if rank else {"combination_type": "cat"}
    model.add_weighted_adapter(["a", "b"], [0.7, 0.3], "merged", **kind)
    merger = Merger(base, {"a": a, "b": b})
    whole, _ = merger.adapter(["a", "b"], [0.7, 0.3], rank or 12)
    for module, pair in whole.pairs.items():
        layer = model.get_submodule(f"base_model.model.{module}")
        theirs = layer.get_delta_weight("merged").detach().numpy()
        size = np.linalg.norm(theirs)
        assert np.linalg.norm(lora_delta(pair) - theirs) < (0.02 if rank else 1e-5) * size
        if rank is None:
            ours = merger.delta(module, ["a", "b"], [0.7, 0.3])
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 7}},
        {"alpha_pattern": {"v_proj": 3, "model.layers.0.mlp.down_proj": 40}},
        {"rank_pattern": {"^model.layers.0.self_attn.q_proj": 2}, "use_rslora": True},
        {"rank_pattern": {"k_proj": 3}, "alpha_pattern": {"k_proj": 5}},
        {"fan_in_fan_out": True},
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": r".*\.1\.self_attn\.(q|k)_proj"},
        {"layers_to_transform": [1], "target_modules": ["q_proj", "up_proj"]},
        {"exclude_modules": ["down_proj"]},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal"},
    ],
    ids=str,
)
def test_what_peft_saves_is_what_m2m_merges(
    base: BaseModel, hf: Any, tmp_path: Path, config: dict[str, Any]
) -> None:
    settings = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    torch.manual_seed(0)
    model = peft.get_peft_model(hf, peft.LoraConfig(**settings | config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    theirs = logits(model.eval())
    model.save_pretrained(tmp_path / "theirs")
    read = load_adapter(tmp_path / "theirs")
    merger = Merger(base, {"theirs": read})
    for module in read.pairs:
        layer = model.get_submodule(f"base_model.model.{module}")
        expected = layer.get_delta_weight("default").detach().numpy()
        np.testing.assert_allclose(merger.delta(module, ["theirs"], [1.0]), expected, atol=1e-6)
    changed = merged_weights(merger, {"theirs": 1.0})
    merged = Decoder(base.config, {**base.weights, **changed}).logits(IDS)
    np.testing.assert_allclose(merged, theirs, atol=2e-4)
    assert np.abs(theirs - Decoder(base.config, base.weights).logits(IDS)).max() > 0.01


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("LoraConfig", {"use_dora": True}, "use_dora"),
        ("LoraConfig", {"bias": "all"}, "bias"),
        ("LoraConfig", {"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ("LoraConfig", {"init_lora_weights": "pissa"}, "pissa"),
        ("LoraConfig", {"init_lora_weights": "olora"}, "olora"),
        ("LoraConfig", {"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ("LoHaConfig", {}, "LOHA"),
        ("IA3Config", {"feedforward_modules": []}, "IA3"),
    ],
    ids=str,
)
def test_what_m2m_does_not_compute_is_refused_by_name(
    hf: Any, tmp_path: Path, kind: str, config: dict[str, Any], said: str
) -> None:
    settings = {"target_modules": ["q_proj", "k_proj"], "task_type": "CAUSAL_LM"}
    made = getattr(peft, kind)(**settings | config)
    peft.get_peft_model(hf, made).save_pretrained(tmp_path / "theirs", save_embedding_layers=False)
    with pytest.raises(InputError, match=said):
        load_adapter(tmp_path / "theirs")
