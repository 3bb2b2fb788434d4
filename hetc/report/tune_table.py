"""What `hetc tune` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hetc.report.tables import Column, table
from hetc.report.units import duration

_COLUMNS = (
    Column("kernel"),
    Column("rows", right=True),
    Column("timed", right=True),
    Column("chosen", right=True),
    Column("time", right=True),
    Column("fastest", right=True),
    Column("time", right=True),
    Column("", right=True),
)


def tune_lines(found: Mapping[str, Any], width: int | None = None) -> list[str]:
    """Lines from the object of `hetc tune --json`."""
    device = found["device"]
    rows = [
        [
            kernel["kernel"],
            f"{kernel['rows']:,}",
            str(kernel["timed"]),
            str(kernel["chosen"]),
            duration(kernel["chosen_ms"] / 1e3),
            str(kernel["fastest"]),
            duration(kernel["fastest_ms"] / 1e3),
            f"{kernel['chosen_ms'] / kernel['fastest_ms']:.2f}x",
        ]
        for kernel in found["kernels"]
    ]
    kept = f"kept in {found['file']}" if found["file"] else "kept nowhere: there is no home"
    return [
        f"{device['name']} · {device['arch']} · CUDA {device['driver']}",
        "",
        *table(_COLUMNS, rows, width).splitlines(),
        "",
        kept,
        *(f"left out: {reason}" for reason in found["left_out"]),
    ]
