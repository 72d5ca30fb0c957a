"""Set hard limits on a child process, which the operating system enforces.

| system | memory | processor time | wall time |
| --- | --- | --- | --- |
| Linux and other Unix | RLIMIT_AS | RLIMIT_CPU | the parent waits |
| macOS | the parent checks (RLIMIT_AS is ignored there) | RLIMIT_CPU | the parent waits |
| Windows | a job object | by the wall time | the parent waits |

On Unix, the child limits itself before it reads anything of a stranger. On Windows, the parent puts
it into the job object before it sends anything. Only Linux has been tried.
"""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import dataclass

from m2m.errors import Interrupted, ResourceError

MIB = 2**20
# Exit codes of children that others ended: SIGHUP, SIGINT, SIGTERM, and STATUS_CONTROL_C_EXIT of
# winnt.h; for lack of memory: SIGKILL, STATUS_NO_MEMORY and STATUS_COMMITMENT_LIMIT.
STOPPED, _KILLED = {-1, -2, -15, 0xC000013A}, {-9, 0xC0000017, 0xC000012D}

if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    CPU_SIGNAL = 0
else:
    import resource

    CPU_SIGNAL = signal.SIGXCPU


@dataclass(frozen=True)
class Limits:
    """The limits of one request to a child.

    Attributes:
        memory: bytes of address space of the whole child, Python and Jinja (25 MiB) included.
        cpu: seconds of processor time. An honest template takes a thousandth of a second.
        wall: seconds on the clock, for a child that is stuck without computing.
    """

    memory: int = 512 * MIB
    cpu: int = 10
    wall: int = 120


def refuse_ended(code: int, work: str) -> None:
    """Raise if others ended a child process: its exit code says nothing about the files it read."""
    if code in STOPPED:
        raise Interrupted(f"stopped {work}")
    if code in _KILLED:
        raise ResourceError(
            f"the system ended a process {work}; it does so if memory runs out",
            "close other programs and try again; if it happens again, take a smaller file",
        )


def watches_memory() -> bool:
    """Return whether the parent has to check how much memory a child takes."""
    return sys.platform == "darwin"


if sys.platform == "win32":
    _SET_QUOTA_AND_TERMINATE = 0x0101
    # winnt.h, JOB_OBJECT_LIMIT_: ACTIVE_PROCESS, PROCESS_MEMORY, DIE_ON_UNHANDLED_EXCEPTION,
    # KILL_ON_JOB_CLOSE
    _FLAGS = 0x8 | 0x100 | 0x400 | 0x2000
    _EXTENDED_LIMIT_INFORMATION = 9  # JOBOBJECTINFOCLASS

    class _Extended(ctypes.Structure):
        """JOBOBJECT_EXTENDED_LIMIT_INFORMATION of winnt.h, with its two parts written out."""

        _fields_ = [
            ("PerProcessUserTimeLimit", ctypes.c_int64),
            ("PerJobUserTimeLimit", ctypes.c_int64),
            ("LimitFlags", wintypes.DWORD),
            ("MinimumWorkingSetSize", ctypes.c_size_t),
            ("MaximumWorkingSetSize", ctypes.c_size_t),
            ("ActiveProcessLimit", wintypes.DWORD),
            ("Affinity", ctypes.c_size_t),
            ("PriorityClass", wintypes.DWORD),
            ("SchedulingClass", wintypes.DWORD),
            ("IoInfo", ctypes.c_uint64 * 6),
            ("ProcessMemoryLimit", ctypes.c_size_t),
            ("JobMemoryLimit", ctypes.c_size_t),
            ("PeakProcessMemoryUsed", ctypes.c_size_t),
            ("PeakJobMemoryUsed", ctypes.c_size_t),
        ]

    def confine(pid: int, limits: Limits) -> object:
        """Put a child into a job object; the child ends when the returned object is dropped.

        Raises:
            OSError: Windows refuses.
        """
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        for name, kinds in {
            # HANDLE CreateJobObjectW(LPSECURITY_ATTRIBUTES, LPCWSTR)
            "CreateJobObjectW": [ctypes.c_void_p, wintypes.LPCWSTR],
            # HANDLE OpenProcess(DWORD access, BOOL inherit, DWORD pid)
            "OpenProcess": [wintypes.DWORD, wintypes.BOOL, wintypes.DWORD],
        }.items():
            getattr(kernel, name).argtypes = kinds
            getattr(kernel, name).restype = wintypes.HANDLE
        kernel.CloseHandle.argtypes = [wintypes.HANDLE]
        # BOOL SetInformationJobObject(HANDLE, JOBOBJECTINFOCLASS, LPVOID, DWORD size)
        kernel.SetInformationJobObject.argtypes = [
            wintypes.HANDLE,
            ctypes.c_int,
            ctypes.c_void_p,
            wintypes.DWORD,
        ]
        # BOOL AssignProcessToJobObject(HANDLE job, HANDLE process)
        kernel.AssignProcessToJobObject.argtypes = [wintypes.HANDLE, wintypes.HANDLE]
        job = kernel.CreateJobObjectW(None, None)
        process = kernel.OpenProcess(_SET_QUOTA_AND_TERMINATE, False, pid)
        asked = _Extended(LimitFlags=_FLAGS, ActiveProcessLimit=1, ProcessMemoryLimit=limits.memory)
        size = ctypes.sizeof(asked)
        done = (
            job
            and process
            and kernel.SetInformationJobObject(
                job, _EXTENDED_LIMIT_INFORMATION, ctypes.byref(asked), size
            )
            and kernel.AssignProcessToJobObject(job, process)
        )
        error = ctypes.WinError(ctypes.get_last_error())
        if process:
            kernel.CloseHandle(process)
        if not done:
            raise error
        return _Job(kernel, job)

    class _Job:
        """A handle that is closed when it is no longer used."""

        def __init__(self, kernel: ctypes.WinDLL, handle: int) -> None:
            self._kernel, self._handle = kernel, handle

        def __del__(self) -> None:
            self._kernel.CloseHandle(self._handle)

    def impose(limits: Limits) -> None:
        """Limit this process; on Windows the parent has done that."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def limit_self(addresses: int, seconds: int) -> None:
        """Do nothing: Windows has none of these limits."""

    def allow_processor(seconds: int, granted: int) -> int:
        """Let this process compute for a while; Windows has no limit to raise."""
        return granted

else:

    def confine(pid: int, limits: Limits) -> object:
        """Put a child into a job object; only Windows has job objects."""
        return None

    def impose(limits: Limits) -> None:
        """Limit this process, which then can write no file and start no process."""
        # Ctrl-C and `timeout` reach all processes of a group; the parent decides their meaning.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        fixed = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NPROC: 0}
        if not watches_memory():
            fixed[resource.RLIMIT_AS] = limits.memory
        for kind, value in fixed.items():
            most = _at_most(kind, value)
            resource.setrlimit(kind, (most, most))

    def limit_self(addresses: int, seconds: int) -> None:
        """Let the system end this process if it takes more; no core dump is written.

        The hard limits stay, so that the system ends it with CPU_SIGNAL, which says why.

        Args:
            addresses: bytes of address space.
            seconds: seconds of processor time since the start of the process.
        """
        highest = {resource.RLIMIT_AS: addresses, resource.RLIMIT_CPU: seconds}
        for kind, value in {**highest, resource.RLIMIT_CORE: 0}.items():
            soft, hard = resource.getrlimit(kind)
            limit = value if soft == resource.RLIM_INFINITY else min(value, soft)
            resource.setrlimit(kind, (limit, hard))

    def allow_processor(seconds: int, granted: int) -> int:
        """Let this process compute for `seconds` from now on, at most one more.

        Args:
            seconds: seconds of processor time.
            granted: return value of the last call, 0 for the first.

        Returns:
            The processor time (seconds since the start of the process) at which the system ends it.
        """
        if time.process_time() + seconds < granted:
            return granted
        granted = int(time.process_time()) + seconds + 1
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (_at_most(resource.RLIMIT_CPU, granted), hard))
        return granted

    def _at_most(kind: int, value: int) -> int:
        """Return the value, or the hard limit of this process if that is less."""
        _, hard = resource.getrlimit(kind)
        return value if hard == resource.RLIM_INFINITY else min(value, hard)
