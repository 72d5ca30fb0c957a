"""Try a GGUF from elsewhere in a child process before this process loads it.

m2m checks the parts of a file that it reads. But llama.cpp reads more, and if it aborts or crashes
there, its whole process ends. So a child first loads such a file with its vocabulary and decodes
a token. If the child dies, m2m raises an error that gives the reason.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from m2m.errors import LlamaError, M2MError
from m2m.limits import CPU_SIGNAL, limit_self
from m2m.llamacpp.adapter import AdaptedModel
from m2m.llamacpp.model import LlamaModel

_REFUSED = 3
# Limits for the child, from the size of its files in bytes. Honest files need a tenth of them.
_ADDRESSES = 8 << 30  # Python, NumPy's buffers for threads, llama.cpp, a context of 256 cells
_COPIES = 3  # the mapped file, weights in a faster layout, and spare memory
_CPU_SECONDS, _BYTES_A_SECOND = 120, 16 << 20
SECONDS = 600  # reading a large file from a slow USB stick takes minutes
_START = "import sys; from m2m.llamacpp.guard import main; main(*sys.argv[1:])"


def check_loads(path: Path, lora: Path | None = None, seconds: float = SECONDS) -> None:
    """Load a model in a child process, with an adapter on it if one is given.

    Raises:
        LlamaError: llama.cpp refuses the file, crashes on it, or hangs.
    """
    files = [str(path.absolute()), *([str(lora.absolute())] if lora else [])]
    named = " with ".join(map(str, [path, *([lora] if lora else [])]))
    hint = "the file is damaged or was made to do harm: get it again, from its maker"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _START, *files],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LlamaError(f"{named}: llama.cpp hangs on this file", hint) from None
    if done.returncode == _REFUSED:
        raise LlamaError(done.stdout.decode("utf-8", "replace").strip(), hint)
    if CPU_SIGNAL and done.returncode == -CPU_SIGNAL:
        most = _limits(files)[1]
        raise LlamaError(f"{named}: llama.cpp computes more than {most} s at this file", hint)
    if done.returncode != 0:
        reason = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        raise LlamaError(f"{named}: llama.cpp crashes on this file ({reason})", hint)


def load_once(path: Path, lora: Path | None = None) -> None:
    """Load a model here and run everything that m2m needs from it; raise M2MError if it fails."""
    opened = AdaptedModel(path, lora, threads=1) if lora else LlamaModel(path, threads=1)
    with opened as model:
        for token in range(model.vocab_size):
            model.piece(token, special=True)
            model.ends_generation(token)
        model.logits(model.tokenize("Habari? 1 2\n", special=True)[:8] or [0])


def _limits(files: Sequence[str]) -> tuple[int, int]:
    """Return the limits for a child that loads these files: address space in bytes, CPU seconds."""
    size = sum(Path(file).stat().st_size for file in files)
    return _ADDRESSES + _COPIES * size, _CPU_SECONDS + size // _BYTES_A_SECOND


def main(path: str, lora: str | None = None) -> None:
    """Run in the child; if llama.cpp refuses, exit with code 3 and the message on stdout."""
    # macOS ignores the limit of memory, and Windows has neither: there only wall time is limited.
    limit_self(*_limits([path, *([lora] if lora else [])]))
    try:
        load_once(Path(path), Path(lora) if lora else None)
    except M2MError as error:
        sys.stdout.buffer.write(error.message.encode("utf-8", "replace"))
        sys.exit(_REFUSED)
    except MemoryError:
        sys.stdout.buffer.write(f"{path}: llama.cpp needs too much memory".encode())
        sys.exit(_REFUSED)
