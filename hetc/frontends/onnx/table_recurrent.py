"""RNN, GRU and LSTM over sequences of a fixed length, written out step by step.

Shapes as the operators have them: `x [T, B, I]`, `w [D, G*H, I]`, `r [D, G*H, H]`, `b [D, 2*G*H]`,
for D directions and G gates (https://onnx.ai/onnx/operators).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.known import elements
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_shape import reshaped
from hetc.ir.dims import DimLike
from hetc.ir.op import Op
from hetc.ir.ops import elementwise as ew
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.shape import Concat, Slice, Transpose
from hetc.ir.ops.source import Full

_MOST_STEPS = 4096
_ACTIVATIONS: dict[str, type[Op]] = {
    "sigmoid": ew.Sigmoid,
    "tanh": ew.Tanh,
    "relu": ew.Relu,
    "softplus": ew.Softplus,
}
Activation = Callable[[Item], Item]
# From the input's part of a step and the state to the next state.
Step = Callable[[Item, "Sequence[Item]"], "tuple[Item, ...]"]


@dataclass(frozen=True)
class Cell:
    """The matrices of one direction, and its activations."""

    ctx: Context
    w: Item
    r: Item
    wb: Item | None
    rb: Item | None
    hidden: int
    functions: tuple[Activation, ...]

    def cut(self, x: Item, gate: int, count: int = 1) -> Item:
        """The part of the last axis, or of a matrix's rows, that belongs to some gates."""
        at = gate * self.hidden
        axis = 0 if x in (self.w, self.r, self.wb, self.rb) else x.rank - 1
        return self.ctx.emit(Slice, x, axis, at, at + count * self.hidden)

    def add(self, *xs: Item) -> Item:
        total = xs[0]
        for x in xs[1:]:
            total = self.ctx.emit(ew.Add, total, x)
        return total

    def mul(self, x: Item, y: Item) -> Item:
        return self.ctx.emit(ew.Mul, x, y)


def _rnn(cell: Cell, given: Item, state: Sequence[Item]) -> tuple[Item, ...]:
    (f,) = cell.functions
    (hidden,) = state
    return (f(cell.add(given, cell.ctx.emit(Linear, hidden, cell.r, cell.rb))),)


def _gru(cell: Cell, given: Item, state: Sequence[Item], *, reset_after: bool) -> tuple[Item, ...]:
    f, g = cell.functions
    (hidden,) = state
    ctx = cell.ctx
    bias = None if cell.rb is None else cell.cut(cell.rb, 0, 2)
    gates = f(
        cell.add(cell.cut(given, 0, 2), ctx.emit(Linear, hidden, cell.cut(cell.r, 0, 2), bias))
    )
    update, reset = cell.cut(gates, 0), cell.cut(gates, 1)
    matrix = cell.cut(cell.r, 2)
    bias = None if cell.rb is None else cell.cut(cell.rb, 2)
    if reset_after:
        past = cell.mul(reset, ctx.emit(Linear, hidden, matrix, bias))
    else:
        past = ctx.emit(Linear, cell.mul(reset, hidden), matrix, bias)
    fresh = g(cell.add(cell.cut(given, 2), past))
    kept = cell.mul(ctx.emit(ew.Sub, 1.0, update), fresh)
    return (cell.add(kept, cell.mul(update, hidden)),)


def _lstm(
    cell: Cell, given: Item, state: Sequence[Item], peepholes: Item | None
) -> tuple[Item, ...]:
    f, g, h = cell.functions
    hidden, memory = state
    ctx = cell.ctx
    gates = cell.add(given, ctx.emit(Linear, hidden, cell.r, cell.rb))

    def gate(index: int, peep: int, seen: Item) -> Item:
        part = cell.cut(gates, index)
        if peepholes is not None:
            weight = ctx.emit(Slice, peepholes, 0, peep * cell.hidden, (peep + 1) * cell.hidden)
            part = cell.add(part, cell.mul(seen, weight))
        return f(part)

    enter, forget = gate(0, 0, memory), gate(2, 2, memory)
    memory = cell.add(cell.mul(forget, memory), cell.mul(enter, g(cell.cut(gates, 3))))
    return cell.mul(gate(1, 1, memory), h(memory)), memory


def _activation(ctx: Context, name: str) -> Activation:
    kind = _ACTIVATIONS.get(name.lower())
    if kind is None:
        raise Unsupported(f"a recurrent cell with {name}")
    return lambda x: ctx.emit(kind, x)


def _direction(ctx: Context, x: Item, index: int) -> Item:
    part = ctx.emit(Slice, x, 0, index, index + 1)
    return reshaped(ctx, part, x.shape[1:])


def _run(
    ctx: Context,
    node: Node,
    inputs: tuple[Item, Item, Item, Item | None, Item | None],
    gates: int,
    defaults: tuple[str, ...],
    step: Callable[[Cell, Item, Sequence[Item], int], tuple[Item, ...]],
    initial: Sequence[Item | None],
) -> tuple[Item, ...]:
    """All states `[T, D, B, H]` and the last of each `[D, B, H]`; with `layout` 1 batch first."""
    x, w, r, b, lengths = inputs
    if lengths is not None and set(elements(lengths) or ()) != {x.shape[0]}:
        raise Unsupported("sequences of different lengths in one batch")
    if node.get("clip") is not None or node.get("input_forget", 0):
        raise Unsupported("a recurrent cell that clips, or whose gates are coupled")
    batch_first = bool(node.get("layout", 0))
    if batch_first:
        x = ctx.emit(Transpose, x, (1, 0, 2))
    length, batch, _ = x.shape
    hidden = r.shape[-1]
    if not isinstance(length, int) or not isinstance(hidden, int) or length > _MOST_STEPS:
        raise Unsupported(f"a recurrence over {length} steps")
    direction = node.get("direction", "forward")
    names = node.get("activations") or defaults * int(str(w.shape[0]))
    columns: list[list[Item]] = []
    finals: list[tuple[Item, ...]] = []
    for index in range(2 if direction == "bidirectional" else 1):
        biases = None if b is None else _direction(ctx, b, index)
        width = gates * hidden
        cell = Cell(
            ctx,
            _direction(ctx, w, index),
            _direction(ctx, r, index),
            None if biases is None else ctx.emit(Slice, biases, 0, 0, width),
            None if biases is None else ctx.emit(Slice, biases, 0, width, 2 * width),
            hidden,
            tuple(
                _activation(ctx, name)
                for name in names[index * len(defaults) : (index + 1) * len(defaults)]
            ),
        )
        state = [_initial(ctx, item, index, x, (batch, hidden), batch_first) for item in initial]
        given = ctx.emit(Linear, x, cell.w, cell.wb)
        backwards = direction == "reverse" or index == 1
        steps: list[Item] = []
        for t in reversed(range(length)) if backwards else range(length):
            row = reshaped(ctx, ctx.emit(Slice, given, 0, t, t + 1), (batch, width))
            state = list(step(cell, row, state, index))
            steps.append(state[0])
        columns.append(steps[::-1] if backwards else steps)
        finals.append(tuple(state))
    last = [_stacked(ctx, column, 1 if batch_first else 0) for column in zip(*finals, strict=True)]
    rows = [_stacked(ctx, row, 1 if batch_first else 0) for row in zip(*columns, strict=True)]
    return _stacked(ctx, rows, 1 if batch_first else 0), *last


def _initial(
    ctx: Context,
    item: Item | None,
    index: int,
    x: Item,
    shape: tuple[DimLike, DimLike],
    batch_first: bool,
) -> Item:
    if item is None:
        return ctx.emit(Full, 0.0, shape, x.dtype)
    if not batch_first:
        return _direction(ctx, item, index)
    return reshaped(ctx, ctx.emit(Slice, item, 1, index, index + 1), shape)


def _stacked(ctx: Context, parts: Sequence[Item], axis: int) -> Item:
    shaped = tuple(reshaped(ctx, x, (*x.shape[:axis], 1, *x.shape[axis:])) for x in parts)
    return shaped[0] if len(shaped) == 1 else ctx.emit(Concat, shaped, axis)


@onnx_op("RNN")
def rnn(
    ctx: Context,
    node: Node,
    x: Item,
    w: Item,
    r: Item,
    b: Item | None = None,
    lengths: Item | None = None,
    initial: Item | None = None,
) -> tuple[Item, ...]:
    return _run(
        ctx,
        node,
        (x, w, r, b, lengths),
        1,
        ("Tanh",),
        lambda cell, given, state, _: _rnn(cell, given, state),
        (initial,),
    )


@onnx_op("GRU")
def gru(
    ctx: Context,
    node: Node,
    x: Item,
    w: Item,
    r: Item,
    b: Item | None = None,
    lengths: Item | None = None,
    initial: Item | None = None,
) -> tuple[Item, ...]:
    after = bool(node.get("linear_before_reset", 0))
    return _run(
        ctx,
        node,
        (x, w, r, b, lengths),
        3,
        ("Sigmoid", "Tanh"),
        lambda cell, given, state, _: _gru(cell, given, state, reset_after=after),
        (initial,),
    )


@onnx_op("LSTM")
def lstm(
    ctx: Context,
    node: Node,
    x: Item,
    w: Item,
    r: Item,
    b: Item | None = None,
    lengths: Item | None = None,
    initial: Item | None = None,
    memory: Item | None = None,
    peepholes: Item | None = None,
) -> tuple[Item, ...]:
    def step(cell: Cell, given: Item, state: Sequence[Item], index: int) -> tuple[Item, ...]:
        seen = None if peepholes is None else _direction(ctx, peepholes, index)
        return _lstm(cell, given, state, seen)

    defaults = ("Sigmoid", "Tanh", "Tanh")
    return _run(ctx, node, (x, w, r, b, lengths), 4, defaults, step, (initial, memory))
