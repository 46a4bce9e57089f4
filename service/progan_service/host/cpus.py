"""The number of CPUs this process may use: its CPU affinity, or the quota of its container where that is less."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def available_cpus(cgroups: Path = CGROUPS) -> int:
    """Return the number of CPUs, at least 1. A quota of 1.5 CPUs counts as 2."""
    schedulable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroups)
    return max(1, min(schedulable, math.ceil(quota))) if quota else schedulable


def _quota(cgroups: Path) -> float:
    """Return the quota of the control group in CPUs, or 0 if there is none."""
    try:
        if (cgroups / "cpu.max").is_file():  # version 2
            quota, period = (cgroups / "cpu.max").read_text().split()
        else:
            quota, period = ((cgroups / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return max(0.0, float(quota) / float(period)) if quota != "max" else 0.0
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0
