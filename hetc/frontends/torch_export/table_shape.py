"""ATen's ops that view, move, join and cut tensors without arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hetc.frontends.torch_export.context import Context, Unsupported
from hetc.frontends.torch_export.registry import aten
from hetc.frontends.torch_export.table_elementwise import where
from hetc.frontends.torch_export.table_source import diagonal
from hetc.ir.dims import DimLike, product
from hetc.ir.op import Value
from hetc.ir.ops.elementwise import Add, Ge, Le, Mul, Sub
from hetc.ir.ops.index import Gather, Index, IndexPut
from hetc.ir.ops.shape import Broadcast, Concat, Flip, Pad, Slice, Split, Tile, Transpose
from hetc.ir.ops.source import Full, Iota
from hetc.ir.types import I64, Shape

_END = (1 << 63) - 1


@aten(
    "alias.default",
    "clone.default",
    "contiguous.default",
    "detach.default",
    "lift_fresh_copy.default",
    "positive.default",
)
def same(_ctx: Context, x: Value, **_layout: object) -> Value:
    return x


@aten(
    "view.default",
    "_unsafe_view.default",
    "reshape.default",
    "flatten.using_ints",
    "unflatten.int",
    "view_as.default",
)
@aten(
    "reshape_as.default",
    "unsqueeze.default",
    "squeeze.default",
    "squeeze.dim",
    "squeeze.dims",
    "ravel.default",
)
def view(ctx: Context, x: Value, *_how: object) -> Value:
    # The recorded shape already resolved every -1.
    return ctx.reshape(x, ctx.shape)


@aten("expand.default", "expand_as.default", "broadcast_to.default")
def expand(ctx: Context, x: Value, *_how: object, **_implicit: object) -> Value:
    shape = ctx.shape
    return x if x.shape == shape else ctx.op(Broadcast, x, shape)


@aten("copy.default")
def copy(ctx: Context, _destination: Value, source: Value) -> Value:
    return expand(ctx, ctx.cast(source, ctx.dtype))


@aten("permute.default")
def permute(ctx: Context, x: Value, dims: Sequence[int]) -> Value:
    perm = tuple(dim % x.rank for dim in dims)
    return x if perm == tuple(range(x.rank)) else ctx.op(Transpose, x, perm)


@aten("transpose.int", "swapaxes.default", "swapdims.default")
def transpose(ctx: Context, x: Value, first: int, second: int) -> Value:
    perm = list(range(x.rank))
    perm[first], perm[second] = perm[second], perm[first]
    return permute(ctx, x, perm)


@aten("t.default", "numpy_T.default", "mT.default")
def transposed(ctx: Context, x: Value) -> Value:
    return x if x.rank < 2 else transpose(ctx, x, -2, -1)


def _from_front(position: Any, size: DimLike) -> DimLike:
    """A slice bound counted from the front."""
    if position is None:
        return 0
    if isinstance(position, int) and position < 0:
        return max(0, size + position) if isinstance(size, int) else size + position
    found: DimLike = position
    return found


@aten("slice.Tensor")
def slice_(
    ctx: Context, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    axis = dim % x.rank
    first, whole = _from_front(start, x.shape[axis]), x.shape[axis]
    if isinstance(first, int) and isinstance(whole, int):
        first = min(first, whole)
    if step == 1:
        # The recorded length already clamped the end.
        return ctx.part(x, axis, first, ctx.shape[axis])
    size = x.shape[axis]
    stop = size if end is None or end == _END else _from_front(end, size)
    if isinstance(stop, int) and isinstance(size, int):
        stop = min(stop, size)
    return ctx.op(Slice, x, axis, first, stop, step)


@aten("resize.default")
def resize(ctx: Context, x: Value, _size: object) -> Value:
    """The first elements under another shape; zeros where PyTorch leaves more of them undefined."""
    shape, flat = ctx.shape, ctx.reshape(x, (x.size,))
    missing = product(shape) - x.size
    return ctx.reshape(flat if missing == 0 else ctx.op(Pad, flat, (0,), (missing,)), shape)


@aten("narrow.default")
def narrow(ctx: Context, x: Value, dim: int, start: Any, length: DimLike) -> Value:
    return ctx.part(x, dim % x.rank, _from_front(start, x.shape[dim]), length)


@aten("select.int")
def select(ctx: Context, x: Value, dim: int, index: Any) -> Value:
    axis = dim % x.rank
    picked = ctx.part(x, axis, _from_front(index, x.shape[axis]), 1)
    return ctx.reshape(picked, _without(x.shape, axis))


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


@aten(
    "split.Tensor",
    "split.sizes",
    "split_with_sizes.default",
    "chunk.default",
    "tensor_split.sections",
)
def split(ctx: Context, x: Value, _how: object, dim: int = 0) -> tuple[Value, ...]:
    axis = dim % x.rank
    sizes = tuple(ctx.shape_of(part)[axis] for part in ctx.val)
    return (x,) if len(sizes) == 1 else ctx.ops(Split, x, axis, sizes)


@aten("diagonal.default")
def diagonal_of(ctx: Context, x: Value, offset: int = 0, first: int = 0, second: int = 1) -> Value:
    axes = (first % x.rank, second % x.rank)
    rest = [axis for axis in range(x.rank) if axis not in axes]
    length = ctx.shape[-1]
    places = tuple(ctx.op(Iota, length, start) for start in (max(-offset, 0), max(offset, 0)))
    picked = ctx.op(Index, ctx.move(x, (*axes, *rest)), places, (0, 1))
    return ctx.move(picked, (*range(1, picked.rank), 0))


@aten("as_strided.default")
def as_strided(
    ctx: Context,
    x: Value,
    _size: object,
    strides: Sequence[DimLike],
    offset: DimLike | None = None,
) -> Value:
    """Elements of the memory that `x` lies in: where `x` fills it, of `x` itself."""
    assert ctx.node is not None
    source: Any = ctx.node.args[0]
    held, first = source.meta["val"].stride(), source.meta["val"].storage_offset()
    order = sorted(range(x.rank), key=lambda axis: held[axis], reverse=True)
    dense: Any = 1
    for axis in reversed(order):
        size = source.meta["val"].shape[axis]
        if size != 1 and held[axis] != dense:
            raise Unsupported("as_strided of a view that leaves out a part of its memory")
        dense = dense * size
    if first != 0 or source.meta["val"].untyped_storage().nbytes() != dense * x.dtype.bits // 8:
        raise Unsupported("as_strided of a view that leaves out a part of its memory")
    flat = ctx.reshape(ctx.move(x, order), (x.size,))
    shape = ctx.shape
    place = ctx.op(Full, offset or 0, (1,) * len(shape), I64)
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        along = tuple(size if other == axis else 1 for other in range(len(shape)))
        steps = ctx.op(Mul, ctx.reshape(ctx.op(Iota, size), along), stride)
        place = ctx.op(Add, place, steps)
    return ctx.op(Gather, flat, place, 0)


@aten("unbind.int")
def unbind(ctx: Context, x: Value, dim: int = 0) -> tuple[Value, ...]:
    axis = dim % x.rank
    parts = ctx.ops(Split, x, axis, (1,) * len(ctx.val))
    return tuple(ctx.reshape(part, _without(x.shape, axis)) for part in parts)


@aten("cat.default", "concat.default", "concatenate.default")
def cat(ctx: Context, xs: Sequence[Value], dim: int = 0) -> Value:
    rank = len(ctx.shape)
    # PyTorch lets an empty vector stand among tensors of any rank.
    parts = [ctx.cast(x, ctx.dtype) for x in xs if x.rank == rank and x.shape != (0,)]
    if not parts:
        return ctx.tensor(xs[0], ctx.dtype)
    return parts[0] if len(parts) == 1 else ctx.op(Concat, tuple(parts), dim % rank)


@aten("stack.default")
def stack(ctx: Context, xs: Sequence[Value], dim: int = 0) -> Value:
    shape = list(ctx.shape)
    axis = dim % len(shape)
    shape[axis] = 1
    return ctx.op(Concat, tuple(ctx.reshape(ctx.cast(x, ctx.dtype), shape) for x in xs), axis)


@aten("repeat.default", "tile.default")
def repeat(ctx: Context, x: Value, repeats: Sequence[DimLike]) -> Value:
    rank = max(x.rank, len(repeats))
    counts = (1,) * (rank - len(repeats)) + tuple(repeats)
    return ctx.op(Tile, ctx.reshape(x, (1,) * (rank - x.rank) + x.shape), counts)


@aten("repeat_interleave.self_int")
def repeat_interleave(
    ctx: Context, x: Value, repeats: DimLike, dim: int | None = None, output_size: object = None
) -> Value:
    flat = ctx.reshape(x, (x.size,)) if dim is None else x
    axis = (dim or 0) % flat.rank
    front, back = flat.shape[: axis + 1], flat.shape[axis + 1 :]
    spread = ctx.op(Broadcast, ctx.reshape(flat, (*front, 1, *back)), (*front, repeats, *back))
    return ctx.reshape(spread, ctx.shape)


@aten("flip.default")
def flip(ctx: Context, x: Value, dims: Sequence[int]) -> Value:
    return ctx.op(Flip, x, tuple(dim % x.rank for dim in dims))


@aten("roll.default")
def roll(ctx: Context, x: Value, shifts: Sequence[Any], dims: Sequence[int] = ()) -> object:
    if not dims:
        return NotImplemented
    for shift, dim in zip(shifts, dims, strict=True):
        axis = dim % x.rank
        size = x.shape[axis]
        # The last `shift` elements come first.
        moved = shift % size if isinstance(shift, int) and isinstance(size, int) else shift
        if isinstance(moved, int) and moved < 0:
            moved = size + moved
        if moved != 0:
            cut = size - moved
            x = ctx.op(Concat, (ctx.part(x, axis, cut, moved), ctx.part(x, axis, 0, cut)), axis)
    return x


@aten("constant_pad_nd.default")
def constant_pad(ctx: Context, x: Value, widths: Sequence[DimLike], value: Any = 0) -> Value:
    low: list[DimLike] = [0] * x.rank
    high: list[DimLike] = [0] * x.rank
    for index in range(len(widths) // 2):
        low[-1 - index], high[-1 - index] = widths[2 * index], widths[2 * index + 1]
    return ctx.op(Pad, x, tuple(low), tuple(high), value)


@aten("slice_scatter.default")
def slice_scatter(
    ctx: Context,
    x: Value,
    source: Value,
    dim: int = 0,
    start: Any = None,
    _end: Any = None,
    step: int = 1,
) -> object:
    axis = dim % x.rank
    begin = _from_front(start, x.shape[axis])
    if step == 1:
        return _replaced(ctx, x, source, axis, begin)
    places = ctx.op(Iota, source.shape[axis], begin, step)
    return ctx.op(IndexPut, x, ctx.cast(source, x.dtype), (places,), (axis,))


@aten("select_scatter.default")
def select_scatter(ctx: Context, x: Value, source: Value, dim: int, index: Any) -> Value:
    axis = dim % x.rank
    row = ctx.reshape(source, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    return _replaced(ctx, x, row, axis, _from_front(index, x.shape[axis]))


def _replaced(ctx: Context, x: Value, source: Value, axis: int, start: DimLike) -> Value:
    end, size = start + source.shape[axis], x.shape[axis]
    parts = [ctx.part(x, axis, 0, start)] if start != 0 else []
    parts.append(ctx.cast(source, x.dtype))
    if end != size:
        parts.append(ctx.part(x, axis, end, size - end))
    return parts[0] if len(parts) == 1 else ctx.op(Concat, tuple(parts), axis)


@aten("tril.default")
def tril(ctx: Context, x: Value, offset: int = 0) -> Value:
    rows, columns = diagonal(ctx, *x.shape[-2:])
    return where(ctx, ctx.op(Le, columns, ctx.op(Add, rows, offset) if offset else rows), x, 0)


@aten("triu.default")
def triu(ctx: Context, x: Value, offset: int = 0) -> Value:
    rows, columns = diagonal(ctx, *x.shape[-2:])
    return where(ctx, ctx.op(Ge, columns, ctx.op(Add, rows, offset) if offset else rows), x, 0)


@aten("diff.default")
def diff(
    ctx: Context, x: Value, n: int = 1, dim: int = -1, before: Any = None, after: Any = None
) -> Value:
    axis = dim % x.rank
    parts = tuple(part for part in (before, x, after) if part is not None)
    x = ctx.op(Concat, parts, axis) if len(parts) > 1 else x
    for _ in range(n):
        shorter = x.shape[axis] - 1
        x = ctx.op(Sub, ctx.part(x, axis, 1, shorter), ctx.part(x, axis, 0, shorter))
    return x
