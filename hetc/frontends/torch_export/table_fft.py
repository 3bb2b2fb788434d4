"""ATen's Fourier transforms of real numbers, as products with matrices of cosines and sines.

A complex tensor is a pair of real ones here, as everywhere in this frontend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hetc.frontends.torch_export.context import Context, Pairs, Unsupported
from hetc.frontends.torch_export.registry import complex_aten
from hetc.frontends.torch_export.table_elementwise import widened
from hetc.ir.dims import DimLike
from hetc.ir.op import Value
from hetc.ir.ops.elementwise import Add, Cos, Eq, Mod, Mul, Or, Sin, Sub, Where
from hetc.ir.ops.linear import MatMul
from hetc.ir.ops.source import Iota
from hetc.ir.types import F64, DType


@complex_aten("_fft_r2c.default")
def real_to_complex(
    ctx: Context, x: Value, dims: Sequence[int], normalization: int, onesided: bool
) -> Pairs:
    axes = [dim % x.rank for dim in dims]
    size, kept = x.shape[axes[-1]], ctx.shape[axes[-1]]
    cosines, sines = _waves(ctx, size, kept, size, x.dtype)
    made = Pairs(_times(ctx, x, axes[-1], cosines), _times(ctx, x, axes[-1], sines, -1))
    for axis in axes[:-1]:
        made = _turned(ctx, made, axis, -1)
    return _normalized(ctx, made, [x.shape[axis] for axis in axes], normalization)


@complex_aten("_fft_c2c.default")
def complex_to_complex(
    ctx: Context, z: Pairs, dims: Sequence[int], normalization: int, forward: bool
) -> Pairs:
    axes = [dim % z.real.rank for dim in dims]
    made = z
    for axis in axes:
        made = _turned(ctx, made, axis, -1 if forward else 1)
    return _normalized(ctx, made, [z.real.shape[axis] for axis in axes], normalization)


@complex_aten("_fft_c2r.default")
def complex_to_real(
    ctx: Context, z: Pairs, dims: Sequence[int], normalization: int, size: DimLike
) -> Value:
    axes = [dim % z.real.rank for dim in dims]
    made = z
    for axis in axes[:-1]:
        made = _turned(ctx, made, axis, 1)
    last = axes[-1]
    if not isinstance(size, int):
        raise Unsupported("a Fourier transform of a length that is not known")
    kept = size // 2 + 1
    if made.real.shape[last] != kept:
        made = Pairs(*(ctx.part(part, last, 0, kept) for part in (made.real, made.imag)))
    cosines, sines = (
        _mirrored(ctx, wave, kept, size) for wave in _waves(ctx, kept, size, size, made.real.dtype)
    )
    real = _times(ctx, made.real, last, cosines)
    result = ctx.op(Sub, real, _times(ctx, made.imag, last, sines))
    sizes = [z.real.shape[axis] for axis in axes[:-1]] + [size]
    return _scaled(ctx, result, sizes, normalization)


def _waves(
    ctx: Context, rows: DimLike, columns: DimLike, size: DimLike, dtype: DType
) -> tuple[Value, Value]:
    """cos and sin of 2 pi i j / size: two matrices [rows, columns]."""
    if not isinstance(size, int):
        raise Unsupported("a Fourier transform of a length that is not known")
    first = ctx.reshape(ctx.op(Iota, rows), (rows, 1))
    second = ctx.reshape(ctx.op(Iota, columns), (1, columns))
    # The remainder is exact, so that the angles are as exact as they can be.
    turn = ctx.op(Mod, ctx.op(Mul, first, second), size)
    angle = ctx.op(Mul, ctx.tensor(turn, F64), 2 * math.pi / size)
    cosines, sines = (ctx.tensor(ctx.op(wave, angle), widened(dtype)) for wave in (Cos, Sin))
    return cosines, sines


def _mirrored(ctx: Context, wave: Value, kept: int, size: int) -> Value:
    """Each row twice, for its mirror image that is not stored; the first has none, and of an even
    size the last."""
    places = ctx.reshape(ctx.op(Iota, kept), (kept, 1))
    alone = ctx.op(Eq, places, 0)
    if size % 2 == 0:
        alone = ctx.op(Or, alone, ctx.op(Eq, places, kept - 1))
    return ctx.op(Mul, wave, ctx.op(Where, alone, 1.0, 2.0, dtype=wave.dtype))


def _times(ctx: Context, x: Value, axis: int, matrix: Value, sign: int = 1) -> Value:
    """`x` times a matrix along one axis, in f32 at least."""
    order = [*range(axis), *range(axis + 1, x.rank), axis]
    moved = ctx.move(ctx.tensor(x, matrix.dtype), order)
    flat = moved if moved.rank > 1 else ctx.reshape(moved, (1, *moved.shape))
    made = ctx.op(MatMul, flat, matrix if sign > 0 else ctx.op(Mul, matrix, -1.0))
    made = made if moved.rank > 1 else ctx.reshape(made, made.shape[1:])
    return ctx.tensor(ctx.move(made, [order.index(place) for place in range(x.rank)]), x.dtype)


def _turned(ctx: Context, z: Pairs, axis: int, sign: int) -> Pairs:
    """A complex transform along one axis: forward with a sign of -1."""
    size = z.real.shape[axis]
    cosines, sines = _waves(ctx, size, size, size, z.real.dtype)
    first, second = (_times(ctx, part, axis, cosines) for part in (z.real, z.imag))
    cross = [_times(ctx, part, axis, sines, sign) for part in (z.imag, z.real)]
    return Pairs(ctx.op(Sub, first, cross[0]), ctx.op(Add, second, cross[1]))


def _normalized(ctx: Context, z: Pairs, sizes: Sequence[DimLike], normalization: int) -> Pairs:
    return Pairs(*(_scaled(ctx, part, sizes, normalization) for part in (z.real, z.imag)))


def _scaled(ctx: Context, x: Value, sizes: Sequence[DimLike], normalization: int) -> Value:
    """PyTorch's modes: 0 as it is, 1 by the root of the number of elements, 2 by the number."""
    if normalization == 0:
        return x
    count = math.prod(size for size in sizes if isinstance(size, int))
    return ctx.op(Mul, x, 1 / (math.sqrt(count) if normalization == 1 else count))
