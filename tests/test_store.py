from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from m2m.errors import BusyError
from m2m.store import fingerprint, run_lock


def test_a_fingerprint_covers_names_and_values_but_not_their_order() -> None:
    assert fingerprint(a=1, b=[2]) == fingerprint(b=[2], a=1)
    different = [fingerprint(a=1), fingerprint(a=2), fingerprint(b=1), fingerprint(a="1")]
    assert len(set(different)) == len(different)


HOLD = """
import sys, time
from pathlib import Path
from m2m.store import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_with_the_first_ones_pid_until_it_is_dead(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"pid {holder.pid} on "), run_lock(tmp_path):
            pass
        holder.kill()
    with run_lock(tmp_path):
        pass
