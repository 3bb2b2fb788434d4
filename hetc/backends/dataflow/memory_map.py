"""Where weights and state lie: offsets in each tier, with the stride from layer to layer.

Everything lives as long as the plan runs, so that tensors lie one after the other: first the
weights of each block, layer by layer, then the states. What exceeds the main memory goes to the
tier behind it: tables of which a row is read, then some rows of every matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from hetc.backends.dataflow.blocks import Run
from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.reads import Read, static
from hetc.backends.dataflow.schema import Allocation
from hetc.backends.dataflow.sizing import Draft
from hetc.errors import BackendError
from hetc.ir.dims import Dim, evaluate
from hetc.ir.op import Value

Use = Literal["matrix", "vector", "table", "state"]
ALIGNMENT = 256
# Kept free of each tier, for activations on their way, programs and the host.
_RESERVE = 1 / 64


@dataclass(frozen=True)
class Piece:
    """Rows of one tensor of a block, for each of its iterations, in one tier.

    `rows` count along the axis that the tensor is cut by: outputs of a matrix, experts, rows of a
    table, cached tokens. `use` says how it is read: a `table` by the row, a `matrix` or a `vector`
    whole, a `state` as far as it is filled.
    """

    block: str
    tensor: str
    use: Use
    rows: tuple[int, int]
    row_bytes: int
    count: int
    tier: str

    @property
    def bytes(self) -> int:
        return (self.rows[1] - self.rows[0]) * self.row_bytes

    @property
    def padded(self) -> int:
        """Bytes of one iteration, up to the next aligned address."""
        return -(-self.bytes // ALIGNMENT) * ALIGNMENT

    @property
    def total(self) -> int:
        return self.padded * self.count


def pieces_of(
    runs: Sequence[Run],
    drafts: Sequence[Sequence[Draft]],
    batch: int,
    context: int,
    tier: str,
) -> tuple[Piece, ...]:
    """Everything that one socket keeps, all of it in `tier` to begin with: weights, then states."""
    weights: dict[tuple[str, str, bool], Piece] = {}
    states: list[Piece] = []
    for run, stages in zip(runs, drafts, strict=True):
        for read in (read for item in stages for read in item.reads if read.kind != "state"):
            rows, row_bytes = _weight_rows(read)
            use: Use = "table" if read.kind == "lookup" else "matrix" if read.matrix else "vector"
            piece = Piece(run.id, read.tensor, use, (0, rows), row_bytes, run.repeat, tier)
            weights.setdefault((run.id, read.tensor, use == "table"), piece)
        for name, value in run.states.items():
            rows, row_bytes = _state_rows(value, batch, context)
            states.append(Piece(run.id, name, "state", (0, rows), row_bytes, run.repeat, tier))
    return (*weights.values(), *states)


def spill(pieces: Sequence[Piece], fabric: Fabric) -> tuple[Piece, ...]:
    """`pieces` with what the main memory cannot hold in the tier behind it.

    Tables go first, since a row is read of them; then the same part of every matrix, so that the
    slower tier has something to read all the time. Raises BackendError (HETC-E031) where the
    machine has no room for all of it.
    """
    room = usable_bytes(fabric, fabric.main_memory)
    over = sum(piece.total for piece in pieces) - room
    if over <= 0:
        return tuple(pieces)
    behind = next((name for name in fabric.tiers if name not in ("sram", fabric.main_memory)), None)
    movable = [piece for piece in pieces if piece.use in ("table", "matrix")]
    if behind is None or over > min(
        sum(piece.total for piece in movable), usable_bytes(fabric, behind)
    ):
        raise _too_small(pieces, fabric)
    moved: dict[Piece, tuple[Piece, ...]] = {}
    for piece in (item for item in movable if item.use == "table"):
        if over > 0:
            moved[piece] = (replace(piece, tier=behind),)
            over -= piece.total
    matrices = [item for item in movable if item.use == "matrix"]
    whole = sum(piece.total for piece in matrices)
    for piece in matrices:
        if over > 0:
            moved[piece] = _cut(piece, over / whole, behind)
    return tuple(part for piece in pieces for part in moved.get(piece, (piece,)))


def _cut(piece: Piece, part: float, tier: str) -> tuple[Piece, ...]:
    """`piece` with at least this part of it in `tier`: the last rows of each layer."""
    first, stop = piece.rows
    # Padding of two pieces instead of one takes room too.
    away = ceil(part * (stop - first)) + 2 * ALIGNMENT // piece.row_bytes + 1
    if away >= stop - first:
        return (replace(piece, tier=tier),)
    return (
        replace(piece, rows=(first, stop - away)),
        replace(piece, rows=(stop - away, stop), tier=tier),
    )


def usable_bytes(fabric: Fabric, tier: str) -> int:
    """What tensors may take of a tier."""
    return int(fabric.tiers[tier].bytes * (1 - _RESERVE))


def lay_out(pieces: Iterable[Piece], order: Sequence[str]) -> tuple[Allocation, ...]:
    """Offsets: a block's weights layer by layer, so that a layer is one run of addresses, and its
    states likewise. `order` are the blocks in the order of execution."""
    groups: dict[tuple[str, str, bool], list[Piece]] = {}
    for piece in pieces:
        groups.setdefault((piece.tier, piece.block, piece.use == "state"), []).append(piece)
    free: dict[str, int] = {}
    found: list[Allocation] = []
    for (tier, block, is_state), members in groups.items():
        stride = sum(piece.padded for piece in members)
        offset = free.get(tier, 0)
        for piece in members:
            found.append(
                Allocation(
                    block=block,
                    tensor=piece.tensor,
                    kind="state" if is_state else "weight",
                    use=piece.use,
                    tier=tier,
                    rows=piece.rows,
                    offset=offset,
                    bytes=piece.bytes,
                    stride=stride,
                    count=piece.count,
                    live=(order[0], order[-1]),
                )
            )
            offset += piece.padded
        free[tier] = free.get(tier, 0) + stride * members[0].count
    return tuple(found)


def _weight_rows(read: Read) -> tuple[int, int]:
    """Rows and bytes of a row of a weight, along the axis that its stage cuts."""
    nbytes = static(read.value.nbytes)
    if read.kind == "weight" and read.matrix:
        rows = read.shape[0]
    else:
        rows = static(read.value.shape[0]) if read.value.rank else 1
    return rows, nbytes // rows


def _state_rows(value: Value, batch: int, context: int) -> tuple[int, int]:
    """Rows of a state when it is full, over all sequences, and bytes of one."""
    bindings = {"B": batch, "P": context}
    growing = [dim for dim in value.shape if isinstance(dim, Dim) and str(dim) != "B"]
    rows = batch * evaluate(growing[0], bindings) if growing else batch
    return rows, evaluate(value.nbytes, bindings) // max(1, rows)


def _too_small(pieces: Sequence[Piece], fabric: Fabric) -> BackendError:
    weights = sum(piece.total for piece in pieces if piece.use != "state")
    states = sum(piece.total for piece in pieces if piece.use == "state")
    rooms = {name: usable_bytes(fabric, name) for name in fabric.tiers if name != "sram"}
    sockets = -(-fabric.sockets * (weights + states) // max(rooms.values()))
    shown = ", ".join(f"{room / 1e9:,.1f} GB of {name}" for name, room in rooms.items())
    return BackendError(
        "HETC-E031",
        "one socket cannot hold its part of the model",
        at=fabric.name,
        expected=f"at most {shown} a socket",
        found=f"{weights / 1e9:,.1f} GB of weights and {states / 1e9:,.1f} GB of state",
        do=f"use {fabric.name}:{max(sockets, fabric.sockets + 1)}, a smaller batch or context",
    )
