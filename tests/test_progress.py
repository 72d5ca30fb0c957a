from __future__ import annotations

import time
from pathlib import Path

import pytest

from m2m.progress import Logged, Meter, Silent, duration


class Clock:
    """A clock that the test turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (61, "1 min 01 s"), (3660, "1 h 01 min"), (8, "8 s")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_time_left_is_by_the_rate(clock: Clock) -> None:
    meter = Meter("training", 10, "steps")
    assert meter.left is None
    for _ in range(4):
        clock.now += 2
        meter.advance(1, "loss 2.1")
    assert meter.rate == pytest.approx(0.5)
    assert meter.left == pytest.approx(12)
    assert str(meter) == "4/10 steps, 2.0 s each, loss 2.1, 12 s left"


def test_what_an_earlier_process_did_is_not_fast(clock: Clock) -> None:
    meter = Meter("scoring", 100, "mixtures")
    for _ in range(60):
        meter.advance(1, "")
    for _ in range(10):
        clock.now += 3
        meter.advance(1, "")
    assert meter.rate == pytest.approx(1 / 3)
    assert meter.left == pytest.approx(90)


def test_steps_of_an_earlier_call_do_not_make_it_fast_whenever_they_are_reported(
    clock: Clock,
) -> None:
    meter = Meter("training 2 adapters", 1000, "steps")
    for done in (200, 300):  # two workers that go on, seconds after each other
        clock.now += 5
        meter.advance(done, "going on", earlier=True)
    for _ in range(10):
        clock.now += 4
        meter.advance(1, "")
    assert meter.done == 510
    assert meter.rate == pytest.approx(10 / 50)  # the ten seconds of waiting count as slow
    assert meter.left == pytest.approx(490 * 5)


def test_the_rate_follows_a_machine_that_becomes_busy(clock: Clock) -> None:
    meter = Meter("training", 1000, "steps")
    for seconds in [1] * 100 + [4] * 60:
        clock.now += seconds
        meter.advance(1, "")
    assert meter.rate == pytest.approx(0.25)


def test_the_log_has_everything_with_times_and_passes_it_on(tmp_path: Path, clock: Clock) -> None:
    class Seen(Silent):
        def __init__(self) -> None:
            self.calls: list[str] = []

        def note(self, text: str) -> None:
            self.calls.append(text)

        def advance(self, amount: float = 1.0, detail: str = "", *, earlier: bool = False) -> None:
            self.calls.append(detail)

    seen, path = Seen(), tmp_path / "run.log"
    log = Logged(seen, path)
    log.stage("train", 1, 4)
    log.start("training a", 100, "steps")
    for _ in range(40):
        clock.now += 1
        log.advance(1, "loss 1")
    log.note("ọ̀rọ̀")
    log.warn("two\nlines")
    log.finish()
    lines = [line[21:] for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == [
        "step 1 of 4: train",
        "training a: 100 steps",
        "training a: 30/100 steps, 1.0/s, loss 1, 1 min 10 s left",
        "ọ̀rọ̀",
        "Warning: two lines",
        "training a: 40/100 steps in 40 s, loss 1",
    ]
    assert seen.calls.count("loss 1") == 40
    assert "ọ̀rọ̀" in seen.calls
    Logged(seen, path).note("more")
    assert len(path.read_text(encoding="utf-8").splitlines()) == 7
