from __future__ import annotations

from pathlib import Path

import pytest

from m2m.checkpoint.starter import locate
from m2m.errors import InputError


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Qwen2.5-0.5B.gguf", "qwen2.5-0.5b"),
        ("Gemma 3 (1B)-00002-of-00003.gguf", "gemma-3-1b"),
        ("Qwen3-0.6B/config.json", "qwen3-0.6b"),
    ],
)
def test_a_model_is_called_as_its_file_or_folder(tmp_path: Path, file: str, name: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.touch()
    source = path if path.suffix == ".gguf" else path.parent
    found = locate(str(source), tmp_path, None, None)
    assert (found.path, found.name) == (source, name)
    assert locate(str(source), tmp_path, "mine", None).name == "mine"


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        locate(str(tmp_path / "absent"), tmp_path, None, None)
