"""The projections to queries, keys and values with their norms, rotary embedding and the write
into the state: one product, where the graph has that form."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hetc.backends.triton import linear
from hetc.backends.triton.fuse_linear import biases, launch_linear
from hetc.backends.triton.layouts import Refusal
from hetc.backends.triton.linear import HeadsSpec, LinearSpec, NormSpec
from hetc.backends.triton.matrices import Matrix, matrix_of, placed
from hetc.backends.triton.places import Place
from hetc.backends.triton.programs import Programs
from hetc.backends.triton.states import States
from hetc.backends.triton.values import Values, element_of
from hetc.backends.triton.views import seen_through
from hetc.bundle.launches import Argument
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention, Rope
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.norm import RMSNorm
from hetc.ir.ops.sequence import KeepLast
from hetc.ir.ops.shape import Concat, View
from hetc.ir.ops.unary import Cos, Sin


@dataclass(frozen=True)
class Part:
    """Queries, keys or values: `columns` of the result of `source` from `first` on, with what is
    done to them."""

    value: Value
    source: Linear
    first: int
    columns: int
    norm: RMSNorm | None
    rope: Rope | None
    between: tuple[Op, ...]


@dataclass(frozen=True)
class Heads:
    """The three parts of an attention's operands, which one product makes."""

    attention: Attention
    parts: tuple[Part, Part, Part]

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The products in the graph, without repetition."""
        return tuple(dict.fromkeys(part.source for part in self.parts))


def find_heads(graph: Graph, values: Values) -> dict[Linear, Heads]:
    """The linears that are one product of this form, each with it."""
    found: dict[Linear, Heads] = {}
    for op in graph.ops:
        heads = _match(op, values) if isinstance(op, Attention) else None
        if heads is not None:
            found.update(dict.fromkeys(heads.linears, heads))
    return found


def _match(op: Attention, values: Values) -> Heads | None:
    if any(x not in values.layouts or values.domain(x) != "tokens" for x in (op.q, op.k, op.v)):
        return None
    query, key, value = (_part(x, values) for x in (op.q, op.k, op.v))
    if query is None or key is None or value is None:
        return None
    heads = Heads(op, (query, key, value))
    widths = {values.layouts[x].sizes[-1] for x in (op.q, op.k, op.v)}
    same = len(widths) == 1 and value.norm is None and value.rope is None
    return (
        heads
        if same and _ropes(query, key) and _norms(query, key) and _joins(heads, values)
        else None
    )


def _part(value: Value, values: Values) -> Part | None:
    """The way back from an operand to its product, each step read by the next only."""
    between: list[Op] = []
    norm = rope = None
    at, place = value, None
    if values.uses[value] > 1 and not _only_states(value, values):
        return None
    while True:
        op = at.op
        if op is None or at not in values.layouts:
            return None
        if at is not value and not isinstance(op, Linear) and len(values.users[at]) != 1:
            return None
        match op:
            case Rope() if rope is None and norm is None and place is None:
                rope, at = op, op.x
                between.append(op)
            case RMSNorm() if norm is None:
                norm, at = op, op.x
                between.append(op)
            case Linear():
                columns = values.columns(value)
                found = place or Place(column=1)
                if found != Place(found.base, 0, 1):
                    return None
                return Part(value, op, found.base, columns, norm, rope, tuple(between))
            case View() if not isinstance(op, KeepLast):
                columns = values.columns(value)
                place = seen_through(op, at, place or Place(column=1), values.layouts, 1, columns)
                if place is None or values.domain(op.operands[0]) != "tokens":
                    return None
                if place == Place(column=1):
                    place = None
                at = op.operands[0]
            case _:
                return None


def _only_states(value: Value, values: Values) -> bool:
    """Whether an attention and the state are all that read `value`."""
    readers = [op for op, _ in values.readers(value)]
    return all(isinstance(op, Attention | KeepLast) for op in readers)


def _ropes(query: Part, key: Part) -> bool:
    if query.rope is None or key.rope is None:
        return query.rope is key.rope
    one, other = query.rope, key.rope
    same = one.cos is other.cos and one.sin is other.sin
    return same and one.interleaved == other.interleaved


def _norms(query: Part, key: Part) -> bool:
    if query.norm is None or key.norm is None:
        return query.norm is key.norm
    one, other = query.norm, key.norm
    if one.weight is None or other.weight is None:
        return one.weight is other.weight and one.eps == other.eps
    return (one.eps, one.offset, one.weight.dtype) == (other.eps, other.offset, other.weight.dtype)


def _joins(heads: Heads, values: Values) -> bool:
    """Whether the parts are all of the columns of their products, in order, and nothing else reads
    those."""
    linears, parts = heads.linears, heads.parts
    reads = sum(1 if part.between else values.uses[part.value] for part in parts)
    if reads != sum(values.uses[op.result] for op in linears):
        return False
    if len(linears) == 3:
        one = {(op.x, op.bias is None) for op in linears}
        widths = (part.source.weight.shape[0] == part.columns for part in parts)
        return len(one) == 1 and all(widths)
    first = 0
    for part in parts:
        if part.first != first:
            return False
        first += part.columns
    return len(linears) == 1 and first == linears[0].weight.shape[0]


def lower_heads(programs: Programs, states: States, heads: Heads) -> bool:
    """Launch the product; False where the kernels have no such form."""
    values, linears = programs.values, heads.linears
    query, key, _ = heads.parts
    matrices = [matrix_of(op.weight) for op in linears]
    if any(matrix.alike != matrices[0].alike for matrix in matrices):
        return False
    spec = _spec(values, heads, matrices[0])
    if linear.supports(spec) is not None:
        return False
    spec = replace(spec, tma=linear.takes_tma(spec, programs.arch))
    x = linears[0].x
    operands: dict[str, Argument] = {"x": programs.rows_of(x)}
    operands |= placed(programs.memory, "weight", matrices)
    if spec.bias:
        operands["bias"] = biases(programs, list(linears), spec.element)
    assert spec.heads is not None
    if query.norm is not None and query.norm.weight is not None:
        assert key.norm is not None
        assert key.norm.weight is not None
        operands["query_norm"] = programs.need(query.norm.weight).argument
        operands["key_norm"] = programs.need(key.norm.weight).argument
    if query.rope is not None:
        operands["cos"] = _table(programs, query.rope.cos)
        operands["sin"] = _table(programs, query.rope.sin)
    attention = heads.attention
    made = programs.buffer(attention.q)
    operands["query"] = made.argument
    homes = {x: states.home(x) for x in (attention.k, attention.v)}
    operands["key"], operands["value"] = (homes[x].argument for x in (attention.k, attention.v))
    ops: list[Op] = [*linears, *(op for part in heads.parts for op in reversed(part.between))]
    launch_linear(programs, spec, operands, ops, "tokens")
    values.stored[attention.q] = made
    for value, home in homes.items():
        states.written(value, home)
    return True


def _spec(values: Values, heads: Heads, matrix: Matrix) -> LinearSpec:
    query, key, _ = heads.parts
    attention, linears = heads.attention, heads.linears
    width = values.layouts[attention.q].sizes[-1]
    norm = rope = None
    if query.norm is not None:
        element = "" if query.norm.weight is None else element_of(query.norm.weight)
        norm = NormSpec(query.norm.eps, element, query.norm.offset)
    rope = query.rope
    columns = sum(part.columns for part in heads.parts)
    return LinearSpec(
        element=element_of(linears[0].x),
        n=columns,
        k=values.layouts[linears[0].x].sizes[-1],
        bias=linears[0].bias is not None,
        weight=matrix.form,
        out_element=element_of(attention.q),
        heads=HeadsSpec(
            heads=query.columns // width,
            groups=key.columns // width,
            width=width,
            norm=norm,
            rotary=0 if rope is None else values.layouts[rope.cos].sizes[-1],
            interleaved=rope is not None and rope.interleaved,
            table="f32" if rope is None else element_of(rope.cos),
            equal_halves=rope is not None
            and not rope.interleaved
            and _is_doubled(rope.cos)
            and _is_doubled(rope.sin),
        ),
    )


def _is_doubled(angle: Value) -> bool:
    """Whether a row of the table is the same half twice, as the graph says."""
    op = angle.op
    while isinstance(op, View | Cos | Sin) or (op is not None and op.kind in ("mul", "cast")):
        if len(op.operands) != 1:
            return False
        op = op.operands[0].op
    return isinstance(op, Concat) and len(op.xs) == 2 and op.xs[0] is op.xs[1]


def _table(programs: Programs, angle: Value) -> Argument:
    """The angles of all positions, as rows."""
    values = programs.values
    if (
        values.domain(angle) != "positions"
        or values.columns(angle) != values.layouts[angle].sizes[-1]
    ):
        raise Refusal("HETC-E057", "the angles are no table of positions")
    return programs.rows_of(angle)
