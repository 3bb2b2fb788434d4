"""Which CPU this is, and which instructions it has."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# What Linux names it by.
_IDENTITY = (
    *("vendor_id", "cpu family", "model", "stepping"),
    *("CPU implementer", "CPU part", "CPU variant", "CPU revision"),
)
_FEATURES = ("flags", "Features")
# Where Linux does not say: what every CPU of this kind has.
_BASE = {"x86_64": "sse2", "AMD64": "sse2", "aarch64": "asimd", "arm64": "asimd"}
# Of Apple's names for features, those that variants ask for, as Linux has them.
_DARWIN = {
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
}


@cache
def cpu_features(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """The names that Linux gives them; where nothing says, what every CPU of this kind has."""
    found = _facts(cpuinfo)
    for name in _FEATURES:
        if name in found:
            return frozenset(found[name].split())
    base = {_BASE[platform.machine()]} if platform.machine() in _BASE else set()
    return frozenset(base | (_darwin_features() if sys.platform == "darwin" else set()))


@cache
def cpu_identity(cpuinfo: Path = CPUINFO) -> str:
    """What code made for this CPU depends on: which one it is, and its features."""
    found = _facts(cpuinfo)
    return "\n".join(found.get(name, "") for name in (*_IDENTITY, *_FEATURES))


def _facts(cpuinfo: Path) -> dict[str, str]:
    """What the file says of the first CPU."""
    try:
        text = cpuinfo.read_text("utf-8")
    except OSError:
        # There is none but on Linux.
        return {}
    first = text.partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _darwin_features() -> set[str]:
    try:
        # It complains about names that it does not know, and prints the others.
        done = subprocess.run(
            ["sysctl", *_DARWIN], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        # Then the code that every CPU runs has to do.
        return set()
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    return {linux for apple, linux in _DARWIN.items() if said.get(apple, "").strip() == "1"}
