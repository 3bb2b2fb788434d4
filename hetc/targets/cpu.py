"""What the operating system says of the CPU: model, cores, instruction sets, caches, memory.

Linux is read from /proc and /sys, macOS through sysctl; elsewhere, and where a fact is missing, a
weaker answer that is still true stands in (one unknown cache level less, logical for physical
cores).
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Instruction sets that change which kernels hetc picks, by the names that Linux gives them.
_X86_FEATURES = (
    "avx f16c fma avx2 avx_vnni avx_vnni_int8 avx512f avx512bw avx512vl avx512_vnni avx512_bf16 "
    "avx512_fp16 amx_tile amx_int8 amx_bf16 amx_fp16"
)
_ARM_FEATURES = "asimd asimddp asimdhp i8mm bf16 sve sve2 svei8mm svebf16 sme sme2"
_FEATURES = tuple(f"{_X86_FEATURES} {_ARM_FEATURES}".split())
_CPUS_FOLDER = Path("/sys/devices/system/cpu")
# Stands in where the system does not tell; small, so that a plan for it fits any machine of today.
_UNKNOWN_MEMORY_BYTES = 4 << 30
_MACOS_FEATURES = {
    "hw.optional.AdvSIMD": "asimd",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_FP16": "asimdhp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_SME": "sme",
    "hw.optional.arm.FEAT_SME2": "sme2",
    "hw.optional.avx1_0": "avx",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.fma": "fma",
    "hw.optional.avx512f": "avx512f",
}


@dataclass(frozen=True)
class CPU:
    """The CPU of this machine: physical cores that this process may use, sizes in bytes.

    Caches are totals over those cores, 0 where unknown.
    """

    model: str
    arch: str
    cores: int
    features: tuple[str, ...]
    l2_bytes: int
    l3_bytes: int
    memory_bytes: int


def read_cpu() -> CPU:
    """The facts of this machine; never raises, since every one of them has a fallback."""
    if platform.system() == "Darwin":
        return _from_sysctl(_sysctl_values())
    return _from_proc(_text(Path("/proc/cpuinfo")))


def _from_proc(cpuinfo: str) -> CPU:
    flags = set(_field(cpuinfo, "flags").split() or _field(cpuinfo, "Features").split())
    usable = _usable_cpus()
    return CPU(
        model=_field(cpuinfo, "model name")
        or platform.processor()
        or platform.machine()
        or "unknown CPU",
        arch=platform.machine() or "unknown",
        cores=_physical_cores(cpuinfo, usable) or len(usable),
        features=tuple(name for name in _FEATURES if name in flags),
        l2_bytes=_cache_bytes(_CPUS_FOLDER, 2, usable),
        l3_bytes=_cache_bytes(_CPUS_FOLDER, 3, usable),
        memory_bytes=_memory_bytes(),
    )


def _from_sysctl(values: Mapping[str, str]) -> CPU:
    def number(*keys: str) -> int:
        return next((int(values[key]) for key in keys if values.get(key, "").isdigit()), 0)

    cores = number("hw.perflevel0.physicalcpu", "hw.physicalcpu") or os.cpu_count() or 1
    l2_sharers = number("hw.perflevel0.cpusperl2") or 1
    return CPU(
        model=values.get("machdep.cpu.brand_string", "") or platform.processor() or "unknown CPU",
        arch=platform.machine() or "unknown",
        # No efficiency cores: a static split over unequal cores runs at the slowest one's pace.
        cores=cores,
        features=tuple(name for key, name in _MACOS_FEATURES.items() if values.get(key) == "1"),
        l2_bytes=number("hw.perflevel0.l2cachesize", "hw.l2cachesize") * -(-cores // l2_sharers),
        l3_bytes=number("hw.l3cachesize"),
        memory_bytes=number("hw.memsize") or _UNKNOWN_MEMORY_BYTES,
    )


def _usable_cpus() -> set[int]:
    """Logical CPUs on which this process may run; a container may have fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _physical_cores(cpuinfo: str, usable: set[int]) -> int:
    """Distinct (package, core) pairs among the usable CPUs; 0 where the kernel lists none."""
    cores = set()
    for block in cpuinfo.split("\n\n"):
        processor, core = _field(block, "processor"), _field(block, "core id")
        if processor.isdigit() and int(processor) in usable and core:
            cores.add((_field(block, "physical id"), core))
    return len(cores)


def _cache_bytes(folder: Path, level: int, usable: set[int]) -> int:
    """Total of the distinct caches of one level that the usable CPUs share; 0 where unknown."""
    sizes: dict[str, int] = {}
    for cpu in sorted(usable):
        for index in sorted((folder / f"cpu{cpu}" / "cache").glob("index*")):
            facts = [_text(index / name).strip() for name in ("level", "type", "size")]
            match = re.fullmatch(r"(\d+)([KMG]?)", facts[2])
            if facts[0] == str(level) and facts[1] != "Instruction" and match:
                sharers = _text(index / "shared_cpu_list").strip() or str(cpu)
                sizes[sharers] = int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]
    return sum(sizes.values())


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        # Windows has no sysconf.
        return _UNKNOWN_MEMORY_BYTES


def _field(cpuinfo: str, name: str) -> str:
    match = re.search(rf"^{name}\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return match[1].strip() if match else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        # A fact that this kernel does not publish; every caller has a fallback for "".
        return ""


def _sysctl_values() -> dict[str, str]:
    keys = ["machdep.cpu.brand_string", "hw.perflevel0.physicalcpu", "hw.physicalcpu"]
    keys += ["hw.perflevel0.l2cachesize", "hw.perflevel0.cpusperl2", "hw.l2cachesize"]
    keys += ["hw.l3cachesize", "hw.memsize", *_MACOS_FEATURES]
    try:
        # sysctl prints the keys it knows and complains about the others, which is expected here.
        done = subprocess.run(
            ["sysctl", *keys], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    pairs = (line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    return {key: value.strip() for key, value in pairs}
