"""What this machine offers, asked through the standard library alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":

    def peak_rss_bytes() -> int:
        """Peak resident memory of this process in bytes; 0 where the system does not say."""
        return 0

else:
    import resource

    def peak_rss_bytes() -> int:
        """Peak resident memory of this process in bytes; 0 where the system does not say."""
        if sys.platform == "linux":
            # A process inherits `ru_maxrss` from the one that started it; VmHWM is its own.
            lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
            return int(lines.partition("VmHWM:")[2].split()[0]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """Memory that this process holds now, in bytes; its peak where the system says no more."""
    if sys.platform == "linux":
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return peak_rss_bytes()


def free_memory_bytes() -> int:
    """Memory that can be had without swapping, in bytes; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    if sys.platform != "linux":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    sizes = {key: int(rest.split()[0]) * 1024 for key, _, rest in (x.partition(":") for x in lines)}
    return min(sizes.get("MemAvailable", sizes["MemFree"]), _group_memory())


def _group_memory() -> int:
    """What this process's control group (a container, a batch job) may still take."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except OSError:
        return sys.maxsize
    return sys.maxsize if limit == "max" else max(0, int(limit) - used)


def usable_threads() -> int:
    """Cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
