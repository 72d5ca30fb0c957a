"""Threads that share a step give what one thread gives, every time the same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from m2m.blas import blas_switches
from m2m.formats.half import bf16_to_f32, f32_to_bf16
from m2m.nn import chunks, head
from m2m.nn import decoder as decoder_module
from m2m.nn.chunks import divide
from m2m.nn.config import Batch
from m2m.nn.decoder import Decoder
from m2m.nn.layout import PREFIX, lay_out_chunks
from m2m.nn.memory import TABLES
from m2m.nn.thread_pool import PoolBroken, ThreadPool, Worker
from tests.nn.reference import make_batch, make_config, make_lora, make_weights
from tests.nn.test_decoder import LENGTHS, TRAITS, check_gradients
from tests.tiers import rotated

SAVINGS = [{}, {"recompute": 1}, {"maps": "half"}, {"recompute": 2, "maps": "half"}]


@pytest.fixture(autouse=True)
def _cut_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "LEAST", 1)


def make(threads: int, traits: dict[str, Any], **saving: Any) -> Decoder:
    config = make_config(**traits)
    weights = {n: w.astype(np.float16).astype(np.float64) for n, w in make_weights(config).items()}
    return Decoder(config, weights, np.float64, threads=threads, **saving)


@pytest.mark.parametrize(
    ("name", "threads", "lengths", "prefix"),
    rotated(TRAITS, [(2, LENGTHS, 12), (3, LENGTHS, 0), (2, (50,), 0), (3, (3,), 9)]),
)
def test_threads_change_nothing(
    name: str, threads: int, lengths: tuple[int, ...], prefix: int
) -> None:
    compare(TRAITS[name], threads, lengths, prefix, {})


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("prefix", [0, 12])
@pytest.mark.parametrize("saving", SAVINGS[1:], ids=str)
def test_threads_that_save_memory_change_nothing(
    family: str, prefix: int, saving: dict[str, Any]
) -> None:
    compare(TRAITS[family], 3, LENGTHS, prefix, saving)


def compare(
    traits: dict[str, Any],
    threads: int,
    lengths: tuple[int, ...],
    prefix: int,
    saving: dict[str, Any],
) -> None:
    config = make_config(**traits)
    batch, lora = make_batch(config, lengths, prefix), make_lora(config)
    loss, count, grads = make(1, traits).loss_and_grads(batch, lora)
    decoder = make(threads, traits, **saving)
    for _ in range(2):  # the second time all buffers hold something
        other, same, others = decoder.loss_and_grads(batch, lora)
        assert (other, same) == (pytest.approx(loss, rel=1e-12), count)
        for module, pair in grads.items():
            for grad, found in zip(pair, others[module], strict=True):
                np.testing.assert_allclose(found, grad, rtol=1e-9, atol=1e-11)
    assert decoder.loss(batch, lora)[0] == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "granite", "lfm2"])
@pytest.mark.parametrize("maps", ["whole", "half"])
def test_a_base_in_bfloat16_changes_no_bit(family: str, maps: str) -> None:
    """Its maps and tables are given as uint16, as `BaseWeights.compact` does."""
    config = make_config(**TRAITS[family])
    narrow = {*TABLES, *(f"{module}.weight" for module in config.linear_shapes())}
    bits = {name: f32_to_bf16(w.astype(np.float32)) for name, w in make_weights(config).items()}
    exact = {name: bf16_to_f32(values) for name, values in bits.items()}
    given = {name: bits[name] if name in narrow else exact[name] for name in bits}
    batch, lora = make_batch(config, LENGTHS, 0), make_lora(config)
    expected = Decoder(config, exact, threads=2).loss_and_grads(batch, lora)
    found = Decoder(config, given, threads=2, maps=maps).loss_and_grads(batch, lora)
    assert found[:2] == expected[:2]
    for module, pair in expected[2].items():
        for one, other in zip(pair, found[2][module], strict=True):
            np.testing.assert_array_equal(one, other)


def test_weights_that_bfloat16_would_round_are_refused() -> None:
    config = make_config()
    weights = {name: w.astype(np.float32) for name, w in make_weights(config).items()}
    table = "model.embed_tokens.weight"
    with pytest.raises(ValueError, match="not those of a base in bfloat16"):
        Decoder(config, weights | {table: f32_to_bf16(weights[table])}, maps="half")


@pytest.mark.parametrize(("lengths", "prefix"), [((20,), 0), ((9, 14, 6), 5)])
def test_gradients_across_the_borders_of_chunks(lengths: tuple[int, ...], prefix: int) -> None:
    config = make_config()
    batch = make_batch(config, lengths, prefix)
    assert any(
        g.piece not in (None, PREFIX) for lay in lay_out_chunks(batch, 4, 0.1) for g in lay.groups
    )
    check_gradients(make(4, {}), batch, make_lora(config))


def test_the_same_count_gives_the_same_bytes() -> None:
    config = make_config()
    decoder = Decoder(config, make_weights(config), threads=3)
    lora, batch = make_lora(config), make_batch(config, LENGTHS, 5)
    first, _, grads = decoder.loss_and_grads(batch, lora)
    bytes_ = [g.tobytes() for pair in grads.values() for g in pair]
    for _ in range(5):
        again, _, others = decoder.loss_and_grads(batch, lora)
        assert again == first
        assert [g.tobytes() for pair in others.values() for g in pair] == bytes_


@pytest.mark.parametrize("saving", SAVINGS[1:], ids=str)
def test_saving_memory_changes_no_bit(saving: dict[str, Any]) -> None:
    config = make_config()
    weights = {n: w.astype(np.float16).astype(np.float32) for n, w in make_weights(config).items()}
    lora, batch = make_lora(config), make_batch(config, LENGTHS, 5)
    loss, _, grads = Decoder(config, weights, threads=2).loss_and_grads(batch, lora)
    other, _, others = Decoder(config, weights, threads=2, **saving).loss_and_grads(batch, lora)
    assert other == loss
    for module, (da, db) in grads.items():
        assert (da.tobytes(), db.tobytes()) == tuple(g.tobytes() for g in others[module])


def test_members_take_all_adapters_even_if_these_change() -> None:
    config = make_config()
    batch, decoder = make_batch(config, LENGTHS, 5), make(2, {})
    for lora in (make_lora(config, modules="q_proj"), make_lora(config, rank=2), make_lora(config)):
        _, _, grads = decoder.loss_and_grads(batch, lora)
        _, _, expected = make(1, {}).loss_and_grads(batch, lora)
        assert grads.keys() == expected.keys()
        for module, pair in expected.items():
            np.testing.assert_allclose(grads[module][1], pair[1], rtol=1e-9, atol=1e-11)


def test_a_mistake_in_one_share_ends_all_and_is_told() -> None:
    config = make_config()
    batch = make_batch(config, LENGTHS, 5)
    wrong = Batch(batch.tokens.copy(), batch.lengths, 5, batch.loss_index, batch.loss_target)
    wrong.tokens[0] = config.vocab_size  # the prefix, which the second chunk waits for
    decoder, lora = make(2, {}), make_lora(config)
    with pytest.raises(ValueError, match=r"outside of 0\.\.60"):
        decoder.loss_and_grads(wrong, lora)
    wrong.tokens[0] = 0
    wrong.tokens[batch.loss_index.max()] = -1
    with pytest.raises(ValueError, match=r"outside of 0\.\.60"):
        decoder.loss_and_grads(wrong, lora)
    assert decoder.loss(batch, lora)[0] > 0


def test_numpys_error_state_reaches_every_member() -> None:
    def overflow(worker: Worker) -> float:
        return float(np.float32(3e38) * np.float32(10))

    with np.errstate(over="ignore"):
        assert ThreadPool(3).run(overflow) == [np.inf] * 3
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        ThreadPool(3).run(overflow)


def test_members_meet_and_hand_over() -> None:
    def work(worker: Worker) -> list[int]:
        worker.put(("left", worker.number), worker.number * 10)
        return [worker.take(("left", 2)), *worker.gather("all", worker.number)]

    assert ThreadPool(3).run(work) == [[20, 0, 1, 2]] * 3
    assert ThreadPool(3).run(lambda worker: worker.count, 2) == [2, 2]
    with pytest.raises(PoolBroken):
        ThreadPool(2).run(lambda worker: worker.fail() or worker.take("never"))


@pytest.mark.parametrize(
    ("lengths", "prefix", "key", "count"),
    [
        ([512], 0, 0.001, 2),
        ([40] * 12, 30, 0.0, 2),
        ([300, 200, 9, 9], 0, 0.002, 3),
        ([5], 0, 0, 4),
    ],
)
def test_chunks_hold_every_token_once_and_are_even(
    lengths: list[int], prefix: int, key: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "LEAST", 16)
    found = divide(lengths, prefix, key, count)
    seen = sorted((p.row, at) for parts in found for p in parts for at in range(p.first, p.last))
    assert seen == [(row, at) for row, length in enumerate(lengths) for at in range(length)]
    work = [
        sum(p.size * (1 + key * (prefix + (p.first + p.last) / 2)) for p in parts)
        for parts in found
    ]
    work[0] += prefix * (1 + key * prefix / 2)
    if sum(lengths) > 100:
        assert max(work) - min(work) <= 2 * 16
    for parts in found:
        for part in parts:
            assert part.size == part.length or part.size >= 16


def test_a_row_that_is_cut_looks_back_in_order() -> None:
    batch = make_batch(make_config(), (40,), 3, share=1.0)
    layouts = lay_out_chunks(batch, 3, 0.0)
    before = [[group.before for group in layout.groups] for layout in layouts]
    assert before[0] == [(PREFIX,), ()]
    firsts = [int(layout.positions[0]) - 3 for layout in layouts[1:]]
    assert before[1] == [(PREFIX, (0, 0))]
    assert before[2] == [(PREFIX, (0, 0), (0, firsts[0]))]
    assert layouts[2].groups[0].prefix == 3 + firsts[1]


def test_logits_of_a_decoder_with_one_thread_use_one_blas_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenBLAS's threads wait by spinning: with other work on the machine ten times the time."""
    switches = blas_switches()
    if switches is None:
        pytest.skip("this NumPy has another BLAS")
    count, set_count = switches
    seen: list[int] = []

    def counted(*args: Any, **options: Any) -> Any:
        seen.append(count())
        return head.logits(*args, **options)

    monkeypatch.setattr(decoder_module, "logits", counted)
    config = make_config()
    decoder, before = Decoder(config, make_weights(config)), count()
    set_count(2)
    try:
        decoder.logits(np.arange(5))
        assert (seen, count()) == ([1], 2)
    finally:
        set_count(before)
