"""Training learns, repeats itself to the bit, survives stops and kills, and notices divergence."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from m2m.adapter import load_adapter, read_extra
from m2m.dataset import BatchStream, Sample, pack_all
from m2m.errors import InputError, Interrupted, TrainingError
from m2m.nn.decoder import Decoder
from m2m.nn.lora import init_lora
from m2m.recipe import Train
from m2m.tuner.callbacks import Callback, Step
from m2m.tuner.checkpointing import checkpoint_path
from m2m.tuner.trainer import Origin, Trainer, TrainResult, finished
from tests.tiers import rotated
from tests.tiny import pico_config, pico_weights
from tests.tuner.conftest import pico_formatter, pico_samples

ORIGIN = Origin("reverse", "pico", "base-print", "data-print")
QUICK = Train(rank=4, alpha=8, steps=6, batch_tokens=96, checkpoint_every=2, warmup=0.2)
WEIGHTS = "adapter_model.safetensors"


class Killed(Exception):
    """Stands for a power cut: nothing gets to save anything."""


class Follower:
    """A callback that remembers, and stops or dies after a given step."""

    def __init__(self, stop_at: int = 0, die_at: int = 0) -> None:
        self.stop_at = stop_at
        self.die_at = die_at
        self.started: list[tuple[int, int]] = []
        self.steps: list[Step] = []
        self.ended: list[TrainResult] = []

    def on_start(self, total_steps: int, done_steps: int) -> None:
        self.started.append((total_steps, done_steps))

    def on_step(self, step: Step) -> None:
        self.steps.append(step)
        if step.number == self.die_at:
            raise Killed

    def on_end(self, result: TrainResult) -> None:
        self.ended.append(result)

    def stop_requested(self) -> bool:
        return bool(self.steps) and self.steps[-1].number == self.stop_at


def train(
    decoder: Decoder,
    samples: Sequence[Sample],
    folder: Path,
    config: Train = QUICK,
    *followers: Callback,
    held_out: Sequence[Sample] = (),
) -> TrainResult:
    trainer = Trainer(
        decoder,
        samples,
        config,
        folder=folder,
        origin=ORIGIN,
        held_out=held_out,
        callbacks=followers,
    )
    return trainer.run()


@pytest.fixture
def whole(decoder: Decoder, samples: list[Sample], tmp_path: Path) -> bytes:
    """The weights of an uninterrupted run."""
    train(decoder, samples, tmp_path / "whole")
    return (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_it_learns_a_tiny_set_by_heart(decoder: Decoder, tmp_path: Path) -> None:
    learned = pico_samples("reverse", 4)
    config = Train(rank=8, alpha=16, steps=100, batch_tokens=128, learning_rate=1e-2)
    result = train(decoder, learned, tmp_path / "adapter", config)
    assert result.loss_first > 3
    assert result.loss_last < 0.2  # tied embeddings of 64 numbers bound the logits
    pairs = load_adapter(tmp_path / "adapter").pairs
    for sample in learned:
        said = decoder.logits(sample.ids, pairs).argmax(axis=1)[:-1]
        places = np.flatnonzero(sample.loss_mask)
        assert said[places - 1].tolist() == sample.ids[places].tolist()


def test_same_seed_same_bytes(
    decoder: Decoder, samples: list[Sample], tmp_path: Path, whole: bytes
) -> None:
    train(decoder, samples, tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == whole
    train(decoder, samples, tmp_path / "other", dataclasses.replace(QUICK, seed=1))
    assert (tmp_path / "other" / WEIGHTS).read_bytes() != whole


def test_batches_do_not_depend_on_where_a_checkpoint_is(
    decoder: Decoder, samples: list[Sample], tmp_path: Path, whole: bytes
) -> None:
    train(decoder, samples, tmp_path / "rare", dataclasses.replace(QUICK, checkpoint_every=100))
    assert (tmp_path / "rare" / WEIGHTS).read_bytes() == whole


@pytest.mark.parametrize("stop", range(1, QUICK.steps))
def test_a_run_stopped_after_any_step_goes_on_bit_for_bit(
    decoder: Decoder, samples: list[Sample], tmp_path: Path, whole: bytes, stop: int
) -> None:
    folder = tmp_path / "stopped"
    with pytest.raises(Interrupted, match=f"after step {stop} of 6"):
        train(decoder, samples, folder, QUICK, Follower(stop_at=stop))
    assert not folder.exists()
    follower = Follower()
    result = train(decoder, samples, folder, QUICK, follower)
    assert follower.started == [(6, stop)]
    assert result.resumed == stop
    assert len(result.losses) == 6
    assert (folder / WEIGHTS).read_bytes() == whole
    assert not checkpoint_path(folder).exists()


ANYTIME = dataclasses.replace(QUICK, schedule="anytime", warmup=0.0, checkpoint_every=2)


def anytime(
    decoder: Decoder,
    samples: Sequence[Sample],
    folder: Path,
    until: int,
    *followers: Callback,
    state: Path | None = None,
    held_out: Sequence[Sample] = (),
) -> TrainResult:
    return Trainer(
        decoder,
        samples,
        ANYTIME,
        folder=folder,
        origin=ORIGIN,
        held_out=held_out,
        callbacks=followers,
    ).run(until, state)


@pytest.mark.parametrize(("stop", "held"), rotated([None, 3, 5, 9], [0, 2]))
def test_an_anytime_training_that_goes_on_equals_the_longer_one_bit_for_bit(
    decoder: Decoder, samples: list[Sample], tmp_path: Path, stop: int | None, held: int
) -> None:
    held_out = samples[:held]
    whole = anytime(decoder, samples, tmp_path / "whole", 12, held_out=held_out)
    state = tmp_path / "state"
    for before, until in ((0, 4), (4, 6), (6, 12)):
        if stop is not None and before < stop < until:
            follower = Follower(stop_at=stop)
            with pytest.raises(Interrupted):
                anytime(
                    *(decoder, samples, tmp_path / f"{until}", until, follower),
                    state=state,
                    held_out=held_out,
                )
        leg = anytime(
            decoder, samples, tmp_path / f"{until}", until, state=state, held_out=held_out
        )
        assert leg.steps == until
    assert leg.losses == whole.losses
    assert leg.held_out == whole.held_out
    assert (tmp_path / "12" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    for until in (4, 6, 12):
        sizes = len(samples), held
        assert finished(tmp_path / f"{until}", ANYTIME, ORIGIN, *sizes, until)
        assert finished(tmp_path / f"{until}", ANYTIME, ORIGIN, *sizes, until + 1) is None


def test_a_state_that_is_further_on_is_kept_while_a_shorter_training_is_made_again(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    anytime(decoder, samples, tmp_path / "long", 8, state=state)
    before = state.read_bytes()
    short = anytime(decoder, samples, tmp_path / "short", 4, state=state)
    assert short.steps == 4
    assert short.resumed == 0
    assert state.read_bytes() == before
    assert not checkpoint_path(tmp_path / "short").exists()


def test_an_anytime_adapter_is_the_polynomial_decay_average_of_the_weights_of_all_steps(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    last, power = 6, 8
    weights = []
    for steps in range(1, last + 1):  # a constant rate without warm-up takes the same steps
        constant = dataclasses.replace(ANYTIME, schedule="constant", steps=steps)
        train(decoder, samples, tmp_path / f"c{steps}", constant)
        weights.append(load_adapter(tmp_path / f"c{steps}").pairs)
    # Shamir & Zhang 2013, eq. 1: each new step gets the share (n + 1) / (t + n), the rest shrinks.
    shares = np.ones(last)
    for t in range(1, last + 1):
        share = (power + 1) / (t + power)
        shares[: t - 1] *= 1 - share
        shares[t - 1] = share
    assert shares.sum() == pytest.approx(1)
    anytime(decoder, samples, tmp_path / "mean", last)
    mean = load_adapter(tmp_path / "mean").pairs
    for module, pair in mean.items():
        for side in ("a", "b"):
            steps_of = np.stack([getattr(w[module], side) for w in weights]).astype(np.float64)
            expected = np.tensordot(shares, steps_of, 1)
            np.testing.assert_allclose(getattr(pair, side), expected, rtol=1e-5, atol=1e-7)


def test_a_schedule_with_an_end_refuses_another_end(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    trainer = Trainer(decoder, samples, QUICK, folder=tmp_path / "a", origin=ORIGIN)
    with pytest.raises(ValueError, match="ends at 6 steps"):
        trainer.run(until=7)


def test_a_run_stopped_after_every_step_goes_on_bit_for_bit(
    decoder: Decoder, samples: list[Sample], tmp_path: Path, whole: bytes
) -> None:
    for stop in range(1, QUICK.steps):
        with pytest.raises(Interrupted):
            train(decoder, samples, tmp_path / "stopped", QUICK, Follower(stop_at=stop))
    result = train(decoder, samples, tmp_path / "stopped")
    assert (tmp_path / "stopped" / WEIGHTS).read_bytes() == whole
    assert result.losses == read_extra(tmp_path / "whole")["losses"]


@pytest.mark.parametrize(("death", "goes_on_after"), [(1, 0), (3, 2), (6, 4)])
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    decoder: Decoder,
    samples: list[Sample],
    tmp_path: Path,
    whole: bytes,
    death: int,
    goes_on_after: int,
) -> None:
    with pytest.raises(Killed):
        train(decoder, samples, tmp_path / "killed", QUICK, Follower(die_at=death))
    result = train(decoder, samples, tmp_path / "killed")
    assert result.resumed == goes_on_after
    assert (tmp_path / "killed" / WEIGHTS).read_bytes() == whole


CHILD = """
import sys
from pathlib import Path
from m2m.nn.decoder import Decoder
from tests.tiny import pico_config, pico_weights
from tests.tuner.conftest import pico_samples
from tests.tuner.test_trainer import Follower, QUICK, train

class Speaker(Follower):
    def on_step(self, step):
        print(step.number, flush=True)

train(Decoder(pico_config(), pico_weights()), pico_samples("reverse", 12), Path(sys.argv[1]), QUICK,
      Speaker())
"""


@pytest.mark.slow
def test_a_process_killed_again_and_again_ends_with_the_same_bytes(
    tmp_path: Path, whole: bytes
) -> None:
    folder = tmp_path / "killed"
    root = Path(__file__).parents[2]
    for heard in (2, 1, 3):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder)], cwd=root, stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            for _ in range(heard):
                child.stdout.readline()
            child.kill()
    subprocess.run([sys.executable, "-c", CHILD, str(folder)], cwd=root, check=True)
    assert (folder / WEIGHTS).read_bytes() == whole


def test_a_request_to_stop_after_the_last_step_is_too_late(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    result = train(decoder, samples, tmp_path / "done", QUICK, Follower(stop_at=6))
    assert result.steps == 6


@pytest.mark.parametrize(
    "change", [{"learning_rate": 1e-4}, {"seed": 7}, {"steps": 7}, {"batch_tokens": 128}]
)
def test_a_checkpoint_of_another_run_is_not_gone_on_from(
    decoder: Decoder, samples: list[Sample], tmp_path: Path, change: dict[str, float]
) -> None:
    with pytest.raises(Interrupted):
        train(decoder, samples, tmp_path / "a", QUICK, Follower(stop_at=3))
    result = train(decoder, samples, tmp_path / "a", dataclasses.replace(QUICK, **change))  # type: ignore[arg-type]
    assert result.resumed == 0


def test_a_damaged_checkpoint_is_named(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    path = checkpoint_path(tmp_path / "a")
    path.write_bytes(b"x" * 100)
    with pytest.raises(InputError) as caught:
        train(decoder, samples, tmp_path / "a")
    assert str(path) in caught.value.message
    assert str(path) in (caught.value.hint or "")


def test_divergence_is_told_with_what_to_change(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    wild = dataclasses.replace(QUICK, learning_rate=1e20, steps=40, warmup=0.0)
    with pytest.raises(TrainingError, match=r"diverged at step \d+") as caught:
        train(decoder, samples, tmp_path / "a", wild)
    assert "learning_rate" in (caught.value.hint or "")
    assert not (tmp_path / "a").exists()


def test_the_loss_is_the_mean_over_all_trained_tokens_of_a_step(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    config = dataclasses.replace(QUICK, accumulate=3, steps=1)
    result = train(decoder, samples, tmp_path / "a", config)
    stream = BatchStream(samples, config.seed, config.batch_tokens)
    lora = init_lora(
        decoder.config, config.target_modules, 4, 8, np.random.default_rng(config.seed)
    )
    sums = [decoder.loss(next(stream), lora) for _ in range(3)]
    expected = sum(nats for nats, _ in sums) / sum(count for _, count in sums)
    assert result.losses == [pytest.approx(expected, rel=1e-6)]


def test_accumulated_batches_train_like_one_large_batch(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    same = [samples[0]] * 8
    size = len(samples[0])
    small = dataclasses.replace(QUICK, batch_tokens=size, accumulate=4, steps=2)
    large = dataclasses.replace(QUICK, batch_tokens=4 * size, accumulate=1, steps=2)
    one = train(decoder, same, tmp_path / "small", small).adapter.pairs
    other = train(decoder, same, tmp_path / "large", large).adapter.pairs
    for module, pair in one.items():
        np.testing.assert_allclose(pair.b, other[module].b, rtol=1e-3, atol=1e-7)


def test_held_out_samples_are_measured_and_not_trained_on(
    decoder: Decoder, samples: list[Sample], tmp_path: Path, whole: bytes
) -> None:
    result = train(decoder, samples, tmp_path / "a", held_out=samples[:3])
    assert [step for step, _ in result.held_out] == [2, 4, 6]
    assert result.best_step == 6
    assert all(math.isfinite(loss) for _, loss in result.held_out)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == whole
    with pytest.raises(Interrupted):
        train(decoder, samples, tmp_path / "b", QUICK, Follower(stop_at=5), held_out=samples[:3])
    again = train(decoder, samples, tmp_path / "b", held_out=samples[:3])
    assert again.held_out == result.held_out


def test_callbacks_hear_every_step(decoder: Decoder, samples: list[Sample], tmp_path: Path) -> None:
    follower = Follower()
    result = train(decoder, samples, tmp_path / "a", QUICK, follower)
    assert follower.started == [(6, 0)]
    assert [step.number for step in follower.steps] == [1, 2, 3, 4, 5, 6]
    assert [step.loss for step in follower.steps] == result.losses
    assert sum(step.tokens for step in follower.steps) == result.tokens
    assert max(step.learning_rate for step in follower.steps) <= QUICK.learning_rate
    assert follower.ended == [result]
    assert result.tokens_per_second > 0


def test_the_folder_says_what_it_was_made_from(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    result = train(decoder, samples, tmp_path / "deep" / "a")
    extra = read_extra(tmp_path / "deep" / "a")
    assert extra["losses"] == result.losses
    assert extra["train"]["rank"] == 4
    assert extra["dataset_fingerprint"] == "data-print"
    loaded = load_adapter(tmp_path / "deep" / "a")
    assert (loaded.name, loaded.base_fingerprint) == ("reverse", "base-print")
    for module, pair in result.adapter.pairs.items():
        np.testing.assert_array_equal(pair.a, loaded.pairs[module].a)
        assert pair.scale == loaded.pairs[module].scale == 2.0


def test_a_finished_training_is_known_again(
    decoder: Decoder, samples: list[Sample], tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    count = len(samples)
    assert finished(folder, QUICK, ORIGIN, count) is None
    result = train(decoder, samples, folder)
    found = finished(folder, QUICK, ORIGIN, count)
    assert found is not None
    assert (found.losses, found.tokens, found.resumed) == (result.losses, result.tokens, 6)
    assert found.loss_last == result.loss_last < result.loss_first == found.loss_first
    for module, pair in found.adapter.pairs.items():
        assert pair.b.tobytes() == result.adapter.pairs[module].b.tobytes()
    other_base = dataclasses.replace(ORIGIN, base_fingerprint="other")
    assert finished(folder, QUICK, other_base, count) is None
    assert finished(folder, QUICK, ORIGIN, count + 1) is None
    assert finished(folder, dataclasses.replace(QUICK, steps=7), ORIGIN, count) is None
    assert finished(folder, dataclasses.replace(QUICK, checkpoint_every=1), ORIGIN, count)


@pytest.mark.parametrize("name", [WEIGHTS, "m2m.json", "adapter_config.json"])
def test_a_damaged_training_is_not_taken_for_finished(
    decoder: Decoder, samples: list[Sample], tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "a"
    train(decoder, samples, folder)
    path = folder / name
    whole = path.read_bytes()
    marks = {"m2m.json": b'"kept_step": ', "adapter_config.json": b'"lora_alpha": '}
    at = whole.index(marks[name]) + len(marks[name]) if name in marks else len(whole) - 3
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert finished(folder, QUICK, ORIGIN, len(samples)) is None
    path.unlink()
    assert finished(folder, QUICK, ORIGIN, len(samples)) is None
    path.write_bytes(whole)
    assert finished(folder, QUICK, ORIGIN, len(samples))


def test_a_row_longer_than_a_batch_is_refused(decoder: Decoder, tmp_path: Path) -> None:
    long = pico_samples("copy", 1)
    config = dataclasses.replace(QUICK, batch_tokens=16)
    with pytest.raises(InputError, match="a batch holds 16"):
        train(decoder, long, tmp_path / "a", config)


def test_the_formatter_of_these_tests_shares_a_prefix(samples: list[Sample]) -> None:
    stream = BatchStream(samples, 0, 96)
    prefix = next(stream).prefix_length
    assert pico_formatter().tokenizer.decode(samples[0].ids[:prefix]).startswith("<|im_start|>user")


# Learning to reverse, it soon gets worse at what is held out here: another skill.
PAST_ITS_BEST = Train(
    rank=4, alpha=8, steps=24, batch_tokens=96, checkpoint_every=3, learning_rate=2e-2
)


@pytest.fixture(scope="module")
def other_skill() -> list[Sample]:
    return pico_samples("upper", 8)


def test_the_adapter_that_does_best_on_held_out_samples_is_kept(
    decoder: Decoder, samples: list[Sample], tmp_path: Path, other_skill: list[Sample]
) -> None:
    folder = tmp_path / "a"
    result = train(decoder, samples, folder, PAST_ITS_BEST, held_out=other_skill)
    assert result.steps == 24
    assert result.best_step is not None
    assert 3 <= result.best_step < 24
    lowest = min(loss for _, loss in result.held_out)
    sums = [decoder.loss(b, load_adapter(folder).pairs) for b in pack_all(other_skill, 96)]
    assert sum(nats for nats, _ in sums) / sum(n for _, n in sums) == pytest.approx(lowest)
    extra = read_extra(folder)
    assert extra["kept_step"] == result.kept_step == result.best_step
    assert [tuple(each) for each in extra["held_out"]] == result.held_out
    short = dataclasses.replace(PAST_ITS_BEST, checkpoint_every=24)
    last = train(decoder, samples, tmp_path / "last", short, held_out=other_skill)
    assert last.kept_step == 24
    assert last.losses == result.losses


def test_patience_ends_a_training_past_its_best(
    decoder: Decoder, samples: list[Sample], tmp_path: Path, other_skill: list[Sample]
) -> None:
    whole = train(decoder, samples, tmp_path / "whole", PAST_ITS_BEST, held_out=other_skill)
    patient = dataclasses.replace(PAST_ITS_BEST, patience=2)
    result = train(decoder, samples, tmp_path / "a", patient, held_out=other_skill)
    assert whole.best_step is not None
    assert result.steps == whole.best_step + 2 * 3 < 24
    assert result.losses == whole.losses[: result.steps]
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    found = finished(tmp_path / "a", patient, ORIGIN, len(samples), len(other_skill))
    assert found is not None
    assert (found.steps, found.best_step) == (result.steps, result.best_step)


@pytest.mark.parametrize("how", [Follower(stop_at=11), Follower(die_at=11), Follower(die_at=12)])
def test_the_best_adapter_survives_a_stop(
    decoder: Decoder,
    samples: list[Sample],
    tmp_path: Path,
    other_skill: list[Sample],
    how: Follower,
) -> None:
    config = dataclasses.replace(PAST_ITS_BEST, patience=3)
    whole = train(decoder, samples, tmp_path / "whole", config, held_out=other_skill)
    assert whole.steps > 11 > whole.kept_step
    with pytest.raises((Interrupted, Killed)):
        train(decoder, samples, tmp_path / "a", config, how, held_out=other_skill)
    result = train(decoder, samples, tmp_path / "a", config, held_out=other_skill)
    assert result.resumed >= 9
    assert (result.losses, result.held_out) == (whole.losses, whole.held_out)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_without_held_out_samples_their_settings_change_nothing(
    decoder: Decoder, samples: list[Sample], tmp_path: Path, whole: bytes
) -> None:
    folder, count = tmp_path / "whole", len(samples)
    same = dataclasses.replace(QUICK, holdout=0.3, patience=4, checkpoint_every=5)
    assert finished(folder, same, ORIGIN, count)
    assert finished(folder, same, ORIGIN, count, 3) is None


@pytest.mark.parametrize(("threads", "maps"), [(2, "whole"), (3, "whole"), (2, "bf16")])
def test_several_threads_repeat_and_resume_bit_for_bit(
    samples: list[Sample], tmp_path: Path, whole: bytes, threads: int, maps: str
) -> None:
    several = Decoder(pico_config(), pico_weights(), threads=threads, maps=maps)
    train(several, samples, tmp_path / "a")
    bytes_ = (tmp_path / "a" / WEIGHTS).read_bytes()
    with pytest.raises(Interrupted):
        train(several, samples, tmp_path / "b", QUICK, Follower(stop_at=3))
    fresh = Decoder(pico_config(), pico_weights(), threads=threads, maps=maps)
    train(fresh, samples, tmp_path / "b")
    assert (tmp_path / "b" / WEIGHTS).read_bytes() == bytes_
    one, other = load_adapter(tmp_path / "a").pairs, load_adapter(tmp_path / "whole").pairs
    for module, pair in one.items():
        np.testing.assert_allclose(pair.a, other[module].a, atol=1e-4 if maps == "whole" else 2e-2)
