"""How many threads a memory-bound executor should run."""

from __future__ import annotations

import os
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")


def physical_cores(topology: Path = TOPOLOGY) -> int:
    """The physical cores that this process may use; where the system does not say, its CPUs.

    Two hardware threads of one core share its load ports: the second adds barriers, no bandwidth.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    try:
        siblings = {
            (topology / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
            for cpu in allowed
        }
    except OSError:
        return len(allowed)
    return len(siblings)
