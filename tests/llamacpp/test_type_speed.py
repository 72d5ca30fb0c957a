from __future__ import annotations

import json
from pathlib import Path

import pytest

from m2m.formats.gguf import GGUFFile
from m2m.llamacpp.filetypes import FILE_TYPES
from m2m.llamacpp.model import LlamaModel, build_info
from m2m.llamacpp.scratch_model import Surrogate, fastest_type
from m2m.llamacpp.type_speed import Calibration, cache_folder


@pytest.fixture
def repacked(wide: Path, tmp_path: Path) -> Path:
    """A file of a type for which many processors have kernels on repacked weights."""
    with Surrogate(GGUFFile(wide), FILE_TYPES["q4_0"], tmp_path, patch=True) as surrogate:
        surrogate.load([]).close()
        return surrogate.path.rename(tmp_path / "q4_0.gguf")


def edit(calibration: Calibration, layout: str, tokens_per_second: float) -> None:
    """Write another speed where one was kept."""
    known = json.loads(calibration.path.read_text(encoding="utf-8"))
    for key in known:
        if key.endswith(layout):
            known[key]["tokens_per_second"] = tokens_per_second
    calibration.path.write_text(json.dumps(known), encoding="utf-8")


def test_a_speed_is_measured_once(pico: Path, tmp_path: Path) -> None:
    calibration = Calibration(tmp_path / "cache" / "c.json", threads=1)
    first = calibration.speed(pico, "f32", repack=False)
    assert first.tokens_per_second > 0
    assert first.load_seconds > 0
    assert calibration.speed(pico, "f32", repack=False) == first
    (key,) = json.loads(calibration.path.read_text(encoding="utf-8"))
    assert build_info() in key
    edit(calibration, "as it lies", 1.5)
    assert calibration.speed(pico, "f32", repack=False).tokens_per_second == 1.5
    # Whatever may change a speed is another entry.
    for other in (
        Calibration(calibration.path, threads=2).speed(pico, "f32", repack=False),
        calibration.speed(pico, "f32", repack=True),
    ):
        assert other.tokens_per_second != 1.5
    assert len(json.loads(calibration.path.read_text(encoding="utf-8"))) == 3


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_torn_cache_is_made_again(text: str, pico: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(text, encoding="utf-8")
    found = Calibration(path, threads=1).speed(pico, "f32", repack=False)
    assert Calibration(path, threads=1).speed(pico, "f32", repack=False) == found


def test_what_llama_cpp_maps_is_patched_without_timing(pico: Path, tmp_path: Path) -> None:
    with LlamaModel(pico, repack=False) as model:
        assert model.mapped
    calibration = Calibration(tmp_path / "c.json")
    assert calibration.patches(pico, "f32")
    assert not calibration.path.exists()


@pytest.mark.slow
def test_what_it_copies_goes_by_speed(repacked: Path, tmp_path: Path) -> None:
    with LlamaModel(repacked, threads=1) as model:
        if model.mapped:
            pytest.skip("this processor has no kernels on repacked Q4_0")
    calibration = Calibration(tmp_path / "c.json", threads=1)
    calibration.patches(repacked, "q4_0")
    edit(calibration, "repacked", 1e4)
    edit(calibration, "as it lies", 1e3)
    assert not calibration.patches(repacked, "q4_0")
    edit(calibration, "as it lies", 1e9)
    assert calibration.patches(repacked, "q4_0")


@pytest.mark.slow
def test_the_fastest_type_is_the_one_with_most_tokens_per_second(
    wide: Path, tmp_path: Path
) -> None:
    base = GGUFFile(wide)
    assert fastest_type(base, tmp_path, threads=1) in ("f16", "bf16", "q8_0")
    calibration = Calibration(threads=1)
    assert calibration.path.is_relative_to(cache_folder())
    known = json.loads(calibration.path.read_text(encoding="utf-8"))
    for key in known:
        known[key]["tokens_per_second"] = 1e9 if "| f16 " in key else 1.0
    calibration.path.write_text(json.dumps(known), encoding="utf-8")
    assert fastest_type(base, tmp_path, threads=1) == "f16"
