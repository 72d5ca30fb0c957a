"""Steps of ours in turn with PyTorch + PEFT's, each in processes of their own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cases import MODELS, make_batch

HERE = Path(__file__).resolve().parent
PEER = HERE.parents[1] / ".venv-peer" / "bin" / "python"


class Server:
    """A process that makes a step when asked for one, ours or PyTorch + PEFT's.

    Args:
        command: that starts it; it says a line when it is ready, and after every step its seconds
            and its peak in GiB.
        threads: that it may use.
    """

    def __init__(self, command: Sequence[str], threads: int) -> None:
        self._process = subprocess.Popen(
            command,
            env=os.environ
            | {"OPENBLAS_NUM_THREADS": str(threads), "PYTHONPATH": str(HERE.parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("both are pipes")
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._line()
        self.peak_gib = 0.0

    @classmethod
    def peft(
        cls, options: argparse.Namespace, dtype: str, python: Path = PEER, device: str = "cpu"
    ) -> Server:
        """PyTorch + PEFT in the peer venv or another one, in "f32" or "bf16"."""
        settings = {"model": options.model, "dtype": dtype, "threads": options.threads}
        settings |= {"cases": options.cases, "device": device}
        command = [str(python), str(HERE / "peer.py"), json.dumps(settings)]
        return cls(command, options.threads)

    @classmethod
    def ours(cls, options: argparse.Namespace) -> Server:
        """One of as many workers as the options say."""
        threads = options.threads // options.workers
        command = [
            sys.executable,
            str(HERE / "train.py"),
            "--serve",
            "--threads",
            str(threads),
        ]
        command += ["--model", options.model, "--maps", options.maps]
        command += ["--recompute", str(options.recompute), *options.cases]
        return cls(command, threads)

    def ask(self, case: str) -> None:
        """Let it make a step."""
        self._stdin.write(case + "\n")
        self._stdin.flush()

    def answer(self) -> float:
        """Wait for the step; return its seconds."""
        seconds, self.peak_gib = map(float, self._line().split())
        return seconds

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _line(self) -> str:
        line = self._stdout.readline()
        if not line:
            sys.exit("train: a process that makes steps ended early")
        return line


def together(servers: Sequence[Server], case: str) -> float:
    """Let each make a step at the same time; return the seconds until the last is done."""
    for server in servers:
        server.ask(case)
    return max(server.answer() for server in servers)


def against_peer(options: argparse.Namespace) -> dict[str, Any]:
    """Return our speed over PyTorch + PEFT's on the same rows, steps in turn, and our memory."""
    figures: dict[str, Any] = {"vs_peft_f32": {}, "vs_peft_bf16": {}, "rss_over_peft": None}
    workers = [Server.ours(options) for _ in range(options.workers)]
    for dtype in ("f32", "bf16"):
        peer = Server.peft(options, dtype)
        for case in options.cases:
            ours, theirs = [], []
            for _ in range(options.repeats + 1):
                ours.append(together(workers, case))
                theirs.append(together([peer], case))
            ratio = len(workers) * min(theirs) / min(ours)
            figures[f"vs_peft_{dtype}"][case.split("_")[0]] = round(ratio, 2)
            text = make_batch(case, MODELS[options.model].vocab_size, np.random.default_rng(1))[1]
            own = sum(worker.peak_gib for worker in workers)
            print(
                f"{case} {dtype}: PEFT {text / min(theirs):.0f}, ours ({options.maps}, "
                f"{len(workers)} at a time) {len(workers) * text / min(ours):.0f} "
                f"tokens of text/s; peak {peer.peak_gib:.2f} and {own:.2f} GiB",
                file=sys.stderr,
            )
        if dtype == "f32":
            figures["rss_over_peft"] = round(own / peer.peak_gib, 3)
        peer.close()
    for worker in workers:
        worker.close()
    return figures
