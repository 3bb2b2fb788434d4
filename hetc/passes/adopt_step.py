"""Adopt a step: the decode step that a framework captured, caches in and caches out, as a decode
half.

It was captured for one token, so that its shapes say 1 where a decode half says T. The walk gives
the axes of the tokens and of the sequences their names again. What it makes is checked op by op: at
T = 1 it has the types of the capture, so that it computes the same there, whatever it does for more
tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hetc.errors import IRError
from hetc.ir.dims import DimLike
from hetc.ir.graph import Graph, GraphBuilder, substitute_dims
from hetc.ir.interpret import WeightLookup
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.elementwise import Cast
from hetc.ir.ops.sequence import KVAppend
from hetc.ir.ops.shape import Broadcast, Reshape, Slice
from hetc.ir.ops.source import Constant, Weight
from hetc.ir.types import I64, Array, TensorType
from hetc.passes.simplify import simplify
from hetc.passes.step_axes import B, P, T, reshaped
from hetc.passes.step_positions import Positional, by_position, refused
from hetc.passes.step_rows import (
    Append,
    appends,
    visible,
    widest_of,
    window_by,
    without_slopes,
)


@dataclass(frozen=True)
class StepInputs:
    """What the inputs of a captured step are, by name: `tokens` i64[b,1]; `caches` f[b,G,L,D], in
    the order of the layers; `counters`, integers that hold the position; `masks` of the rows of a
    cache up to the position, bool or added to scores. `keeps` are the rows that a cache which grows
    has at most, where it drops older ones."""

    tokens: str
    caches: tuple[str, ...]
    counters: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    keeps: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """A decode half, and how the outputs of the capture come from it.

    `decode(tokens[B,T], past, caches...) -> logits[B,T,V], caches...`; its inputs and outputs are
    named as a state's are. It is right for positions below `capacity`. `tables` are weights that
    the pass made. `outputs` has for each output of the capture the name of the half's, or its value
    at every position [capacity, *shape].
    """

    decode: Graph
    capacity: int
    tables: Mapping[str, Array]
    outputs: tuple[str | Array, ...]


def state_name(index: int) -> str:
    """What the half calls the cache with this number: keys and values take turns."""
    return f"layer{index // 2}.{('key', 'value')[index % 2]}"


def adopt_step(graph: Graph, inputs: StepInputs, weights: WeightLookup, capacity: int) -> Step:
    """The decode half of `graph`, for positions below `capacity` and within caches that are written
    into; those of L rows have as many as are needed.

    Raises StateError (HETC-S040) naming the op that does not fit.
    """
    graph = by_position(substitute_dims(graph, {"L": capacity}), inputs.counters, inputs.masks)
    graph = simplify(graph)
    into = [one.cache for one in appends(graph, inputs.caches).values() if one.form == "written"]
    rows = [cache.shape[2] for cache in into]
    capacity = min([capacity, *(size for size in rows if isinstance(size, int))])
    return _Walk(graph, inputs, Positional(graph, weights, capacity)).run()


@dataclass
class _Walk:
    """One walk over the ops that see tokens or caches."""

    graph: Graph
    inputs: StepInputs
    positional: Positional
    builder: GraphBuilder = field(default_factory=lambda: GraphBuilder("decode"))
    new: dict[Value, Value] = field(default_factory=dict)
    # The rows of a cache after the step, by the value of the capture; and those that it keeps.
    rows: dict[Value, Value] = field(default_factory=dict)
    kept: dict[Value, Value] = field(default_factory=dict)
    appends: Mapping[Value, Append] = field(default_factory=dict)
    parts: frozenset[Op] = frozenset()
    tables: dict[str, Array] = field(default_factory=dict)
    found: dict[Value, Array] = field(default_factory=dict)
    batch: DimLike = 1
    capacity: int = 0

    def run(self) -> Step:
        by_name = {value.name: value for value in self.graph.inputs}
        tokens = by_name[self.inputs.tokens]
        self.batch = tokens.shape[0]
        self.new[tokens] = self.builder.input("tokens", TensorType(I64, (B, T)))
        self.builder.input("past", TensorType(I64, ()))
        for index, name in enumerate(self.inputs.caches):
            cache = by_name[name]
            sizes = (B, cache.shape[1], P, cache.shape[3])
            self.new[cache] = self.builder.input(state_name(index), TensorType(cache.dtype, sizes))
        self.found = self.positional.tables(self._frontier())
        self.capacity = min([self.positional.capacity, *map(len, self.found.values())])
        self.appends = appends(self.graph, self.inputs.caches)
        self.parts = frozenset(part for one in self.appends.values() for part in one.parts)
        for op in self.graph.ops:
            if self.positional.kinds[op.result] == "data":
                try:
                    self._place(op)
                except IRError as error:
                    raise refused(op.loc, f"{error.what}: {error.found}") from error
        return self._step()

    def _frontier(self) -> list[Value]:
        """The positional values that meet tokens and caches, or are outputs."""
        met = [
            value
            for op in self.graph.ops
            if self.positional.kinds[op.result] == "data"
            for value in op.operands
        ]
        values = dict.fromkeys((*met, *self.graph.outputs))
        return [value for value in values if value in self.positional]

    def _step(self) -> Step:
        results: dict[str, Value] = {}
        outputs: list[str | Array] = []
        for value in self.graph.outputs:
            if value in self.positional:
                outputs.append(self.found[value])
                continue
            name = self._output_name(value)
            result = self.kept.get(value) or self.new[value]
            if results.setdefault(name, result) is not result:
                raise refused(result.op.loc if result.op else "", "it returns two kinds of logits")
            outputs.append(name)
        missing = {f"{state_name(i)}.out" for i in range(len(self.inputs.caches))} - set(results)
        if missing or "logits" not in results:
            raise refused("", "it returns no logits, or not every cache")
        order = ["logits", *(f"{state_name(i)}.out" for i in range(len(self.inputs.caches)))]
        decode = self.builder.finish([results[name] for name in order], order).prune()
        return Step(decode, self.capacity, self.tables, tuple(outputs))

    def _output_name(self, value: Value) -> str:
        if value in self.kept:
            past = self.kept[value].op
            assert isinstance(past, KVAppend)
            return f"{past.past.name}.out"
        found = self.new.get(value)
        if found is None or not found.dtype.is_float or found.shape[:-1] != (B, T):
            raise refused(value.op.loc if value.op else "", f"an output is {value.type}")
        return "logits"

    # Ops.

    def _place(self, op: Op) -> None:
        if op in self.parts:
            if op.result in self.appends:
                self._append(op)
            return
        if isinstance(op, Slice) and op.x in self.rows:
            keeps = self._keeps(self.appends[op.x])
            if not self.appends[op.x].is_kept(op.x, op.result, keeps):
                raise refused(op.loc, f"of a cache {op.x.type} it keeps {op.result.type}")
            self.kept[op.result] = self.rows[op.x]
            return
        if isinstance(op, Attention):
            made = self._attention(op)
        else:
            made = self._same(op)
        self.builder.add(made)
        for old, value in zip(op.results, made.results, strict=True):
            sizes: dict[str, DimLike] = {"B": self.batch, "T": 1}
            if value.type.substitute(sizes) != old.type:
                raise refused(op.loc, f"{op.kind} gives {value.type} for {old.type}")
            self.new[old] = value

    def _append(self, op: Op) -> None:
        """Make the rows of a cache with the new one behind, where `op` is what puts it there."""
        append = self.appends[op.result]
        if not append.fits:
            raise refused(op.loc, f"a cache {append.cache.type} takes {append.new.type}")
        if append.place is not None and not self._is_right_place(append):
            raise refused(op.loc, "rows of a cache are written elsewhere than at the position")
        row = self._operand(op, append.new)
        rows = KVAppend(self.new[append.cache], row, 2, loc=op.loc)
        self.rows[op.result] = self.builder.add(rows)
        if append.is_kept(op.result, op.result, self._keeps(append)):
            self.kept[op.result] = self.rows[op.result]

    def _keeps(self, append: Append) -> int | None:
        return self.inputs.keeps.get(append.cache.name)

    def _is_right_place(self, append: Append) -> bool:
        assert append.place is not None
        if append.form == "shifted":
            if self.positional.kinds[append.place] != "static":
                return False
            (place,) = self.positional.fixed(append.place).reshape(-1)
            rows = append.cache.shape[2]
            assert isinstance(rows, int), "what is written into has a known size"
            return int(place) in (-1, rows - 1)
        places = self.found.get(append.place)
        if places is None:
            return False
        return np.array_equal(places.reshape(len(places), -1)[:, 0], np.arange(len(places)))

    def _attention(self, op: Attention) -> Op:
        if op.k not in self.rows or op.v not in self.rows:
            raise refused(op.loc, "attention reads something else than a cache")
        if op.slopes is not None or op.window is not None or op.chunk is not None:
            raise refused(op.loc, "attention has slopes, a window or chunks of its own")
        sinks = None if op.sinks is None else self._operand(op, op.sinks)
        window, slopes = self._window(op)
        return Attention(
            self._operand(op, op.q),
            self.rows[op.k],
            self.rows[op.v],
            sinks=sinks,
            slopes=self._slopes(op, slopes),
            scale=op.scale,
            softcap=op.softcap,
            causal=True,
            window=window,
            loc=op.loc,
        )

    def _slopes(self, op: Attention, slopes: tuple[float, ...] | None) -> Value | None:
        if slopes is None:
            return None
        literal = self.builder.add(Constant(slopes, loc=op.loc))
        is_same = literal.dtype is op.q.dtype
        return literal if is_same else self.builder.add(Cast(literal, op.q.dtype, loc=op.loc))

    def _window(self, op: Attention) -> tuple[int | None, tuple[float, ...] | None]:
        """How many keys a query sees, None for all up to its own; and the slopes of a bias."""
        append, values = self.appends[op.k], self.appends[op.v]
        keeps = self._keeps(append)
        if (values.form, self._keeps(values)) != (append.form, keeps):
            raise refused(op.loc, "keys and values are kept in different ways")
        if op.mask is None:
            if append.form == "written":
                raise refused(op.loc, "attention sees rows of the cache that are not written yet")
            return widest_of(append, keeps), None
        if self.positional.kinds[op.mask] == "static" and append.form != "written":
            self.found[op.mask] = self.positional.fixed(op.mask)[None]
        masks = self._of_each_sequence(op.mask)
        if masks is None:
            raise refused(op.loc, "the mask hangs on data")
        slopes = None
        if op.sinks is None and (biased := without_slopes(masks)) is not None:
            masks, slopes = biased
        seen = visible(masks)
        if isinstance(seen, str):
            raise refused(op.loc, seen)
        found = window_by(seen, append, keeps, self.capacity)
        if found == "neither":
            raise refused(op.loc, "the mask is neither causal nor a sliding window")
        return found, slopes if slopes and any(slopes) else None

    def _same(self, op: Op) -> Op:
        """`op` on the new operands, with the names of axes in its shapes."""
        if isinstance(op, Reshape):
            x = self._operand(op, op.x)
            shape = reshaped(x.shape, op.shape, self.batch)
            if shape is None:
                raise refused(op.loc, f"reshape of {x.type} to {op.shape}")
            return Reshape(x, shape, loc=op.loc)
        if isinstance(op, Broadcast):
            x = self._with_rows(op, self._operand(op, op.x))
            sizes = list(op.shape)
            for axis in range(1, x.rank + 1):
                if op.x.shape[-axis] == op.shape[-axis]:
                    sizes[-axis] = x.shape[-axis]
            return Broadcast(x, tuple(sizes), loc=op.loc)
        return op.map_operands(lambda value: self._operand(op, value))

    def _with_rows(self, op: Broadcast, x: Value) -> Value:
        """`x`, with one axis of rows for [B,T] where each token is repeated: an axis of one token
        was taken for that of the copies."""
        for axis in range(1, x.rank):
            if x.shape[axis - 1 : axis + 1] == (B, T) and op.shape[axis - x.rank] != 1:
                shape = (*x.shape[: axis - 1], B * T, 1, *x.shape[axis + 1 :])
                return self.builder.add(Reshape(x, shape, loc=op.loc))
        return x

    def _operand(self, reader: Op, value: Value) -> Value:
        if value in self.rows:
            raise refused(reader.loc, f"{reader.kind} reads a cache")
        if value not in self.new:
            is_table = value in self.positional
            if self.positional.kinds[value] == "data":
                raise refused(reader.loc, f"{reader.kind} reads a part of what fills a cache")
            self.new[value] = self._table(reader, value) if is_table else value
        return self.new[value]

    def _table(self, reader: Op, value: Value) -> Value:
        """A positional value as rows of a table, along the axis that the tokens have in the ops
        that read it."""
        if not all(isinstance(size, int) for size in value.shape):
            raise refused(reader.loc, f"{reader.kind} reads {value.type}, which grows")
        rows = self._of_each_sequence(value)
        assert rows is not None, "tables were made of all that is met"
        name = f"positions.{len(self.tables)}"
        if (rows == rows[:1]).all():
            self.tables[name] = rows[0]
            type = TensorType(value.dtype, rows.shape[1:])
            return self.builder.add(Weight(name, type, loc=reader.loc))
        behind = self._tokens_axis(reader)
        shape = (1,) * (behind - value.rank) + rows.shape[1:]
        if shape[len(shape) - behind] != 1:
            raise refused(reader.loc, f"{value.type} has no axis for tokens")
        axis = len(shape) - behind
        table = np.concatenate(list(rows.reshape(-1, *shape)), axis)
        self.tables[name] = table
        type = TensorType(value.dtype, table.shape)
        weight = self.builder.add(Weight(name, type, loc=reader.loc))
        return self.builder.add(Slice(weight, axis, P, P + T, loc=reader.loc))

    def _of_each_sequence(self, value: Value) -> Array | None:
        """The table of a positional value, with a size of 1 where all sequences have the same."""
        rows = self.found.get(value)
        if rows is None or self.batch == 1:
            return rows
        for axis, size in enumerate(rows.shape):
            first = rows.take([0], axis)
            if axis and size == self.batch and (rows == first).all():
                rows = first
        return rows

    def _tokens_axis(self, reader: Op) -> int:
        """The axis of the tokens in `reader`, counted from the back."""
        axes = {
            self.new[value].rank - self.new[value].shape.index(T)
            for value in reader.operands
            if value in self.new and T in self.new[value].shape
        }
        if len(axes) != 1:
            raise refused(reader.loc, f"{reader.kind} has tokens along no axis, or along several")
        return axes.pop()
