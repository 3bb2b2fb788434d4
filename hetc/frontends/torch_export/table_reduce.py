"""ATen's reductions, running sums and softmax."""

from __future__ import annotations

from collections.abc import Sequence

from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.registry import aten
from hetc.frontends.torch_export.table_elementwise import as_bool, widened
from hetc.ir.dims import exact_div
from hetc.ir.op import Op, Value
from hetc.ir.ops import reduce as red
from hetc.ir.ops.elementwise import Div, Mul, Sqrt, Sub

Axes = int | Sequence[int] | None


def _reduced(ctx: Context, kind: type[Op], x: Value, dims: Axes, keepdim: bool) -> Value:
    if isinstance(dims, int):
        dims = (dims,)
    axes = tuple(dims) if dims else tuple(range(x.rank))
    return ctx.op(kind, x, axes, keepdim) if x.rank else x


@aten("sum.dim_IntList", "sum.default")
def sum_(
    ctx: Context, x: Value, dims: Axes = None, keepdim: bool = False, **_dtype: object
) -> Value:
    return _reduced(ctx, red.Sum, ctx.cast(x, ctx.dtype), dims, keepdim)


@aten("mean.dim", "mean.default")
def mean(
    ctx: Context, x: Value, dims: Axes = None, keepdim: bool = False, **_dtype: object
) -> Value:
    return _reduced(ctx, red.Mean, ctx.cast(x, ctx.dtype), dims, keepdim)


def _variance(ctx: Context, x: Value, dims: Axes, correction: float) -> tuple[Value, Value]:
    """Variance and mean with the reduced axes kept, computed in f32 at least."""
    dtype = x.dtype
    x = ctx.tensor(x, widened(dtype))
    centre = _reduced(ctx, red.Mean, x, dims, True)
    offset = ctx.op(Sub, x, centre)
    squares = _reduced(ctx, red.Sum, ctx.op(Mul, offset, offset), dims, True)
    count = x.size if centre.size == 0 else exact_div(x.size, centre.size)
    # PyTorch's own rule: no degree of freedom is none, and not less.
    freedom = max(count - correction, 0) if isinstance(count, int) else count - int(correction)
    variance = ctx.op(Div, squares, float(freedom) if isinstance(freedom, int) else freedom)
    return ctx.tensor(variance, dtype), ctx.tensor(centre, dtype)


@aten("var.correction")
def var(
    ctx: Context,
    x: Value,
    dims: Axes = None,
    correction: float | None = None,
    keepdim: bool = False,
) -> object:
    freedom = 1 if correction is None else correction
    return ctx.reshape(_variance(ctx, x, dims, freedom)[0], ctx.shape)


@aten("var.dim")
def var_dim(
    ctx: Context, x: Value, dims: Axes, unbiased: bool = True, keepdim: bool = False
) -> object:
    return var(ctx, x, dims, int(unbiased))


@aten("std.correction")
def std(
    ctx: Context,
    x: Value,
    dims: Axes = None,
    correction: float | None = None,
    keepdim: bool = False,
) -> object:
    variance = var(ctx, x, dims, correction)
    return ctx.op(Sqrt, variance) if isinstance(variance, Value) else NotImplemented


@aten("std.dim")
def std_dim(
    ctx: Context, x: Value, dims: Axes, unbiased: bool = True, keepdim: bool = False
) -> object:
    return std(ctx, x, dims, int(unbiased))


@aten("var_mean.correction")
def var_mean(
    ctx: Context,
    x: Value,
    dims: Axes = None,
    correction: float | None = None,
    keepdim: bool = False,
) -> object:
    freedom = 1 if correction is None else correction
    shape = ctx.shape_of(ctx.val[0])
    return tuple(ctx.reshape(part, shape) for part in _variance(ctx, x, dims, freedom))


@aten("prod.dim_int", "prod.default")
def prod(
    ctx: Context, x: Value, dim: Axes = None, keepdim: bool = False, **_dtype: object
) -> Value:
    return _reduced(ctx, red.Prod, ctx.cast(x, ctx.dtype), dim, keepdim)


@aten("amax.default", "max.default")
def amax(ctx: Context, x: Value, dims: Axes = None, keepdim: bool = False) -> Value:
    return _reduced(ctx, red.ReduceMax, x, dims, keepdim)


@aten("amin.default", "min.default")
def amin(ctx: Context, x: Value, dims: Axes = None, keepdim: bool = False) -> Value:
    return _reduced(ctx, red.ReduceMin, x, dims, keepdim)


@aten("max.dim")
def max_dim(ctx: Context, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    return _reduced(ctx, red.ReduceMax, x, dim, keepdim), _arg(ctx, red.ArgMax, x, dim, keepdim)


@aten("min.dim")
def min_dim(ctx: Context, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    return _reduced(ctx, red.ReduceMin, x, dim, keepdim), _arg(ctx, red.ArgMin, x, dim, keepdim)


@aten("argmax.default")
def argmax(ctx: Context, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    return _arg(ctx, red.ArgMax, x, dim, keepdim)


@aten("argmin.default")
def argmin(ctx: Context, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    return _arg(ctx, red.ArgMin, x, dim, keepdim)


def _arg(ctx: Context, kind: type[Op], x: Value, dim: int | None, keepdim: bool) -> Value:
    if dim is None or not x.rank:
        return ctx.reshape(ctx.op(kind, ctx.reshape(x, (x.size,)), 0), (1,) * x.rank * keepdim)
    return ctx.op(kind, x, dim, keepdim)


@aten("any.default", "any.dim", "any.dims")
def any_(ctx: Context, x: Value, dims: Axes = None, keepdim: bool = False) -> Value:
    # Of bytes PyTorch gives bytes.
    return ctx.tensor(_reduced(ctx, red.Any, as_bool(ctx, x), dims, keepdim), ctx.dtype)


@aten("all.default", "all.dim", "all.dims")
def all_(ctx: Context, x: Value, dims: Axes = None, keepdim: bool = False) -> Value:
    return ctx.tensor(_reduced(ctx, red.All, as_bool(ctx, x), dims, keepdim), ctx.dtype)


@aten("logsumexp.default")
def logsumexp(ctx: Context, x: Value, dims: Axes, keepdim: bool = False) -> object:
    axes = (dims,) if isinstance(dims, int) else tuple(dims or ())
    return (
        _reduced(ctx, red.LogSumExp, ctx.cast(x, ctx.dtype), axes, keepdim)
        if len(axes) == 1
        else NotImplemented
    )


@aten("cumsum.default")
def cumsum(ctx: Context, x: Value, dim: int, **_dtype: object) -> Value:
    given = ctx.tensor(x, ctx.dtype)
    return ctx.op(red.CumSum, given, dim) if x.rank else given


def _normalized(ctx: Context, kind: type[Op], x: Value, dim: int, **how: bool) -> Value:
    """A softmax; of a tensor without axes as of a vector of one element."""
    row = ctx.reshape(ctx.cast(x, ctx.dtype), x.shape or (1,))
    return ctx.reshape(ctx.op(kind, row, dim, **how), x.shape)


@aten("softmax.int", "_softmax.default")
def softmax(ctx: Context, x: Value, dim: int, _dtype: object = None) -> Value:
    return _normalized(ctx, red.Softmax, x, dim)


@aten("_safe_softmax.default")
def safe_softmax(ctx: Context, x: Value, dim: int, _dtype: object = None) -> Value:
    return _normalized(ctx, red.Softmax, x, dim, safe=True)


@aten("log_softmax.int", "_log_softmax.default")
def log_softmax(ctx: Context, x: Value, dim: int, _dtype: object = None) -> Value:
    return _normalized(ctx, red.LogSoftmax, x, dim)
