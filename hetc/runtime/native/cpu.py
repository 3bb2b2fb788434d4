"""Which instructions the CPU at hand has."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


@cache
def cpu_features(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """The names that Linux gives them; where nothing says, what every CPU of this kind has."""
    try:
        text = cpuinfo.read_text("utf-8")
    except OSError:
        text = ""
    for line in text.splitlines():
        name, _, features = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(features.split())
    return frozenset({"sse2"} if platform.machine() in ("x86_64", "AMD64") else ())
