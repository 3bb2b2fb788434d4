"""Products with stored matrices, and lookups of their rows: which stage each becomes."""

from __future__ import annotations

from functools import partial

from hetc.backends.native.grouped import GroupedProduct, Order
from hetc.backends.native.lookups import (
    Lookup,
    PackedLookup,
    TileLookup,
    coded_number,
    number_of_block,
)
from hetc.backends.native.matrix_products import MatrixProduct
from hetc.backends.native.model import Refused, form_of
from hetc.backends.native.panels import MOST_TILES, panel_floats
from hetc.backends.native.products import ExpertProduct, Product
from hetc.backends.native.scope import Scope
from hetc.backends.native.ssa import LANES
from hetc.backends.native.storage import Experts, Matrix, Rows, Table
from hetc.backends.native.tiles import TileForm
from hetc.backends.native.values import HalfValues, N
from hetc.backends.native.views import View, contiguous, row_major
from hetc.ir.dims import DimLike
from hetc.ir.op import Value
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.linear import ExpertLinear, Linear, MatMul


def embedding(half: HalfValues, scope: Scope, op: Embedding) -> None:
    if scope.kind(op.table) != "static" or op.ids not in half.views:
        raise Refused("HETC-E040", "the native engine looks up tokens in weights only", op)
    ids = half.view(scope, op.ids, op)
    shape = half.shape(op.result)
    out = half.result(op.result, contiguous("", shape))
    found = _shared_matrix(half, op.table) or _own_matrix(half, op.table)
    if found is not None:
        buffer, matrix = found
        half.add(_lookup_in_tiles(buffer, matrix, op.table, ids, out, split=half.prefill))
        return
    element = op.table.dtype.name
    rows = half.memory.stored(half.region, Rows(op.table, element), element)
    size = tuple(size for size in op.table.shape if isinstance(size, int))
    half.add(Lookup(contiguous(rows, size), ids, out, half.prefill))


def _shared_matrix(half: HalfValues, table: Value) -> tuple[str, Matrix] | None:
    """The matrix of a product of the main graph that has `table` as its weight, and its buffer."""
    for scope, region in zip(half.model.scopes, half.model.storage.regions, strict=True):
        for op in () if scope.run.calls else scope.run.ops:
            if isinstance(op, Linear) and op.weight is table and op in half.model.matrices:
                matrix = half.model.matrix(op)
                return half.memory.stored(region, matrix, matrix.form.element), matrix
    return None


def _own_matrix(half: HalfValues, table: Value) -> tuple[str, Matrix] | None:
    """Blocks that hold nothing but a quantized table, and their buffer."""
    form = form_of(table, table.shape[-1])
    if form.format is None:
        return None
    matrix = Table((table,), (None,), form)
    return half.memory.stored(half.region, matrix, form.element), matrix


def _lookup_in_tiles(
    buffer: str, matrix: Matrix, table: Value, ids: View, out: View, *, split: bool
) -> TileLookup | PackedLookup:
    place = [weight is table for weight in matrix.weights].index(True)
    first, form = sum(matrix.tiles[:place]), matrix.form
    number = None
    if form.format is not None:
        number = partial(number_of_block, form.format)
    elif form.coded is not None:
        number = partial(coded_number, form.coded)
    if number is not None:
        start = first * form.tile_bytes
        return PackedLookup(buffer, start, form.tile_bytes, number, ids, out, split)
    pair, width = form.pair, form.tile_bytes * 8 // table.dtype.bits
    shape = (matrix.tiles[place], width // (LANES * pair), LANES)
    view = View(buffer, shape, (width, LANES * pair, pair), first * width)
    return TileLookup(view, pair, ids, out, split)


def linear(half: HalfValues, scope: Scope, op: Linear) -> None:
    group = half.model.matrices.get(op)
    if group is None:
        raise Refused("HETC-E043", "the native engine multiplies by weights only", op)
    if op.result in half.views:
        return
    matrix = half.model.matrix(op)
    x = half.dense_rows(half.view(scope, op.x, op))
    rows, width = x.shape[0], sum(matrix.tiles) * 16
    if len(group) == 1 and op.result in half.targets:
        buffer = half.targets[op.result].buffer
    else:
        buffer = half.memory.shared("product", rows * width)
    stored = half.memory.stored(half.region, matrix, matrix.form.element)
    first = 0
    for member, tiles in zip(group, matrix.tiles, strict=True):
        shape = half.shape(member.result)
        strides = (*row_major(shape[:-1], width), 1)
        half.views[member.result] = View(buffer, shape, strides, first * 16)
        first += tiles
    out = View(buffer, (rows, width), (width, 1))
    # What the last token alone needs is of few rows in prefill too.
    if not half.prefill or op in half.last:
        prepared = _prepared(half, matrix.form, rows, many=False)
        half.add(Product(matrix, stored, x, out, prepared, half.memory.tickets(N)))
        return
    prepared, panel = _prepared(half, matrix.form, rows, many=True), None
    if matrix.form.format is not None or matrix.form.coded is not None:
        panel = half.private("panel", (1, panel_floats(matrix.form, MOST_TILES)))
    half.add(MatrixProduct(matrix, stored, x, out, prepared, half.memory.tickets(1), panel))


def _prepared(half: HalfValues, form: TileForm, rows: DimLike, *, many: bool) -> View | None:
    """Room for the rows of x in the form that a product may want them in, in units of f32: for all
    threads together, or for each."""
    width = _prepared_width(form, many=many)
    if not width:
        return None
    make = half.memory.shared if many else half.memory.private
    return View(make("prepared", rows * width), (rows, width), (width, 1))


def _prepared_width(form: TileForm, *, many: bool) -> int:
    """What a row of x takes in the form that a product may want it in, in units of f32; 0 where x
    is as it is."""
    if form.format is not None:
        return form.inner // form.format.group * (form.format.group + 1)
    return -(-form.inner // 2) if form.element == "bf16" and many else 0


def expert_linear(half: HalfValues, scope: Scope, op: ExpertLinear) -> None:
    stored = [value for value in (op.weight, op.bias) if value is not None]
    if any(scope.kind(value) != "static" for value in stored) or op.ids not in half.views:
        raise Refused("HETC-E043", "the native engine multiplies by weights only", op)
    experts = half.model.experts(op)
    x, ids = half.dense_rows(half.view(scope, op.x, op)), half.view(scope, op.ids, op)
    rows, width = x.shape[0], experts.tiles * LANES
    buffer = half.memory.shared("experts", rows * width)
    half.views[op.result] = View(buffer, half.shape(op.result), (width, 1))
    out = View(buffer, (rows, width), (width, 1))
    if half.prefill:
        _grouped(half, experts, x, out, _order(half, ids, experts.count))
        return
    place = half.memory.stored(half.region, experts, experts.form.element)
    prepared = _prepared(half, experts.form, rows, many=False)
    half.add(ExpertProduct(experts, place, x, ids, out, prepared, half.prefill))


def _order(half: HalfValues, ids: View, experts: int) -> Order:
    """The rows by their expert: what several products of the same choice share."""
    if ids not in half.orders:
        rows, ends = (
            contiguous(half.memory.private(name, size, "i64"), (size,))
            for name, size in (("order", ids.shape[0]), ("ends", experts + 1))
        )
        half.orders[ids] = Order(ids, experts, rows, ends)
        half.add(half.orders[ids])
    return half.orders[ids]


def _grouped(half: HalfValues, experts: Experts, x: View, out: View, order: Order | None) -> None:
    place = half.memory.stored(half.region, experts, experts.form.element)
    rows = x.shape[0]
    width = max(x.columns, _prepared_width(experts.form, many=half.prefill))
    prepared = View(half.light("sorted", rows * width), (rows, width), (width, 1))
    tickets = half.memory.tickets(1)
    half.add(GroupedProduct(experts, place, x, out, order, prepared, tickets, half.prefill))


def matmul(half: HalfValues, scope: Scope, op: MatMul) -> None:
    """Rows of each group times a matrix of its own: `a` [..., G, M, K], `b` [G, K, N] stored."""
    if scope.kind(op.b) != "static" or op.b.rank != 3 or op.a.rank < 3:
        raise Refused("HETC-E043", "the native engine multiplies by weights only", op)
    a = half.view(scope, op.a, op)
    group = a.rank - 3
    if a.shape[group] != op.b.shape[0]:
        raise Refused("HETC-E043", "the native engine has a matrix for each group only", op)
    experts = half.model.groups(op)
    # One group after the other, and inside of it all other axes.
    order = [group, *(axis for axis in range(a.rank - 1) if axis != group), a.rank - 1]
    x = half.dense_rows(a.transposed(order))
    rows, width = x.shape[0], experts.tiles * LANES
    out = View(half.memory.shared("groups", rows * width), (rows, width), (width, 1))
    _grouped(half, experts, x, out, None)
    shape = tuple(a.shape[axis] for axis in order[:-1])
    made = View(out.buffer, (*shape, op.b.shape[2]), (*row_major(shape, width), 1))
    half.views[op.result] = made.transposed([order.index(axis) for axis in range(a.rank)])
