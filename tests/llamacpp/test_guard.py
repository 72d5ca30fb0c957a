"""A GGUF is tried in a child process; only a crash of that child accuses the file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from m2m.errors import Interrupted, LlamaError, M2MError, ResourceError
from m2m.limits import refuse_ended
from m2m.llamacpp import guard
from tests.tiny import pico_gguf


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
@pytest.mark.parametrize("check", [guard.check_loads, guard.check_import])
@pytest.mark.parametrize(
    ("sent", "kind", "said"),
    [
        ("SIGINT", Interrupted, "stopped while llama.cpp tried .*x.gguf"),
        ("SIGTERM", Interrupted, "stopped"),
        ("SIGHUP", Interrupted, "stopped"),
        ("SIGKILL", ResourceError, "the system ended a process while .* if memory runs out"),
        ("SIGSEGV", LlamaError, r"crashes on this file \(signal 11\)"),
    ],
)
def test_a_file_is_not_blamed_for_a_child_that_others_end(
    check: Callable[[Path], None],
    sent: str,
    kind: type[M2MError],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = f"import os, signal; os.kill(os.getpid(), signal.{sent})"
    if sent in ("SIGINT", "SIGHUP"):  # shells ignore them in what they start in the background
        code = f"import signal; signal.signal(signal.{sent}, signal.SIG_DFL); {code}"
    monkeypatch.setattr(guard, "_START", code)
    monkeypatch.setattr(guard, "_LOADED", set())
    with pytest.raises(kind, match=said):
        check(pico_gguf(tmp_path / "x.gguf"))


def test_codes_of_windows_are_not_blamed_on_a_file() -> None:
    with pytest.raises(Interrupted):
        refuse_ended(0xC000013A, "while x was read")  # Ctrl-C
    with pytest.raises(ResourceError):
        refuse_ended(0xC0000017, "while x was read")  # no memory
    for code in (0, 1, -11, 0xC0000005):
        refuse_ended(code, "while x was read")
