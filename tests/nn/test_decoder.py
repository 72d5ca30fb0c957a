from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from m2m.arrays import Array
from m2m.kernels import bfloat16
from m2m.nn import head, layout
from m2m.nn.config import Batch
from m2m.nn.decoder import Decoder, RopeScaling
from m2m.nn.layer import Grads
from m2m.nn.lora import LoraPair, init_lora
from m2m.nn.matrix import Storage
from m2m.nn.optim import AdamW
from tests.nn import reference
from tests.nn.gradients import F64, check_directions
from tests.nn.reference import make_batch, make_config, make_lora, make_weights
from tests.tiers import rotated

GOLDEN = Path(__file__).parents[1] / "golden" / "nn_losses.json"
LENGTHS = (7, 30, 9, 9, 33, 3, 40)

# One row a trait, then families as they are: what each adds to plain Llama.
TRAITS: dict[str, dict[str, Any]] = {
    "llama": {},
    "untied": {"tie_word_embeddings": False},
    "wide heads": {"head_dim": 10},
    "mistral": {"sliding_window": 7},
    "qwen2": {"attention_bias": True},
    "qwen3": {"qk_norm": True, "head_dim": 10, "tie_word_embeddings": False},
    "gemma3": {
        "activation": "gelu_tanh",
        "qk_norm": True,
        "post_norms": True,
        "norm_offset": 1.0,
        "embedding_scale": 24**0.5,
        "query_scale": 0.3,
        "sliding_window": 6,
        "layer_is_local": (True, False),
        "local_rope_theta": 100.0,
        "rope_scaling": RopeScaling("linear", 8.0),
    },
    "biases": {"attention_bias": True, "output_bias": True, "mlp_bias": True},
    "granite": {
        "embedding_scale": 3.0,
        "residual_scale": 0.4,
        "query_scale": 0.3,
        "logit_divisor": 2.0,
        "output_bias": True,
        "attention_bias": True,
    },
    "hunyuan": {"qk_norm": True, "turns_before_norm": True, "head_dim": 10},
    "yarn": {"rope_scaling": RopeScaling("yarn", 4.0, original_max_position_embeddings=64)},
    "ministral3": {
        "temperature": 0.1,
        "rope_scaling": RopeScaling(
            "yarn", 4.0, original_max_position_embeddings=8, attention_factor=1.0
        ),
    },
    "olmo2": {
        "qk_norm": True,
        "norms_whole_qk": True,
        "pre_norms": False,
        "post_norms": True,
        "tie_word_embeddings": False,
    },
    "exaone4": {"qk_norm": True, "pre_norms": False, "post_norms": True},
    "smollm3": {"layer_is_rotated": (True, False)},
    "ernie4_5": {"rotates_neighbours": True, "head_dim": 10},
    "nemotron": {
        "norm": "layer",
        "norm_bias": True,
        "norm_offset": 1.0,
        "gated": False,
        "activation": "relu2",
    },
    "olmo": {"norm": "layer", "norm_weight": False},
    "gpt2": {
        "norm": "layer",
        "norm_bias": True,
        "attention_bias": True,
        "output_bias": True,
        "mlp_bias": True,
        "gated": False,
        "activation": "gelu_tanh",
        "positions": "learned",
        "num_kv_heads": 4,
    },
    "pythia": {
        "norm": "layer",
        "norm_bias": True,
        "gated": False,
        "activation": "gelu_tanh",
        "parallel": True,
        "head_dim": 10,
        "rotary_dim": 4,
        "attention_bias": True,
    },
    "bloom": {
        "norm": "layer",
        "norm_bias": True,
        "embedding_norm": True,
        "gated": False,
        "activation": "gelu_tanh",
        "positions": "alibi",
        "num_heads": 6,
        "num_kv_heads": 3,
    },
    "cohere2": {
        "norm": "layer",
        "parallel": True,
        "shared_norm": True,
        "rotates_neighbours": True,
        "sliding_window": 6,
        "layer_is_local": (True, False),
        "layer_is_rotated": (True, False),
        "logit_scale": 0.25,
    },
    "gemma2": {
        "activation": "gelu_tanh",
        "post_norms": True,
        "attention_cap": 3.0,
        "logit_cap": 2.0,
        "sliding_window": 6,
        "layer_is_local": (True, False),
    },
    "phi3": {
        "head_dim": 10,
        "rotary_dim": 6,
        "rope_scaling": RopeScaling(
            "longrope", short_factor=(1.0, 1.25, 1.5), long_factor=(2.0,) * 3, attention_factor=1.25
        ),
    },
    "llama3": {"rope_scaling": RopeScaling("llama3", 8.0, 1.0, 4.0, 64)},
    "lfm2": {"layer_mixers": ("conv", "attention"), "conv_taps": 3, "qk_norm": True},
    "lfm2 last": {"layer_mixers": ("attention", "conv"), "conv_taps": 4},
    "qwen3.5": {
        "layer_mixers": ("delta", "attention"),
        "conv_taps": 4,
        "delta_heads": 4,
        "delta_keys": 2,
        "delta_dim": 6,
        "attention_gate": True,
        "qk_norm": True,
        "norm_offset": 1.0,
        "rotary_dim": 2,
    },
    "qwen3.5 last": {
        "layer_mixers": ("attention", "delta"),
        "conv_taps": 4,
        "delta_heads": 3,
        "delta_keys": 3,
        "delta_dim": 6,
    },
    "apertus": {"activation": "xielu", "gated": False, "qk_norm": True},
    "phi2": {
        "norm": "layer",
        "norm_bias": True,
        "mlp_bias": True,
        "gated": False,
        "activation": "gelu_tanh",
        "parallel": True,
        "shared_norm": True,
        "head_bias": True,
        "tie_word_embeddings": False,
    },
    "stablelm 12b": {
        "norm": "layer",
        "norm_bias": True,
        "parallel": True,
        "shared_norm": True,
        "qk_norm": True,
        "norms_by_head": True,
        "rotary_dim": 2,
    },
}


@pytest.fixture(params=sorted(TRAITS))
def traits(request: pytest.FixtureRequest) -> dict[str, Any]:
    return TRAITS[request.param]


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that rows, queries, positions and vocabulary are all cut."""
    monkeypatch.setattr(layout, "QUERIES", 8)
    monkeypatch.setattr(layout, "SCORES", 600)
    monkeypatch.setattr(head, "POSITIONS", 5)
    monkeypatch.setattr(head, "VOCABULARY", 16)
    monkeypatch.setattr(head, "LOGITS", 1)


def check_gradients(
    decoder: Decoder, batch: Batch, lora: dict[str, LoraPair], step: float = 5e-4
) -> None:
    _, _, grads = decoder.loss_and_grads(batch, lora)
    arrays = [array for pair in lora.values() for array in (pair.a, pair.b)]
    flat = [array for pair in grads.values() for array in pair]

    def loss(moved: Sequence[F64]) -> float:
        pairs = {
            module: LoraPair(moved[2 * i], moved[2 * i + 1], pair.scale)
            for i, (module, pair) in enumerate(lora.items())
        }
        return decoder.loss(batch, pairs)[0]

    check_directions(loss, arrays, flat, step)


def test_logits_are_the_reference_models(traits: dict[str, Any]) -> None:
    config = make_config(**traits)
    weights, lora = make_weights(config), make_lora(config)
    tokens = make_batch(config, [25]).tokens
    decoder = Decoder(config, weights, np.float64)
    expected = reference.logits(config, weights, tokens, lora)
    np.testing.assert_allclose(decoder.logits(tokens, lora), expected, atol=1e-10)
    plain = reference.logits(config, weights, tokens, {})
    np.testing.assert_allclose(decoder.logits(tokens), plain, atol=1e-10)


@pytest.mark.parametrize(
    ("traits", "prefix", "blocks"),
    rotated(sorted(TRAITS), [(0, "whole"), (1, "small"), (12, "small")]),
    indirect=["traits"],
)
def test_a_shared_prefix_and_packing_change_nothing(
    traits: dict[str, Any], prefix: int, blocks: str, request: pytest.FixtureRequest
) -> None:
    if blocks == "small":
        request.getfixturevalue("_small_blocks")
    config = make_config(**traits)
    weights, lora = make_weights(config), make_lora(config)
    batch = make_batch(config, LENGTHS, prefix)
    decoder = Decoder(config, weights, np.float64)
    expected = reference.loss(config, weights, batch, lora)
    loss, count, grads = decoder.loss_and_grads(batch, lora)
    assert loss == pytest.approx(expected, rel=1e-12)
    assert count == len(batch.loss_index)
    assert decoder.loss(batch, lora)[0] == pytest.approx(expected, rel=1e-12)
    sums = {module: [np.zeros_like(g) for g in pair] for module, pair in grads.items()}
    for tokens, places, targets in reference.unshared(batch):
        alone = Batch(tokens, np.array([len(tokens)]), 0, places, targets)
        _, _, part = decoder.loss_and_grads(alone, lora)
        for module, pair in part.items():
            for total, grad in zip(sums[module], pair, strict=True):
                total += grad
    for module, pair in grads.items():
        for total, grad in zip(sums[module], pair, strict=True):
            np.testing.assert_allclose(grad, total, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("traits", "prefix", "lengths"),
    rotated(sorted(TRAITS), [(0, (9, 6, 6)), (4, (9, 5, 2, 9))]),
    indirect=["traits"],
)
def test_gradients(traits: dict[str, Any], prefix: int, lengths: tuple[int, ...]) -> None:
    config = make_config(**traits)
    decoder = Decoder(config, make_weights(config), np.float64)
    check_gradients(decoder, make_batch(config, lengths, prefix), make_lora(config))


@pytest.mark.usefixtures("_small_blocks")
def test_gradients_across_all_block_borders() -> None:
    config = make_config()
    decoder = Decoder(config, make_weights(config), np.float64)
    check_gradients(decoder, make_batch(config, (20, 9, 17), 11), make_lora(config))


@pytest.mark.parametrize(
    ("traits", "saving"),
    rotated(sorted(TRAITS), [{"recompute": 2}, {"recompute": 1, "maps": "half"}]),
    indirect=["traits"],
)
def test_saving_memory_changes_nothing(traits: dict[str, Any], saving: dict[str, Any]) -> None:
    config = make_config(**traits)
    weights = {n: w.astype(np.float16).astype(np.float64) for n, w in make_weights(config).items()}
    lora, batch = make_lora(config), make_batch(config, LENGTHS, 5)
    loss, _, grads = Decoder(config, weights, np.float64).loss_and_grads(batch, lora)
    saver = Decoder(config, weights, np.float64, **saving)
    for _ in range(2):  # the second time all buffers hold something
        other, _, others = saver.loss_and_grads(batch, lora)
        assert other == pytest.approx(loss, rel=1e-13)
        for module, pair in grads.items():
            for grad, same in zip(pair, others[module], strict=True):
                np.testing.assert_allclose(same, grad, rtol=1e-10, atol=1e-12)
    tokens = batch.tokens[:9]
    expected = reference.logits(config, weights, tokens, {})
    np.testing.assert_allclose(saver.logits(tokens), expected, atol=1e-9)


@pytest.mark.parametrize(("traits", "rank"), rotated(sorted(TRAITS), [0, 3]), indirect=["traits"])
def test_room_for_adapters_changes_nothing(traits: dict[str, Any], rank: int) -> None:
    config = make_config(**traits)
    weights = {name: array.astype(np.float16) for name, array in make_weights(config).items()}
    wide = {name: array.astype(np.float32) for name, array in weights.items()}
    lora, batch = make_lora(config, rank=2), make_batch(config, LENGTHS, 5)
    plain, roomy = Decoder(config, wide), Decoder(config, weights, rank=rank)
    for adapters in (lora, dict(list(lora.items())[:3]), lora):
        expected, found = (each.loss_and_grads(batch, adapters) for each in (plain, roomy))
        assert found[:2] == expected[:2]
        for module, arrays in expected[2].items():
            for one, other in zip(arrays, found[2][module], strict=True):
                np.testing.assert_array_equal(one, other)


def test_some_modules_only_and_ranks_that_differ() -> None:
    config = make_config()
    weights = make_weights(config)
    lora = make_lora(config, modules="v_proj", rank=2) | make_lora(config, modules="layers.1.mlp")
    lora |= make_lora(config, modules="0.self_attn.o_proj", rank=5)
    batch = make_batch(config, (9, 6), 3)
    decoder = Decoder(config, weights, np.float64)
    check_gradients(decoder, batch, lora)
    assert decoder.loss(batch, lora)[0] == pytest.approx(
        reference.loss(config, weights, batch, lora), rel=1e-12
    )
    assert decoder.loss(batch)[0] == pytest.approx(
        reference.loss(config, weights, batch, {}), rel=1e-12
    )


def test_scores_and_logits_far_from_zero_take_the_careful_path() -> None:
    config = make_config()
    weights = make_weights(config)
    for name in weights:
        if "q_proj" in name or "k_proj" in name:
            weights[name] *= 30.0
    weights["model.embed_tokens.weight"] *= 200.0
    lora, batch = make_lora(config), make_batch(config, LENGTHS, 5)
    expected = reference.loss(config, weights, batch, lora)
    decoder = Decoder(config, weights, np.float64)
    assert decoder.loss(batch, lora)[0] == pytest.approx(expected, rel=1e-10)
    loss, _, grads = Decoder(config, weights).loss_and_grads(batch, lora)
    assert loss == pytest.approx(expected, rel=1e-3)
    assert all(np.isfinite(g).all() for pair in grads.values() for g in pair)


def test_float32_stays_float32_and_agrees_with_float64() -> None:
    config = make_config()
    weights, lora, batch = make_weights(config), make_lora(config), make_batch(config, LENGTHS, 5)
    exact, _, exact_grads = Decoder(config, weights, np.float64).loss_and_grads(batch, lora)
    decoder = Decoder(config, weights)
    loss, _, grads = decoder.loss_and_grads(batch, lora)
    assert loss == pytest.approx(exact, rel=1e-5)
    assert decoder.logits(batch.tokens, lora).dtype == np.float32
    for module, pair in grads.items():
        for grad, other in zip(pair, exact_grads[module], strict=True):
            assert grad.dtype == np.float32
            np.testing.assert_allclose(grad, other, atol=1e-4 * np.abs(other).max())


def test_the_same_step_gives_the_same_bytes_and_reuses_its_arrays() -> None:
    config = make_config()
    decoder = Decoder(config, make_weights(config))
    lora, batch = make_lora(config), make_batch(config, LENGTHS, 5)
    loss, _, grads = decoder.loss_and_grads(batch, lora)
    first = {module: (a.tobytes(), b.tobytes()) for module, (a, b) in grads.items()}
    decoder.loss_and_grads(make_batch(config, (50, 2), 0), lora)
    again, _, same = decoder.loss_and_grads(batch, lora, out=grads)
    assert same is grads
    assert again == loss
    assert {module: (a.tobytes(), b.tobytes()) for module, (a, b) in same.items()} == first


def test_tokens_that_no_loss_depends_on_are_not_computed() -> None:
    config = make_config()
    batch = Batch(np.arange(20), np.array([8, 12]), 0, np.array([3]), np.array([5]))
    assert len(layout.lay_out(batch).tokens) == 4
    decoder = Decoder(config, make_weights(config), np.float64)
    lora = make_lora(config)
    expected = reference.loss(config, make_weights(config), batch, lora)
    assert decoder.loss(batch, lora)[0] == pytest.approx(expected, rel=1e-12)


def test_a_batch_without_loss_has_zero_gradients() -> None:
    config = make_config()
    nothing = np.zeros(0, np.intp)
    batch = Batch(np.arange(5), np.array([5]), 0, nothing, nothing)
    decoder, lora = Decoder(config, make_weights(config)), make_lora(config)
    assert decoder.loss(batch, lora) == (0.0, 0)
    loss, count, grads = decoder.loss_and_grads(batch, lora)
    assert (loss, count) == (0.0, 0)
    assert not any(g.any() for pair in grads.values() for g in pair)


def test_unknown_modules_wrong_shapes_and_foreign_tokens_are_refused() -> None:
    config = make_config()
    decoder = Decoder(config, make_weights(config))
    lora, batch = make_lora(config, modules="q_proj"), make_batch(config, [5])
    stranger = {"model.layers.9.self_attn.q_proj": next(iter(lora.values()))}
    with pytest.raises(ValueError, match=r"layers\.9"):
        decoder.loss(batch, stranger)
    misfit = {"model.layers.0.mlp.up_proj": next(iter(lora.values()))}
    with pytest.raises(ValueError, match=r"up_proj: adapter for \(24, 24\), module is \(40, 24\)"):
        decoder.loss(batch, misfit)
    with pytest.raises(ValueError, match=r"outside of 0\.\.60"):
        decoder.logits(np.array([0, 61]))


def golden_losses() -> list[float]:
    """Ten steps of AdamW on one batch of a fixed pico model."""
    config = make_config()
    decoder = Decoder(config, make_weights(config))
    modules = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]
    lora = init_lora(config, modules, 4, 8.0, np.random.default_rng(0))
    batch = make_batch(config, LENGTHS, 5)
    optimizer = AdamW([array for pair in lora.values() for array in (pair.a, pair.b)])
    losses = []
    for _ in range(10):
        loss, count, grads = decoder.loss_and_grads(batch, lora)
        losses.append(loss / count)
        flat = [g / np.float32(count) for pair in grads.values() for g in pair]
        optimizer.step(flat, 0.02)
    return losses


def test_ten_recorded_losses() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    np.testing.assert_allclose(golden_losses(), golden["losses"], rtol=golden["tolerance"])
    assert golden["losses"][-1] < 0.9 * golden["losses"][0]


def apart(ours: Grads, theirs: Grads) -> float:
    """The largest relative difference of two adapters' gradients, array by array."""
    return max(
        float(np.linalg.norm(one - other) / np.linalg.norm(other))
        for module, pair in theirs.items()
        for one, other in zip(ours[module], pair, strict=True)
    )


@pytest.mark.parametrize("traits", ["llama", "lfm2", "qwen3.5"], indirect=True)
def test_values_that_are_not_finite_stay_in_their_row(traits: dict[str, Any]) -> None:
    config = make_config(**traits)
    weights = make_weights(config)
    decoder = Decoder(config, weights, np.float64)
    weights["model.embed_tokens.weight"][60] = np.nan
    poisoned = Decoder(config, weights, np.float64)
    texts = [np.arange(1, 1 + length) for length in (33, 31, 30, 7, 3)]  # in the order of results
    texts[1][20] = 60
    with np.errstate(invalid="ignore"):
        clean, found = decoder.hidden(texts), poisoned.hidden(texts)
    row = slice(33, 33 + 31)
    assert np.isnan(found[row][20:]).all()
    others = np.r_[: row.start, row.stop : len(found)]
    # Not to the bit: scores that are not finite are shifted, with those of the row's whole group.
    np.testing.assert_allclose(found[others], clean[others], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("traits", "rank"),
    rotated(["llama", "granite", "gpt2", "lfm2", "qwen3.5"], [0, 3]),
    indirect=["traits"],
)
def test_a_quantised_base_is_the_one_whose_maps_were_rounded(
    traits: dict[str, Any], rank: int
) -> None:
    """The `gguf` package rounds; then gradients by finite differences, also of other adapters."""
    config = make_config(**traits)
    weights = {name: array.astype(np.float32) for name, array in make_weights(config).items()}
    maps = {f"{module}.weight": weights[f"{module}.weight"] for module in config.linear_shapes()}
    rounded = weights | {name: in_q8_0(array) for name, array in maps.items()}
    lora, batch = make_lora(config, rank=2), make_batch(config, LENGTHS, 5)
    plain = Decoder(config, rounded, np.float64)
    decoder = Decoder(config, weights, np.float64, maps="q8_0", rank=rank)
    assert plain.loss(batch)[0] != Decoder(config, weights, np.float64).loss(batch)[0]
    for adapters in (make_lora(config, rank=40), lora):
        expected, found = (each.loss_and_grads(batch, adapters) for each in (plain, decoder))
        assert found[:2] == (pytest.approx(expected[0], rel=1e-12), expected[1])
        assert apart(found[2], expected[2]) < 1e-9
    check_gradients(decoder, make_batch(config, (9, 6), 3), lora)


def in_q8_0(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what Q8_0 keeps of rows, which may end within a block."""
    whole = np.pad(weights, ((0, 0), (0, -weights.shape[1] % 32)))
    kind = gguf.GGMLQuantizationType.Q8_0
    return gguf.dequantize(gguf.quantize(whole, kind), kind)[:, : weights.shape[1]]


def test_weights_too_small_for_q8_0_are_zero() -> None:
    matrix = Storage(np.float32, "q8_0").matrix(2, 32, 0)
    rows = np.full((2, 32), [[1e-40], [3.0]], np.float32)
    matrix.load(slice(0, 2), rows, 1.0)
    out = np.empty((1, 2), np.float32)
    matrix.forward(np.ones((1, 32), np.float32), out)
    assert out[0].tolist() == pytest.approx([0.0, 96.0], rel=1e-3)


@pytest.mark.parametrize(
    ("traits", "threads", "rank"),
    rotated(sorted(TRAITS), [(1, 2), (3, 0)]),
    indirect=["traits"],
)
def test_bfloat16_maps_are_those_of_rounded_weights_and_inputs(
    traits: dict[str, Any], threads: int, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(**traits)
    weights = {name: array.astype(np.float32) for name, array in make_weights(config).items()}
    lora, batch = make_lora(config, rank=2), make_batch(config, LENGTHS, 5)
    plain = Decoder(config, weights, threads=threads)
    rounded = Decoder(config, weights, threads=threads, maps="bf16", rank=rank)
    double = Decoder(config, weights, np.float64)
    for adapters in (lora, dict(list(lora.items())[:3]), lora):
        expected = plain.loss_and_grads(batch, adapters)
        found = rounded.loss_and_grads(batch, adapters)
        assert found[1] == expected[1]
        assert found[0] == pytest.approx(expected[0], rel=0.01)
        # How much a rounding matters depends on the model: float32's own error, 2**16 times finer.
        exact = double.loss_and_grads(batch, adapters)[2]
        assert 1e-3 < apart(found[2], exact) < 2.0**17 * apart(expected[2], exact)
    again = rounded.loss_and_grads(batch, lora)
    assert again[0] == found[0]
    assert apart(again[2], found[2]) == 0.0
    multiply, misses = bfloat16.multiply, []

    def checked(x: Array, stored: bfloat16.BF16, out: Array) -> None:
        multiply(x, stored, out)
        exact, most = reference.bf16_product(x, stored)
        misses.append(np.abs(out - exact) > most)

    monkeypatch.setattr(bfloat16, "multiply", checked)
    assert rounded.loss_and_grads(batch, lora)[0] == found[0]
    assert misses and not any(miss.any() for miss in misses)
