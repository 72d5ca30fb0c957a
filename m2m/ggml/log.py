"""Keep the log of llama.cpp and ggml instead of printing it, so that errors can quote it."""

from __future__ import annotations

import atexit
import ctypes
import re
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from m2m.errors import LlamaError

# enum ggml_log_level, ggml.h
LEVEL_INFO, LEVEL_WARN, LEVEL_ERROR, LEVEL_CONT = 2, 3, 4, 5

# typedef void (*ggml_log_callback)(enum ggml_log_level level, const char * text, void * user_data);
LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class LlamaLog:
    """The last lines that llama.cpp logged, with their levels.

    C threads may call the callback at any time; it only appends, and never raises into C.
    """

    def __init__(self, keep: int = 400) -> None:
        self._lines: deque[tuple[int, int, str]] = deque(maxlen=keep)
        self._lock = threading.Lock()
        self._count = 0
        self.callback = LogCallback(self._receive)  # C holds the address: keep this reference

    def _receive(self, level: int, text: bytes | None, _data: Any) -> None:
        piece = (text or b"").decode("utf-8", "replace").rstrip("\n")
        with self._lock:
            if level == LEVEL_CONT and self._lines:
                number, before, line = self._lines[-1]
                self._lines[-1] = (number, before, line + piece)
            elif piece:
                self._count += 1
                self._lines.append((self._count, level, piece))

    def mark(self) -> int:
        """Return a position in the log, for later questions about lines after it."""
        return self._count

    def complaints(self, mark: int = 0, limit: int = 6) -> list[str]:
        """Return the last warnings and errors logged after `mark`, at most `limit` of them."""
        with self._lock:
            lines = [
                line
                for number, level, line in self._lines
                if number > mark and level in (LEVEL_WARN, LEVEL_ERROR)
            ]
        return lines[-limit:]

    def lines(self, mark: int = 0) -> list[str]:
        """Return the stored lines of any level logged after `mark`."""
        with self._lock:
            return [line for number, _, line in self._lines if number > mark]

    def error(self, message: str, mark: int = 0, hint: str | None = None) -> LlamaError:
        """Return an error that ends with llama.cpp's complaints after `mark`."""
        complaints = [f"  llama.cpp: {line}" for line in self.complaints(mark)]
        return LlamaError("\n".join([message, *complaints]), hint)


LOG = LlamaLog()


def install(log_set: Any) -> None:
    """Send the log to `LOG`; restore the default before the interpreter ends."""
    log_set(LOG.callback, None)
    atexit.register(log_set, LogCallback(), None)


_BUFFER = re.compile(r"(?<!\S)(\S+) model buffer size =")


def all_mapped(lines: Sequence[str]) -> bool:
    """Return whether llama.cpp uses all weights in the mapped file, without a copy.

    Only llama.cpp's log says so (`load_tensors: CPU_Mapped model buffer size = ...`). If it says
    nothing, the weights count as copied.
    """
    places = [match[1] for line in lines if (match := _BUFFER.search(line))]
    return bool(places) and all(place.endswith("_Mapped") for place in places)
