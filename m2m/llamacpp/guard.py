"""Try a GGUF from elsewhere in a child process before this process loads it.

m2m checks the parts of a file that it reads. But llama.cpp reads more, and if it aborts or crashes
there, its whole process ends. So a child first loads such a file with its vocabulary and decodes
a token. If the child dies, m2m raises an error that gives the reason.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from m2m.errors import LlamaError, M2MError
from m2m.limits import CPU_SIGNAL, limit_self, refuse_ended
from m2m.llamacpp.applied_lora import AdaptedModel
from m2m.llamacpp.model import LlamaModel

_REFUSED, _PARTED = 3, 4
_AGREE = "--agree"
_UNKNOWN = (
    "the file has a trait that one of the two does not follow: use another GGUF of the model, or "
    "its Hugging Face folder; if it is a model that you need, report it with its name"
)
# Limits for the child, from the size of its files in bytes. Honest files need a tenth of them.
_ADDRESSES = 8 << 30  # Python, NumPy's buffers for threads, llama.cpp, a context of 256 cells
_COPIES = 3  # the mapped file, weights in a faster layout, and spare memory
_CPU_SECONDS, _BYTES_A_SECOND = 120, 16 << 20
_LOADED: set[tuple[object, ...]] = set()  # files that a child of this process has loaded
SECONDS = 600  # reading a large file from a slow USB stick takes minutes
_START = "import sys; from m2m.llamacpp.guard import main; main(*sys.argv[1:])"


def check_import(path: Path, seconds: float = SECONDS) -> None:
    """Load a new base.gguf in a child process, and compare m2m's computation with llama.cpp's.

    Raises:
        LlamaError: llama.cpp refuses the file, crashes on it or hangs, or computes another model.
    """
    check_loads(path, None, seconds, agree=True)


def check_loads(
    path: Path, lora: Path | None = None, seconds: float = SECONDS, *, agree: bool = False
) -> None:
    """Load a model in a child process, with an adapter on it if one is given.

    With `agree`, also compare m2m's computation with llama.cpp's.

    Raises:
        LlamaError: llama.cpp refuses the file, crashes on it, or hangs.
    """
    files = [str(path.absolute()), *([str(lora.absolute())] if lora else [])]
    named = " with ".join(map(str, [path, *([lora] if lora else [])]))
    hint = "the file is damaged or was made to do harm: get it again, from its maker"
    tried = (agree, *(identity(Path(file)) for file in files))
    if tried in _LOADED and not agree:  # what m2m computes depends on other files too
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", _START, *files, *([_AGREE] if agree else [])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LlamaError(f"{named}: llama.cpp hangs on this file", hint) from None
    if done.returncode in (_REFUSED, _PARTED):
        reason = done.stdout.decode("utf-8", "replace").strip()
        raise LlamaError(reason, hint if done.returncode == _REFUSED else _UNKNOWN)
    if CPU_SIGNAL and done.returncode == -CPU_SIGNAL:
        most = _limits(files)[1]
        raise LlamaError(f"{named}: llama.cpp computes more than {most} s at this file", hint)
    refuse_ended(done.returncode, f"while llama.cpp tried {named}")
    if done.returncode != 0:
        reason = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        raise LlamaError(f"{named}: llama.cpp crashes on this file ({reason})", hint)
    _LOADED.add(tried)


def identity(path: Path) -> tuple[int, ...]:
    """Return numbers that change if a file is replaced or written to; none for a missing one."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def load_once(
    path: Path, lora: Path | None = None, compare: Callable[[LlamaModel], None] | None = None
) -> None:
    """Load a model here and run everything that m2m needs from it; raise M2MError if it fails.

    compare: gets the model, which then has an exact cache.
    """
    if lora:
        opened: LlamaModel = AdaptedModel(path, lora, threads=1)
    else:
        opened = LlamaModel(path, threads=1, exact_cache=compare is not None)
    with opened as model:
        for token in range(model.vocab_size):
            model.piece(token, special=True)
            model.ends_generation(token)
        model.logits(model.tokenize("Habari? 1 2\n", special=True)[:8] or [0])
        if compare is not None:
            compare(model)


def _limits(files: Sequence[str]) -> tuple[int, int]:
    """Return the limits for a child that loads these files: address space in bytes, CPU seconds."""
    size = sum(Path(file).stat().st_size for file in files)
    return _ADDRESSES + _COPIES * size, _CPU_SECONDS + size // _BYTES_A_SECOND


def main(path: str, *options: str) -> None:
    """Run in the child; if it refuses, exit with code 3 or 4 and the message on stdout.

    options: the file of an adapter, or `_AGREE`.
    """
    agree = _AGREE in options
    lora = None if agree or not options else options[0]
    # macOS ignores the limit of memory, and Windows has neither: there only wall time is limited.
    limit_self(*_limits([path, *([lora] if lora else [])]))
    code = _REFUSED

    def compare(model: LlamaModel) -> None:
        from m2m.llamacpp.logit_check import check_agreement  # takes as long as loading

        nonlocal code
        code = _PARTED
        check_agreement(Path(path), model)

    try:
        load_once(Path(path), Path(lora) if lora else None, compare if agree else None)
    except M2MError as error:
        sys.stdout.buffer.write(error.message.encode("utf-8", "replace"))
        sys.exit(code)
    except MemoryError:
        sys.stdout.buffer.write(f"{path}: llama.cpp needs too much memory".encode())
        sys.exit(_REFUSED)
