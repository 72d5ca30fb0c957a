"""The parent's side: one child process for all strangers' templates, started when needed.

The child has almost no environment, no open files except two pipes, and limits that the operating
system enforces (m2m.limits). If it exceeds a limit, it ends, and m2m refuses the template's file.
If a child ends for another reason, m2m starts one new child and asks it again: that child did
nothing before, so m2m does not refuse one template because of another.
"""

from __future__ import annotations

import atexit
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import astuple
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from m2m.errors import Interrupted, LimitError, M2MError, ResourceError
from m2m.limits import CPU_SIGNAL, MIB, STOPPED, Limits, confine, watches_memory
from m2m.machine import resident_bytes_of
from m2m.templates.message import LENGTH, OUT_OF_MEMORY, packed, unpacked

LIMITS = Limits()

_MAX_REQUEST = 64 * MIB  # bytes of JSON; more would not fit into the child's memory
_MAX_REPLY = 128 * MIB  # a text of 16 Mi characters, six bytes of JSON each, and a reserve
# A text may be longer than its template by this many characters + this many per byte of values.
_SPARE, _REPEATED = 256 * 1024, 16
_KEPT = 64  # compiled templates in a child
_TICK = 0.25  # seconds between two looks at a child that works
_START = (
    "import sys; sys.path += sys.argv[4:]; "
    "from m2m.templates.child import main; main(*sys.argv[1:4])"
)
# Variables that Python itself may need to start, for example the path of its libraries.
_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH", "SYSTEMROOT")
_PACKAGES = ("m2m", "jinja2", "markupsafe")


class _Lost(Exception):
    """The child has ended; the reason is one of these, or the way in which it ended."""

    MEMORY, CPU, WALL = "memory", "processor", "wall"


class Process:
    """A running child."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.kept: set[int] = set()  # numbers of templates that it has compiled
        self.requests = 0
        self._busy = False
        self._reason = ""
        self._closed = threading.Event()
        try:
            self._process = subprocess.Popen(
                _command(limits),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            )
        except OSError as error:
            raise _not_started(error) from error
        try:
            self._job = confine(self._process.pid, limits)
            threading.Thread(target=self._watch, daemon=True).start()
        except (OSError, RuntimeError) as error:  # no job object, or no more threads
            self.close()
            raise _not_started(error) from error

    def ask(self, message: bytes) -> bytes:
        """Send a request and return the answer; any error ends the child.

        Raises:
            _Lost: the child has exceeded a limit, or has ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise AssertionError("the child has pipes")
        self.requests += 1
        self._busy = True
        try:
            _write(stdin, message)
            size = LENGTH.unpack(_read(stdout, LENGTH.size))[0]
            if size > _MAX_REPLY:
                self._end(_Lost.MEMORY)
                raise _Lost
            return _read(stdout, size)
        except OSError as error:  # the other end of the pipe is closed
            raise _Lost from error
        except _Lost:
            raise
        except BaseException:  # a late answer must not count as the answer to the next request
            self.close()
            raise
        finally:
            self._busy = False

    def fate(self) -> str:
        """Return the reason why the child has ended."""
        self.close(grace=5)
        code = self._process.returncode
        if self._reason:
            return self._reason
        if code == OUT_OF_MEMORY:
            return _Lost.MEMORY
        if code == -CPU_SIGNAL and CPU_SIGNAL:
            return _Lost.CPU
        if code in STOPPED:  # before it could ignore that
            raise Interrupted("stopped while a template was read")
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def close(self, grace: float = 0) -> None:
        """Stop the child process; it is safe to call this twice.

        Args:
            grace: seconds that it gets to end by itself.
        """
        self._closed.set()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait()
        self._close_pipes()

    def disown(self) -> None:
        """Release the child in a process that was forked from its parent."""
        self._close_pipes()
        self._process.returncode = 0  # the parent waits for it

    def _close_pipes(self) -> None:
        for pipe in filter(None, (self._process.stdin, self._process.stdout)):
            pipe.close()

    def _watch(self) -> None:
        """End a child that works on one request for too long.

        It counts its checks, not the seconds: time in which the machine slept does not count.
        """
        last, looks = 0, 0
        while not self._closed.wait(_TICK):
            looks = looks + 1 if self._busy and self.requests == last else 0
            last = self.requests
            pid, most = self._process.pid, self.limits.memory
            if looks and watches_memory() and resident_bytes_of(pid) > most:
                self._end(_Lost.MEMORY)
            if looks * _TICK > self.limits.wall:
                self._end(_Lost.WALL)

    def _end(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._process.kill()


class Refused(Exception):
    """The child refused: the template or text is malformed, or does not fit the values.

    Attributes:
        line: the line of the template, if it is known.
    """

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


class Template:
    """A template that the child compiles and renders.

    Args:
        source: its text.
        style: "chat" renders like transformers and llama.cpp, "text" like lm-evaluation-harness.
        name: its name in errors; it should name the file.
        day: the date that the template uses as today, in ISO form.

    Raises:
        Refused: the source is not valid Jinja.
        LimitError: compiling it exceeds a limit.
    """

    def __init__(self, source: str, style: str, name: str, day: str) -> None:
        self._name, self.number = name, next(NUMBERS)
        self._definition = {"source": source, "style": style, "day": day}
        RENDERER.ask(name, self.kept)

    def render(self, values: Mapping[str, Any], today: str | None = None) -> str:
        """Return the text for these values.

        Args:
            values: values that JSON can hold.
            today: the text that `strftime_now` writes instead of the day.

        Raises:
            Refused: the values do not fit, or the template does not end.
            LimitError: the template exceeds a limit.
        """
        message = message_of("render", number=self.number, values=values, today=today)

        def ask(process: Process) -> bytes:
            if self.number not in process.kept:
                self.kept(process)
            return process.ask(message)

        text = str(RENDERER.ask(self._name, ask))
        most = _SPARE + len(self._definition["source"]) + _REPEATED * len(message)
        if len(text) > most:
            raise Refused(f"it writes {len(text):,} characters, expected at most {most:,}", None)
        return text

    def variables(self) -> set[str]:
        """Return the names that the template takes from the program that renders it."""
        message = message_of("variables", **self._definition)
        return set(RENDERER.ask(self._name, lambda process: process.ask(message)))

    def kept(self, process: Process) -> bytes:
        """Let the child compile and keep the template."""
        return keep(process, "compile", self.number, self._definition)


def keep(process: Process, do: str, number: int, definition: Mapping[str, Any]) -> bytes:
    """Let a child compile and keep a template or function."""
    forget = len(process.kept) >= _KEPT
    if forget:
        process.kept.clear()
    reply = process.ask(message_of(do, number=number, forget=forget, **definition))
    process.kept.add(number)
    return reply


class _Renderer:
    """Passes requests to a child process; starts it at the first request."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._lock = threading.Lock()
        atexit.register(self.close)
        if sys.platform != "win32":
            os.register_at_fork(after_in_child=self._forked)

    def ask(self, name: str, request: Callable[[Process], bytes]) -> Any:
        """Return the child's answer to a request.

        Args:
            name: the subject of the request, for errors.
            request: sends the request. It is called again with a new child if the first one ends
                for a reason that an earlier request may have caused.

        Raises:
            Refused: the child refuses the request.
            LimitError: the request exceeds a limit.
            ResourceError: the child cannot be started, or ends for an unknown reason.
        """
        with self._lock:
            while True:
                if self._process is None or self._process.limits is not LIMITS:
                    self.close()
                    self._process = Process(LIMITS)
                process, first = self._process, self._process.requests == 0
                try:
                    done, *answer = unpacked(request(process))
                    break
                except _Lost:
                    self._process = None
                    fate = process.fate()
                    if first or fate == _Lost.CPU:
                        raise _error(name, fate, process.limits) from None
                except BaseException:
                    self._process = None
                    process.close()
                    raise
        if not done:
            raise Refused(*answer)
        return answer[0]

    def _forked(self) -> None:
        """Release the child after a fork: two processes would read each other's answers."""
        process, self._process, self._lock = self._process, None, threading.Lock()
        if process:
            process.disown()

    def close(self) -> None:
        """End the child, if there is one."""
        process, self._process = self._process, None
        if process:
            process.close()


def _not_started(error: Exception) -> ResourceError:
    what = f"the process that renders templates: {getattr(error, 'strerror', None) or error}"
    return ResourceError(f"cannot start {what}", "close other programs, or allow more processes")


NUMBERS = itertools.count()
RENDERER = _Renderer()


def _command(limits: Limits) -> list[str]:
    """Return the command of a Python without user settings, with only the needed packages."""
    # In a virtual environment, `python.exe` starts another process, which the job does not allow.
    python = getattr(sys, "_base_executable", "") if sys.platform == "win32" else sys.executable
    origins = [spec.origin for name in _PACKAGES if (spec := find_spec(name)) and spec.origin]
    folders = dict.fromkeys(str(Path(origin).parents[1]) for origin in origins)
    return [python, "-I", "-S", "-B", "-c", _START, *map(str, astuple(limits)), *folders]


def message_of(do: str, **arguments: Any) -> bytes:
    """Return a request to the child."""
    try:
        message = packed({"do": do, "with": arguments})
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(f"a template cannot be given this: {error}", None) from error
    if len(message) > _MAX_REQUEST:
        size = len(message) // MIB
        raise Refused(f"{size} MiB are more than a template is given ({_MAX_REQUEST // MIB})", None)
    return message


def _write(pipe: IO[bytes], data: bytes) -> None:
    """Write all of `data`; one write to a pipe may take only a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[pipe.write(rest) :]


def _read(pipe: IO[bytes], size: int) -> bytes:
    """Read `size` bytes.

    Raises:
        _Lost: there are fewer bytes.
    """
    data = pipe.read(size)
    if len(data) == size:
        return data
    pieces = [data]
    while data and (size := size - len(data)):
        data = pipe.read(min(size, MIB))
        pieces.append(data)
    if not data:
        raise _Lost
    return b"".join(pieces)


def _error(name: str, fate: str, limits: Limits) -> M2MError:
    most = {
        _Lost.MEMORY: f"{limits.memory // MIB} MiB of memory, or is nested too deeply",
        _Lost.CPU: f"{limits.cpu} seconds of processor time",
    }
    if fate in most:
        return LimitError(
            f"{name} needs more than {most[fate]}: m2m refuses it",
            "it is damaged or was made to do harm: get the file again, from its maker, or delete "
            "the template from it",
        )
    if fate == _Lost.WALL:
        return ResourceError(
            f"{name}: no answer within {limits.wall} seconds from the process that renders it, "
            "which may lack processor time or memory, or be stuck",
            "try again when this machine has less to do; if it happens again, do not use the file",
        )
    return ResourceError(
        f"{name}: the process that renders it ended twice without a message ({fate}); the system "
        "ends processes if memory runs out, and a template may crash Python",
        "close other programs and try again; if it happens again, do not use the file",
    )
