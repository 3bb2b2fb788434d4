"""Ops of the IR that are more than elementwise, as expressions of a row program."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hetc.backends.triton.layouts import Refusal
from hetc.backends.triton.places import Place, joined
from hetc.backends.triton.row_expressions import (
    apply,
    layer_norm,
    nibble,
    rms_norm,
    rotary,
    softmax,
)
from hetc.backends.triton.row_program import (
    Access,
    At,
    Below,
    Column,
    Expression,
    Load,
    Number,
    Position,
)
from hetc.backends.triton.values import ANY, MustStand, source_of
from hetc.backends.triton.views import constant_numbers, gathered
from hetc.bundle.launches import Argument, InputRef
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Rope
from hetc.ir.ops.index import Embedding, Gather
from hetc.ir.ops.norm import LayerNorm, RMSNorm
from hetc.ir.ops.quant import Dequantize, Unpack4
from hetc.ir.ops.reduce import CumSum, Softmax
from hetc.ir.ops.shape import Concat
from hetc.ir.ops.source import Constant, Full, Iota, Weight

if TYPE_CHECKING:
    from hetc.backends.triton.rows import Rows


def _norm(rows: Rows, op: RMSNorm | LayerNorm, place: Place, last: bool) -> Expression:
    def make(row: Place) -> Expression:
        x = rows.value(op.x, row * rows.columns + Place(column=1), last=last)
        weight = None if op.weight is None else rows.value(op.weight, Place(column=1))
        if isinstance(op, RMSNorm):
            return rms_norm(x, weight, op.eps, op.offset)
        bias = None if op.bias is None else rows.value(op.bias, Place(column=1))
        return layer_norm(x, weight, bias, op.eps)

    return rows.along(op, place, make, needs_row=True)


def _softmax(rows: Rows, op: Softmax, place: Place, last: bool) -> Expression:
    if any(size > 1 for size in rows.values.layouts[op.x].sizes[op.axis % op.x.rank + 1 :]):
        raise Refusal("HETC-E050", "a row program has softmax of the last axis only", op.loc)

    def make(row: Place) -> Expression:
        x = rows.value(op.x, row * rows.columns + Place(column=1), last=last)
        return softmax(x, safe=op.safe)

    return rows.along(op, place, make, needs_row=True)


def _rope(rows: Rows, op: Rope, place: Place, last: bool) -> Expression:
    sizes, angles = rows.values.layouts[op.x].sizes, rows.values.layouts[op.cos].sizes
    columns, width = sizes[-1], angles[-1]

    def make(row: Place) -> Expression:
        x = rows.value(op.x, row * columns + Place(column=1), last=last)
        at = Place(column=1)
        # Of each token the angles are the same for all heads.
        if rows.values.layouts[op.cos].columns != width:
            raise Refusal("HETC-E057", "the angles of heads differ", op.loc)
        for angle in (op.cos, op.sin):
            source = source_of(angle)
            if source not in rows.values.stored and rows.values.domain(source) != "none":
                raise MustStand(source)
        cos, sin = (rows.value(angle, at, last=last) for angle in (op.cos, op.sin))
        if width < columns:
            # What is behind the turned columns is not read.
            cos, sin = (At(angle, modulo=width) for angle in (cos, sin))
        return rotary(x, cos, sin, columns=columns, width=width, interleaved=op.interleaved)

    return rows.along(op, place, make, needs_row=False)


def _concat(rows: Rows, op: Concat, place: Place, last: bool) -> Expression:
    layouts = rows.values.layouts
    axis = op.axis % op.result.rank
    if any(size > 1 for size in layouts[op.result].sizes[axis + 1 :]):
        raise MustStand(op.result)
    widths = [layouts[x].sizes[axis] for x in op.xs]
    size = sum(widths)

    def make(row: Place) -> Expression:
        result: Expression | None = None
        start = size
        for x, width in reversed(list(zip(op.xs, widths, strict=True))):
            start -= width
            with rows.reach(width):
                part = rows.value(x, row * width + Place(column=1), last=last)
            # Wrapped into the part: beside it there is other memory.
            part = At(part, offset=-start % width, modulo=width) if width < size else part
            result = part if result is None else Below(start + width, part, result)
        assert result is not None
        return result

    return rows.along(op, place, make, needs_row=False)


def _embedding(rows: Rows, op: Embedding, place: Place, last: bool) -> Expression:
    width = rows.values.layouts[op.result].sizes[-1]
    count = rows.values.layouts[op.ids].columns
    parts = rows.split(place, (ANY, width))
    whose = Place(inner=1) if count > 1 else Place()
    shift = position_shift(op.ids)
    if parts is None or last or (parts[0] != whose and parts[0] != Place()):
        raise MustStand(op.result)
    if not isinstance(op.table.op, Weight):
        raise Refusal("HETC-E057", "rows are looked up in weights only", op.loc)
    table = rows.values.stored.get(op.table)
    if table is None:
        raise MustStand(op.table)
    name = rows.name(table.argument)
    within = parts[1]
    offset = table.offset + within.base
    if shift is not None:
        return Load(
            Access(
                name, table.element, "position", width, within.inner, offset + shift * width,
                within.column,
            )
        )  # fmt: skip
    if parts[0] != whose or (count == 1 and rows.inner > 1) or (count > 1 and rows.inner != count):
        raise MustStand(op.result)
    index = _ids(rows, op)
    return Load(
        Access(
            name, table.element, "index", width, within.inner, offset, within.column,
            index=rows.name(index),
        )
    )  # fmt: skip


def _ids(rows: Rows, op: Embedding) -> Argument:
    """The integers by which `op` looks up, one behind the other."""
    if source_of(op.ids).op is None and rows.values.domain(op.ids) == "tokens" == rows.over:
        return InputRef(name="tokens")
    stored = rows.values.stored.get(op.ids)
    if stored is None or stored.row != rows.values.columns(op.ids) or stored.offset:
        raise MustStand(op.ids)
    return stored.argument


def position_shift(ids: Value) -> int | None:
    """The n of ids that are a token's position + n; None for others."""
    op = source_of(ids).op
    match op:
        case Iota(start=int() as start, step=1) if _counts_tokens(op):
            return start
        case CumSum() if isinstance(op.x.op, Full) and op.x.op.value == 1:
            return 1
    if op is None or op.kind not in ("add", "sub", "cast"):
        return None
    if op.kind == "cast":
        return position_shift(op.operands[0])
    x, y = (getattr(op, name) for name in ("x", "y"))
    if not isinstance(x, Value) or not isinstance(y, int):
        return None
    found = position_shift(x)
    return None if found is None else found + (y if op.kind == "add" else -y)


def _counts_tokens(op: Iota) -> bool:
    return str(op.size) == "S"


def _iota(rows: Rows, op: Iota, place: Place, last: bool) -> Expression:
    start = op.start
    if not isinstance(start, int):
        raise Refusal("HETC-E057", "positions begin at a number only", op.loc)
    if _counts_tokens(op):
        if last:
            raise MustStand(op.result)
        counted: Expression = Position()
    elif place.inner:
        raise MustStand(op.result)
    else:
        counted = apply("add", apply("mul", Column(), float(place.column)), float(place.base))
    scaled = counted if op.step == 1 else apply("mul", counted, float(op.step))
    return scaled if start == 0 else apply("add", scaled, float(start))


def _cumsum(rows: Rows, op: CumSum, place: Place, last: bool) -> Expression:
    assert isinstance(op.x.op, Full)
    if last:
        raise MustStand(op.result)
    return apply("mul", apply("add", Position(), 1.0), float(_number(op.x.op)))


def _full(rows: Rows, op: Full, place: Place, last: bool) -> Expression:
    return Number(_number(op))


def _number(op: Full) -> float:
    if not isinstance(op.value, int | float):
        raise Refusal("HETC-E057", "a constant is a size", op.loc)
    return float(op.value)


def _constant(rows: Rows, op: Constant, place: Place, last: bool) -> Expression:
    numbers = constant_numbers(op)
    if (numbers == numbers.flat[0]).all():
        return Number(float(numbers.flat[0]))
    raise MustStand(op.result)


def _gather(rows: Rows, op: Gather, place: Place, last: bool) -> Expression:
    parts = rows.split(place, rows.values.layouts[op.result].sizes)
    seen = None if parts is None else gathered(op, parts)
    if seen is None:
        raise MustStand(op.result)
    return rows.value(op.x, joined(seen, rows.values.layouts[op.x].sizes), last=last)


def _weight(rows: Rows, op: Weight, place: Place, last: bool) -> Expression:
    raise MustStand(op.result)


def _dequantize(rows: Rows, op: Dequantize, place: Place, last: bool) -> Expression:
    sizes = rows.values.layouts[op.x].sizes
    parts = rows.split(place, (*sizes[:-1], sizes[-1] // op.group, op.group))
    if parts is None:
        # A program whose rows are groups can.
        raise MustStand(op.result)
    at = joined(parts[:-1], (*sizes[:-1], sizes[-1] // op.group))
    made = rows.value(op.x, place, last=last)
    if op.zero is not None:
        made = apply("sub", made, rows.value(op.zero, at, last=last))
    made = apply("mul", made, rows.value(op.scale, at, last=last))
    return made if op.shift is None else apply("add", made, rows.value(op.shift, at, last=last))


def _unpack4(rows: Rows, op: Unpack4, place: Place, last: bool) -> Expression:
    if place.column != 1 or place.base % 2 or place.inner % 2:
        raise MustStand(op.result)
    with rows.reach((rows.reached + 1) // 2):
        pair = rows.value(op.x, Place(place.base // 2, place.inner // 2, 1), last=last)
    return nibble(At(pair, every=2), signed=op.dtype.name == "i8")


Rule = Callable[[Any, Any, Place, bool], Expression]
RULES: dict[type[Op], Rule] = {
    Dequantize: _dequantize,
    Unpack4: _unpack4,
    Weight: _weight,
    Gather: _gather,
    RMSNorm: _norm,
    LayerNorm: _norm,
    Softmax: _softmax,
    Rope: _rope,
    Concat: _concat,
    Embedding: _embedding,
    Iota: _iota,
    CumSum: _cumsum,
    Full: _full,
    Constant: _constant,
}
