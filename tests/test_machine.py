"""What the machine says of this process's memory, and what can be given back."""

from __future__ import annotations

import os
import platform
import shutil

import pytest

from m2m import machine
from m2m.machine import hand_back_freed, resident_bytes


@pytest.mark.skipif(shutil.which("ps") is None, reason="no ps here")
def test_ps_says_the_same_as_the_system() -> None:
    assert machine.resident_bytes_of(os.getpid()) == pytest.approx(resident_bytes(), rel=0.05)


def test_without_ps_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert machine.resident_bytes_of(os.getpid()) == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries keep nothing")
def test_freed_memory_is_handed_back() -> None:
    hand_back_freed()
    before = resident_bytes()
    held = [bytearray(50_000) for _ in range(4000)]  # too small for maps of their own
    last = held[-1]
    full = resident_bytes()
    assert full > before + 150e6
    del held  # the last one lies above the others, which stay with the process
    assert resident_bytes() > before + 150e6
    hand_back_freed()
    assert resident_bytes() < before + 50e6
    assert len(last) == 50_000


def test_a_job_of_slurm_has_the_cores_that_it_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    cores = machine.usable_threads()
    for asked, got in {"1": 1, "100000": cores, "": cores, "0": cores, "many": cores}.items():
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", asked)
        assert machine.usable_threads() == got
