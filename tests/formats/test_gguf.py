"""GGUF: checked against the gguf package and llama.cpp, and with hostile files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2m.errors import InputError
from m2m.formats.gguf import (
    GGMLQuantizationType,
    GGUFFile,
    GGUFTensorSpec,
    GGUFValue,
    GGUFValueType,
    dequantize,
    encode,
    nbytes_of,
    plan_gguf,
    write_gguf,
)
from tests.tiny import gguf_name, gguf_rows, pico_config, pico_gguf, pico_metadata, pico_weights

F32, F16 = GGMLQuantizationType.F32, GGMLQuantizationType.F16
Q8_0 = GGMLQuantizationType.Q8_0


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pico_gguf(tmp_path_factory.mktemp("gguf") / "pico.gguf")


def test_reading_gives_back_what_was_written(pico: Path) -> None:
    config = pico_config()
    file = GGUFFile(pico)
    # A FLOAT32 comes back as the float32 nearest to what was written.
    written = {
        key: GGUFValue.float32(float(np.float32(value.value)))
        if value.type == GGUFValueType.FLOAT32
        else value
        for key, value in pico_metadata(config).items()
    }
    assert file.metadata == written
    assert list(file.metadata) == list(pico_metadata(config))
    for name, array in pico_weights().items():
        assert file.tensors[gguf_name(name)].shape == array.shape
        np.testing.assert_array_equal(file.array(gguf_name(name)), gguf_rows(config, name, array))


def test_rewriting_a_file_gives_the_same_bytes(pico: Path, tmp_path: Path) -> None:
    file = GGUFFile(pico)
    specs = [GGUFTensorSpec(t.name, t.shape, t.type) for t in file.tensors.values()]
    offsets = write_gguf(
        tmp_path / "copy.gguf", file.metadata, specs, (file.raw(name) for name in file.tensors)
    )
    assert (tmp_path / "copy.gguf").read_bytes() == pico.read_bytes()
    assert offsets == {t.name: t.offset for t in file.tensors.values()}


def test_the_plan_is_the_written_file(pico: Path) -> None:
    file = GGUFFile(pico)
    specs = [GGUFTensorSpec(t.name, t.shape, t.type) for t in file.tensors.values()]
    header, offsets, size = plan_gguf(file.metadata, specs)
    assert pico.read_bytes()[: len(header)] == header
    assert pico.stat().st_size == size
    assert offsets == {t.name: t.offset for t in file.tensors.values()}


def test_the_gguf_package_reads_what_we_write(pico: Path) -> None:
    ours, theirs = GGUFFile(pico), gguf.GGUFReader(pico)
    for key, value in ours.metadata.items():
        assert theirs.fields[key].contents() == value.value
    assert [tensor.name for tensor in theirs.tensors] == list(ours.tensors)
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert (tensor.data_offset, tensor.n_bytes) == (mine.offset, mine.nbytes)
        np.testing.assert_array_equal(tensor.data, ours.array(tensor.name))


def test_we_read_what_the_gguf_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "theirs.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    writer.add_array("words", ["a", "ä", "", "日本"])
    writer.add_float64("pi", 3.14159)
    writer.add_int8("least", -128)
    writer.add_bool("yes", True)
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((3, 5), np.float32)
    packed = gguf.quantize(rng.standard_normal((4, 64), np.float32), Q8_0)
    writer.add_tensor("plain", plain)
    writer.add_tensor("packed", packed, raw_dtype=Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    file = GGUFFile(path)
    assert file.value("general.architecture") == "llama"
    assert file.value("words") == ["a", "ä", "", "日本"]
    assert (file.value("pi"), file.value("least"), file.value("yes")) == (3.14159, -128, True)
    assert file.value("absent") is None
    assert file.value("absent", 7) == 7
    np.testing.assert_array_equal(file.array("plain"), plain)
    assert file.tensors["packed"].shape == (4, 64)
    assert file.tensors["packed"].offset % 64 == 0
    np.testing.assert_array_equal(file.array("packed"), gguf.dequantize(packed, Q8_0))


@pytest.mark.parametrize("kind", [F32, F16, GGMLQuantizationType.BF16])
@pytest.mark.parametrize("tie", [True, False])
def test_llama_cpp_loads_the_pico_model(
    tmp_path: Path, kind: GGMLQuantizationType, tie: bool
) -> None:
    path = pico_gguf(tmp_path / "pico.gguf", tie=tie, type=kind)
    model = llama_cpp.Llama(
        str(path), n_ctx=64, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
    )
    try:
        ids = model.tokenize(b"<|im_start|>user\nthe", add_bos=False, special=True)
        words = GGUFFile(path).value("tokenizer.ggml.tokens")
        assert [words[i] for i in ids] == ["<|im_start|>", "user", "Ċ", "t", "he"]
        model.eval(ids)
        assert np.isfinite(model.scores[: len(ids)]).all()
        assert model.scores[: len(ids)].std() > 0.1
    finally:
        model.close()


@pytest.mark.parametrize(
    "kind", [F32, F16, *(GGMLQuantizationType[n] for n in ("BF16", "Q8_0", "Q4_1", "Q5_0"))]
)
def test_dequantising_equals_the_peer(kind: GGMLQuantizationType) -> None:
    array = np.random.default_rng(1).standard_normal((7, 64), np.float32)
    packed = gguf.quantize(array, gguf.GGMLQuantizationType(kind))
    raw = packed.reshape(-1).view(np.uint8)
    assert raw.nbytes == nbytes_of(array.shape, kind)
    expected = gguf.dequantize(packed, gguf.GGMLQuantizationType(kind))
    np.testing.assert_array_equal(dequantize(raw, kind, array.shape), expected)
    if kind != F32 and kind.name.endswith("16"):
        np.testing.assert_array_equal(encode(array, kind), raw)


def test_encoding_other_types_and_odd_rows_are_mistakes_of_the_caller() -> None:
    with pytest.raises(ValueError, match="quantiser"):
        encode(np.zeros(32, np.float32), Q8_0)
    with pytest.raises(ValueError, match="multiple of 32"):
        nbytes_of((2, 33), Q8_0)


def test_a_type_nobody_reads_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    kind = GGMLQuantizationType.Q8_1
    spec = GGUFTensorSpec("strange", (1, 32), kind)
    write_gguf(path, {}, [spec], [np.zeros(nbytes_of((1, 32), kind), np.uint8)])
    with pytest.raises(InputError, match="strange has type Q8_1"):
        GGUFFile(path).array("strange")
    with pytest.raises(InputError, match="no tensor other"):
        GGUFFile(path).array("other")


_NUMBERS = {
    GGUFValueType.UINT8: st.integers(0, 2**8 - 1),
    GGUFValueType.INT8: st.integers(-(2**7), 2**7 - 1),
    GGUFValueType.UINT16: st.integers(0, 2**16 - 1),
    GGUFValueType.INT16: st.integers(-(2**15), 2**15 - 1),
    GGUFValueType.UINT32: st.integers(0, 2**32 - 1),
    GGUFValueType.INT32: st.integers(-(2**31), 2**31 - 1),
    GGUFValueType.UINT64: st.integers(0, 2**64 - 1),
    GGUFValueType.INT64: st.integers(-(2**63), 2**63 - 1),
    GGUFValueType.FLOAT32: st.floats(width=32, allow_nan=False),
    GGUFValueType.FLOAT64: st.floats(allow_nan=False),
    GGUFValueType.BOOL: st.booleans(),
    GGUFValueType.STRING: st.text()
    | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")),
}


@st.composite
def _values(draw: st.DrawFn) -> GGUFValue:
    kind = draw(st.sampled_from(list(_NUMBERS)))
    if draw(st.booleans()):
        return GGUFValue(kind, draw(_NUMBERS[kind]))
    return GGUFValue.array(kind, draw(st.lists(_NUMBERS[kind], max_size=5)))


@settings(max_examples=30, deadline=None)
@given(metadata=st.dictionaries(st.text(), _values(), max_size=6))
def test_every_value_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, metadata: dict[str, GGUFValue]
) -> None:
    metadata.pop("general.alignment", None)
    path = tmp_path_factory.getbasetemp() / "values.gguf"
    write_gguf(path, metadata, [], [])
    assert GGUFFile(path).metadata == metadata


def test_long_keys_are_read_as_gguf_py_reads_them(tmp_path: Path) -> None:
    metadata = {"ẹ" * 2_730: GGUFValue(GGUFValueType.BOOL, True)}  # 8,190 bytes
    write_gguf(tmp_path / "a.gguf", metadata, [], [])
    assert GGUFFile(tmp_path / "a.gguf").metadata == metadata
    assert [*metadata] == [k for k in gguf.GGUFReader(tmp_path / "a.gguf").fields if "." not in k]
    with pytest.raises(ValueError, match="longer than 65535 bytes"):
        write_gguf(tmp_path / "b.gguf", {"a" * 65_536: metadata["ẹ" * 2_730]}, [], [])
    assert not (tmp_path / "b.gguf").exists()


def _header(
    *, pairs: bytes = b"", n_pairs: int = 0, tensors: bytes = b"", n_tensors: int = 0
) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_pairs) + pairs + tensors


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _entry(name: str, dims: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return _string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def _pad(data: bytes, more: int) -> bytes:
    return data + bytes(-len(data) % 32) + bytes(more)


_HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "0 bytes"),
    "not gguf": (b"PK\x03\x04" + bytes(60), "begins with"),
    "version 1": (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "a trillion pairs": (_header(n_pairs=10**12) + bytes(64), "claims"),
    "a trillion tensors": (_header(n_tensors=10**12) + bytes(64), "claims"),
    "counts that wrap": (_header(n_tensors=2**63, n_pairs=2**63) + bytes(64), "claims"),
    "string beyond the end": (
        _header(n_pairs=1, pairs=struct.pack("<Q", 2**62) + bytes(32)),
        "key 0",
    ),
    "unknown value type": (
        _header(n_pairs=1, pairs=_string("k") + struct.pack("<I", 99) + bytes(8)),
        "unknown type 99",
    ),
    "list of a trillion": (
        _header(n_pairs=1, pairs=_string("k") + struct.pack("<IIQ", 9, 4, 10**12) + bytes(8)),
        "value of 'k'",
    ),
    "list of a trillion strings": (
        _header(n_pairs=1, pairs=_string("k") + struct.pack("<IIQ", 9, 8, 10**12) + bytes(8)),
        "strings",
    ),
    "list of lists": (
        _header(n_pairs=1, pairs=_string("k") + struct.pack("<IIQ", 9, 9, 1) + bytes(16)),
        "list of lists",
    ),
    "a key twice": (
        _header(n_pairs=2, pairs=(_string("k") + struct.pack("<II", 4, 1)) * 2),
        "twice",
    ),
    "alignment 0": (
        _header(n_pairs=1, pairs=_string("general.alignment") + struct.pack("<II", 4, 0)),
        "general.alignment",
    ),
    "alignment 48": (
        _header(n_pairs=1, pairs=_string("general.alignment") + struct.pack("<II", 4, 48)),
        "general.alignment",
    ),
    "no dimensions": (
        _header(n_tensors=1, tensors=_entry("t", ())) + bytes(64),
        "0 dimensions",
    ),
    "five dimensions": (
        _header(n_tensors=1, tensors=_entry("t", (1,) * 5)) + bytes(64),
        "5 dimensions",
    ),
    "an empty tensor": (
        _header(n_tensors=1, tensors=_entry("t", (0, 4))) + bytes(64),
        "empty shape",
    ),
    "dimensions that overflow": (
        _pad(_header(n_tensors=1, tensors=_entry("t", (2**32, 2**32))), 64),
        "tensor t needs",
    ),
    "unknown tensor type": (
        _header(n_tensors=1, tensors=_entry("t", (32,), 4)) + bytes(64),
        "unknown type 4",
    ),
    "rows that are no blocks": (
        _header(n_tensors=1, tensors=_entry("t", (33,), 8)) + bytes(64),
        "multiple of 32",
    ),
    "offset beyond the end": (
        _pad(_header(n_tensors=1, tensors=_entry("t", (4,), 0, 2**63)), 64),
        "tensor t needs",
    ),
    "offset out of step": (
        _pad(_header(n_tensors=1, tensors=_entry("t", (4,), 0, 4)), 64),
        "multiple of 32",
    ),
    "a tensor twice": (
        _pad(_header(n_tensors=2, tensors=_entry("t", (4,)) + _entry("t", (4,), 0, 32)), 64),
        "twice",
    ),
    "overlapping tensors": (
        _pad(_header(n_tensors=2, tensors=_entry("t", (16,)) + _entry("u", (4,), 0, 32)), 64),
        "overlap",
    ),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_hostile_files_are_refused_with_the_place(tmp_path: Path, name: str) -> None:
    data, said = _HOSTILE[name]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        GGUFFile(path)
    assert said in caught.value.message
    assert "hostile.gguf" in caught.value.message


def _small(path: Path) -> bytes:
    metadata = {"a": GGUFValue.string("text"), "b": GGUFValue.array(GGUFValueType.INT32, [1, 2])}
    specs = [GGUFTensorSpec("x", (2, 32), Q8_0), GGUFTensorSpec("y", (3,), F32)]
    write_gguf(path, metadata, specs, [np.zeros(68, np.uint8), np.ones(3, np.float32)])
    return path.read_bytes()


def _read_all(path: Path) -> None:
    file = GGUFFile(path)
    for name in file.tensors:
        file.array(name)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = _small(tmp_path / "whole.gguf")
    path = tmp_path / "cut.gguf"
    for length in range(len(whole) - 20):  # the last 20 bytes are padding
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            _read_all(path)


def test_no_flipped_byte_does_more_than_an_input_error(tmp_path: Path) -> None:
    whole = bytearray(_small(tmp_path / "whole.gguf"))
    path = tmp_path / "flipped.gguf"
    refused = 0
    for position in range(len(whole)):
        for value in (0x00, 0xFF):
            flipped = whole.copy()
            flipped[position] = value
            path.write_bytes(flipped)
            try:
                _read_all(path)
            except InputError:
                refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.mkdir()], ids=["missing", "folder"]
)
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / "x.gguf")
    with pytest.raises(InputError, match=r"x\.gguf"):
        GGUFFile(tmp_path / "x.gguf")


@pytest.mark.parametrize("data", [[np.zeros(3, np.float32)], [], [np.zeros(4, np.float32)] * 2])
def test_a_failed_write_leaves_nothing(tmp_path: Path, data: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"bytes|argument"):
        write_gguf(tmp_path / "x.gguf", {}, [GGUFTensorSpec("t", (4,), F32)], data)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", [["t", "t"], ["n" * 64]])
def test_names_llama_cpp_would_refuse_are_not_written(names: list[str]) -> None:
    with pytest.raises(ValueError, match="repeated or too long"):
        plan_gguf({}, [GGUFTensorSpec(name, (4,), F32) for name in names])
