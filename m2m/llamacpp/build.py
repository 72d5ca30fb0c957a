"""What the installed llama.cpp can do, told by a process of its own.

A library that was built for another CPU ends its process at the first instruction that this one
does not have, so whoever only asks about it must not load it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

_ASK = """\
import json
from m2m.llamacpp.build import loaded
print(json.dumps(loaded()))
"""


@dataclass(frozen=True)
class Build:
    """An installed llama.cpp.

    Attributes:
        description: package, commit and features, as they are written beside results.
        features: of the CPU, that it was built for: "AVX2", "NEON", ...
        gpu: whether it can use a GPU.
        error: why it cannot be loaded; everything else is empty then.
    """

    description: str = ""
    features: frozenset[str] = frozenset()
    gpu: bool = False
    error: str | None = None


def loaded() -> dict[str, object]:
    """Load llama.cpp into this process and say what it is."""
    from llama_cpp import llama_supports_gpu_offload

    from m2m.llamacpp.model import build_info

    return {"description": build_info(), "gpu": bool(llama_supports_gpu_offload())}


def installed_build() -> Build:
    """What is installed, also where loading it fails or kills the process that tries."""
    done = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        killed = f"its process ended with signal {-done.returncode}"
        return Build(error=killed if done.returncode < 0 else last)
    found = json.loads(done.stdout.splitlines()[-1])
    parts = [part.strip() for part in found["description"].split("|")]
    features = {part.split("=")[0].split(":")[-1].strip() for part in parts if part.endswith("= 1")}
    return Build(found["description"], frozenset(features), found["gpu"])
