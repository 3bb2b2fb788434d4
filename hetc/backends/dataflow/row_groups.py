"""Row groups: the sequences of a batch, one group behind the other through the stages of a layer.

One token of one sequence is a chain of stages, each idle while the others work. Several sequences
need not be: while a stage works on one group, the next stage works on the group before, and an
iteration takes as long as the busiest stage does with all groups (its initiation interval), no
longer the sum of the stages. What it costs is memory: weights stay until the last group has passed.
"""

from __future__ import annotations

from collections.abc import Sequence

from hetc.backends.dataflow.blocks import Run
from hetc.backends.dataflow.reads import Read
from hetc.ir.dims import Dim, DimLike
from hetc.ir.op import Value

# A stage is filled and drained once an iteration: more groups than this only pay latencies.
_MOST_GROUPS = 16


def group_counts(batch: int) -> tuple[int, ...]:
    """The numbers of equal groups that a batch can be cut in, of two sequences at least, by
    doubling."""
    found = []
    groups = 2
    while groups <= _MOST_GROUPS and batch % groups == 0:
        found.append(groups)
        groups *= 2
    return tuple(found)


def why_whole(run: Run, reads: Sequence[Read]) -> str | None:
    """Why the sequences of a block cannot pass in groups; None where they can."""
    if run.repeat == 1:
        return "it does not repeat"
    if any(read.kind in ("expert", "lookup") for read in reads):
        return "what it reads hangs on all sequences"
    values = (value for op in run.ops for value in (*op.operands, *op.results))
    if not all(map(_sequences_first, values)):
        return "sequences are not along the first axis of everything"
    return None


def _sequences_first(value: Value) -> bool:
    """Whether equal parts of the first axis are equal groups of sequences, or all share it."""
    first, *others = value.shape or (1,)
    return not any(map(_counts_sequences, others)) and (
        not _counts_sequences(first) or _is_multiple(first)
    )


def _counts_sequences(dim: DimLike) -> bool:
    return isinstance(dim, Dim) and "B" in dim.symbols


def _is_multiple(dim: DimLike) -> bool:
    """Whether a size is `B` times something without it."""
    assert isinstance(dim, Dim)
    once, twice = dim.substitute({"B": 1}), dim.substitute({"B": 2})
    return once * 2 == twice


def balance(
    works: Sequence[float], least: Sequence[int], most: Sequence[int], lanes: int
) -> tuple[int, ...]:
    """`lanes` lanes over stages, so that the longest initiation interval, work over lanes, is as
    short as can be, and no stage has more lanes than that takes, or than `most`.

    Each has `least` at any rate. The interval is found by bisection: what a shorter one needs, a
    longer one does with (as in FINN's folding, Umuroglu et al., FPGA 2017).
    """

    def at(interval: float) -> list[int]:
        return [
            max(low, min(high, -int(-work // interval)))
            for work, low, high in zip(works, least, most, strict=True)
        ]

    low, high = 1.0, max(1.0, *works)
    for _ in range(60):
        middle = (low + high) / 2
        if sum(at(middle)) <= lanes:
            high = middle
        else:
            low = middle
    return tuple(at(high))
