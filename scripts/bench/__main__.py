"""Speed and memory as ratios within one run: `python scripts/bench NAME`.

Each bench prints what it measures and, as its last line, one JSON object. Run on a quiet machine;
absolute figures say little, the ratios are interleaved in time.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

BENCHES = {
    n: f"{n}.py" for n in ("train", "gpu", "score", "settings", "rank", "memory", "rows", "search")
}

if len(sys.argv) < 2 or sys.argv[1] not in BENCHES:
    sys.exit(f"usage: python scripts/bench {'|'.join(BENCHES)} [options]")
sys.argv = [BENCHES[sys.argv[1]], *sys.argv[2:]]
runpy.run_path(str(Path(__file__).parent / sys.argv[0]), run_name="__main__")
