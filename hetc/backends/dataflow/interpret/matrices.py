"""The matrices of a stage, as its streams bring them: tile by tile, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hetc.backends.dataflow.interpret.layout import Matrix, Share, shares
from hetc.backends.dataflow.interpret.memory import Memory, Span, place, require_bytes
from hetc.backends.dataflow.interpret.wiring import Wired
from hetc.backends.dataflow.schema import Allocation, Stage, Stream, Tiling
from hetc.errors import PlanError
from hetc.ir.dims import evaluate
from hetc.ir.op import Op, Value
from hetc.ir.ops.linear import ExpertLinear, Linear, MatMul
from hetc.ir.ops.quant import Dequantize, Unpack4, dequantized, unpacked4
from hetc.ir.ops.shape import View
from hetc.ir.types import Array


@dataclass(frozen=True, eq=False)
class Reader:
    """An op that multiplies with a matrix, the views that turn it on its way from memory, and what
    dequantizes its tiles where they are integers."""

    op: Op
    views: tuple[View, ...]
    dequantize: Dequantize | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K), K in stored numbers."""
        rows, columns = (evaluate(dim, {}) for dim in self.op.operands[1].shape[-2:])
        columns //= self.packed
        return (columns, rows) if self._inputs_first else (rows, columns)

    @property
    def packed(self) -> int:
        """Elements in one stored number."""
        return 1 if self._unpack is None else 2

    @property
    def _unpack(self) -> Unpack4 | None:
        codes = None if self.dequantize is None else self.dequantize.x.op
        return codes if isinstance(codes, Unpack4) else None

    @property
    def turning(self) -> tuple[Op, ...]:
        """All ops that turn the matrix on its way."""
        found = (*self.views, self._unpack, self.dequantize)
        return tuple(op for op in found if op is not None)

    def elements(self, share: Share, stored: Iterable[tuple[Array, ...]]) -> tuple[Share, Array]:
        """A share in elements: its place, and [sockets, k, n]. `stored` has for each socket the
        tile [k, n] and, of the whole matrix, the scales, zeros and shifts [N, groups]."""
        op = self.dequantize
        if op is None:
            return share, np.stack([tile for tile, *_ in stored])
        first, stop = (column * self.packed for column in share.columns)
        groups = np.arange(first, stop) // op.group
        found = []
        for tile, *numbers in stored:
            codes = tile.T if self._unpack is None else unpacked4(tile.T, self._unpack.dtype)
            each = (part[slice(*share.rows)][:, groups] for part in numbers)
            scale = next(each)
            zero = None if op.zero is None else next(each)
            shift = None if op.shift is None else next(each)
            found.append(dequantized(codes, scale, zero, shift).astype(op.dtype.numpy).T)
        return replace(share, columns=(first, stop)), np.stack(found)

    @property
    def _inputs_first(self) -> bool:
        op = self.op
        return isinstance(op, MatMul) or (isinstance(op, ExpertLinear) and op.transposed)

    def matrix(self, held: Array) -> Array:
        """[N, K], or [experts, N, K], of what the model has."""
        for view in self.views:
            turned = view.semantics(held)
            assert not isinstance(turned, tuple), "a matrix is one of the results of no view"
            held = turned
        return held.swapaxes(-1, -2) if self._inputs_first else held


@dataclass(frozen=True, eq=False)
class TiledMatrices:
    """The matrices of a stage in tiles, and who multiplies with each.

    With experts, `shares` are those of one expert's matrices, and `pieces` hold experts.
    """

    block: str
    matrices: dict[str, Matrix]
    shares: tuple[Share, ...]
    pieces: dict[str, tuple[Allocation, ...]]
    readers: dict[str, tuple[Reader, ...]]
    experts: bool

    @cached_property
    def products(self) -> frozenset[Op]:
        """All ops that multiply with one of the matrices."""
        return frozenset(reader.op for readers in self.readers.values() for reader in readers)

    @cached_property
    def turning(self) -> frozenset[Op]:
        """All ops that turn one of the matrices."""
        read = (reader for readers in self.readers.values() for reader in readers)
        return frozenset(op for reader in read for op in reader.turning)

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
    rows = batch // wired.block.row_groups
    tiling, experts = _tiling(stage, rows), tiled[0].kind == "expert"
    tensors = tuple(dict.fromkeys(name for stream in tiled for name in stream.tensors))
    pieces = {name: memory.pieces(wired.block.id, name) for name in tensors}
    readers = {name: _readers(wired, stage, name) for name in tensors}
    matrices = {
        name: _matrix(stage, wired.value(name), readers[name][0], pieces[name], experts=experts)
        for name in tensors
    }
    if len({matrix.inputs for matrix in matrices.values()}) > 1:
        found = ", ".join(f"{name}: {matrix.inputs}" for name, matrix in matrices.items())
        raise wrong_tiles(stage, "matrices of one K side by side", found)
    tiles = shares(tuple(matrices.values()), tiling)
    return TiledMatrices(wired.block.id, matrices, tiles, pieces, readers, experts)


def _is_tiled(stream: Stream, wired: Wired, memory: Memory) -> bool:
    if stream.kind == "lookup":
        return False
    return all(memory.pieces(wired.block.id, n)[0].use == "matrix" for n in stream.tensors)


def _tiling(stage: Stage, rows: int) -> Tiling:
    tiling = stage.tiling
    if tiling is None or min(tiling.outputs, tiling.inputs, stage.split_k) < 1:
        raise wrong_tiles(stage, "tiles of one output and input at least", tiling)
    if tiling.rows != rows:
        raise wrong_tiles(stage, f"tiles that serve {rows} tokens", f"{tiling.rows}")
    lanes, reducers = stage.units.lanes, stage.units.reducers
    groups, rest = divmod(lanes, stage.split_k)
    if rest or (stage.split_k > 1 and reducers < groups):
        expected = f"groups of {stage.split_k} lanes, each with a reducer"
        raise wrong_tiles(stage, expected, f"{lanes} lanes and {reducers} reducers")
    return tiling


def _readers(wired: Wired, stage: Stage, tensor: str) -> tuple[Reader, ...]:
    """Who multiplies with a tensor in a stage."""
    ops = wired.ops(stage)
    found = []
    for op in ops:
        if not isinstance(op, Linear | MatMul | ExpertLinear):
            continue
        value, views, dequantize = op.operands[1], list[View](), None
        if isinstance(value.op, Dequantize) and value.op in ops:
            dequantize, value = value.op, value.op.x
            value = value.op.x if isinstance(value.op, Unpack4) else value
        while isinstance(value.op, View) and value.op in ops:
            views.insert(0, value.op)
            value = value.op.operands[0]
        if wired.stored.get(value) == tensor:
            found.append(Reader(op, tuple(views), dequantize))
    if not found:
        raise wrong_tiles(stage, f"an op that multiplies with {tensor}", "none")
    return tuple(found)


def _matrix(
    stage: Stage, value: Value, reader: Reader, pieces: tuple[Allocation, ...], *, experts: bool
) -> Matrix:
    outputs, inputs = reader.shape
    rows = tuple(item.rows for item in pieces)
    count = evaluate(value.shape[0], {}) if experts else outputs
    if rows[-1][1] != count or value.rank != 2 + experts:
        found = f"{rows[-1][1]} of {value.type}"
        raise wrong_tiles(stage, f"{count} rows of {pieces[0].tensor}", found)
    row_bytes = inputs * value.dtype.numpy.itemsize * (outputs if experts else 1)
    for item in pieces:
        require_bytes(item, (item.rows[1] - item.rows[0]) * row_bytes)
    whole = ((0, outputs),)
    return Matrix(pieces[0].tensor, outputs, inputs, value.dtype.numpy, whole if experts else rows)


def wrong_tiles(stage: Stage, expected: object, found: object) -> PlanError:
    return PlanError(
        "HETC-L306",
        "the matrices of a stage cannot be cut in the tiles of the plan",
        at=f"{stage.id} ({stage.name})",
        expected=expected,
        found=found,
        do="plan the graph again",
    )
