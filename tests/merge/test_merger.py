from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2m.adapter import Adapter
from m2m.checkpoint import BaseModel
from m2m.errors import InputError
from m2m.formats.safetensors import SafetensorsFile
from m2m.merge.merger import Merger
from m2m.merge.methods import METHODS, find_method, merge_method
from m2m.nn.decoder import Decoder
from m2m.nn.lora import LoraPair, init_lora, lora_delta
from tests.tiny import pico_model

TOKENS = np.arange(3, 40)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return BaseModel.open(pico_model(tmp_path_factory.mktemp("models")))


def adapter(base: BaseModel, seed: int, rank: int = 4, modules: tuple[str, ...] = ()) -> Adapter:
    """A random adapter whose B is not zero."""
    rng = np.random.default_rng(seed)
    chosen = modules or (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    pairs = {
        name: LoraPair(pair.a, rng.normal(0, 0.05, pair.b.shape).astype(np.float32), pair.scale)
        for name, pair in init_lora(base.config, chosen, rank, 8.0, rng).items()
    }
    return Adapter(rank, 8.0, pairs, base.name, base.fingerprint)


@pytest.mark.parametrize("name", list(METHODS))
class TestEveryMethod:
    """What holds for any merge method."""

    def test_weights_zero_give_no_delta(self, base: BaseModel, name: str) -> None:
        pairs = [
            p.pairs["model.layers.0.mlp.up_proj"] for p in (adapter(base, 1), adapter(base, 2))
        ]
        assert not find_method(name)(pairs, [0.0, 0.0]).any()

    def test_one_adapter_at_weight_one_is_its_delta(self, base: BaseModel, name: str) -> None:
        pair = adapter(base, 1).pairs["model.layers.0.mlp.up_proj"]
        np.testing.assert_allclose(find_method(name)([pair], [1.0]), lora_delta(pair), atol=1e-6)

    def test_order_does_not_matter(self, base: BaseModel, name: str) -> None:
        pairs = [adapter(base, s).pairs["model.layers.1.mlp.down_proj"] for s in (1, 2, 3)]
        weights = [0.5, 0.3, 0.2]
        there, back = (find_method(name)(pairs[::step], weights[::step]) for step in (1, -1))
        np.testing.assert_allclose(there, back, atol=1e-6)


def test_linear_is_the_mean_of_the_products_in_float64(base: BaseModel) -> None:
    module = "model.layers.0.self_attn.q_proj"
    pairs = [adapter(base, s, rank).pairs[module] for s, rank in ((1, 4), (2, 8), (3, 2))]
    weights = [0.2, 0.5, 0.3]
    exact = sum(
        w * p.scale * p.b.astype(np.float64) @ p.a.astype(np.float64)
        for p, w in zip(pairs, weights, strict=True)
    )
    found = find_method("linear")(pairs, weights)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-6 * np.abs(exact).max())


def test_a_method_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        merge_method("linear")(lambda pairs, weights: lora_delta(pairs[0]))
    with pytest.raises(InputError, match="unknown merge method 'magic'"):
        find_method("magic")


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
    tensors = {t.name: t for t in merger.adapted(["q"], [1.0])}
    assert not tensors[f"{up}.weight"].delta.any()
    assert tensors["model.layers.0.self_attn.q_proj.weight"].delta.any()


def test_a_delta_that_is_not_finite_is_refused_by_name(base: BaseModel) -> None:
    broken = adapter(base, 1)
    broken.pairs["model.layers.1.mlp.up_proj"].b[0, 0] = np.nan
    merger = Merger(base, {"broken": broken})
    with pytest.raises(InputError, match=r"layers\.1\.mlp\.up_proj is not finite .*broken"):
        list(merger.adapted(["broken"], [1.0]))


def test_an_adapter_of_another_base_is_refused(base: BaseModel, tmp_path: Path) -> None:
    other = BaseModel.open(pico_model(tmp_path, seed=9, name="other"))
    with pytest.raises(InputError, match="base"):
        Merger(base, {"a": adapter(other, 1)})
