"""`m2m doctor`: check this machine, list missing or slow parts, and say how to correct them."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from m2m import __version__
from m2m.blas import can_hold_blas
from m2m.checkpoint import BaseModel, list_models
from m2m.counted import counted, millions
from m2m.errors import M2MError
from m2m.llamacpp.amx import amx_ends_the_process
from m2m.llamacpp.build import Build, installed_build
from m2m.machine import (
    cpu_features,
    free_memory_bytes,
    load_of_others,
    on_battery,
    processor_name,
    total_memory_bytes,
    usable_threads,
    versions,
)
from m2m.nn.matrix import WORTH_BF16, bf16_gain
from m2m.opening import SETTINGS, read_text
from m2m.pipeline.inputs import model_folders
from m2m.recipe import load_recipe

GIB = 1 << 30
_REBUILD = (
    "build it on this machine: `CMAKE_ARGS=-DLLAVA_BUILD=OFF pip install --force-reinstall "
    "--no-cache-dir --no-deps --no-binary :all: llama-cpp-python==0.3.36`"
)
_WITHOUT_AMX = ("CMAKE_ARGS", "CFLAGS=-mno-amx-int8 CXXFLAGS=-mno-amx-int8 CMAKE_ARGS")
_WITH_CUDA = ("-DLLAVA_BUILD=OFF", "'-DGGML_CUDA=on -DLLAVA_BUILD=OFF'")
_NVIDIA = Path("/proc/driver/nvidia/version")
# Training SmolLM2-135M takes 1.2 GiB, scoring it 1.4; with less memory nothing useful fits.
_LEAST_MEMORY = 1.5 * GIB
_LEAST_DISK = 2 * GIB
_LEAST_RAM_DISK = 1 * GIB

State = Literal["ok", "note", "problem"]
Part = Literal["machine", "models", "folder"]
# Files that look like data, in the listing of a folder.
_DATA = (".csv", ".tsv", ".xlsx", ".xls", ".ods", ".jsonl", ".json", ".parquet", ".txt", ".tmx")
_NAMED = 5  # files that are named; more are counted


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: name of the checked part.
        value: the value that was found.
        state: "problem": m2m cannot work so; "note": it works, but slower or with less.
        remedy: the next step, unless all is well.
        part: its subject: "machine", "models" or "folder".
    """

    name: str
    value: str
    state: State = "ok"
    remedy: str | None = None
    part: Part = "machine"


def diagnose(folder: Path) -> list[Finding]:
    """Do all checks.

    Args:
        folder: the folder in which runs would be made.
    """
    build = installed_build()
    machine = [
        Finding("m2m", __version__),
        _python(),
        *_packages(),
        *_processor(build),
        _llama(build),
        *device_checks(build),
        _blas(),
        _bf16(),
        _load(),
        _memory(),
        *_ram_disk(),
        *_surroundings(),
    ]
    models = [*model_checks(model_folders())]
    here = [_disk(folder), *_content(folder)]
    parts: list[tuple[Part, list[Finding]]] = [("models", models), ("folder", here)]
    return [*machine, *(replace(one, part=part) for part, own in parts for one in own)]


def next_line(findings: Sequence[Finding]) -> str:
    """Return the command to type next, if nothing keeps m2m from working."""
    recipes = next((one for one in findings if one.name == "recipes" and one.state == "ok"), None)
    if not any(one.part == "models" and one.name != "models" for one in findings):
        return "m2m models known"
    if recipes:
        return f"m2m run {recipes.value.split(', ')[0]}"
    wrong = next((one for one in findings if one.name == "recipe"), None)
    return f"m2m data check {wrong.value}" if wrong else "m2m init"


def _content(folder: Path) -> Iterator[Finding]:
    """Yield the recipes and the data of a folder."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    recipes = [path for path in files if path.suffix == ".toml" and _is_recipe(path)]
    wrong = {path.name: fault for path in recipes if (fault := _fault(path))}
    good = [path.name for path in recipes if path.name not in wrong]
    data = [path.name for path in files if path.suffix.lower() in _DATA]
    if good:
        yield Finding("recipes", _listed(good))
    for name, fault in wrong.items():
        yield Finding("recipe", name, "note", fault)
    if data:
        yield Finding("data", _listed(data))
    if not recipes:
        place = "" if data else " (name your files with `--data`, or go to their folder first)"
        yield Finding("recipes", "none here", "note", f"`m2m init` writes one{place}")


def _fault(path: Path) -> str:
    """Return the first line of a recipe's error; "" if it has none."""
    try:
        load_recipe(path)
    except M2MError as error:
        return error.message.partition("\n")[0]
    return ""


def _is_recipe(path: Path) -> bool:
    try:
        return "[[datasets]]" in read_text(path, SETTINGS)
    except M2MError:
        return False


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _python() -> Finding:
    value = f"{platform.python_version()} on {platform.platform(terse=True)} {platform.machine()}"
    if sys.maxsize < 1 << 32:
        return Finding(
            "Python", value, "problem", "install a 64-bit Python: 32 bits cannot map models"
        )
    return Finding("Python", value)


def _packages() -> Iterator[Finding]:
    for name, version in versions().items():
        if version is None:
            yield Finding(name, "missing", "problem", f"`pip install {name}`, or run scripts/setup")
    installed = (f"{name} {version}" for name, version in versions().items() if version)
    yield Finding("packages", ", ".join(installed))


def _processor(build: Build) -> Iterator[Finding]:
    features = cpu_features()
    yield Finding("CPU", f"{processor_name()}: {', '.join(sorted(features)) or 'features unknown'}")
    cores, allowed = os.cpu_count() or 1, usable_threads()
    usable = f"{allowed} of {cores}"
    if allowed < cores:
        yield Finding(
            "cores", usable, "note", "a container or batch job allows no more; ask it for more"
        )
    else:
        yield Finding("cores", usable)
    if "AVX" in features and "AVX2" not in features:
        remedy = "nothing can be done: without AVX2 expect a third of the speed"
        yield Finding("AVX2", "missing", "note", remedy)
    wasted = features & {"AVX2", "FMA", "F16C", "AVX512", "AVX512_BF16", "NEON"} - build.features
    if wasted and not build.error:
        value = f"llama.cpp does not use {', '.join(sorted(wasted))} of this CPU"
        yield Finding("CPU features", value, "note", _REBUILD)
    if amx_ends_the_process(build.description):
        value = "not used: the compiler of llama.cpp has an error that makes its AMX code crash"
        yield Finding(
            "AMX", value, "note", f"for faster scoring, {_REBUILD.replace(*_WITHOUT_AMX)}"
        )


def _llama(build: Build) -> Finding:
    if build.error:
        return Finding("llama.cpp", f"cannot be loaded: {build.error}", "problem", _REBUILD)
    value = f"{build.description.split(' | ')[0]}, {'GPU and CPU' if build.gpu else 'CPU only'}"
    if not build.gpu and _NVIDIA.exists():
        remedy = f"the GPU here can be used: with CUDA installed, {_REBUILD.replace(*_WITH_CUDA)}"
        return Finding("llama.cpp", value, "note", remedy)
    return Finding("llama.cpp", value)


def device_checks(build: Build) -> Iterator[Finding]:
    """Yield ggml's devices and the work that m2m gives them, with the memory of GPUs."""
    for device in build.devices:
        name, value = f"device {device.name}", device.description
        if not device.is_gpu:
            yield Finding(name, f"{value}, for training and scoring")
            continue
        if device.total:
            value += f", {device.free / GIB:.1f} GiB free of {device.total / GIB:.1f}"
        remedy = 'in [limits], gpu_layers = -1 scores on it, and device = "gpu" trains on it'
        yield Finding(name, f"{value}, for training and scoring", "note", remedy)


_PRODUCTS = "calculations"


def _blas() -> Finding:
    built: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]
    blas = built.get("Build Dependencies", {}).get("blas", {})
    name = str(blas.get("name", "none"))
    value = f"{_rate():,.0f} billion a second, by {name} {blas.get('version', '')}"
    threads = os.environ.get("OPENBLAS_NUM_THREADS", os.environ.get("OMP_NUM_THREADS"))
    if threads:
        value += f", limited to {threads} by the environment"
    if not any(known in name.lower() for known in ("openblas", "accelerate", "mkl", "blis")):
        remedy = (
            "install NumPy from its wheel (`pip install --force-reinstall numpy`): training is slow"
        )
        return Finding(_PRODUCTS, value, "note", remedy)
    if "openblas" in name.lower() and not can_hold_blas():
        remedy = "its threads cannot be limited to one: set OPENBLAS_NUM_THREADS=1 before m2m"
        return Finding(_PRODUCTS, value, "note", remedy)
    return Finding(_PRODUCTS, value)


def _bf16() -> Finding:
    gain = bf16_gain()
    if not gain:
        return Finding("bf16", "no products that m2m can call: training is in float32")
    value = f"products {gain:.2g} times as fast as in float32"
    if gain < WORTH_BF16:
        return Finding("bf16", f"{value}: leave [train] precision as it is")
    return Finding("bf16", f'{value}: [train] precision = "bf16" trains faster')


def _rate() -> float:
    """Measure NumPy's float32 matrix product in 10^9 operations a second, the best of three."""
    size = 768
    a = np.ones((size, size), np.float32)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e9


def _load() -> Finding:
    busy, cores = load_of_others(), usable_threads()
    if busy > 0.5 * cores:
        remedy = "close other programs, or set a smaller number in [limits] threads"
        return Finding("load", f"{busy:.1f} of {counted(cores, 'core')} busy", "note", remedy)
    return Finding("load", f"{busy:.1f}")


def _memory() -> Finding:
    free, total = free_memory_bytes(), total_memory_bytes()
    value = f"{free / GIB:.1f} GiB free of {total / GIB:.1f}"
    if 0 < free < _LEAST_MEMORY:
        remedy = "close programs: training the 135M starter takes 1.2 GiB, a 1B base 3 to 4"
        return Finding("memory", value, "problem", remedy)
    return Finding("memory", value)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    value = f"{free / GIB:.1f} GiB free under {folder}"
    if not os.access(folder, os.W_OK):
        return Finding("disk", value, "problem", f"you may not write to {folder}: work elsewhere")
    if free < _LEAST_DISK:
        return Finding("disk", value, "problem", "free some space: models and exports need it")
    return Finding("disk", value)


def _ram_disk() -> Iterator[Finding]:
    ram = Path("/dev/shm")
    if sys.platform == "linux":
        room = shutil.disk_usage(ram).free if ram.is_dir() else 0
        value = f"{room / GIB:.1f} GiB free"
        if room < _LEAST_RAM_DISK:
            remedy = "surrogates are written to the disk instead: slower, but nothing is lost"
            yield Finding("RAM disk", value, "note", remedy)
        else:
            yield Finding("RAM disk", value)


def _surroundings() -> Iterator[Finding]:
    if os.environ.get("OMP_WAIT_POLICY", "passive").lower() != "passive":
        remedy = "unset OMP_WAIT_POLICY: waiting threads take the cores from others"
        yield Finding("OMP_WAIT_POLICY", os.environ["OMP_WAIT_POLICY"], "note", remedy)
    if on_battery():
        remedy = "a run can be stopped and taken up again at any time"
        yield Finding("power", "on battery", "note", remedy)


def model_checks(roots: Sequence[Path]) -> Iterator[Finding]:
    """Yield what is found about each model of these folders."""
    any_models = False
    known = set[str]()
    for root in roots:
        for info in list_models(root):
            if info.name in known:  # the first folder with this name is used
                continue
            any_models = True
            known.add(info.name)
            value = f"{millions(info.parameters)} parameters, {info.architecture}, {info.path}"
            try:
                warnings = BaseModel.open(info.path).warnings
            except M2MError as error:
                remedy = f"import it again: `m2m models add SOURCE --name {info.name}`"
                yield Finding(info.name, error.message, "problem", remedy)
                continue
            yield Finding(info.name, value)
            for warning in warnings:
                yield Finding(info.name, warning, "note")
    if not any_models:
        remedy = (
            "`m2m models known` lists small ones, `m2m models add FILE.gguf` imports one; for the "
            "starter run scripts/fetch-starter, then `m2m models add starter`"
        )
        yield Finding("models", "none imported yet", "note", f"next step: {remedy}")
