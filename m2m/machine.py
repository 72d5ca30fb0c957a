"""Ask this machine for its resources, with the standard library alone."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

_SENSORS = Path("/sys/class/drm")
_POWER = "card*/device/hwmon/hwmon*/power1_average"  # microwatts, Documentation/gpu/amdgpu
_QUERY = ("--query-gpu=power.draw", "--format=csv,noheader,nounits")
_GROUP_FILES = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)

if sys.platform == "win32":

    def peak_rss_bytes() -> int:
        """Return the peak resident memory of this process in bytes; 0 if unknown."""
        return 0

else:
    import resource

    def peak_rss_bytes() -> int:
        """Return the peak resident memory of this process in bytes; 0 if unknown."""
        if sys.platform == "linux":
            # A process inherits `ru_maxrss` from the one that started it; VmHWM is its own.
            lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
            return int(lines.partition("VmHWM:")[2].split()[0]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """Return the bytes of memory that this process holds now; its peak if only that is known."""
    if sys.platform == "linux":
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return resident_bytes_of(os.getpid()) or peak_rss_bytes()


def resident_bytes_of(process: int) -> int:
    """Return a process's memory in bytes from POSIX's command `ps`; 0 if unknown."""
    command = ["ps", "-o", "rss=", "-p", str(process)]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=10)
        return int(done.stdout) * 1024
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def hand_back_freed() -> None:
    """Give freed memory back to the system, if the C library (glibc) still holds it."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(ctypes.c_size_t(0))


def free_memory_bytes() -> int:
    """Return the bytes of memory that are available without swapping; 0 if unknown."""
    if sys.platform == "win32":
        return 0
    if sys.platform != "linux":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    sizes = {key: int(rest.split()[0]) * 1024 for key, _, rest in (x.partition(":") for x in lines)}
    free = sizes.get("MemAvailable", sizes["MemFree"])
    return max(1, min(free, _address_space(), *map(group_memory, control_groups())))


def _address_space() -> int:
    """Return the bytes of this process's address space that `ulimit -v` leaves."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    return max(0, limit - int(pages) * os.sysconf("SC_PAGE_SIZE"))


def control_groups(table: Path = Path("/proc/self/cgroup")) -> list[Path]:
    """Find the control groups (container, batch job) that limit this process's memory: cgroups(7).

    In a container the path in the file may be the host's; then the group is mounted as the root.
    """
    root, groups = Path("/sys/fs/cgroup"), [Path("/sys/fs/cgroup")]
    try:
        lines = table.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return groups
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        if controllers and "memory" not in names:
            continue
        top = root / "memory" if controllers else root
        here = top / path.lstrip("/")
        groups += [here, *(parent for parent in here.parents if parent.is_relative_to(top))]
    return groups


def group_memory(group: Path) -> int:
    """Return the bytes that the processes of a control group (version 2 or 1) may still take."""
    for most, taken in _GROUP_FILES:
        try:
            limit = (group / most).read_text(encoding="ascii").strip()
            used = int((group / taken).read_text(encoding="ascii"))
        except OSError:
            continue
        # Cached files count as used, but the system frees them when memory is needed.
        return sys.maxsize if limit == "max" else max(0, int(limit) - used + _cached(group))
    return sys.maxsize


def _cached(group: Path) -> int:
    try:
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    sizes = dict(line.split(" ", 1) for line in lines)
    return int(sizes.get("inactive_file", sizes.get("total_inactive_file", 0)))


def usable_threads() -> int:
    """Return the number of cores that this process may run on, and that Slurm gave to its job.

    Slurm keeps a job to its cores only with some plugins (`TaskPlugin` of slurm.conf), but always
    sets the number that was asked for (`--cpus-per-task`).
    """
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    asked = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(cores, int(asked)) if asked.isdecimal() and int(asked) else cores


def processor_name() -> str:
    """Return the processor's name."""
    for line in _cpu_info():
        if line.startswith(("model name", "Model", "cpu model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_info() -> list[str]:
    """Return the lines of /proc/cpuinfo; none on other systems than Linux."""
    if sys.platform != "linux":
        return []
    return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()


def cpu_features() -> frozenset[str]:
    """Return the CPU's instructions that matter here, by llama.cpp's names; empty if unknown."""
    flags = {
        flag
        for line in _cpu_info()
        if line.partition(":")[0].strip() in ("flags", "Features")
        for flag in line.partition(":")[2].split()
    }
    return frozenset(name for flag, name in _FEATURES.items() if flag in flags)


# The names in /proc/cpuinfo, and in ggml.
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
    """Return the memory of this machine in bytes; 0 if unknown."""
    if sys.platform == "win32":
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def load_of_others() -> float:
    """Return how many cores were busy over the last minute; 0 if unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def on_battery() -> bool:
    """Return whether a laptop runs from its battery; False if unknown."""
    states = Path("/sys/class/power_supply").glob("*/status")
    return any(
        "Discharging" in state.read_text(encoding="utf-8", errors="replace") for state in states
    )


# The packages that m2m needs.
PACKAGES = (
    "numpy",
    "llama-cpp-python",
    "pyyaml",
    "safetensors",
    "sentencepiece",
    "jinja2",
    "click",
    "rich",
)


def gpu_watts() -> float | None:
    """Return the power that all GPUs draw now, by nvidia-smi or Linux' sensors; None: none says.

    An integrated GPU is a part of the processor, whose power is a part of the machine's.
    """
    watts = list[float]()
    for path in _SENSORS.glob(_POWER):
        with suppress(OSError, ValueError):  # the driver of a card that sleeps refuses to read
            watts.append(int(path.read_text(encoding="utf-8")) / 1e6)
    if smi := shutil.which("nvidia-smi"):
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                [smi, *_QUERY], capture_output=True, text=True, timeout=10, check=True
            )
            for word in done.stdout.split():
                with suppress(ValueError):  # "[N/A]": this card does not say
                    watts.append(float(word))
    return sum(watts) if watts else None


def versions() -> dict[str, str | None]:
    """Return the version of each package, or None if it is not installed."""
    installed: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = None
    return installed
