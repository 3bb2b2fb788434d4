"""Numbers as people read them: three significant digits, an SI prefix, a unit."""

from __future__ import annotations

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
_PARTS = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def significant(value: float) -> str:
    """`value` with three significant digits and without an exponent up to a million: 1235 -> 1240,
    0.01234 -> 0.0123."""
    if value == 0:
        return "0"
    text = f"{value:.3g}"
    return f"{float(text):.0f}" if "e+" in text and abs(value) < 1e6 else text


def amount(value: float, unit: str) -> str:
    """`value` in `unit` with a decimal prefix: 269e6, "B" -> 269 MB."""
    return f"{_scaled(value)}{unit}"


def _scaled(value: float) -> str:
    for prefix in _PREFIXES:
        # Rounding may carry a number to the next prefix: 999.6 is 1 k.
        if abs(float(f"{value:.3g}")) < 1000 or prefix == _PREFIXES[-1]:
            break
        value /= 1000
    return f"{significant(value)} {prefix}"


def count(value: float) -> str:
    """A number of things, in thousands, millions, billions: 12, 1.2 k, 134.5 M, 8.0 B."""
    for prefix in ("", "k", "M", "B", "T"):
        if abs(value) < 1000 or prefix == "T":
            break
        value /= 1000
    return f"{value:.1f} {prefix}" if prefix else f"{value:g}"


def binary_bytes(value: float) -> str:
    """Bytes by powers of 1024, for sizes that are made of powers of two: 23040 -> 22.5 KiB."""
    for prefix in ("", "Ki", "Mi", "Gi", "Ti"):
        if abs(value) < 1024 or prefix == "Ti":
            break
        value /= 1024
    return f"{value:.4g} {prefix}B"


def duration(seconds: float) -> str:
    """A time in the unit that gives one to three digits before the point: 0.0006 -> 600 µs."""
    if seconds == 0:
        return "0 s"
    if abs(seconds) < 1e-10:
        return "<0.1 ns"
    fitting = (pair for pair in _TIMES if abs(float(f"{seconds / pair[0]:.3g}")) >= 1)
    scale, unit = next(fitting, _TIMES[-1])
    return f"{significant(seconds / scale)} {unit}"


def energy(joules: float) -> str:
    """An energy: 0.0023 -> 2.3 mJ, 1240 -> 1.24 kJ."""
    fitting = (pair for pair in _PARTS if float(f"{joules / pair[0]:.3g}") >= 1)
    scale, prefix = next(fitting, _PARTS[-1])
    return amount(joules / scale, f"{prefix}J")


def percent(part: float) -> str:
    """A share: 0.912 -> 91 %; what is there but rounds to nothing is <1 %."""
    return "<1 %" if 0 < part < 0.005 else f"{part * 100:.0f} %"


def plural(number: int, noun: str) -> str:
    """`1 op`, `2 ops`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
