"""The offline bundle: a damaged one is refused, and (opt-in) a real one installs and runs.

`M2M_TEST_BUNDLE=FOLDER pytest tests/test_offline_bundle.py` installs a bundle that was made by
`scripts/offline-bundle FOLDER` without network, without pip's cache and without a compiler.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.skipif(os.name != "posix", reason="install.sh is for sh")
INSTALL = REPOSITORY / "scripts" / "offline-install.sh"
TOOLS = ("sh", "dirname", "sed", "mkdir", "cp")  # all that install.sh calls but Python


def bundler() -> Any:
    loader = SourceFileLoader("offline_bundle", str(REPOSITORY / "scripts" / "offline-bundle"))
    spec = spec_from_loader("offline_bundle", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle without wheels, as far as its checks go."""
    folder = tmp_path / "bundle"
    (folder / "wheels").mkdir(parents=True)
    (folder / "wheels" / "pip-1-py3-none-any.whl").write_bytes(b"no wheel")
    about = {"python": "{}.{}".format(*sys.version_info)}
    (folder / "bundle.json").write_text(json.dumps(about, indent=2), encoding="utf-8")
    shutil.copy2(INSTALL, folder / "install.sh")
    bundler().write_sums(folder)
    return folder


def install(bundle: Path, to: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    line = ["sh", str(bundle / "install.sh"), str(to)]
    known = {"PATH": os.environ["PATH"], "HOME": str(to.parent), "PYTHON": sys.executable}
    return subprocess.run(line, env={**known, **environment}, capture_output=True, text=True)


def test_sums_are_those_of_sha256sum(bundle: Path) -> None:
    lines = (bundle / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest


def test_a_damaged_bundle_is_refused_before_anything_is_made(bundle: Path, tmp_path: Path) -> None:
    (bundle / "wheels" / "pip-1-py3-none-any.whl").write_bytes(b"bitten by a worm")
    found = install(bundle, tmp_path / "to")
    assert found.returncode == 1
    assert "damaged: wheels/pip-1-py3-none-any.whl" in found.stderr
    assert "hint: copy the bundle again" in found.stderr
    assert not (tmp_path / "to").exists()


def test_another_python_is_refused(bundle: Path, tmp_path: Path) -> None:
    about = {"python": "2.7"}
    (bundle / "bundle.json").write_text(json.dumps(about, indent=2), encoding="utf-8")
    found = install(bundle, tmp_path / "to")
    assert found.returncode == 1
    assert "needs Python 2.7" in found.stderr


def test_llama_cpp_is_built_for_the_cpu_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    script = bundler()
    monkeypatch.setattr(script.platform, "machine", lambda: "x86_64")
    assert "GGML_NATIVE" not in script.cmake_args("native")
    assert {"-DGGML_NATIVE=OFF", "-DGGML_AVX2=ON"} <= set(script.cmake_args("avx2").split())
    assert {"-DGGML_NATIVE=OFF", "-DGGML_AVX2=OFF"} <= set(script.cmake_args("any").split())
    assert "VULKAN" not in script.cmake_args("native")
    monkeypatch.setenv("VULKAN_HEADERS", "/headers")
    with_gpu = set(script.cmake_args("avx2", "vulkan").split())
    assert {"-DGGML_VULKAN=ON", "-DGGML_AVX2=ON", "-DVulkan_INCLUDE_DIR=/headers"} <= with_gpu
    assert script.cmake_args("native", "cuda").endswith("-DGGML_CUDA=ON")
    monkeypatch.setattr(script.platform, "machine", lambda: "aarch64")
    assert "AVX" not in script.cmake_args("avx2")


@pytest.mark.skipif("M2M_TEST_BUNDLE" not in os.environ, reason="needs M2M_TEST_BUNDLE=FOLDER")
def test_a_real_bundle_installs_offline_without_a_compiler(tmp_path: Path) -> None:
    folder, to, tools = Path(os.environ["M2M_TEST_BUNDLE"]), tmp_path / "to", tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).write_text(f'#!/bin/sh\nexec {shutil.which(name)} "$@"\n', encoding="utf-8")
        (tools / name).chmod(0o755)
    environment = {"PATH": str(tools), "HOME": str(tmp_path), "PYTHON": sys.executable}
    offline = [str(shutil.which("unshare")), "--net"] if sys.platform == "linux" else []
    if offline and subprocess.run([*offline, "true"], capture_output=True).returncode:
        offline.insert(1, "--map-root-user")  # as a user without rights of its own
    line = [*offline, "/bin/sh", str(folder / "install.sh"), str(to)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "install: done" in done.stderr
    m2m = [*offline, str(to / ".venv" / "bin" / "m2m")]
    if (to / "models").is_dir():
        checked = [*m2m, "data", "check", "examples/swahili/demo.toml", "--json"]
        found = subprocess.run(checked, env=environment, cwd=to, capture_output=True, text=True)
        assert len(json.loads(found.stdout)) == 5, found.stderr  # datasets, dev and test
        said = [*m2m, "chat", "smollm2-135m-instruct", "--tokens", "4"]
        talk = subprocess.run(
            said, env=environment, cwd=to, input="Hello\n", capture_output=True, text=True
        )
        assert talk.returncode == 0, talk.stderr
        assert talk.stdout.strip()
