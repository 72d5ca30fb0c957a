"""Windows of a text give llama-perplexity's number; run as a program, this file records golden.

The tool is built from llama.cpp's own sources (`cmake --build build --target llama-perplexity`)
and named in $LLAMA_PERPLEXITY.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_cpp", reason="the venv of m2m itself has it")

from m2m.formats.gguf import GGUFValue
from tests.evaluate.perplexity import CASES, GOLDEN, SENTENCES, measured
from tests.tiny import pico_gguf

TOOL = os.environ.get("LLAMA_PERPLEXITY", "")
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not TOOL, reason="set LLAMA_PERPLEXITY to the built tool"),
]


def tool_says(model: Path, window: int) -> float:
    """PPL as the tool's last line gives it."""
    command = [TOOL, "-m", model, "-f", SENTENCES, "-c", window, "-b", window, "-t", 1]
    options = ["--no-escape", "-fa", "off", "-ctk", "f32", "-ctv", "f32"]
    run = subprocess.run(
        [*map(str, command), *options], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    found = re.search(r"Final estimate: PPL = ([0-9.]+)", run.stderr + run.stdout)
    assert found, run.stderr[-2000:]
    return float(found.group(1))


def model_with(folder: Path, adds_bos: bool) -> Path:
    return pico_gguf(
        folder / "pico.gguf",
        metadata={"tokenizer.ggml.add_bos_token": GGUFValue.boolean(adds_bos)},
    )


@pytest.mark.parametrize(("window", "adds_bos"), CASES)
def test_perplexity_is_the_tools(tmp_path: Path, window: int, adds_bos: bool) -> None:
    model = model_with(tmp_path, adds_bos)
    assert measured(model, window) == pytest.approx(tool_says(model, window), rel=1e-5)


def record() -> None:
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for window, adds_bos in CASES:
            value = tool_says(model_with(Path(folder), adds_bos), window)
            found.append({"window": window, "adds_bos": adds_bos, "perplexity": value})
    about = "llama-perplexity of llama-cpp-python 0.3.36 on the pico model and sentences.txt"
    text = json.dumps({"about": about, "cases": found}, indent=1)
    GOLDEN.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
