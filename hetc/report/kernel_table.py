"""The kernels of a bundle: what `hetc inspect --by kernel` and `hetc explain` say of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hetc.report.tables import Column, table
from hetc.report.units import binary_bytes

_COLUMNS = (
    Column("kernel"),
    Column("×", right=True),
    Column("device"),
    Column("rows", right=True),
    Column("tile"),
    Column("warps", right=True, rank=2),
    Column("stages", right=True, rank=3),
    Column("registers", right=True, rank=1),
    Column("shared", right=True, rank=1),
    Column("built of", right=True, rank=4),
)
Record = Mapping[str, Any]


def by_kernel(kernels: Sequence[Record], width: int | None = None) -> str:
    """A row for each kernel and number of rows for which another configuration is launched."""
    if not kernels:
        return "no kernels for a GPU"
    rows = [row for kernel in kernels for row in _rows(kernel)]
    total = sum(kernel["launches"] for kernel in kernels)
    return f"{table(_COLUMNS, rows, width)}\nlaunched for one prefill: {total:,}"


def _rows(kernel: Record) -> Iterator[list[str]]:
    name, launches = kernel["name"], str(kernel["launches"])
    built = f"{kernel['builds']} of {kernel['configurations']}"
    if not kernel["choices"]:
        yield [name, launches, "", "", "", "", "", "", "", built]
    for choice in kernel["choices"]:
        yield [
            name,
            launches,
            choice["arch"],
            _rows_of(choice),
            _tile(choice["constants"]),
            str(choice["warps"]),
            str(choice["stages"]),
            str(choice["registers"]),
            binary_bytes(choice["shared_bytes"]),
            built,
        ]
        # The second row of a kernel says only what differs.
        name = launches = built = ""


def _tile(constants: Mapping[str, int]) -> str:
    """The sides of a tile by the letters of their axes: `M 64 N 128 K 64`."""
    sides = {name.partition("_")[2]: size for name, size in constants.items() if "BLOCK" in name}
    axes = sorted(sides, key=lambda axis: (axis == "K", axis))
    return " ".join(f"{axis if len(axis) == 1 else axis.lower()} {sides[axis]}" for axis in axes)


def _rows_of(choice: Record) -> str:
    return "any" if choice["rows"] is None else f"to {choice['rows']:,}"


def kernel_lines(kernels: Sequence[Record], op: str) -> list[str]:
    """Which kernels compute the op of a decision record, one line each."""
    return [
        f"  kernel    {kernel['name'].rpartition('-')[0]}, in {_launches(kernel)} of a prefill"
        for kernel in kernels
        if op in kernel["ops"]
    ]


def _launches(kernel: Record) -> str:
    return "1 launch" if kernel["launches"] == 1 else f"{kernel['launches']:,} launches"
