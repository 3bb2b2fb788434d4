"""Whether a graph can be interpreted here at all: an estimate before anything is allocated."""

from __future__ import annotations

import os
from collections.abc import Mapping

from hetc.errors import CheckFailed
from hetc.ir.dims import evaluate
from hetc.ir.graph import Graph
from hetc.ir.interpret import dead_after
from hetc.ir.ops.shape import View


def require_room(graph: Graph, sizes: Mapping[str, int]) -> None:
    """Raise CheckFailed (HETC-V006) where interpreting `graph`, which has no calls, would take more
    memory than the machine has."""
    needed, memory = peak_bytes(graph, sizes), memory_bytes()
    if needed > memory:
        raise CheckFailed(
            "HETC-V006",
            "the compiled model cannot be checked here: it needs more memory than there is",
            at=graph.name,
            expected=f"at most {memory / 1e9:,.1f} GB, the memory of this machine",
            found=f"{needed / 1e9:,.1f} GB for a call with "
            + (", ".join(f"{name} = {size}" for name, size in sizes.items()) or "fixed sizes"),
            do="compile it where there is more memory; or check its shapes, which may be damaged",
        )


def peak_bytes(graph: Graph, sizes: Mapping[str, int]) -> int:
    """The bytes of all arrays that the interpreter holds at one time, at most; views are free."""
    held = {value: evaluate(value.nbytes, sizes) for value in graph.inputs}
    now = peak = sum(held.values())
    dead = dead_after(graph)
    for op in graph.ops:
        for value in op.results:
            held[value] = 0 if isinstance(op, View) else evaluate(value.nbytes, sizes)
            now += held[value]
        peak = max(peak, now)
        now -= sum(held.pop(value) for value in dead.get(op, ()))
    return peak


def memory_bytes() -> int:
    """The main memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
