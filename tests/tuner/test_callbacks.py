"""A training run moves a progress bar."""

from __future__ import annotations

from m2m.progress import Silent
from m2m.tuner.callbacks import ShowProgress, Step


class Recorder(Silent):
    """A `Progress` that remembers what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []

    def start(self, title: str, total: float, unit: str) -> None:
        self.said.append((title, total, unit))

    def advance(self, amount: float = 1.0, detail: str = "", *, earlier: bool = False) -> None:
        self.said.append((amount, detail))

    def stop_requested(self) -> bool:
        return True


def test_a_bar_starts_where_an_earlier_process_left_it() -> None:
    recorder = Recorder()
    bar = ShowProgress(recorder, "reverse")
    bar.on_start(10, 4)
    bar.on_step(Step(5, 2.25, 1e-3, 0.5, 512, 2.0))
    assert recorder.said == [
        ("reverse", 10, "steps"),
        (4, "going on after step 4"),
        (1, "loss 2.250, 256 tokens/s"),
    ]
    assert bar.stop_requested()
