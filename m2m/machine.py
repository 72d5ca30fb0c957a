"""What this machine offers, asked through the standard library alone."""

from __future__ import annotations

import os
import sys
from importlib import metadata
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


def cpu_features() -> frozenset[str]:
    """Instructions of this CPU that matter here, by llama.cpp's names; empty where unknown."""
    if sys.platform != "linux":
        return frozenset()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    flags = {
        flag
        for line in lines
        if line.partition(":")[0].strip() in ("flags", "Features")
        for flag in line.partition(":")[2].split()
    }
    return frozenset(name for flag, name in _FEATURES.items() if flag in flags)


# As /proc/cpuinfo and ggml call them.
_FEATURES = {
    "avx": "AVX",
    "avx2": "AVX2",
    "fma": "FMA",
    "f16c": "F16C",
    "avx512f": "AVX512",
    "avx512_bf16": "AVX512_BF16",
    "avx512_vnni": "AVX512_VNNI",
    "amx_int8": "AMX_INT8",
    "asimd": "NEON",
    "asimddp": "DOTPROD",
    "sve": "SVE",
}


def total_memory_bytes() -> int:
    """Memory of this machine in bytes; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def load_of_others() -> float:
    """Cores that others keep busy, over the last minute; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def on_battery() -> bool:
    """Whether a laptop runs from its battery; False where the system does not say."""
    states = Path("/sys/class/power_supply").glob("*/status")
    return any(
        "Discharging" in each.read_text(encoding="utf-8", errors="replace") for each in states
    )


# What m2m runs with.
PACKAGES = (
    "numpy",
    "llama-cpp-python",
    "gguf",
    "safetensors",
    "sentencepiece",
    "jinja2",
    "click",
    "rich",
)


def versions() -> dict[str, str | None]:
    """Package -> version, None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found
