from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from m2m.errors import InputError, ResourceError
from m2m.formats.gguf import GGUFFile, write_gguf
from m2m.ggml.devices import gpu
from m2m.ggml.log import LOG
from m2m.llamacpp import bindings as c
from m2m.llamacpp import filetypes as f
from m2m.llamacpp.model import LlamaModel
from m2m.llamacpp.quantize import quantize, tensor_bytes
from m2m.llamacpp.scoring import Request, score
from m2m.llamacpp.scratch_model import AdaptedTensor, Surrogate, scratch_folder
from m2m.nn.lora import LoraPair, lora_delta

QUERY = "blk.0.attn_q.weight"
DOWN = "blk.1.ffn_down.weight"
ASKED = [Request([*range(10, 25), i], [[30, 31], [32, 33, 34]]) for i in range(40, 50)]


def change(base: GGUFFile, name: str, seed: int = 0) -> AdaptedTensor:
    rng, shape = np.random.default_rng(seed), base.tensors[name].shape
    return AdaptedTensor(name, (rng.standard_normal(shape) * 0.1).astype(np.float32))


def written_anew(base: GGUFFile, type: str, tensors: list[AdaptedTensor], path: Path) -> Path:
    """The same model without a surrogate: a whole new file."""
    metadata, specs = f.quantized_layout(base, f.file_type(type))
    merged = {t.name: base.array(t.name) + t.delta for t in tensors}
    data = [
        quantize(merged[s.name], int(s.type)) if s.name in merged else tensor_bytes(base, s)
        for s in specs
    ]
    write_gguf(path, metadata, specs, data)
    return path


@pytest.mark.parametrize("patch", [True, False])
@pytest.mark.parametrize("type", ["f32", "f16", "bf16", "q8_0", "q4_k_m"])
def test_a_surrogate_is_the_file_written_anew(
    type: str, patch: bool, pico: Path, tmp_path: Path
) -> None:
    """Also after other mixtures that changed other tensors."""
    base = GGUFFile(pico)
    mixtures = [
        [change(base, QUERY), change(base, DOWN)],
        [change(base, DOWN, 1)],
        [],
        [change(base, QUERY, 2)],
    ]
    with Surrogate(base, f.file_type(type), tmp_path, threads=1, patch=patch) as surrogate:
        for number, tensors in enumerate(mixtures):
            found = score(surrogate.load(iter(tensors)), ASKED).loglik
            path = written_anew(base, type, tensors, tmp_path / f"{number}.gguf")
            assert surrogate.path.read_bytes() == path.read_bytes()
            with LlamaModel(path, threads=1, repack=not patch) as model:
                assert score(model, ASKED).loglik == found


def test_a_model_closed_by_its_user_is_opened_again(pico: Path, tmp_path: Path) -> None:
    with Surrogate(GGUFFile(pico), f.file_type("f16"), tmp_path) as surrogate:
        with surrogate.load([]) as model:
            first = score(model, ASKED).loglik
        assert score(surrogate.load([]), ASKED).loglik == first


def test_survival_is_that_of_the_last_mixture(pico: Path, tmp_path: Path) -> None:
    base = GGUFFile(pico)
    with Surrogate(base, f.file_type("f32"), tmp_path) as surrogate:
        surrogate.load([change(base, QUERY), change(base, DOWN)])
        assert surrogate.survival.as_json() == pytest.approx({"gain": 1.0, "cosine": 1.0})
        first = surrogate.survival.dd
        surrogate.load([change(base, QUERY)])
        assert 0 < surrogate.survival.dd < first
        surrogate.load([])
        assert surrogate.survival.dd == 0


def test_what_does_not_fit_the_base_is_refused_by_name(pico: Path, tmp_path: Path) -> None:
    base = GGUFFile(pico)
    array = np.zeros((64, 32), np.float32)
    with Surrogate(base, f.file_type("q8_0"), tmp_path) as surrogate:
        with pytest.raises(InputError, match=r"blk\.9\.attn_q.*no tensor of that name"):
            surrogate.load([AdaptedTensor("blk.9.attn_q.weight", array)])
        with pytest.raises(InputError, match=r"\(64, 32\) does not fit.*shape \(64, 64\)"):
            surrogate.load([AdaptedTensor(QUERY, array)])
        bad = change(base, QUERY)
        bad.delta[0, 0] = np.nan
        with pytest.raises(InputError, match=rf"tensor {QUERY}: .*not a finite number"):
            surrogate.load([bad])


@pytest.mark.parametrize("patch", [True, False])
def test_a_failure_half_way_leaves_nothing_behind(patch: bool, pico: Path, tmp_path: Path) -> None:
    base = GGUFFile(pico)

    def breaking() -> Iterator[AdaptedTensor]:
        yield change(base, QUERY)
        raise KeyboardInterrupt

    with Surrogate(base, f.file_type("f16"), tmp_path, patch=patch) as surrogate:
        clean = score(surrogate.load([]), ASKED).loglik
        with pytest.raises(KeyboardInterrupt):
            surrogate.load(breaking())
        assert score(surrogate.load([]), ASKED).loglik == clean


def test_closing_deletes_the_scratch_file_and_twice_is_safe(pico: Path, tmp_path: Path) -> None:
    surrogate = Surrogate(GGUFFile(pico), f.file_type("q8_0"), tmp_path)
    model = surrogate.load([])
    surrogate.close()
    surrogate.close()
    assert model.closed
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="closed"):
        surrogate.load([change(surrogate.base, QUERY)])


def test_no_room_for_the_scratch_file(pico: Path, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"cannot make a scratch file of \d+ MB"):
        Surrogate(GGUFFile(pico), f.file_type("q8_0"), tmp_path / "missing")
    if hasattr(os, "posix_fallocate"):
        from m2m.llamacpp.scratch_model import mapped_scratch

        with pytest.raises(ResourceError, match="cannot make a scratch file"):
            mapped_scratch(tmp_path / "huge", 1 << 60)
        assert not list(tmp_path.iterdir())


def test_a_key_always_gets_the_same_folder(tmp_path: Path) -> None:
    first = scratch_folder(tmp_path / "run", 1000)
    assert first.is_dir()
    assert scratch_folder(tmp_path / "run", 1000) == first
    assert scratch_folder(tmp_path / "run", 1 << 60) == tmp_path / "run"
    if first != tmp_path / "run":
        first.rmdir()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_fifty_loads_do_not_grow(pico: Path, tmp_path: Path) -> None:
    base = GGUFFile(pico)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096

    with Surrogate(base, f.file_type("q8_0"), tmp_path, patch=False) as surrogate:
        sizes = []
        for number in range(50):
            score(surrogate.load([change(base, QUERY, number)]), ASKED[:2])
            sizes.append(resident())
    # a leaked model or context would be some MB each time
    assert sizes[-1] - sizes[9] < 5e6


def low_rank(base: GGUFFile, name: str, rank: int = 12) -> LoraPair:
    rng, (rows, columns) = np.random.default_rng(rank), base.tensors[name].shape
    a, b = rng.standard_normal((rank, columns), np.float32), rng.standard_normal((rows, rank))
    return LoraPair(a, (0.03 * b).astype(np.float32), 0.5)


@pytest.mark.parametrize("type", ["f32", "bf16", "q8_0"])
def test_factors_are_their_product_to_rounding(type: str, wide: Path, tmp_path: Path) -> None:
    base, name = GGUFFile(wide), "blk.3.ffn_up.weight"
    pair = low_rank(base, name)
    files = []
    with Surrogate(base, f.file_type(type), tmp_path) as surrogate:
        for delta in (pair, lora_delta(pair)):
            surrogate.load([AdaptedTensor(name, delta)])
            assert surrogate.survival.gain == pytest.approx(1.0, abs=0.05)
            files.append(GGUFFile(surrogate.path).array(name))
    np.testing.assert_allclose(files[0], files[1], rtol=0, atol=0 if type == "q8_0" else 1e-2)
    if type == "f32":
        np.testing.assert_allclose(files[0], base.array(name) + lora_delta(pair), atol=1e-6)


@pytest.mark.parametrize("patch", [True, False])
def test_a_mixture_does_not_depend_on_the_one_before_or_on_threads(
    patch: bool, wide: Path, tmp_path: Path
) -> None:
    base = GGUFFile(wide)
    names = ["blk.0.attn_q.weight", "blk.3.ffn_up.weight", "blk.7.ffn_down.weight"]
    pairs = [AdaptedTensor(name, low_rank(base, name, 5 + i)) for i, name in enumerate(names)]
    mixtures = {"a": pairs[:2], "b": pairs[1:], "c": [pairs[2], pairs[0]], "base": []}
    seen: dict[str, set[bytes]] = {key: set() for key in mixtures}
    scores: dict[str, set[str]] = {key: set() for key in mixtures}
    for threads, order in ((1, "abca"), (3, "cbabc")):
        with Surrogate(
            base, f.file_type("q8_0"), tmp_path, threads=threads, patch=patch
        ) as surrogate:
            for key in [*order, "base"]:
                model = surrogate.load(iter(mixtures[key]))
                seen[key].add(surrogate.path.read_bytes())
                if threads == 1:
                    scores[key].add(str(score(model, ASKED[:2]).loglik))
    assert all(len(files) == 1 for files in seen.values())
    assert all(len(found) == 1 for found in scores.values())
    assert len(set().union(*scores.values())) == len(mixtures)


@pytest.mark.gpu
def test_a_gpu_scores_as_the_processor_and_only_if_it_has_layers(pico: Path) -> None:
    if (device := gpu()) is None:
        pytest.skip("this llama-cpp-python finds no GPU")
    ids, logits = [5, 9, 30, 7, 12, 40], []
    for layers in (0, -1):
        mark = LOG.mark()
        with LlamaModel(pico, threads=1, gpu_layers=layers) as model:
            logits.append(model.logits(ids))
        assert any(device.name in line for line in LOG.lines(mark)) == bool(layers)
    np.testing.assert_allclose(logits[1], logits[0], atol=0.02 * float(np.abs(logits[0]).max()))


def test_layers_for_a_gpu_that_is_not_there_are_refused(pico: Path, tmp_path: Path) -> None:
    if c.llama_supports_gpu_offload():
        pytest.skip("this llama.cpp has a GPU")
    with pytest.raises(ResourceError, match="can use no GPU"):
        LlamaModel(pico, gpu_layers=3)
    with (
        Surrogate(GGUFFile(pico), f.file_type("f16"), tmp_path, gpu_layers=-1) as surrogate,
        pytest.raises(ResourceError, match="gpu_layers = -1"),
    ):
        surrogate.load([])
