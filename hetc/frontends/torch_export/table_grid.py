"""ATen's reading of images at the points of a grid (Jaderberg et al. 2015, "Spatial transformer
networks")."""

from __future__ import annotations

from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.registry import aten
from hetc.frontends.torch_export.table_elementwise import widened
from hetc.ir.dims import DimLike
from hetc.ir.op import Value
from hetc.ir.ops.elementwise import (
    Abs,
    Add,
    And,
    Floor,
    Ge,
    Gt,
    Le,
    Maximum,
    Minimum,
    Mod,
    Mul,
    Round,
    Sub,
    Where,
)
from hetc.ir.ops.index import TakeAlong
from hetc.ir.types import I64

_BILINEAR, _NEAREST, _BICUBIC = range(3)
_ZEROS, _BORDER, _REFLECTION = range(3)
# Keys 1981, "Cubic convolution interpolation", with PyTorch's free parameter.
_CUBIC = -0.75


@aten("grid_sampler_2d.default", "grid_sampler.default")
def grid_sampler(
    ctx: Context, x: Value, grid: Value, interpolation: int, padding: int, corners: bool
) -> object:
    if x.rank != 4:
        return NotImplemented
    dtype, wide = x.dtype, widened(x.dtype)
    reader = _Reader(ctx, ctx.tensor(x, wide), padding, corners)
    points = ctx.tensor(grid, wide)
    # The grid says first where along the width, then where along the height.
    across, down = (
        reader.unscaled(ctx.reshape(ctx.part(points, 3, which, 1), points.shape[:3]), x.shape[axis])
        for which, axis in ((0, 3), (1, 2))
    )
    if interpolation == _BICUBIC:
        return ctx.tensor(_bicubic(reader, across, down), dtype)
    across, down = reader.inside(across, x.shape[3]), reader.inside(down, x.shape[2])
    if interpolation == _NEAREST:
        return ctx.tensor(reader.read(ctx.op(Round, across), ctx.op(Round, down)), dtype)
    return ctx.tensor(_bilinear(reader, across, down), dtype)


class _Reader:
    """Reads `x [B, C, H, W]` at whole places, as the padding mode says."""

    def __init__(self, ctx: Context, x: Value, padding: int, corners: bool) -> None:
        self.ctx, self.x, self.padding, self.corners = ctx, x, padding, corners
        batch, channels, height, width = x.shape
        self.flat = ctx.reshape(x, (batch, channels, height * width))

    def unscaled(self, points: Value, size: DimLike) -> Value:
        """Places in elements, from -1 to 1 over the axis."""
        op = self.ctx.op
        if self.corners:
            return op(Mul, op(Mul, op(Add, points, 1.0), 0.5), size - 1)
        return op(Mul, op(Sub, op(Mul, op(Add, points, 1.0), size), 1.0), 0.5)

    def inside(self, places: Value, size: DimLike) -> Value:
        """Places outside moved in; with zeros as padding they stay where they are."""
        if self.padding == _ZEROS:
            return places
        if self.padding == _REFLECTION:
            places = self._reflected(places, size)
        op = self.ctx.op
        return op(Minimum, op(Maximum, places, 0.0), size - 1)

    def _reflected(self, places: Value, size: DimLike) -> Value:
        op = self.ctx.op
        low = 0.0 if self.corners else -0.5
        span = size - 1 if self.corners else size
        if span == 0:
            return op(Mul, places, 0.0)
        # There and back again: the way repeats after twice the span.
        far = op(Mod, op(Abs, op(Sub, places, low)), 2 * span)
        back = op(Sub, 2 * span, far)
        return op(Add, op(Where, op(Gt, far, span), back, far), low)

    def read(self, across: Value, down: Value) -> Value:
        """`x` at whole places [B, h, w]: zeros where they are outside."""
        ctx = self.ctx
        batch, channels, height, width = self.x.shape
        column, row = (
            ctx.tensor(ctx.op(Minimum, ctx.op(Maximum, place, 0.0), size - 1), I64)
            for place, size in ((across, width), (down, height))
        )
        points = across.shape[1] * across.shape[2]
        places = ctx.reshape(ctx.op(Add, ctx.op(Mul, row, width), column), (batch, 1, points))
        found = ctx.op(TakeAlong, self.flat, ctx.broadcast(places, (batch, channels, points)), 2)
        image = ctx.reshape(found, (batch, channels, *across.shape[1:]))
        if self.padding != _ZEROS:
            return image
        valid = ctx.op(And, self._within(across, width), self._within(down, height))
        return ctx.op(Where, ctx.reshape(valid, (batch, 1, *across.shape[1:])), image, 0.0)

    def _within(self, places: Value, size: DimLike) -> Value:
        op = self.ctx.op
        return op(And, op(Ge, places, 0.0), op(Le, places, size - 1))

    def weighted(self, image: Value, weight: Value) -> Value:
        """An image times one weight for each point."""
        ctx = self.ctx
        return ctx.op(Mul, image, ctx.reshape(weight, (weight.shape[0], 1, *weight.shape[1:])))


def _bilinear(reader: _Reader, across: Value, down: Value) -> Value:
    op = reader.ctx.op
    axes = []
    for point in (across, down):
        first = op(Floor, point)
        share = op(Sub, point, first)
        axes.append([(first, op(Sub, 1.0, share)), (op(Add, first, 1.0), share)])
    return _mixed(reader, *axes)


def _bicubic(reader: _Reader, across: Value, down: Value) -> Value:
    op = reader.ctx.op
    axes = []
    for point, size in ((across, reader.x.shape[3]), (down, reader.x.shape[2])):
        first = op(Floor, point)
        axes.append(_taps(reader, first, op(Sub, point, first), size))
    return _mixed(reader, *axes)


Taps = list[tuple[Value, Value]]


def _mixed(reader: _Reader, columns: Taps, rows: Taps) -> Value:
    """The sum over all pairs of a column and a row, each with its weight."""
    op = reader.ctx.op
    parts = [
        reader.weighted(reader.read(column, row), op(Mul, height, width))
        for row, height in rows
        for column, width in columns
    ]
    total = parts[0]
    for part in parts[1:]:
        total = op(Add, total, part)
    return total


def _taps(reader: _Reader, first: Value, share: Value, size: DimLike) -> Taps:
    """The four places around a point along one axis, and their weights."""
    op = reader.ctx.op
    taps = []
    for offset in (-1, 0, 1, 2):
        place = reader.inside(op(Add, first, float(offset)), size)
        distance = op(Abs, op(Sub, share, float(offset)))
        taps.append((place, _cubic(reader.ctx, distance, near=offset in (0, 1))))
    return taps


def _cubic(ctx: Context, distance: Value, *, near: bool) -> Value:
    """The cubic kernel at a distance up to 1, or from 1 to 2, by Horner's rule."""
    a = _CUBIC
    factors = (a + 2, -(a + 3), 0.0, 1.0) if near else (a, -5 * a, 8 * a, -4 * a)
    made = ctx.op(Mul, distance, factors[0])
    for factor in factors[1:3]:
        made = ctx.op(Mul, ctx.op(Add, made, factor), distance)
    return ctx.op(Add, made, factors[3])
