"""ATen's pooling: the largest and the mean of windows, forwards and backwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hetc.frontends.torch_export.context import Context, Unsupported
from hetc.frontends.torch_export.registry import aten
from hetc.frontends.torch_export.table_conv import batched, per_axis
from hetc.frontends.torch_export.table_elementwise import widened
from hetc.ir.dims import DimLike, product
from hetc.ir.op import Value
from hetc.ir.ops.elementwise import And, Div, FloorDiv, Ge, Lt, Sub
from hetc.ir.ops.index import PutAlong
from hetc.ir.ops.linear import MatMul
from hetc.ir.ops.reduce import Mean
from hetc.ir.ops.shape import Pad
from hetc.ir.ops.source import Full, Iota
from hetc.ir.ops.window import AvgPool, Conv, ConvTranspose, MaxPool
from hetc.ir.types import DType

Ints = Sequence[int]


def _lie(axes: int, kernel: Ints, stride: Ints, padding: Ints, ceil: bool) -> dict[str, Any]:
    """How windows lie, as attributes; without a stride one begins where another ends."""
    window, widths = per_axis(kernel, axes), per_axis(padding, axes)
    steps = per_axis(stride, axes) if stride else window
    return {"window": window, "stride": steps, "low": widths, "high": widths, "ceil": ceil}


def _register(axes: int) -> None:
    """The ops of one number of axes."""
    rank = axes + 2

    @aten(f"max_pool{axes}d_with_indices.default")
    def max_pool_with_indices(
        ctx: Context,
        x: Value,
        kernel: Ints,
        stride: Ints = (),
        padding: Ints = (0,),
        dilation: Ints = (1,),
        ceil: bool = False,
    ) -> tuple[Value, ...]:
        shape = ctx.shape_of(ctx.val[0])
        lie = _lie(axes, kernel, stride, padding, ceil)
        made = ctx.ops(MaxPool, batched(ctx, x, rank), dilation=per_axis(dilation, axes), **lie)
        return tuple(ctx.reshape(part, shape) for part in made)

    @aten(f"max_pool{axes}d.default")
    def max_pool(
        ctx: Context,
        x: Value,
        kernel: Ints,
        stride: Ints = (),
        padding: Ints = (0,),
        dilation: Ints = (1,),
        ceil: bool = False,
    ) -> Value:
        lie = _lie(axes, kernel, stride, padding, ceil)
        made = ctx.op(MaxPool, batched(ctx, x, rank), dilation=per_axis(dilation, axes), **lie)
        return ctx.reshape(made, ctx.shape)

    @aten(f"avg_pool{axes}d.default")
    def avg_pool(
        ctx: Context,
        x: Value,
        kernel: Ints,
        stride: Ints = (),
        padding: Ints = (0,),
        ceil: bool = False,
        count_pad: bool = True,
        divisor: int | None = None,
    ) -> Value:
        lie = _lie(axes, kernel, stride, padding, ceil)
        counted = {"count_pad": count_pad, "divisor": divisor}
        return ctx.reshape(ctx.op(AvgPool, batched(ctx, x, rank), **lie, **counted), ctx.shape)

    @aten(f"adaptive_avg_pool{axes}d.default", f"_adaptive_avg_pool{axes}d.default")
    def adaptive_avg_pool(ctx: Context, x: Value, size: Sequence[DimLike]) -> Value:
        return _adaptive(ctx, batched(ctx, x, rank), axes)


for _axes in (1, 2, 3):
    _register(_axes)


def _adaptive(ctx: Context, x: Value, axes: int) -> Value:
    """Means over windows that part each axis as evenly as whole numbers can."""
    shape = ctx.shape
    sizes, wanted = x.shape[2:], shape[-axes:]
    if all(size == 1 for size in wanted) and x.size != 0:
        return ctx.reshape(ctx.op(Mean, x, tuple(range(2, x.rank)), True), shape)
    pairs = list(zip(sizes, wanted, strict=True))
    if not all(isinstance(size, int) and isinstance(out, int) for size, out in pairs):
        raise Unsupported("adaptive pooling between sizes that are not known")
    numbers = [(int(str(size)), int(str(out))) for size, out in pairs]
    if all(out and size and size % out == 0 for size, out in numbers):
        window = tuple(size // out for size, out in numbers)
        return ctx.reshape(ctx.op(AvgPool, x, window, window), shape)
    made = ctx.tensor(x, widened(x.dtype))
    for axis, (size, out) in enumerate(numbers, start=2):
        made = _along(ctx, made, axis, ctx.move(_shares(ctx, size, out, made.dtype), (1, 0)))
    return ctx.reshape(ctx.tensor(made, x.dtype), shape)


def _along(ctx: Context, x: Value, axis: int, matrix: Value) -> Value:
    """`x` times a matrix [old, new] along one axis."""
    order = [*range(axis), *range(axis + 1, x.rank), axis]
    made = ctx.op(MatMul, ctx.move(x, order), matrix)
    return ctx.move(made, [order.index(place) for place in range(x.rank)])


def _shares(ctx: Context, size: int, out: int, dtype: DType) -> Value:
    """The share that each of `size` elements has in each of `out` means: [out, size]."""
    rows = ctx.reshape(ctx.op(Iota, out, 0, size), (out, 1))
    first = ctx.op(FloorDiv, rows, out)
    ends = ctx.reshape(ctx.op(Iota, out, size + out - 1, size), (out, 1))
    last = ctx.op(FloorDiv, ends, out)
    places = ctx.reshape(ctx.op(Iota, size), (1, size))
    inside = ctx.op(And, ctx.op(Ge, places, first), ctx.op(Lt, places, last))
    width = ctx.tensor(ctx.op(Sub, last, first), dtype)
    return ctx.op(Div, ctx.tensor(inside, dtype), width)


@aten("_adaptive_avg_pool2d_backward.default")
def adaptive_avg_pool_backward(ctx: Context, grad: Value, x: Value) -> Value:
    shape = ctx.shape
    wide = widened(grad.dtype)
    made = ctx.tensor(batched(ctx, grad, 4), wide)
    for axis, (size, out) in enumerate(zip(shape[-2:], grad.shape[-2:], strict=True), start=2):
        if not (isinstance(size, int) and isinstance(out, int)):
            raise Unsupported("adaptive pooling between sizes that are not known")
        made = _along(ctx, made, axis, _shares(ctx, size, out, wide))
    return ctx.reshape(ctx.tensor(made, grad.dtype), shape)


@aten("max_pool2d_with_indices_backward.default")
def max_pool_backward(
    ctx: Context, grad: Value, x: Value, _kernel: Ints, *lie_and_places: Any
) -> Value:
    (*_lie, places) = lie_and_places
    rows, size = product(x.shape[:-2]), x.shape[-2] * x.shape[-1]
    wide = widened(grad.dtype)
    added, ids = (
        ctx.reshape(part, (rows, product(grad.shape[-2:])))
        for part in (ctx.tensor(grad, wide), places)
    )
    zeros = ctx.op(Full, 0, (rows, size), wide)
    made = ctx.op(PutAlong, zeros, ids, added, 1, "add")
    return ctx.reshape(ctx.tensor(made, grad.dtype), ctx.shape)


@aten("avg_pool2d_backward.default")
def avg_pool_backward(
    ctx: Context,
    grad: Value,
    x: Value,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil: bool,
    count_pad: bool,
    divisor: int | None,
) -> Value:
    lie = _lie(2, kernel, stride, padding, ceil)
    sizes, outs = x.shape[-2:], grad.shape[-2:]
    wide = widened(grad.dtype)
    made = ctx.tensor(ctx.reshape(grad, (product(grad.shape[:-2]), 1, *outs)), wide)
    ends = [
        (out - 1) * step + taps
        for out, step, taps in zip(outs, lie["stride"], lie["window"], strict=True)
    ]
    ones = ctx.op(Full, 1, (1, 1, *lie["window"]), wide)
    count = divisor or _counts(ctx, sizes, ends, lie, ones, count_pad)
    made = ctx.op(Div, made, count)
    high = tuple(end - low - size for end, low, size in zip(ends, lie["low"], sizes, strict=True))
    spread = ctx.op(ConvTranspose, made, ones, stride=lie["stride"], low=lie["low"], high=high)
    return ctx.tensor(ctx.reshape(spread, ctx.shape), grad.dtype)


def _counts(
    ctx: Context,
    sizes: Sequence[DimLike],
    ends: Sequence[DimLike],
    lie: dict[str, Any],
    ones: Value,
    count_pad: bool,
) -> Value:
    """How many elements count in each window: [1, 1, *windows]."""
    image = ctx.op(Full, 1, (1, 1, *sizes), ones.dtype)
    low, high = lie["low"], lie["high"]
    if count_pad:
        image = ctx.op(Pad, image, (0, 0, *low), (0, 0, *high), 1)
        low = (0,) * len(low)
    # Windows may end behind the padding, and what they find there does not count.
    behind = [
        end - before - size for end, before, size in zip(ends, low, image.shape[2:], strict=True)
    ]
    image = ctx.op(Pad, image, (0, 0, *low), (0, 0, *behind))
    return ctx.op(Conv, image, ones, stride=lie["stride"])
