"""safetensors: checked against the package, and with hostile files."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open

from m2m.errors import InputError
from m2m.formats.half import bf16_to_f32, f32_to_bf16
from m2m.formats.safetensors import SafetensorsFile, TensorSpec, write_safetensors

X: NDArray[np.float32] = np.arange(6, dtype=np.float32).reshape(2, 3)
THIRDS: NDArray[np.float32] = X / np.float32(3)


def test_the_package_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    specs = [
        TensorSpec("b", "F16", (2, 3)),
        TensorSpec("a", "F32", (2, 3)),
        TensorSpec("none", "F32", (0, 4)),
        TensorSpec("one", "F32", ()),
    ]
    arrays: list[Any] = [THIRDS, X, np.zeros((0, 4), np.float32), np.float32(7).reshape(())]
    write_safetensors(path, specs, arrays, {"format": "pt"})
    theirs = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(theirs["b"], THIRDS.astype(np.float16))
    np.testing.assert_array_equal(theirs["a"], X)
    assert (theirs["none"].shape, theirs["one"].shape) == ((0, 4), ())
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {"format": "pt"}
    ours = SafetensorsFile(path)
    assert set(ours.names) == {"b", "a", "none", "one"}
    assert ours.array("none").shape == (0, 4)
    assert ours.array("one") == 7


def test_we_read_what_the_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    tensors: dict[str, Any] = {
        "f64": X.astype(np.float64),
        "f16": X.astype(np.float16),
        "i": np.arange(3),
    }
    safetensors.numpy.save_file(tensors, path, {"who": "them"})
    file = SafetensorsFile(path)
    assert file.metadata == {"who": "them"}
    assert (file.dtype("f16"), file.shape("f16")) == ("F16", (2, 3))
    assert "f16" in file
    assert "other" not in file
    np.testing.assert_array_equal(file.array("f64"), X)
    np.testing.assert_array_equal(file.array("f16"), X)
    np.testing.assert_array_equal(file.raw("i"), np.arange(3))
    with pytest.raises(InputError, match="tensor i is I64"):
        file.array("i")
    with pytest.raises(InputError, match="no tensor other"):
        file.array("other")


def test_bf16_is_rounded_once_and_passes_through_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    bits = f32_to_bf16(THIRDS)
    specs = [TensorSpec("rounded", "BF16", (2, 3)), TensorSpec("kept", "BF16", (2, 3))]
    write_safetensors(path, specs, [THIRDS, bits])
    file = SafetensorsFile(path)
    for name in file.names:
        assert file.dtype(name) == "BF16"
        np.testing.assert_array_equal(file.raw(name), bits)
        np.testing.assert_array_equal(file.array(name), bf16_to_f32(bits))


def test_views_copy_nothing_and_arrays_are_new(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, [TensorSpec("x", "F32", (2, 3))], [X])
    file = SafetensorsFile(path)
    assert not file.raw("x").flags.owndata
    assert not file.raw("x").flags.writeable
    file.array("x")[:] = 0
    np.testing.assert_array_equal(file.array("x"), X)


def test_bytes_are_the_packages_if_names_are_sorted(tmp_path: Path) -> None:
    """The package sorts; m2m keeps the order of the layers, and adapters keep their bytes."""
    sizes = {"model.layers.1.a": 3, "model.layers.10.a": 2, "model.layers.2.\u00e9": 1}
    arrays = {name: np.arange(size, dtype=np.float32) for name, size in sizes.items()}
    specs = [TensorSpec(name, "F32", array.shape) for name, array in arrays.items()]
    write_safetensors(tmp_path / "ours", specs, arrays.values(), {"format": "pt"})
    ours = (tmp_path / "ours").read_bytes()
    assert ours == safetensors.numpy.save(arrays, {"format": "pt"})
    backwards = dict(reversed(arrays.items()))
    assert ours == safetensors.numpy.save(backwards, {"format": "pt"})


def test_the_data_is_aligned(tmp_path: Path) -> None:
    for length in range(1, 12):
        path = tmp_path / f"{length}.safetensors"
        write_safetensors(path, [TensorSpec("n" * length, "F32", (2, 3))], [X])
        assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.dictionaries(
        st.text(min_size=1).filter(lambda name: name != "__metadata__"),
        st.lists(st.integers(0, 4), max_size=3),
        max_size=4,
    ),
    metadata=st.dictionaries(st.text(), st.text(), max_size=2),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, list[int]], metadata: dict[str, str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "trip.safetensors"
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    specs = [TensorSpec(name, "F32", array.shape) for name, array in arrays.items()]
    if any("\ud800" <= sign <= "\udfff" for name in [*shapes, *metadata] for sign in name):
        return
    write_safetensors(path, specs, arrays.values(), metadata)
    file = SafetensorsFile(path)
    assert file.metadata == metadata
    assert set(file.names) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(file.array(name), array)


def _file(header: Any, data: bytes = bytes(64)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _one(dtype: Any = "F32", shape: Any = (4,), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


_HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "0 bytes"),
    "header beyond the end": ((2**63).to_bytes(8, "little") + bytes(64), "header too large"),
    "header of almost the file": ((65).to_bytes(8, "little") + bytes(64), "invalid header length"),
    "no json": (_file(b"{"), "EOF while parsing an object"),
    "no utf-8": (_file(b'{"\xff": 1}'), "invalid UTF-8 in header"),
    "nested": (_file(b"[" * 100_000), "expected struct"),
    "a list": (_file([]), "expected struct"),
    "a tensor twice": (_file(b'{"t": 1, "t": 2}'), "expected struct"),
    "metadata of numbers": (_file({"__metadata__": {"a": 1}}), "expected a string at line 1"),
    "metadata of a list": (_file({"__metadata__": []}), "expected a map"),
    "no entry": (_file({"t": 1}), "expected struct TensorInfo"),
    "an entry with more": (_file({"t": _one()["t"] | {"x": 1}}), "not fully covered"),
    "unknown dtype": (_file(_one("F8_E9")), "F8_E9"),
    "dtype of a list": (_file(_one(["F32"])), "expected string"),
    "negative shape": (_file(_one(shape=[-4])), "`-4`, expected usize"),
    "shape of booleans": (_file(_one("BOOL", [True], [0, 1])), "`true`, expected usize"),
    "shape of floats": (_file(_one(shape=[4.0])), "`4.0`, expected usize"),
    "shape that overflows": (
        _file(_one(shape=[2**62, 4], offsets=[0, 16])),
        "overflow computing buffer size",
    ),
    "one offset": (_file(_one(offsets=[0])), "expected a tuple of size 2"),
    "offsets beyond the end": (_file(_one(offsets=[56, 72])), "invalid offset for tensor `t`"),
    "offsets backwards": (_file(_one(offsets=[16, 0])), "invalid offset for tensor `t`"),
    "too few bytes": (_file(_one(offsets=[0, 12])), "invalid shape, data type, or offset"),
    "a gap": (_file(_one() | {"u": _one(offsets=[32, 48])["t"]}, bytes(48)), "tensor `u`"),
    "bytes at the end": (_file(_one(), bytes(17)), "not fully covered"),
    "no type of ours": (
        _file(_one("F8_E5M2", [16]), bytes(16)),
        "tensor t has the type F8_E5M2, expected one of",
    ),
    "overlap": (_file(_one() | {"u": _one(offsets=[8, 24])["t"]}), "invalid offset for tensor"),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_hostile_files_are_refused_with_the_place(tmp_path: Path, name: str) -> None:
    data, said = _HOSTILE[name]
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        SafetensorsFile(path)
    assert said in caught.value.message
    assert "hostile.safetensors" in caught.value.message


@pytest.mark.parametrize(
    ("spec", "array", "said"),
    [
        (TensorSpec("t", "F32", (3, 2)), X, "shape"),
        (TensorSpec("t", "F32", (2, 3)), X.astype(np.float64), "float64"),
        (TensorSpec("t", "I32", (2, 3)), X, "not written"),
    ],
)
def test_a_failed_write_leaves_nothing(
    tmp_path: Path, spec: TensorSpec, array: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        write_safetensors(tmp_path / "x.safetensors", [spec], [array])
    assert not list(tmp_path.iterdir())


def test_a_value_too_large_for_f16_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tensor big"):
        write_safetensors(tmp_path / "x", [TensorSpec("big", "F16", (2, 3))], [X * 1e6])
    assert not list(tmp_path.iterdir())


def test_two_tensors_of_one_name_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="twice"):
        write_safetensors(tmp_path / "x", [TensorSpec("t", "F32", (2, 3))] * 2, [X, X])


def test_the_hash_is_that_of_the_opened_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, [TensorSpec("x", "F32", (4,))], [np.ones(4, np.float32)])
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    file = SafetensorsFile(path)
    if os.name == "posix":  # Windows does not replace an open file
        write_safetensors(path, [TensorSpec("x", "F32", (4,))], [np.zeros(4, np.float32)])
    assert file.sha256 == expected
    assert file.array("x").tolist() == [1.0] * 4


@pytest.mark.skipif(os.name != "posix", reason="Windows does not replace an open file")
def test_a_file_that_is_replaced_while_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for name, file in (("x", path), ("y", other)):
        write_safetensors(file, [TensorSpec(name, "F32", (4,))], [np.ones(4, np.float32)])

    def swap(*arguments: Any) -> Any:
        path.write_bytes(other.read_bytes() + b"more")
        return safe_open(other, "numpy")

    monkeypatch.setattr("m2m.formats.safetensors.safe_open", swap)
    with pytest.raises(InputError, match="changed while it was opened"):
        SafetensorsFile(path)
