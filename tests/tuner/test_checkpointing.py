"""A state comes back as it was, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2m.errors import InputError
from m2m.tuner.checkpointing import checkpoint_path, load_checkpoint, save_checkpoint

PROGRESS = {"step": 3, "losses": [0.1, 1 / 3], "position": [1, 2]}


def arrays() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    rng = np.random.default_rng(0)
    return {
        "layer.a": rng.standard_normal((3, 4)).astype(np.float32),
        "layer.b": rng.standard_normal((5,)).astype(np.float32),
    }


def test_it_lies_beside_the_folder(tmp_path: Path) -> None:
    assert checkpoint_path(tmp_path / "x.y") == tmp_path / "x.y.checkpoint.safetensors"


def test_every_bit_comes_back(tmp_path: Path) -> None:
    saved = arrays()
    save_checkpoint(tmp_path / "deep" / "c", "me", PROGRESS, saved)
    into = {name: np.zeros_like(array) for name, array in saved.items()}
    assert load_checkpoint(tmp_path / "deep" / "c", "me", into) == PROGRESS
    for name, array in saved.items():
        assert into[name].tobytes() == array.tobytes()


def test_only_the_same_run_goes_on(tmp_path: Path) -> None:
    into = arrays()
    assert load_checkpoint(tmp_path / "c", "me", into) is None
    save_checkpoint(tmp_path / "c", "you", PROGRESS, arrays())
    into["layer.b"][:] = 7
    assert load_checkpoint(tmp_path / "c", "me", into) is None
    assert (into["layer.b"] == 7).all()


@pytest.mark.parametrize("damage", ["cut", "other shape", "missing", "no header"])
def test_damage_is_refused_with_the_way_out(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c"
    saved = arrays()
    if damage == "other shape":
        saved["layer.a"] = saved["layer.a"][:2]
    if damage == "missing":
        del saved["layer.b"]
    save_checkpoint(path, "me", PROGRESS, saved)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-4])
    if damage == "no header":
        path.write_bytes(path.read_bytes().replace(b"m2m_training", b"xxx_training"))
    with pytest.raises(InputError) as caught:
        load_checkpoint(path, "me", arrays())
    assert str(path) in caught.value.message
    assert "delete" in (caught.value.hint or "")
