"""How much of the machine other programs take while a peer is measured (Linux)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
# proc(5): in /proc/stat after the word cpu, and in /proc/PID/stat after the name in brackets.
_IDLE, _IOWAIT, _GUEST = 3, 4, 8
_UTIME, _STIME = 11, 12


# Below this share of all cores a machine counts as quiet; it is looked at for so many seconds.
_QUIET, _LOOK = 0.1, 0.5


@dataclass(frozen=True)
class Moment:
    """Seconds of a clock, of all cores' work, and of one process's work."""

    clock: float
    everyone: float
    process: float


def look(pid: int) -> Moment:
    """The counters now; those of a process that has ended stand at 0."""
    words = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()[1:]
    # Time of guests is in that of users already.
    counted = [int(word) for word in words[:_GUEST]]
    busy = sum(counted) - counted[_IDLE] - counted[_IOWAIT]
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        mine = line.rpartition(")")[2].split()
        process = int(mine[_UTIME]) + int(mine[_STIME])
    except OSError:
        process = 0
    return Moment(time.perf_counter(), busy / _TICKS, process / _TICKS)


def others_share(before: Moment, after: Moment) -> float:
    """The share of all cores' time that other programs took between two looks, 0 to 1."""
    span = (after.clock - before.clock) * (os.cpu_count() or 1)
    taken = (after.everyone - before.everyone) - (after.process - before.process)
    return min(max(taken / span, 0.0), 1.0)


def wait_until_quiet(seconds: float) -> None:
    """Return when other programs take less than a tenth of the machine, or after `seconds`."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        before = look(os.getpid())
        time.sleep(_LOOK)
        if others_share(before, look(os.getpid())) < _QUIET:
            return
