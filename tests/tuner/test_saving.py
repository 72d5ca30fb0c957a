"""What a training is expected to take, and what is done to fit it into a limit."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from m2m.errors import ResourceError
from m2m.nn.config import DecoderConfig
from m2m.nn.matrix import KINDS
from m2m.nn.memory import Load, peak_bytes
from m2m.recipe import PROJECTIONS, Train
from m2m.tuner.saving import GIB, choose_saving, load_of
from tests.tiny import pico_config

SMALL = DecoderConfig(
    architecture="llama",
    vocab_size=8192,
    hidden_size=512,
    intermediate_size=1536,
    num_layers=10,
    num_heads=8,
    num_kv_heads=4,
    head_dim=64,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    tie_word_embeddings=True,
    max_position_embeddings=2048,
)
LOAD = Load(rank=8, modules=PROJECTIONS, tokens=1024, length=512, threads=2, narrow=True)
LAYERS = SMALL.num_layers
MIXED = {  # seven of ten layers without attention
    "conv": dataclasses.replace(
        SMALL, layer_mixers=("conv", "conv", "attention", "conv", "conv") * 2, conv_taps=3
    ),
    "delta": dataclasses.replace(
        SMALL,
        layer_mixers=("delta", "delta", "attention", "delta", "delta") * 2,
        conv_taps=4,
        delta_heads=8,
        delta_keys=4,
        delta_dim=64,
        attention_gate=True,
    ),
}
TRAINED = [kind for kind in KINDS if kind != "held"]  # held maps take no adapter
WAYS = [(0, False), (0, True), *((again, True) for again in range(2, LAYERS + 1))]


def test_the_load_is_the_recipes() -> None:
    load = load_of(Train(rank=4, batch_tokens=300, target_modules=("q_proj",)), 3)
    assert load == Load(4, ("q_proj",), 300, 300, 3, 4, narrow=True)
    assert load_of(Train(holdout=0.0, accumulate=2), 2).copies == 5
    mean = Train(holdout=0.0, accumulate=2, schedule="anytime")
    assert load_of(mean, 2).copies == 6


def test_no_more_is_saved_than_must_be() -> None:
    found = []
    for again, half in WAYS:
        peak = peak_bytes(SMALL, LOAD, recompute=again, half=half)
        saving = choose_saving(SMALL, LOAD, peak + 1000, held=1000)
        assert saving.bytes <= peak + 1000
        found.append((saving.recompute, saving.half))
    assert found == WAYS
    free = choose_saving(SMALL, LOAD, 0, held=0)
    assert (free.recompute, free.half) == (0, False)


def test_a_base_that_is_not_float16_is_never_kept_so() -> None:
    load = dataclasses.replace(LOAD, narrow=False)
    limit = peak_bytes(SMALL, load, recompute=LAYERS, half=False)
    saving = choose_saving(SMALL, load, limit, held=0)
    assert (saving.recompute, saving.half) == (LAYERS, False)
    with pytest.raises(ResourceError):
        choose_saving(SMALL, load, limit - 1, held=0)


def test_bfloat16_maps_are_not_kept_as_float16_too() -> None:
    load = load_of(Train(precision="bf16"), 2)
    limit = peak_bytes(SMALL, load, recompute=LAYERS, half=False)
    saving = choose_saving(SMALL, load, limit, held=0)
    assert (saving.recompute, saving.half) == (LAYERS, False)
    with pytest.raises(ResourceError) as caught:
        choose_saving(SMALL, load, limit - 1, held=0)
    assert 'precision = "float32"' in (caught.value.hint or "")
    exact = dataclasses.replace(load, precision="float32")
    less = peak_bytes(SMALL, exact, recompute=LAYERS, half=True) - 1
    with pytest.raises(ResourceError) as caught:
        choose_saving(SMALL, load, less, held=0)
    assert 'precision = "float32"' not in (caught.value.hint or "")
    assert 'precision = "q8_0"' in (caught.value.hint or "")


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    least = peak_bytes(SMALL, LOAD, recompute=LAYERS, half=True)
    with pytest.raises(ResourceError) as caught:
        choose_saving(SMALL, LOAD, least - (10 << 20), held=0)
    assert f"about {least / GIB:.2f} GiB with the base kept in 16 bits" in caught.value.message
    assert "batch_tokens = 512" in (caught.value.hint or "")
    smaller = dataclasses.replace(LOAD, tokens=512)
    assert peak_bytes(SMALL, smaller, recompute=LAYERS, half=True) < least - (10 << 20)
    with pytest.raises(ResourceError) as caught:
        choose_saving(SMALL, LOAD, 1000, held=0)
    assert f"memory to {least / GIB + 0.05:.2f}" in (caught.value.hint or "")
    assert "smaller base" in (caught.value.hint or "")


CHILD = """
import dataclasses, json, sys
import numpy as np
from m2m.machine import peak_rss_bytes, resident_bytes
from m2m.nn.decoder import Decoder
from m2m.nn.lora import init_lora
from m2m.nn.matrix import KINDS
from m2m.nn.memory import peak_bytes
from m2m.nn.optim import AdamW
from m2m.recipe import PROJECTIONS
from tests.nn.reference import make_batch
from tests.tuner.test_saving import LOAD, MIXED, SMALL

class Weights(dict):
    def __getitem__(self, name):
        bits = sys.argv[4] == "BF16" and len(SMALL.weight_shapes()[name]) > 1
        value = (15396, np.uint16) if bits else (0.01, np.float16)  # 15396: 0.01 in bfloat16
        return np.full(SMALL.weight_shapes()[name], *value)

recompute, maps = int(sys.argv[1]), sys.argv[2]
SMALL = MIXED.get(sys.argv[3], SMALL)
held = resident_bytes()
decoder = Decoder(SMALL, Weights(), threads=2, recompute=recompute, maps=maps, rank=8)
lora = init_lora(SMALL, PROJECTIONS, LOAD.rank, 16.0, np.random.default_rng(0))
optimizer = AdamW([x for pair in lora.values() for x in (pair.a, pair.b)], pool=decoder.pool)
grads = None
for seed, lengths in enumerate([(512, 512), (300, 200, 200, 100, 90, 80, 30), (512, 511)]):
    batch = make_batch(SMALL, lengths, 0, seed, share=1.0)
    grads = decoder.loss_and_grads(batch, lora, grads)[2]
    optimizer.step([x for pair in grads.values() for x in pair], 1e-3)
load = dataclasses.replace(LOAD, precision=maps if maps in ("bf16", "q8_0") else "float32")
found = peak_bytes(SMALL, load, recompute=recompute, half=maps == "half")
print(json.dumps([peak_rss_bytes() - held, found]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [0, LAYERS // 2, LAYERS])
@pytest.mark.parametrize("maps", TRAINED)
def test_the_peak_is_what_was_expected(recompute: int, maps: str) -> None:
    check_peak(recompute, maps)


@pytest.mark.slow
@pytest.mark.parametrize("maps", TRAINED)
def test_a_base_in_bfloat16_needs_no_more(maps: str) -> None:
    check_peak(0, maps, stored="BF16")


@pytest.mark.slow
@pytest.mark.parametrize("mixer", MIXED)
@pytest.mark.parametrize("recompute", [0, LAYERS])
def test_the_peak_of_layers_without_attention(recompute: int, mixer: str) -> None:
    check_peak(recompute, "whole", mixer)


def check_peak(recompute: int, maps: str, mixer: str = "", stored: str = "F16") -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(recompute), maps, mixer, stored],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
    )
    peak, expected = json.loads(done.stdout)
    assert 0.75 * expected <= peak <= 1.02 * expected


def test_pico_models_need_next_to_nothing() -> None:
    load = dataclasses.replace(LOAD, tokens=128, length=128)
    assert peak_bytes(pico_config(), load, recompute=0, half=False) < 100 << 20
