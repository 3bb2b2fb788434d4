"""What the plan keeps in memory, as stages take it: matrices in tiles, rows of states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from hetc.backends.dataflow.interpret.layout import Matrix, Share, shares
from hetc.backends.dataflow.interpret.memory import Memory, place, require_bytes
from hetc.backends.dataflow.interpret.wiring import Wired
from hetc.backends.dataflow.schema import Allocation, Stage, Stream
from hetc.errors import PlanError
from hetc.ir.dims import DimLike, evaluate, symbols_of
from hetc.ir.op import Op, Value
from hetc.ir.ops.linear import ExpertLinear, MatMul


@dataclass(frozen=True)
class Span:
    """Bytes that lie one behind the other in a tier."""

    tier: str
    address: int
    bytes: int


@dataclass(frozen=True, eq=False)
class TiledMatrices:
    """The matrices of a stage in tiles: `readers` are the ops that multiply with each.

    With experts, `shares` are those of one expert's matrices, and `pieces` hold experts.
    """

    block: str
    matrices: dict[str, Matrix]
    shares: tuple[Share, ...]
    pieces: dict[str, tuple[Allocation, ...]]
    readers: dict[str, tuple[Op, ...]]
    experts: bool

    @cached_property
    def multiply(self) -> frozenset[Op]:
        """All ops that multiply with one of the matrices."""
        return frozenset(op for ops in self.readers.values() for op in ops)

    def walk(self, experts: Sequence[int]) -> Iterator[tuple[int, Share, Allocation]]:
        """Expert, share and the allocation that it lies in, in the order of the stream."""
        for expert in experts if self.experts else (0,):
            for share in self.shares:
                yield expert, share, self._piece(expert, share)

    def _piece(self, expert: int, share: Share) -> Allocation:
        pieces = self.pieces[share.tensor]
        if not self.experts:
            return pieces[share.piece]
        return next(item for item in pieces if item.rows[0] <= expert < item.rows[1])

    def span(self, expert: int, share: Share, piece: Allocation, iteration: int) -> Span:
        """Where a share lies in one iteration."""
        address = place(piece, iteration) + share.offset
        if self.experts:
            row_bytes = piece.bytes // (piece.rows[1] - piece.rows[0])
            address += (expert - piece.rows[0]) * row_bytes
        return Span(piece.tier, address, share.bytes)


def tiled_matrices(wired: Wired, stage: Stage, memory: Memory, batch: int) -> TiledMatrices | None:
    """The matrices that the streams of a stage bring tile by tile, None where there are none.

    Raises PlanError: HETC-L306 where no tiles are given or they cannot be cut so, HETC-L304 where
    the allocations have another size.
    """
    streams = [stream for stream in wired.block.streams if stream.stage == stage.id]
    tiled = [stream for stream in streams if _is_tiled(stream, wired, memory)]
    if not tiled:
        return None
    tensors = tuple(dict.fromkeys(name for stream in tiled for name in stream.tensors))
    tiling = stage.tiling
    if tiling is None or min(tiling.outputs, tiling.inputs, stage.split_k) < 1:
        raise wrong_tiles(stage, "tiles of one output and input at least", tiling)
    if tiling.rows != batch:
        raise wrong_tiles(stage, f"tiles that serve {batch} tokens", f"{tiling.rows}")
    lanes, reducers = stage.units.lanes, stage.units.reducers
    groups, rest = divmod(lanes, max(1, stage.split_k))
    if rest or (stage.split_k > 1 and reducers < groups):
        expected = f"groups of {stage.split_k} lanes, each with a reducer"
        raise wrong_tiles(stage, expected, f"{lanes} lanes and {reducers} reducers")
    experts = tiled[0].kind == "expert"
    pieces = {name: memory.pieces(wired.block.id, name) for name in tensors}
    readers = {name: _readers(wired, stage, name) for name in tensors}
    matrices = []
    for name in tensors:
        value, op = wired.value(name), readers[name][0]
        outputs, inputs = matrix_shape(value, op)
        rows = tuple(item.rows for item in pieces[name])
        count = evaluate(value.shape[0], {}) if experts else outputs
        if rows[-1][1] != count or value.rank != 2 + experts:
            raise wrong_tiles(stage, f"{count} rows of {name}", f"{rows[-1][1]} of {value.type}")
        size = value.dtype.numpy.itemsize
        for item in pieces[name]:
            held = item.rows[1] - item.rows[0]
            require_bytes(item, held * inputs * size * (outputs if experts else 1))
        whole = ((0, outputs),)
        matrices.append(
            Matrix(name, outputs, inputs, value.dtype.numpy, whole if experts else rows)
        )
    if len({matrix.inputs for matrix in matrices}) > 1:
        found = ", ".join(f"{matrix.tensor}: {matrix.inputs}" for matrix in matrices)
        raise wrong_tiles(stage, "matrices of one K side by side", found)
    by_name = {matrix.tensor: matrix for matrix in matrices}
    tiles = shares(matrices, tiling)
    return TiledMatrices(wired.block.id, by_name, tiles, pieces, readers, experts)


def _is_tiled(stream: Stream, wired: Wired, memory: Memory) -> bool:
    if stream.kind == "lookup":
        return False
    return all(memory.pieces(wired.block.id, n)[0].use == "matrix" for n in stream.tensors)


def _readers(wired: Wired, stage: Stage, tensor: str) -> tuple[Op, ...]:
    """The ops of a stage that multiply with a tensor."""
    found = tuple(
        op
        for op in wired.ops(stage)
        if op.kind in ("linear", "matmul", "expert_linear")
        and any(wired.stored.get(value) == tensor for value in op.operands[1:2])
    )
    if not found:
        raise wrong_tiles(stage, f"an op that multiplies with {tensor}", "none")
    return found


def matrix_shape(value: Value, op: Op) -> tuple[int, int]:
    """(N, K) of a matrix as `op` multiplies with it, whichever way round the model has it."""
    rows, columns = (evaluate(dim, {}) for dim in value.shape[-2:])
    return (columns, rows) if is_turned(op) else (rows, columns)


def is_turned(op: Op) -> bool:
    """Whether the model has the matrix of `op` as [K, N]."""
    return isinstance(op, MatMul) or (isinstance(op, ExpertLinear) and op.transposed)


def wrong_tiles(stage: Stage, expected: object, found: object) -> PlanError:
    return PlanError(
        "HETC-L306",
        "the matrices of a stage cannot be cut in the tiles of the plan",
        at=f"{stage.id} ({stage.name})",
        expected=expected,
        found=found,
        do="plan the graph again",
    )


@dataclass(frozen=True, eq=False)
class StoredState:
    """A state in memory: `lead` sequences of `capacity` rows of `row_bytes`; a whole state is one
    row. `ring`: position p is in row p % ring, and that many are kept. `is_written`: the plan
    appends to it."""

    value: Value
    piece: Allocation
    lead: int
    capacity: int
    row_bytes: int
    grows: bool
    ring: int | None
    is_written: bool

    def kept(self, past: int) -> int:
        """Rows of each sequence after `past` tokens."""
        return min(past, self.ring) if self.ring is not None else past

    def nbytes(self, past: int) -> int:
        """Bytes that are read after `past` tokens."""
        return self.lead * (self.kept(past) if self.grows else 1) * self.row_bytes

    def spans(self, iteration: int, first: int, stop: int) -> Iterator[Span]:
        """The places of positions `first` to `stop` of every sequence, in their order.

        Raises PlanError (HETC-L309) where one has no row.
        """
        runs = list(self._runs(first, stop)) if self.grows else [(0, 1)]
        base = place(self.piece, iteration)
        for sequence in range(self.lead):
            for row, count in runs:
                if row + count > self.capacity:
                    raise PlanError(
                        "HETC-L309",
                        "a state has no room for a row",
                        at=f"{self.piece.block} {self.piece.tensor}",
                        expected=f"at most {self.capacity} rows",
                        found=f"row {row + count - 1}",
                        do="plan for a longer context",
                    )
                address = base + (sequence * self.capacity + row) * self.row_bytes
                yield Span(self.piece.tier, address, count * self.row_bytes)

    def _runs(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """First row and number of rows of runs of positions."""
        while first < stop:
            row = first if self.ring is None else first % self.ring
            count = stop - first if self.ring is None else min(stop - first, self.ring - row)
            yield row, count
            first += count


def stored_state(wired: Wired, tensor: str, memory: Memory, batch: int) -> StoredState:
    """How a state of a block lies in memory; raises PlanError (HETC-L304, HETC-L309)."""
    value = wired.value(tensor)
    appends = [item for item in wired.block.appends if item.tensor == tensor]
    sizes = [_fixed(dim, batch) for dim in value.shape]
    axis = sizes.index(None) if None in sizes else 0
    lead = prod(size or 1 for size in sizes[:axis])
    row_bytes = prod(size or 1 for size in sizes[axis:]) * value.dtype.bits // 8
    (piece,) = memory.pieces(wired.block.id, tensor)
    capacity, rest = divmod(piece.rows[1], batch)
    require_bytes(piece, lead * capacity * row_bytes + rest)
    return StoredState(
        value=value,
        piece=piece,
        lead=lead,
        capacity=capacity,
        row_bytes=row_bytes,
        grows=None in sizes,
        ring=appends[0].ring if appends else None,
        is_written=bool(appends),
    )


def _fixed(dim: DimLike, batch: int) -> int | None:
    """A size that the number of tokens does not change, None for one that it does."""
    return None if symbols_of(dim) - {"B"} else evaluate(dim, {"B": batch})
