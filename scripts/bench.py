#!/usr/bin/env python3
"""Speed and memory as ratios within one run: `scripts/bench.py train|score|memory`.

Each bench prints what it measures and, as its last line, one JSON object. Run on a quiet machine;
absolute figures say little, the ratios are interleaved in time.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

BENCHES = {"train": "bench_train.py", "score": "bench_score.py", "memory": "bench_memory.py"}

if len(sys.argv) < 2 or sys.argv[1] not in BENCHES:
    sys.exit(f"usage: scripts/bench.py {'|'.join(BENCHES)} [options]")
sys.argv = [BENCHES[sys.argv[1]], *sys.argv[2:]]
runpy.run_path(str(Path(__file__).parent / sys.argv[0]), run_name="__main__")
