"""What this machine offers, asked through the standard library alone."""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":

    def peak_rss_bytes() -> int:
        """Peak resident memory of this process in bytes; 0 where the system does not say."""
        return 0

else:
    import resource

    def peak_rss_bytes() -> int:
        """Peak resident memory of this process in bytes; 0 where the system does not say."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def usable_threads() -> int:
    """Cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
