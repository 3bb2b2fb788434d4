"""ATen's ops that read an image at other places: upsampling, sampling on a grid, and padding with
what is inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.registry import aten
from hetc.frontends.torch_export.table_elementwise import widened
from hetc.frontends.torch_export.table_shape import constant_pad
from hetc.ir.dims import Dim, DimLike
from hetc.ir.op import Value
from hetc.ir.ops.elementwise import (
    Abs,
    Add,
    Div,
    Floor,
    Maximum,
    Minimum,
    Mod,
    Mul,
    Sub,
)
from hetc.ir.ops.index import Gather
from hetc.ir.ops.source import Full, Iota
from hetc.ir.types import F32, F64, I64, DType

Scales = Sequence[float | None] | None


def _step(ctx: Context, size: DimLike, out: DimLike, factor: float | None) -> Any:
    """How far apart in the source two neighbours of the result lie, in f32 as PyTorch has it."""
    if factor is not None and factor > 0:
        return 1 / factor
    return _ratio(ctx, size, out)


def _ratio(ctx: Context, top: DimLike, bottom: DimLike) -> Any:
    if isinstance(top, Dim) or isinstance(bottom, Dim):
        return ctx.op(Div, ctx.op(Full, top, (1,), F32), bottom)
    return top / bottom


def _places(ctx: Context, out: DimLike, dtype: DType) -> Value:
    """0, 1, ... in the type that places of such an image are computed in."""
    return ctx.op(Iota, out, dtype=F64 if dtype is F64 else F32)


def _read_along(ctx: Context, x: Value, axis: int, places: Value, last: DimLike) -> Value:
    """`x` at whole places along an axis, those behind its end taken for the last one."""
    inside = ctx.op(Minimum, ctx.tensor(places, I64), last)
    return ctx.op(Gather, x, inside, axis)


def _factors(given: tuple[Any, ...], axes: int) -> Sequence[float | None]:
    """The scale of each axis, as `.vec` and `.default` overloads pass it."""
    if len(given) == 1 and isinstance(given[0], tuple):
        return given[0]
    return given if len(given) == axes else (None,) * axes


def _nearest(axes: int) -> None:
    @aten(f"upsample_nearest{axes}d.vec", f"upsample_nearest{axes}d.default")
    def nearest(ctx: Context, x: Value, _size: object, *scales: Any) -> Value:
        factors = _factors(scales, axes)
        for axis, (out, factor) in enumerate(zip(ctx.shape[2:], factors, strict=True), start=2):
            size = x.shape[axis]
            if size != out or factor is not None:
                step = _step(ctx, size, out, factor)
                at = ctx.op(Floor, ctx.op(Mul, _places(ctx, out, F32), step))
                x = _read_along(ctx, x, axis, at, size - 1)
        return x


for _axes in (1, 2, 3):
    _nearest(_axes)


@aten("upsample_bilinear2d.vec", "upsample_bilinear2d.default")
def bilinear(ctx: Context, x: Value, _size: object, corners: bool, *scales: Any) -> Value:
    dtype = x.dtype
    x = ctx.tensor(x, widened(dtype))
    factors = _factors(scales, 2)
    for axis, (out, factor) in enumerate(zip(ctx.shape[2:], factors, strict=True), start=2):
        x = _between(ctx, x, axis, out, corners, factor)
    return ctx.tensor(x, dtype)


def _between(
    ctx: Context, x: Value, axis: int, out: DimLike, corners: bool, factor: float | None
) -> Value:
    """`x` at `out` evenly spaced places along an axis, each between two of its elements."""
    size, places = x.shape[axis], _places(ctx, out, x.dtype)
    if corners:
        at = ctx.op(Mul, places, _ratio(ctx, size - 1, out - 1) if out != 1 else 0.0)
    else:
        step = _step(ctx, size, out, factor)
        middle = ctx.op(Mul, ctx.op(Add, places, 0.5), step)
        at = ctx.op(Maximum, ctx.op(Sub, middle, 0.5), 0.0)
    below = ctx.op(Floor, at)
    share = ctx.tensor(ctx.op(Sub, at, below), x.dtype)
    share = ctx.reshape(share, (out, *(1,) * (x.rank - axis - 1)))
    first = _read_along(ctx, x, axis, below, size - 1)
    second = _read_along(ctx, x, axis, ctx.op(Add, below, 1.0), size - 1)
    return ctx.op(Add, first, ctx.op(Mul, ctx.op(Sub, second, first), share))


Inside = Callable[[Context, Value, DimLike], Value]


def _reflected(ctx: Context, places: Value, size: DimLike) -> Value:
    """Places mirrored at the first and the last element."""
    last = size - 1
    folded = ctx.op(Abs, ctx.op(Sub, last, ctx.op(Abs, places)))
    return ctx.op(Sub, last, folded)


def _clamped(ctx: Context, places: Value, size: DimLike) -> Value:
    return ctx.op(Minimum, ctx.op(Maximum, places, 0), size - 1)


def _wrapped(ctx: Context, places: Value, size: DimLike) -> Value:
    return ctx.op(Mod, places, size)


def _padded(ctx: Context, x: Value, widths: Sequence[DimLike], inside: Inside) -> Value:
    for index in range(len(widths) // 2):
        low, high = widths[2 * index], widths[2 * index + 1]
        axis = x.rank - 1 - index
        size = x.shape[axis]
        if (low, high) != (0, 0):
            places = ctx.op(Iota, low + size + high, -low)
            x = ctx.op(Gather, x, inside(ctx, places, size), axis)
    return x


@aten("reflection_pad1d.default", "reflection_pad2d.default", "reflection_pad3d.default")
def reflection_pad(ctx: Context, x: Value, widths: Sequence[DimLike]) -> Value:
    return _padded(ctx, x, widths, _reflected)


@aten("replication_pad1d.default", "replication_pad2d.default", "replication_pad3d.default")
def replication_pad(ctx: Context, x: Value, widths: Sequence[DimLike]) -> Value:
    return _padded(ctx, x, widths, _clamped)


_PADDINGS: dict[str, Inside] = {
    "reflect": _reflected,
    "replicate": _clamped,
    "circular": _wrapped,
}


@aten("pad.default")
def pad(
    ctx: Context, x: Value, widths: Sequence[DimLike], mode: str = "constant", value: Any = None
) -> object:
    if mode == "constant":
        return constant_pad(ctx, x, widths, value or 0)
    return _padded(ctx, x, widths, _PADDINGS[mode])
