"""PyTorch, transformers and PEFT compute what m2m computes, and read what it writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
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

from m2m.adapter import Adapter, save_adapter  # noqa: E402
from m2m.dataset import BatchStream, Sample, common_prefix, pack  # noqa: E402
from m2m.nn.decoder import Decoder, DecoderConfig  # noqa: E402
from m2m.nn.lora import LoraPair, init_lora  # noqa: E402
from m2m.recipe import PROJECTIONS, Train  # noqa: E402
from m2m.tuner.callbacks import Step  # noqa: E402
from m2m.tuner.trainer import Origin, Trainer, TrainResult  # noqa: E402
from tests.tiny import pico_config, pico_weights  # noqa: E402
from tests.tuner.conftest import pico_samples  # noqa: E402

RANK, ALPHA = 4, 8.0
PREFIX = "base_model.model."


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def hf_model(config: DecoderConfig) -> Any:
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            rms_norm_eps=config.rms_norm_eps,
            rope_theta=config.rope_theta,
            tie_word_embeddings=config.tie_word_embeddings,
            max_position_embeddings=config.max_position_embeddings,
            attn_implementation="eager",
        )
    ).float()
    weights = {name: torch.from_numpy(array) for name, array in pico_weights().items()}
    missing = model.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys
    assert set(missing.missing_keys) <= {"lm_head.weight"}
    return model.eval()


def peft_model(pairs: dict[str, LoraPair]) -> Any:
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, target_modules=list(PROJECTIONS)
    )
    model = peft.get_peft_model(hf_model(pico_config()), config)
    with torch.no_grad():
        for module, pair in pairs.items():
            a, b = factors(model, module)
            a.copy_(torch.from_numpy(pair.a))
            b.copy_(torch.from_numpy(pair.b))
    return model


def factors(model: Any, module: str) -> tuple[Any, Any]:
    part = model.get_submodule(PREFIX + module)
    return part.lora_A["default"].weight, part.lora_B["default"].weight


def random_pairs(seed: int = 0) -> dict[str, LoraPair]:
    """Pairs whose B is not zero, so that every gradient is alive."""
    rng = np.random.default_rng(seed)
    fresh = init_lora(pico_config(), PROJECTIONS, RANK, ALPHA, rng)
    return {
        module: dataclasses.replace(
            pair, b=(0.1 * rng.standard_normal(pair.b.shape)).astype(np.float32)
        )
        for module, pair in fresh.items()
    }


def torch_loss(model: Any, samples: list[Sample]) -> tuple[Any, int]:
    """Summed nats and count, every sample on its own: no packing, no shared prefix."""
    total, count = 0.0, 0
    for sample in samples:
        ids = torch.from_numpy(sample.ids.astype(np.int64))[None]
        logits = model(input_ids=ids).logits[0]
        places = torch.from_numpy(np.flatnonzero(sample.loss_mask))
        total = total + torch.nn.functional.cross_entropy(
            logits[places - 1], ids[0, places], reduction="sum"
        )
        count += len(places)
    return total, count


def relative(ours: Any, theirs: Any) -> float:
    theirs = np.asarray(theirs)
    return float(np.linalg.norm(np.asarray(ours) - theirs) / np.linalg.norm(theirs))


@pytest.mark.parametrize("shared", [True, False])
def test_loss_and_gradients_of_a_packed_batch(shared: bool) -> None:
    samples = pico_samples("reverse", 6)
    prefix = common_prefix(samples) if shared else 0
    assert prefix > 0 or not shared
    pairs = random_pairs()
    decoder = Decoder(pico_config(), pico_weights())
    nats, count, grads = decoder.loss_and_grads(pack(samples, prefix), pairs)
    model = peft_model(pairs)
    loss, expected_count = torch_loss(model, samples)
    loss.backward()
    assert count == expected_count
    assert nats == pytest.approx(loss.item(), rel=1e-6)
    worst = 0.0
    for module in pairs:
        for ours, theirs in zip(grads[module], factors(model, module), strict=True):
            worst = max(worst, relative(ours, theirs.grad))
    assert worst < 1e-4


class Follower:
    """Keeps the steps."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def on_start(self, total_steps: int, done_steps: int) -> None: ...

    def on_step(self, step: Step) -> None:
        self.steps.append(step)

    def on_end(self, result: TrainResult) -> None: ...

    def stop_requested(self) -> bool:
        return False


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_whole_training(tmp_path: Path, accumulate: int) -> None:
    samples = pico_samples("reverse", 12)
    config = Train(
        rank=RANK,
        alpha=ALPHA,
        steps=20,
        batch_tokens=128,
        accumulate=accumulate,
        learning_rate=5e-3,
        weight_decay=0.1,
        clip=1.0,
    )
    follower = Follower()
    result = Trainer(
        Decoder(pico_config(), pico_weights()),
        samples,
        config,
        folder=tmp_path / "adapter",
        origin=Origin("reverse", "pico", "", ""),
        callbacks=[follower],
    ).run()

    fresh = init_lora(pico_config(), PROJECTIONS, RANK, ALPHA, np.random.default_rng(config.seed))
    model = peft_model(fresh)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=config.weight_decay)
    stream = TorchStream(samples, config)
    for step, ours in zip(follower.steps, result.losses, strict=True):
        loss, count = torch_loss(model, stream.next())
        optimizer.zero_grad()
        (loss / count).backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, config.clip)
        optimizer.param_groups[0]["lr"] = step.learning_rate
        optimizer.step()
        assert ours == pytest.approx(loss.item() / count, abs=1e-5)
        assert step.gradient_norm == pytest.approx(norm.item(), rel=1e-4)
    assert result.losses[-1] < 0.7 * result.losses[0]
    worst = max(
        relative(mine, theirs.detach())
        for module, pair in result.adapter.pairs.items()
        for mine, theirs in zip((pair.a, pair.b), factors(model, module), strict=True)
    )
    assert worst < 1e-4


class TorchStream:
    """The samples of each step, taken from m2m's own order but not from its packing."""

    def __init__(self, samples: list[Sample], config: Train) -> None:
        self.samples = samples
        self.config = config
        self.stream = BatchStream(samples, config.seed, config.batch_tokens)

    def next(self) -> list[Sample]:
        found = []
        for _ in range(self.config.accumulate):
            epoch, cursor = self.stream.position
            batch = next(self.stream)
            for _ in batch.lengths:
                if cursor == len(self.samples):
                    epoch, cursor = epoch + 1, 0
                order = np.random.default_rng([self.config.seed, epoch]).permutation(
                    len(self.samples)
                )
                found.append(self.samples[int(order[cursor])])
                cursor += 1
        return found


def test_peft_loads_our_folder_and_gives_our_logits(tmp_path: Path) -> None:
    pairs = random_pairs(1)
    save_adapter(tmp_path / "adapter", Adapter(RANK, ALPHA, pairs, base_model="pico", name="a"))
    model = peft.PeftModel.from_pretrained(hf_model(pico_config()), str(tmp_path / "adapter"))
    ids = pico_samples("reverse", 1)[0].ids
    with torch.no_grad():
        theirs = model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()
        bare = (
            hf_model(pico_config())(input_ids=torch.from_numpy(ids.astype(np.int64))[None])
            .logits[0]
            .numpy()
        )
    decoder = Decoder(pico_config(), pico_weights())
    np.testing.assert_allclose(decoder.logits(ids, pairs), theirs, atol=1e-4)
    np.testing.assert_allclose(decoder.logits(ids), bare, atol=1e-4)
    assert np.abs(theirs - bare).max() > 0.1
