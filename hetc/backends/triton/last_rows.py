"""Where the last tokens are cut out of all: as late as attention needs it, else as early as can be.

The attention kernel attends all rows of a prompt to themselves; in the last layer some graphs keep
only the last query before that. What is computed of each row by itself is, on the other hand,
computed of the last rows only, where nothing reads others.
"""

from __future__ import annotations

from collections.abc import Mapping

from hetc.backends.triton.infer_layouts import END, LAST
from hetc.backends.triton.layouts import Layout
from hetc.backends.triton.values import Values, source_of
from hetc.ir.dims import Dim, DimLike, product, substitute, symbol
from hetc.ir.graph import Graph, GraphBuilder, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention, Rope
from hetc.ir.ops.elementwise_base import Elementwise
from hetc.ir.ops.norm import Norm, RMSNorm
from hetc.ir.ops.reduce import Reduce
from hetc.ir.ops.sequence import KeepLast
from hetc.ir.ops.shape import Reshape, Slice, Transpose, View

_OF_EACH_ROW = frozenset(
    {"linear", "expert_linear", "softmax", "topk", "concat", "gather", "embedding", "dequantize"}
)
_ONE_ROW: Mapping[str, DimLike] = {"S": 1}


def place_last_rows(graph: Graph) -> Graph:
    """`graph` with the last tokens cut out where it is best."""
    return _cut_early(rebuild(graph, _cut_late))


def _cut_late(op: Op) -> Op | None:
    """Attention of the last queries as the last rows of the attention of all."""
    if not isinstance(op, Attention) or op.q.shape[2] != 1 or op.k.shape[2] != END:
        return None
    whole = _whole(op.q, 2)
    if whole is None or op.mask is not None:
        return None
    return Slice(op.replace(q=whole).results[0], 2, LAST, END, loc=op.loc)


def _whole(value: Value, axis: int) -> Value | None:
    """`value` before all but its last token was cut off, which are along `axis`."""
    op = value.op
    match op:
        case Slice() if op.axis % value.rank == axis and op.start == LAST:
            return op.x
        case Slice() | RMSNorm():
            whole = _whole(op.x, axis)
            return None if whole is None else op.replace(x=whole).results[0]
        case Transpose():
            whole = _whole(op.x, op.perm[axis])
            return None if whole is None else op.replace(x=whole).results[0]
        case Rope():
            parts = [_whole(x, axis + x.rank - value.rank) for x in (op.x, op.cos, op.sin)]
            if None in parts:
                return None
            x, cos, sin = parts
            return op.replace(x=x, cos=cos, sin=sin).results[0]
    return None


def _cut_early(graph: Graph) -> Graph:
    """What of only the last rows are read is computed of those."""
    layouts = Values.of(graph).layouts
    cut_ops = _read_last_only(graph, layouts)
    builder = GraphBuilder(graph.name)
    builder.inputs.extend(graph.inputs)
    new: dict[Value, Value] = {value: value for value in graph.inputs}
    last: dict[Value, Value] = {}

    def last_of(value: Value) -> Value:
        if value not in last:
            whole = new[value]
            last[value] = _cut(whole, layouts[value]) if _has_rows(value, layouts) else whole
        return last[value]

    for op in graph.ops:
        if op in cut_ops:
            made = op.replace(**(op.operand_changes(last_of) | op.map_dims(_ONE_ROW)))
            last.update(zip(op.results, made.results, strict=True))
        elif _cuts(op, layouts) and op.operands[0].op in cut_ops:
            new[op.results[0]] = last[op.operands[0]]
            continue
        else:
            made = op.map_operands(lambda value: new[value])
            new.update(zip(op.results, made.results, strict=True))
        builder.add(made)
    outputs = [new[value] for value in graph.outputs]
    for value in outputs:
        if value.op is not None:
            builder.add(value.op)
    return builder.finish(outputs, graph.output_names).prune()


def _read_last_only(graph: Graph, layouts: Mapping[Value, Layout]) -> set[Op]:
    """The ops of each row by itself, of whose results only the last rows are read."""
    whole: set[Value] = set(graph.outputs)
    read: set[Value] = set(graph.outputs)
    found: set[Op] = set()
    for op in reversed(graph.ops):
        if all(value not in read for value in op.results):
            continue
        read.update(op.operands)
        if _cuts(op, layouts):
            continue
        if _is_of_each_row(op, layouts) and not any(value in whole for value in op.results):
            found.add(op)
        else:
            whole.update(op.operands)
    return found


def _is_of_each_row(op: Op, layouts: Mapping[Value, Layout]) -> bool:
    if any(value not in layouts for value in (*op.operands, *op.results)):
        return False
    kinds = isinstance(op, View | Elementwise | Norm | Reduce) or op.kind in _OF_EACH_ROW
    if not kinds or isinstance(op, KeepLast) or layouts[op.results[0]].domain != "tokens":
        return False
    # Rows of positions are in tables, of which there are no last ones; ids are read where they are.
    return all(
        _has_rows(value, layouts) or not any("S" in axis for axis in layouts[value].axes)
        for value in op.operands
    )


def _has_rows(value: Value, layouts: Mapping[Value, Layout]) -> bool:
    return layouts[value].domain == "tokens" and source_of(value).op is not None


def _cuts(op: Op, layouts: Mapping[Value, Layout]) -> bool:
    """Whether `op` cuts the last tokens out of all."""
    return (
        isinstance(op, Slice)
        and op.x in layouts
        and layouts[op.x].domain == "tokens"
        and layouts[op.x].axes[op.axis % op.x.rank] == ("S",)
        and op.start == LAST
    )


def _cut(value: Value, layout: Layout) -> Value:
    """The last tokens of `value`, in its shape with one token."""
    (axis,) = (number for number, atoms in enumerate(layout.axes) if "S" in atoms)
    parts = [symbol(atom) if isinstance(atom, str) else atom for atom in layout.axes[axis]]
    if len(parts) == 1:
        return Slice(value, axis, LAST, END).result
    at = layout.axes[axis].index("S")
    before, behind = value.shape[:axis], value.shape[axis + 1 :]
    apart = Reshape(
        value, (*before, product(parts[:at]), symbol("S"), product(parts[at + 1 :]), *behind)
    )
    cut = Slice(apart.result, axis + 1, LAST, END).result
    merged = [dim if not isinstance(dim, Dim) else substitute(dim, _ONE_ROW) for dim in value.shape]
    return Reshape(cut, tuple(merged)).result
