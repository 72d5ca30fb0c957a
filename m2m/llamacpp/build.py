"""Read the features of the installed llama.cpp, in a child process.

A library that was built for another CPU ends its process at the first instruction that this CPU
does not have. So code that only asks about the library must not load it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass

from m2m.ggml.devices import Device, list_devices

_ASK = """\
import json
from m2m.llamacpp.build import loaded
print(json.dumps(loaded()))
"""


@dataclass(frozen=True)
class Build:
    """The facts about an installed llama.cpp.

    Attributes:
        description: package, commit and features, as m2m stores them with results.
        features: CPU features that it was built for: "AVX2", "NEON", ...
        gpu: whether it can use a GPU.
        devices: the devices that it found.
        error: why it cannot be loaded; all other fields are empty then.
    """

    description: str = ""
    features: frozenset[str] = frozenset()
    gpu: bool = False
    devices: tuple[Device, ...] = ()
    error: str | None = None


def loaded() -> dict[str, object]:
    """Load llama.cpp into this process and return the fields of `Build`."""
    from llama_cpp import llama_supports_gpu_offload

    from m2m.llamacpp.model import build_info

    return {
        "description": build_info(),
        "gpu": bool(llama_supports_gpu_offload()),
        "devices": [asdict(device) for device in list_devices()],
    }


def installed_build() -> Build:
    """Return the installed llama.cpp, even if a process that loads it fails or crashes."""
    done = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        killed = f"its process ended with signal {-done.returncode}"
        return Build(error=killed if done.returncode < 0 else last)
    report = json.loads(done.stdout.splitlines()[-1])
    parts = [part.strip() for part in report["description"].split("|")]
    features = {part.split("=")[0].split(":")[-1].strip() for part in parts if part.endswith("= 1")}
    devices = tuple(Device(**each) for each in report["devices"])
    return Build(report["description"], frozenset(features), report["gpu"], devices)
