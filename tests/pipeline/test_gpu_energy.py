"""The energy of GPUs: from a program named nvidia-smi, and from a folder of sensors."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from m2m import machine
from m2m.machine import gpu_watts
from m2m.pipeline import gpu_energy as module
from m2m.pipeline.gpu_energy import measured

pytestmark = pytest.mark.skipif(os.name != "posix", reason="nvidia-smi is a script for sh here")


@pytest.fixture(autouse=True)
def no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without sensors; returns the folder of its programs."""
    monkeypatch.setattr(machine, "_SENSORS", tmp_path / "drm")
    monkeypatch.setattr(module, "_EVERY", 0.05)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def says(folder: Path, lines: str) -> None:
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
    script.chmod(0o755)


def test_power_is_the_sum_of_all_that_is_known(no_gpu: Path, tmp_path: Path) -> None:
    assert gpu_watts() is None
    says(no_gpu, '[ "$1" = --query-gpu=power.draw ] && echo "[N/A]" && echo 70.5')
    assert gpu_watts() == 70.5
    sensor = tmp_path / "drm" / "card1" / "device" / "hwmon" / "hwmon4"
    sensor.mkdir(parents=True)
    (sensor / "power1_average").write_text("25000000\n", encoding="utf-8")
    assert gpu_watts() == pytest.approx(95.5)
    asleep = tmp_path / "drm" / "card2" / "device" / "hwmon" / "hwmon5" / "power1_average"
    asleep.mkdir(parents=True)  # cannot be read, as the file of a card that sleeps
    assert gpu_watts() == pytest.approx(95.5)
    says(no_gpu, "exit 9")
    assert gpu_watts() == pytest.approx(25.0)


def test_energy_is_power_times_time(no_gpu: Path) -> None:
    says(no_gpu, "echo 100")
    started = time.monotonic()
    with measured(True) as energy:
        time.sleep(0.2)
    spent = time.monotonic() - started
    assert 15.0 < sum(energy) <= 100.0 * spent + 0.01
    with measured(False) as unwanted:
        pass
    assert unwanted == []


def test_without_a_gpu_that_says_it_the_energy_is_unknown() -> None:
    with measured(True) as energy:
        pass
    assert energy == []
