"""Import of GGUF models that are split into parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from m2m.checkpoint import BaseModel, import_model
from m2m.errors import InputError
from m2m.formats.gguf import GGUFFile, GGUFTensorSpec, GGUFValue, GGUFValueType, write_gguf
from tests.test_checkpoint import llama_logits
from tests.tiny import pico_gguf


def split(source: Path, parts: int) -> list[Path]:
    """Cut a file as llama-gguf-split does: metadata in the first part, split.* in all."""
    file, made = GGUFFile(source), []
    names = np.array_split(list(file.tensors), parts)
    kind = GGUFValueType.UINT16
    for number, mine in enumerate(names):
        metadata = dict(file.metadata) if number == 0 else {}
        metadata |= {
            "split.no": GGUFValue(kind, number),
            "split.tensors.count": GGUFValue(GGUFValueType.INT32, len(file.tensors)),
            "split.count": GGUFValue(kind, parts),
        }
        specs = [
            GGUFTensorSpec(name, file.tensors[name].shape, file.tensors[name].type)
            for name in map(str, mine)
        ]
        path = source.with_name(f"{source.stem}-{number + 1:05}-of-{parts:05}.gguf")
        write_gguf(path, metadata, specs, (file.raw(spec.name) for spec in specs))
        made.append(path)
    return made


@pytest.mark.parametrize("given", [0, 1, 2])
def test_any_part_stands_for_the_model(tmp_path: Path, given: int) -> None:
    source = pico_gguf(tmp_path / "x.gguf")
    parts = split(source, 3)
    import_model(parts[given], tmp_path / "m", name="m")
    import_model(source, tmp_path / "whole", name="whole")
    model, whole = (BaseModel.open(tmp_path / name) for name in ("m", "whole"))
    for name in ("base.gguf", "config.json"):
        assert (model.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert not any(key.startswith("split.") for key in model.gguf.metadata)
    assert model.info.source == parts[given].name


def test_llama_cpp_reads_these_parts(tmp_path: Path) -> None:
    source = pico_gguf(tmp_path / "x.gguf")
    ids = [1, 50, 120, 7]
    np.testing.assert_array_equal(llama_logits(split(source, 3)[0], ids), llama_logits(source, ids))


def _swap(parts: list[Path]) -> None:
    data = [path.read_bytes() for path in parts[1:]]
    parts[1].write_bytes(data[1])
    parts[2].write_bytes(data[0])


def _mix(parts: list[Path]) -> None:
    other = pico_gguf(parts[0].with_name("y.gguf"), layers=3)
    split(other, 3)[2].replace(parts[2])


_BROKEN: dict[str, tuple[Callable[[list[Path]], object], str]] = {
    "a missing part": (lambda parts: parts[1].unlink(), "1 of 3 parts are missing.*00002-of-00003"),
    "another name": (lambda parts: parts[0].rename(parts[0].with_name("z.gguf")), "split into 3"),
    "another order": (_swap, "x-00002-of-00003.gguf says that it is number 2 of 3"),
    "parts of two models": (_mix, "tensors in all parts"),
}


@pytest.mark.parametrize("case", _BROKEN)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, case: str) -> None:
    parts = split(pico_gguf(tmp_path / "x.gguf"), 3)
    damage, said = _BROKEN[case]
    damage(parts)
    given = parts[0] if parts[0].exists() else tmp_path / "z.gguf"
    with pytest.raises(InputError, match=said):
        import_model(given, tmp_path / "m", name="m")
    assert not (tmp_path / "m").exists()
