"""One stage in one iteration: takes its streams tile by tile, computes, and hands on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import TypeVar

import numpy as np

from hetc.backends.dataflow.interpret.exchange import exchange
from hetc.backends.dataflow.interpret.machine import Machine
from hetc.backends.dataflow.interpret.matrices import TiledMatrices, wrong_tiles
from hetc.backends.dataflow.interpret.products import Product
from hetc.backends.dataflow.interpret.row_group import RowGroup
from hetc.backends.dataflow.interpret.states import StoredState
from hetc.backends.dataflow.interpret.wiring import Wired, op_at
from hetc.backends.dataflow.schema import Append, Stage, Stream
from hetc.errors import PlanError
from hetc.ir.dims import evaluate
from hetc.ir.interpret import evaluate_op, no_weights
from hetc.ir.lockstep import Shards
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import COLLECTIVES
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.linear import ExpertLinear
from hetc.ir.ops.sequence import KVAppend
from hetc.ir.types import Array

T = TypeVar("T")
Waiting = Generator[str, None, T]
"""Yields what it waits for, and goes on when there may be more."""


class StageRun:
    """A stage at work on a row group. `values` are the results of its ops, `written` is what it
    appends to states when the iteration ends, and `taken` counts the bytes that it took from its
    FIFOs."""

    def __init__(
        self, machine: Machine, wired: Wired, stage: Stage, iteration: int, group: RowGroup
    ) -> None:
        self.stage, self.iteration, self.taken = stage, iteration, 0
        self.group = group
        self._seen: Counter[str] = Counter()
        self.values: dict[Value, Shards] = {}
        self.written: list[tuple[StoredState, Shards]] = []
        self._machine, self._wired = machine, wired
        self._ops = wired.ops(stage)
        self._streams = [s for s in wired.block.streams if s.stage == stage.id]
        self._tensors: dict[str, Shards] = {}
        self._tiled: TiledMatrices | None = machine.matrices.get(stage.id)
        self._products: dict[Op, Product] = {}

    def run(self) -> Waiting[None]:
        """Compute everything, and hand it on; raises PlanError where that cannot be."""
        for op in self._ops:
            yield from self._evaluate(op)
        for append in self._wired.block.appends:
            if append.stage == self.stage.id:
                yield from self._append(append)
        stamp = self._machine.token, self.iteration, self.group
        self._machine.buffers.put(self.stage, stamp, self.values)

    def _evaluate(self, op: Op) -> Waiting[None]:
        if isinstance(op, KVAppend):
            # The rows stay where they are: who reads past and new together gets both.
            yield from self._get(op.new)
        elif self._tiled is not None and op in self._tiled.products:
            yield from self._multiply(op)
        elif self._tiled is not None and op in self._tiled.turning:
            # The tiles lie in memory as they are multiplied with.
            return
        elif op.results[0] not in self.values:
            results = yield from self._results(op)
            self.values.update(zip(op.results, results, strict=True))

    def _results(self, op: Op) -> Waiting[tuple[Shards, ...]]:
        if isinstance(op, Embedding) and op.table in self._wired.stored:
            return ((yield from self._rows(op)),)
        operands = yield from self._get_all(op.operands)
        if isinstance(op, COLLECTIVES):
            return (exchange(op, operands[0], self.stage, self.group.count),)
        sockets = range(self._machine.sockets)
        bound = self._machine.bound(self.group)
        results = [
            evaluate_op(op, tuple(shards[rank] for shards in operands), no_weights, bound)
            for rank in sockets
        ]
        return tuple(zip(*results, strict=True))

    def _get_all(self, values: tuple[Value, ...]) -> Waiting[list[Shards]]:
        found: list[Shards] = []
        for value in values:
            found += [(yield from self._get(value))]
        return found

    def _get(self, value: Value) -> Waiting[Shards]:
        """A value that an op of this stage reads."""
        if value in self.values:
            return self.values[value]
        if value in self._wired.stored:
            return (yield from self._tensor(self._wired.stored[value]))
        if isinstance(value.op, KVAppend):
            past = yield from self._get(value.op.past)
            new = yield from self._get(value.op.new)
            return tuple(value.op.semantics(*rows) for rows in zip(past, new, strict=True))
        if value.op in self._ops:
            yield from self._evaluate(value.op)
            return self.values[value]
        origin = self._machine.wiring.origin(self._wired.block.id, self.iteration, value)
        return self._machine.read(self.stage, origin, self.group)

    def _take(self, stream: Stream, nbytes: int) -> Waiting[Array]:
        """The next bytes; for all groups but the last, what comes for all of them stays."""
        fifo, position = self._machine.fifos[stream.id], self._machine.position
        stays = stream.parts(self.group.count) < self.group.count and not self.group.is_last
        first = self._seen[stream.id] if stays else 0
        while fifo.level < first + nbytes:
            yield f"waits for {nbytes} bytes of {stream.id}"
        self.taken += nbytes
        self._seen[stream.id] += nbytes
        return fifo.peek(first, nbytes, position) if stays else fifo.pop(nbytes, position)

    def _take_whole(self, stream: Stream, nbytes: int) -> Waiting[Array]:
        """Bytes of a tensor that is gathered, tile by tile."""
        found = np.empty((self._machine.sockets, nbytes), np.uint8)
        for first in range(0, nbytes, stream.tile_bytes):
            stop = min(nbytes, first + stream.tile_bytes)
            found[:, first:stop] = yield from self._take(stream, stop - first)
        return found

    def _stream_of(self, tensor: str, *, lookup: bool = False) -> Stream:
        for stream in self._streams:
            if tensor in stream.tensors and (stream.kind == "lookup") == lookup:
                return stream
        raise self._no_stream(tensor)

    def _tensor(self, name: str) -> Waiting[Shards]:
        """A vector or state, with all that its stream brings."""
        if self._tiled is not None and name in self._tiled.matrices:
            raise wrong_tiles(self.stage, f"products alone to read {name}", "another op")
        if name not in self._tensors:
            stream = self._stream_of(name)
            for tensor in stream.tensors:
                self._tensors[tensor] = yield from self._gathered(stream, tensor)
        return self._tensors[name]

    def _gathered(self, stream: Stream, tensor: str) -> Waiting[Shards]:
        value, bound = self._wired.value(tensor), self._machine.bound(self.group)
        shape = tuple(evaluate(dim, bound) for dim in value.shape)
        nbytes = evaluate(value.nbytes, bound)
        state = self._machine.states.get((self._wired.block.id, tensor))
        kept = 0 if state is None else state.nbytes(self._machine.now) // self.group.count
        if state is not None and kept != nbytes:
            raise PlanError(
                "HETC-L309",
                "the plan keeps another number of rows than the graph reads",
                at=f"{stream.id} {tensor}",
                expected=f"{value.type} with {shape}",
                found=f"{kept} bytes",
                do="plan the graph again",
            )
        raw = yield from self._take_whole(stream, nbytes)
        return tuple(part.view(value.dtype.numpy).reshape(shape) for part in raw)

    def _rows(self, op: Embedding) -> Waiting[Shards]:
        """The rows of a table that the ids name."""
        stream = self._stream_of(self._wired.stored[op.table], lookup=True)
        ids = yield from self._get(op.ids)
        row_bytes = evaluate(op.table.nbytes, {}) // evaluate(op.table.shape[0], {})
        raw = yield from self._take_whole(stream, ids[0].size * row_bytes)
        shape = (*ids[0].shape, evaluate(op.table.shape[1], {}))
        return tuple(part.view(op.table.dtype.numpy).reshape(shape) for part in raw)

    def _multiply(self, op: Op) -> Waiting[None]:
        """All products of the stage at once, since their matrices come side by side."""
        if op.result in self.values:
            return
        tiled = self._tiled
        assert tiled is not None
        if self._products:
            raise wrong_tiles(self.stage, "inputs of products from other stages", op.loc or op.kind)
        numbers: dict[Op, list[Shards]] = {}
        for tensor, readers in tiled.readers.items():
            for reader in readers:
                # Scales are there before the elements come.
                whole = reader.dequantize
                scales = () if whole is None else whole.operands[1:]
                numbers[reader.op] = yield from self._get_all(scales)
                x = yield from self._get(reader.op.operands[0])
                outputs = tiled.matrices[tensor].outputs
                self._products[reader.op] = Product(x, outputs, self.stage.split_k)
        ids = (yield from self._get(op.ids))[0] if isinstance(op, ExpertLinear) else None
        experts = [] if ids is None else np.unique(ids).tolist()
        streams = {s.tier: s for s in self._streams if s.tensors[0] in tiled.matrices}
        for expert, share, piece in tiled.walk(experts):
            if piece.tier not in streams:
                raise self._no_stream(f"{share.tensor} in {piece.tier}")
            raw = yield from self._take(streams[piece.tier], share.bytes)
            tile = raw.view(tiled.matrices[share.tensor].dtype).reshape(-1, *share.shape)
            rows = None if ids is None else np.flatnonzero(ids == expert)
            for reader in tiled.readers[share.tensor]:
                own = zip(tile, *numbers[reader.op], strict=True)
                self._products[reader.op].add(*reader.elements(share, own), rows)
        for made, product in self._products.items():
            self.values[made.result] = product.result((yield from self._bias(made)))

    def _bias(self, op: Op) -> Waiting[Shards | None]:
        bias = getattr(op, "bias", None)
        if bias is None:
            return None
        shards = yield from self._get(bias)
        if not isinstance(op, ExpertLinear):
            return shards
        ids = yield from self._get(op.ids)
        return tuple(rows[chosen] for rows, chosen in zip(shards, ids, strict=True))

    def _append(self, append: Append) -> Waiting[None]:
        """The rows that a state gets of this iteration."""
        wired, machine = self._wired, self._machine
        value, cut = machine.wiring.state_out(wired.block.id, self.iteration, append.tensor)
        op = op_at(wired.graph, append.op)
        if op is None or value.op is not op or op not in self._ops:
            raise _wrong_rows(append, f"the op that makes {append.tensor}", f"op {append.op}")
        state = machine.states[wired.block.id, append.tensor]
        if state.grows and isinstance(op, KVAppend) and not append.whole:
            rows = yield from self._get(op.new)
        elif append.whole and not state.grows:
            rows = yield from self._get(value)
            if cut is not None:
                rows = tuple(cut.semantics(part) for part in rows)
        else:
            raise _wrong_rows(append, "whole states whole, others row by row", append)
        nbytes = rows[0].nbytes * self.group.count
        if nbytes != append.bytes:
            raise _wrong_rows(append, f"{nbytes} bytes", f"{append.bytes} bytes")
        self.written.append((state, rows))

    def _no_stream(self, tensor: str) -> PlanError:
        return PlanError(
            "HETC-L303",
            "a stage reads a tensor that no stream brings",
            at=f"{self.stage.id} ({self.stage.name})",
            expected=f"a stream of {tensor}",
            found=", ".join(self.stage.streams) or "no streams",
            do="plan the graph again",
        )


def _wrong_rows(append: Append, expected: object, found: object) -> PlanError:
    return PlanError(
        "HETC-L309",
        "the plan writes something else than the new state",
        at=f"{append.stage} {append.tensor}",
        expected=expected,
        found=found,
        do="plan the graph again",
    )
