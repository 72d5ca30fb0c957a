from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from m2m.formats.mapped import map_file, release

SIZE = 24 << 20


def resident() -> int:
    """Bytes of mapped files in this process's memory."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssFile:")[1].split()[0]) << 10


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_released_view_is_out_of_memory_and_reads_as_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(0).bytes(SIZE))
    view = map_file(path, "test", 1)
    before, total = resident(), int(view.sum(dtype=np.int64))
    assert resident() - before > 0.9 * SIZE
    release(view[12345 : SIZE - 3].view(np.uint8))
    assert resident() - before < 0.1 * SIZE
    assert int(view.sum(dtype=np.int64)) == total
    release(view[: 1 << 20])  # small views stay
    assert resident() - before > 0.9 * SIZE


def test_what_is_written_into_a_shared_map_survives_its_release(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    view = np.memmap(path, np.uint8, mode="r+").view(np.ndarray)
    view[:] = 7
    release(view)
    assert (view == 7).all()


def test_arrays_that_are_nowhere_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(SIZE))
    anonymous = np.frombuffer(mmap.mmap(-1, SIZE), np.uint8)
    private = np.memmap(tmp_path / "file", np.uint8, mode="c").view(np.ndarray)
    for array in (np.empty(SIZE, np.uint8), anonymous, private):
        array[:] = 1
        release(array)
        release(array[: SIZE // 2])
        assert array.all()
