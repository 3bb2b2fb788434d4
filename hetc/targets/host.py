"""The machine at hand as a device: what the system says of it, and what was measured on it.

Measuring takes one to two seconds, so the result is kept as JSON in the user's cache folder, under
a key of CPU model, core count and schema version. Delete the file, or ask with `refresh`, to
measure again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from hetc.targets.cpu import CPU, read_cpu
from hetc.targets.measure import Measurement, measure
from hetc.targets.model import Assumption, Device, Memory, Quantity

_SCHEMA = 1
_MEASURED = "measured on this machine by hetc"
_REPORTED = "reported by the operating system"


def measured_device(*, refresh: bool = False, cache_folder: Path | None = None) -> Device:
    """This machine as a device called `host`; measured once, then read from the cache.

    A cache that cannot be read or written costs a new measurement and nothing else.
    """
    cpu = read_cpu()
    file = (cache_folder or default_cache_folder()) / f"host-{_key(cpu)}.json"
    measurement = None if refresh else _read_cache(file)
    if measurement is None:
        measurement = measure(cpu)
        _write_cache(file, cpu, measurement)
    return as_device(cpu, measurement)


def default_cache_folder() -> Path:
    """Where this platform wants caches: by XDG on Linux, as macOS and Windows have it there."""
    home = Path.home() if _has_home() else Path(tempfile.gettempdir())
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "hetc"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "hetc" / "Cache"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification says to ignore a relative path.
    return (Path(xdg) if os.path.isabs(xdg) else home / ".cache") / "hetc"


def as_device(cpu: CPU, measurement: Measurement) -> Device:
    """The device that the cost model sees; caches of unknown size are left out."""
    caches = (
        ("l2", cpu.l2_bytes, measurement.l2_bandwidth),
        ("l3", cpu.l3_bytes, measurement.l3_bandwidth),
    )
    memories = [_memory(name, size, rate) for name, size, rate in caches if size and rate]
    memories.append(_memory("dram", cpu.memory_bytes, measurement.dram_bandwidth))
    return Device(
        name="host",
        title=cpu.model,
        kind="cpu",
        main_memory="dram",
        memories=tuple(memories),
        rates={"f32": Quantity(measurement.f32_rate, "FLOP/s", f"{_MEASURED}: fp32 product")},
        constants={constant.name: constant for constant in _CONSTANTS},
        links={},
        arch=cpu.arch,
        features=cpu.features,
        units=Quantity(float(cpu.cores), "1", f"{_REPORTED}: physical cores"),
    )


def _assumed(name: str, value: float, unit: str, span: tuple[float, float], why: str) -> Assumption:
    return Assumption(value, unit, range=span, why=why, name=name)


_CONSTANTS = (
    _assumed("bandwidth_fraction", 1.0, "fraction", (0.8, 1.0), "the bandwidth is a measured one"),
    _assumed("gemm_fraction", 0.9, "fraction", (0.5, 1.0), "a model's products are smaller"),
    _assumed("launch_us", 2.0, "us", (0.5, 20.0), "a kernel on all cores and the barrier after it"),
)


def _memory(name: str, size: int, bandwidth: float) -> Memory:
    source = f"{_MEASURED}: NumPy reads on all cores"
    return Memory(name, Quantity(float(size), "B", _REPORTED), Quantity(bandwidth, "B/s", source))


def _key(cpu: CPU) -> str:
    text = f"{_SCHEMA}|{cpu.model}|{cpu.cores}|{platform.machine()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_cache(file: Path) -> Measurement | None:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))["measured"]
        measurement = Measurement(**{name: float(value) for name, value in stored.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Missing, damaged or of another form: a new measurement overwrites it.
        return None
    rates = asdict(measurement).values()
    sane = all(math.isfinite(rate) and rate >= 0 for rate in rates)
    return measurement if sane and measurement.dram_bandwidth and measurement.f32_rate else None


def _write_cache(file: Path, cpu: CPU, measurement: Measurement) -> None:
    facts = {"cpu": asdict(cpu), "measured": asdict(measurement)}
    partial = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        partial.replace(file)
    except OSError:
        # A read-only home must not keep anyone from compiling; the next run measures again.
        return


def _has_home() -> bool:
    try:
        Path.home()
    except RuntimeError:
        return False
    return True
