"""A real Slurm on this machine: munged, slurmctld and slurmd, without root's files and services."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")

_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock
SlurmctldPort={control}
SlurmdPort={node}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
# A busy machine answers late, and a signal that is not answered within ten seconds is lost.
MessageTimeout=100
# Else finished jobs are forgotten after five minutes, and `scontrol show job` knows none of them.
MinJobAge=86400
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName={host} CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Return the first of Slurm's programs that this machine lacks, or a reason; "" if none."""
    if sys.platform != "linux" or os.geteuid():
        return "root on Linux"
    return next((name for name in PROGRAMS if shutil.which(name, path=_path()) is None), "")


@contextlib.contextmanager
def cluster(root: Path) -> Iterator[dict[str, str]]:
    """Start a cluster of this machine alone; yield the environment that its commands need."""
    host = socket.gethostname().partition(".")[0]
    environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(root / "slurm.conf")}
    (root / "state").mkdir()
    (root / "spool").mkdir()
    key = root / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    (root / "slurm.conf").write_text(
        _CONFIGURATION.format(root=root, host=host, control=_port(), node=_port()), "utf-8"
    )
    places = [
        f"--{option}={root}/munge.{ending}"
        for option, ending in {
            "key-file": "key",
            "socket": "sock",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }.items()
    ]
    lines = [
        ["munged", "--foreground", "--force", *places],
        ["slurmctld", "-D", "-f", str(root / "slurm.conf")],
        ["slurmd", "-D", "-f", str(root / "slurm.conf"), "-N", host],
    ]
    with contextlib.ExitStack() as stack:
        for line in lines:
            output = stack.enter_context((root / f"{line[0]}.out").open("wb"))
            process = subprocess.Popen(line, env=environment, stdout=output, stderr=output)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            time.sleep(1)
        _until(lambda: asked(environment, "sinfo", "-h", "-o", "%T") == "idle", 60)
        yield environment
        asked(environment, "scancel", "--user=root")


def asked(environment: dict[str, str], *line: str) -> str:
    """Return the output of one of Slurm's commands."""
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def finish(environment: dict[str, str], seconds: float) -> None:
    """Wait until no job is queued or running; a requeued job waits ten seconds, not two minutes.

    Raises:
        TimeoutError: after `seconds`.
    """
    waited: Counter[str] = Counter()

    def over() -> bool:
        lines = asked(environment, "squeue", "--noheader", "--format=%i %r").splitlines()
        for job, _, reason in (line.partition(" ") for line in lines):
            waited[job] = waited[job] + 1 if reason == "BeginTime" else 0
            if waited[job] == 10:
                command = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
                subprocess.run(command, env=environment, capture_output=True, check=False)
        return not lines

    _until(over, seconds)


def _until(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(1)


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
