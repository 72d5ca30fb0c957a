"""`scripts/setup --gpu` refuses what it cannot build, before it installs anything."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[1] / "scripts" / "setup"


@pytest.mark.skipif(not shutil.which("bash"), reason="the script is for bash")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "vulcan"], "--gpu takes vulkan, cuda or none, not 'vulcan'"),
        (["--gpu"], "--gpu takes vulkan, cuda or none, not ''"),
        (["--gpu", "cuda"], "install NVIDIA's CUDA toolkit"),
        (["--gpu", "vulkan"], "apt-get install libvulkan-dev glslc spirv-headers"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, arguments: list[str], message: str) -> None:
    """With no program on PATH but a name for the compiler."""
    shell = str(shutil.which("bash"))
    (tmp_path / "c++").symlink_to(shell)
    done = subprocess.run(
        [shell, SETUP, *arguments],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert message in done.stderr
