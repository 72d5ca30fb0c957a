"""What every test gets: a home and a working folder of its own, and no network."""

from __future__ import annotations

import compileall
import gc
import itertools
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Tests run on all cores at once, and threads that spin while they wait make a busy machine crawl.
# So before llama.cpp's OpenMP and NumPy's OpenBLAS start:
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Without bytecode on disk, every child process compiles all of m2m again: two seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import numpy as np
import pytest
from hypothesis import settings

from m2m.opening import file_sha256

settings.register_profile("quick", max_examples=40, deadline=None)
settings.load_profile("quick")
sys.dont_write_bytecode = False
REPOSITORY = Path(__file__).parent.parent
STARTER = REPOSITORY / "models" / "smollm2-135m-instruct"


def pytest_configure(config: pytest.Config) -> None:
    """Compile m2m; refuse to test at a level of processors that is not in force.

    The child process for templates reads bytecode but never writes it. `scripts/test-cpus` sets
    the level.
    """
    if not hasattr(config, "workerinput"):  # once, not in every process of pytest-xdist
        compileall.compile_dir(REPOSITORY / "m2m", quiet=1)
    if level := os.environ.get("M2M_TEST_CPU"):
        from tests.levels import LEVELS, computing

        if (found := computing()) != LEVELS[level]:
            raise pytest.UsageError(f"not at the level {level} ({LEVELS[level]}) but: {found}")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without looking for garbage, and never look at what was collected afterwards.

    Thousands of tests stay until the end: each look at all of them costs a tenth of a second.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_report_header() -> list[str]:
    build: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]
    blas = build.get("Build Dependencies", {}).get("blas", {})
    try:
        import llama_cpp

        from tests.levels import computing

        llama, features = llama_cpp.__version__, str(computing())
    except ImportError:
        llama, features = "missing", "unknown"
    return [
        f"numpy {np.__version__} ({blas.get('name')} {blas.get('version')}), "
        f"llama_cpp {llama}, {os.cpu_count()} cores",
        f"processor features in use: {features}",
    ]


@pytest.fixture(scope="session")
def _new_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names for folders; `mktemp` reads the names of all earlier folders for each new one."""
    parent = tmp_path_factory.mktemp("places")
    return (parent / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _own_folders(_new_folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Home and working folder are new and empty: no test reads or leaves anything elsewhere."""
    home, work = next(_new_folders), next(_new_folders)
    home.mkdir()
    work.mkdir()
    for name in ("HOME", "USERPROFILE", "APPDATA", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(work)
    # Models of this installation are found from everywhere; a test has those that it makes.
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A socket that could leave this machine cannot be made."""
    real = socket.socket

    class LocalSocket(real):  # type: ignore[misc, valid-type]
        def __init__(self, family: int = -1, *args: Any, **kwargs: Any) -> None:
            if family != getattr(socket, "AF_UNIX", None) and kwargs.get("fileno") is None:
                raise RuntimeError("a test tried to open a network socket")
            super().__init__(family, *args, **kwargs)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a test tried to reach the network")

    monkeypatch.setattr(socket, "socket", LocalSocket)
    for name in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    yield


@pytest.fixture(scope="session")
def starter() -> Path:
    """The imported starter model's folder; for tests marked `model`."""
    if not (STARTER / "m2m-model.json").is_file():
        pytest.skip(f"needs the starter model: no {STARTER.relative_to(REPOSITORY)}")
    return STARTER


@pytest.fixture(scope="session", autouse=True)
def file_identity() -> Iterator[Callable[[Path], object]]:
    """Try equal GGUF files in a child process once: pico models are the same in most tests.

    The fixture's value is what tells files apart outside of the tests.
    """
    try:
        from m2m.llamacpp import guard
    except ImportError:  # without llama.cpp
        yield str
        return
    outside = guard.identity
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            guard,
            "identity",
            lambda path: file_sha256(path) if path.is_file() else outside(path),
        )
        yield outside


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Make a folder by its name once for all processes of pytest-xdist. It is only read."""
    import fcntl  # not on Windows

    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        made = root / f"once-{name}"
        with (root / f"once-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                part = root / f"once-{name}.part"
                shutil.rmtree(part, ignore_errors=True)
                make(part)
                part.rename(made)
        return made

    return folder


@pytest.fixture(scope="session")
def finished_run(once: Once) -> Path:
    """The recipe of `make_scenario` beside its whole run: copy it with `copied`."""
    from m2m.pipeline.run import Run
    from m2m.progress import Silent
    from m2m.recipe import load_recipe
    from tests.pipeline.scenario import make_scenario

    return (
        once("finished", lambda at: Run(load_recipe(make_scenario(at)), Silent()).run())
        / "recipe.toml"
    )


@pytest.fixture(scope="session")
def trained_run(finished_run: Path, once: Once) -> Path:
    """The same recipe beside its experts and nothing else of a run."""
    from tests.pipeline.scenario import copied

    def make(at: Path) -> None:
        copied(finished_run, at)
        for path in (at / "copy" / "m2m-runs" / "recipe").iterdir():
            if path.is_dir() and path.name != "adapters":
                shutil.rmtree(path)
            elif path.is_file():
                path.unlink()

    return once("trained", make) / "copy" / "recipe.toml"
