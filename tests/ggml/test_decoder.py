"""The graph against the NumPy decoder, on ggml's processor; on a GPU with `scripts/test -m gpu`."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2m.arrays import Array
from m2m.dataset import Sample
from m2m.errors import DeviceError, TrainingError
from m2m.ggml import decoder as module
from m2m.ggml import network
from m2m.ggml.decoder import DeviceDecoder, apart
from m2m.ggml.devices import gpu
from m2m.ggml.network import missing
from m2m.ggml.storage import Kind
from m2m.nn.config import Batch, DecoderConfig
from m2m.nn.decoder import Decoder
from m2m.nn.lora import LoraPair
from m2m.recipe import Train
from m2m.tuner.trainer import Trainer
from tests.nn.reference import make_batch, make_config, make_lora, make_weights
from tests.nn.test_decoder import LENGTHS, TRAITS
from tests.tiny import pico_config, pico_weights
from tests.tuner.conftest import pico_samples
from tests.tuner.test_trainer import ORIGIN, Follower

# The issue of the exact result is one of the device; the processor's is far within it.
TOLERANCE = {"CPU": 5e-5}
COMPUTED = [name for name in sorted(TRAITS) if not missing(make_config(**TRAITS[name]))]
LACKING = [
    ("ministral3", "temperature"), ("gpt2", "positions"), ("cohere2", "norm"),
    ("lfm2", "layer_mixers"), ("qwen3.5", "delta_heads"), ("apertus", "activation"),
    ("nemotron", "activation"), ("phi2", "head_bias"), ("stablelm 12b", "norms_by_head"),
]  # fmt: skip


@pytest.fixture(params=["CPU", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "CPU":
        return "CPU"
    if (found := gpu()) is None:
        pytest.skip("this llama-cpp-python finds no GPU")
    return found.name


@pytest.fixture
def opened() -> Iterator[Callable[..., DeviceDecoder]]:
    """Open decoders that are closed at the end of the test."""
    decoders: list[DeviceDecoder] = []

    def open_one(*arguments: Any, **options: Any) -> DeviceDecoder:
        decoders.append(DeviceDecoder(*arguments, **options))
        return decoders[-1]

    yield open_one
    for decoder in decoders:
        decoder.close()


def narrow(weights: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.astype(np.float32) for name, array in weights.items()}


def pairs(config: DecoderConfig, modules: str = "") -> dict[str, LoraPair]:
    return {
        name: LoraPair(pair.a.astype(np.float32), pair.b.astype(np.float32), pair.scale)
        for name, pair in make_lora(config, modules=modules).items()
    }


def furthest(found: Mapping[str, Sequence[Array]], exact: Mapping[str, Sequence[Array]]) -> float:
    """Return the largest difference of an array, relative to its largest value."""
    return max(
        float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        for name, arrays in exact.items()
        for ours, theirs in zip(found[name], arrays, strict=True)
    )


@pytest.mark.parametrize("name", COMPUTED)
def test_losses_and_gradients_are_those_of_the_numpy_decoder(
    name: str, device: str, opened: Callable[..., DeviceDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against float64; logits come in several blocks, and rows of unlike length are padded."""
    monkeypatch.setattr(network, "LOGITS", 32 * 61)
    config = make_config(**TRAITS[name])
    weights, lora = make_weights(config), pairs(config)
    batch = make_batch(config, LENGTHS, prefix=3)
    exact = Decoder(config, weights, np.float64).loss_and_grads(batch, lora)
    decoder = opened(config, narrow(weights), device)
    loss, count, grads = decoder.loss_and_grads(batch, lora)
    most = TOLERANCE.get(device, 1e-3)
    assert count == exact[1]
    assert loss == pytest.approx(exact[0], rel=most)
    assert furthest(grads, exact[2]) < most
    assert decoder.loss(batch, lora) == (pytest.approx(loss, rel=1e-6), count)


@pytest.mark.parametrize(("name", "trait"), LACKING)
def test_a_family_with_more_is_named_and_refused(name: str, trait: str) -> None:
    config = make_config(**TRAITS[name])
    assert trait in missing(config)
    with pytest.raises(ValueError, match=trait):
        DeviceDecoder(config, {})


def test_the_common_families_are_computed() -> None:
    assert {"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3"} <= {*COMPUTED}


def test_every_trait_of_the_whitelist_is_one() -> None:
    """A trait that is added to DecoderConfig later is refused until the graph computes it."""
    names = {each.name for each in dataclasses.fields(DecoderConfig)}
    assert names >= set(network.COMPUTED.split())


@pytest.mark.parametrize("modules", ["q_proj", "down_proj", "layers.1.mlp"])
def test_adapters_of_some_maps_get_their_gradients(
    modules: str, opened: Callable[..., DeviceDecoder]
) -> None:
    config = make_config()
    weights, batch = make_weights(config), make_batch(config, LENGTHS)
    decoder = opened(config, narrow(weights))
    decoder.loss_and_grads(batch, pairs(config))  # other adapters before
    lora = pairs(config, modules)
    _, _, exact = Decoder(config, weights, np.float64).loss_and_grads(batch, lora)
    _, _, grads = decoder.loss_and_grads(batch, lora)
    assert grads.keys() == exact.keys()
    assert furthest(grads, exact) < TOLERANCE["CPU"]


def test_the_same_call_gives_the_same_bits_into_the_same_arrays(
    opened: Callable[..., DeviceDecoder],
) -> None:
    config = make_config()
    batch, lora = make_batch(config, LENGTHS), pairs(config)
    decoder = opened(config, narrow(make_weights(config)), threads=2)
    loss, _, grads = decoder.loss_and_grads(batch, lora)
    before = {name: [array.tobytes() for array in own] for name, own in grads.items()}
    again, _, same = decoder.loss_and_grads(batch, lora, grads)
    assert same is grads
    assert again == loss
    assert {name: [array.tobytes() for array in own] for name, own in same.items()} == before


@pytest.mark.parametrize(("kind", "most"), [("f16", 0.01), ("bf16", 0.05), ("q8_0", 0.3)])
def test_narrow_weights_are_near_float32(
    kind: Kind, most: float, opened: Callable[..., DeviceDecoder]
) -> None:
    config = make_config(hidden_size=64, intermediate_size=96, head_dim=16)
    weights, batch, lora = make_weights(config), make_batch(config, LENGTHS), pairs(config)
    small = {name: array * (0.3 if array.ndim == 2 else 1) for name, array in weights.items()}
    loss, _, exact = Decoder(config, small, np.float64).loss_and_grads(batch, lora)
    own, _, grads = opened(config, narrow(small), kind=kind).loss_and_grads(batch, lora)
    assert own == pytest.approx(loss, rel=most)
    assert 1e-6 < furthest(grads, exact) < most


def test_many_blocks_of_logits_have_their_room(
    opened: Callable[..., DeviceDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ggml ends the process if a graph has more tensors than were announced."""
    config, graphs = make_config(**TRAITS["gemma2"]), list[tuple[int, int]]()
    monkeypatch.setattr(network, "LOGITS", 1)
    made, op = module.Graph.__init__, module.Graph.op

    def counted(graph: Any, functions: Any, tensors: int) -> None:
        made(graph, functions, tensors)
        graphs.append((tensors, 0))

    def one_more(graph: Any, name: str, *arguments: Any) -> int:
        graphs[-1] = (graphs[-1][0], graphs[-1][1] + 1)
        return op(graph, name, *arguments)

    monkeypatch.setattr(module.Graph, "__init__", counted)
    monkeypatch.setattr(module.Graph, "op", one_more)
    decoder, lora = opened(config, narrow(make_weights(config))), pairs(config)
    for length in (32, 256):
        decoder.loss_and_grads(make_batch(config, (length,), share=1.0), lora)
    (few, used), (many, more) = graphs
    assert 100 < more - used < many - few


def test_a_batch_without_a_loss_has_no_gradient(opened: Callable[..., DeviceDecoder]) -> None:
    config = make_config()
    lora, nothing = pairs(config), np.zeros(0, np.intp)
    decoder = opened(config, narrow(make_weights(config)))
    batch = Batch(np.zeros(4, np.int32), np.array([4]), 0, nothing, nothing)
    loss, count, grads = decoder.loss_and_grads(batch, lora)
    assert (loss, count) == (0.0, 0)
    assert not any(array.any() for own in grads.values() for array in own)


def test_a_target_beyond_float32_has_an_infinite_loss(
    opened: Callable[..., DeviceDecoder],
) -> None:
    """The trainer then reports a divergence; a number would hide it."""
    config = make_config()
    weights = narrow(make_weights(config))
    weights["model.norm.weight"] = weights["model.norm.weight"] * np.float32(1e4)
    assert opened(config, weights).loss(make_batch(config, LENGTHS))[0] == np.inf


def test_wrong_calls_are_refused(opened: Callable[..., DeviceDecoder]) -> None:
    config = make_config()
    decoder, batch = opened(config, narrow(make_weights(config))), make_batch(config, (5,))
    pair = next(iter(pairs(config).values()))
    with pytest.raises(ValueError, match="unknown modules: other"):
        decoder.loss(batch, {"other": pair})
    wrong = dataclasses.replace(batch, tokens=batch.tokens + config.vocab_size)
    with pytest.raises(ValueError, match=r"outside of 0\.\.60"):
        decoder.loss(wrong)
    base, batches = decoder.memory()
    assert base >= 4 * 2 * sum(rows * columns for rows, columns in config.linear_shapes().values())
    assert batches == 0  # nothing was computed
    decoder.close()
    decoder.close()


def test_too_little_memory_and_missing_operations_end_in_words(
    opened: Callable[..., DeviceDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No device here is small or old, so ggml's answers are changed."""
    config = make_config()
    decoder, batch = opened(config, narrow(make_weights(config))), make_batch(config, (5,))
    own = vars(module.c.functions())
    monkeypatch.setitem(own, "backend_dev_supports_op", lambda device, node: False)
    with pytest.raises(DeviceError, match=r"CPU cannot compute .*MUL_MAT"):
        decoder.loss(batch)
    monkeypatch.undo()
    monkeypatch.setitem(own, "gallocr_alloc_graph", lambda memory, graph: False)
    with pytest.raises(DeviceError, match="too little memory for a batch of 5 tokens"):
        decoder.loss(
            dataclasses.replace(batch, loss_index=np.array([4]), loss_target=np.array([1]))
        )
    monkeypatch.undo()
    monkeypatch.setitem(own, "backend_alloc_ctx_tensors", lambda context, backend: None)
    with pytest.raises(DeviceError, match="too little memory for the base model"):
        DeviceDecoder(config, narrow(make_weights(config)))


@pytest.mark.parametrize("name", ["llama", "gemma3", "untied"])
def test_values_that_are_computed_twice_give_the_same_bits_in_less_memory(
    name: str, opened: Callable[..., DeviceDecoder]
) -> None:
    config = make_config(**TRAITS[name])
    weights, batch, lora = narrow(make_weights(config)), make_batch(config, LENGTHS), pairs(config)
    kept, again = (opened(config, weights, recompute=recompute) for recompute in (False, True))
    loss, _, exact = kept.loss_and_grads(batch, lora)
    same, _, grads = again.loss_and_grads(batch, lora)
    assert same == loss
    assert [[array.tobytes() for array in own] for own in grads.values()] == [
        [array.tobytes() for array in own] for own in exact.values()
    ]
    assert again.memory()[1] < 0.9 * kept.memory()[1]


def test_values_are_computed_twice_after_a_batch_that_does_not_fit(
    opened: Callable[..., DeviceDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    batch, lora = make_batch(config, LENGTHS), pairs(config)
    decoder = opened(config, narrow(make_weights(config)))
    loss, _, _ = decoder.loss_and_grads(batch, lora)
    functions, answers = vars(module.c.functions()), [False]
    real = functions["gallocr_alloc_graph"]
    monkeypatch.setitem(
        functions, "gallocr_alloc_graph", lambda *given: answers.pop() if answers else real(*given)
    )
    assert not decoder.recompute
    assert decoder.loss_and_grads(batch, lora)[0] == loss
    assert decoder.recompute
    assert decoder.loss_and_grads(batch, lora)[0] == loss


SCARCE = """
import resource, sys
from pathlib import Path
from m2m.errors import DeviceError, TrainingError
from tests.ggml.test_decoder import *
config = make_config(hidden_size=64, intermediate_size=256, head_dim=16, num_layers=8)
weights, lora = narrow(make_weights(config)), pairs(config)
small, large = make_batch(config, (16,)), make_batch(config, (512,) * 4)
decoder = DeviceDecoder(config, weights)
loss = decoder.loss_and_grads(small, lora)[0]
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (int(sys.argv[1]) << 20),) * 2)
try:
    print(decoder.loss_and_grads(large, lora)[0] > 1000)
except DeviceError as error:
    print(error.message)
print(decoder.recompute, decoder.loss_and_grads(small, lora)[0] == loss)
"""  # noqa: E501


@pytest.mark.slow  # starts a process with a limit on its memory
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is on Linux only")
@pytest.mark.parametrize(
    ("room", "answer"),
    [(100, "True"), (20, "CPU has too little memory for a batch of 2044 tokens")],
)
def test_a_device_that_is_really_full(room: int, answer: str) -> None:
    """A step takes 135 MiB, 66 if values are computed twice; later batches fit again."""
    found = subprocess.run(
        [sys.executable, "-c", SCARCE, str(room)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.splitlines() == [answer, "True True"]
    assert found.stderr == ""


def test_rows_apart_have_their_prefix() -> None:
    batch = make_batch(make_config(), (3, 2), prefix=2)
    whole = apart(batch)
    head, (first, second) = batch.tokens[:2], np.split(batch.tokens[2:], [3])
    assert whole.tokens.tolist() == [*head, *first, *head, *second]
    assert whole.lengths.tolist() == [5, 4]
    after = np.where(batch.loss_index < 5, batch.loss_index, batch.loss_index + 2)
    assert whole.loss_index.tolist() == after.tolist()


def train(decoder: Any, samples: Sequence[Sample], folder: Path, **changes: Any) -> list[float]:
    config = Train(rank=4, alpha=8, steps=20, batch_tokens=96, checkpoint_every=20, **changes)
    follower = Follower()
    Trainer(decoder, samples, config, folder=folder, origin=ORIGIN, callbacks=[follower]).run()
    return [step.loss for step in follower.steps]


def test_twenty_steps_have_the_losses_of_the_numpy_decoder(
    device: str, opened: Callable[..., DeviceDecoder], tmp_path: Path
) -> None:
    samples = pico_samples("reverse", 12)
    exact = train(Decoder(pico_config(), pico_weights()), samples, tmp_path / "numpy")
    own = train(opened(pico_config(), pico_weights(), device), samples, tmp_path / "device")
    assert own == pytest.approx(exact, rel=1e-3)
    assert exact[-1] < 0.99 * exact[0]


def test_a_divergence_on_a_device_ends_in_words(
    device: str, opened: Callable[..., DeviceDecoder], tmp_path: Path
) -> None:
    decoder = opened(pico_config(), pico_weights(), device)
    with pytest.raises(TrainingError, match=r"diverged at step \d+: loss"):
        train(decoder, pico_samples("reverse", 12), tmp_path, learning_rate=1e20, warmup=0.0)
