"""Ops over windows that slide along any number of axes: convolutions and pooling.

`x` is `[B, C, *D]`: a batch, channels, and the axes that windows slide along. Each of those has an
entry in every attribute that is a tuple; an empty tuple stands for ones, or zeros for `low` and
`high`, the numbers of elements added before and after.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from hetc.ir.dims import Dim, DimLike, product
from hetc.ir.op import Cost, Op, Value, op
from hetc.ir.ops.elementwise_base import as_f32
from hetc.ir.types import BOOL, I64, Array, Shape, TensorType

Ints = tuple[int, ...]


class Windowed(Op):
    """What the ops of this family share: how windows of some taps lie over `x`."""

    x: Value
    stride: Ints
    low: Ints
    high: Ints
    dilation: Ints

    @property
    def axes(self) -> int:
        """The number of axes that windows slide along."""
        return self.x.rank - 2

    def per_axis(self, given: Ints, default: int) -> Ints:
        """An attribute with its default filled in."""
        return tuple(given) or (default,) * self.axes

    @property
    def steps(self) -> Ints:
        return self.per_axis(self.stride, 1)

    @property
    def gaps(self) -> Ints:
        return self.per_axis(self.dilation, 1)

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        before, after = self.per_axis(self.low, 0), self.per_axis(self.high, 0)
        return tuple(zip(before, after, strict=True))

    def reaches(self, taps: Ints) -> Ints:
        """The elements from the first to the last tap of a window."""
        return tuple(gap * (tap - 1) + 1 for gap, tap in zip(self.gaps, taps, strict=True))

    def check_windows(self, taps: Shape) -> Ints:
        """The taps as numbers, after the attributes were found to fit `x`."""
        given = (self.stride, self.low, self.high, self.dilation)
        fits = self.axes >= 1 and len(taps) == self.axes
        self.require(
            fits and all(len(item) in (0, self.axes) for item in given),
            "x is [B,C,*D], and every attribute has one entry for each axis of D",
        )
        numbers = tuple(tap for tap in taps if isinstance(tap, int) and tap > 0)
        self.require(len(numbers) == len(taps), "windows have a fixed number of taps")
        self.require(min(*self.steps, *self.gaps) > 0, "strides and dilations are positive")
        return numbers

    def count(self, dim: DimLike, reach: int, step: int, pad: tuple[int, int]) -> DimLike:
        """How many windows lie inside a padded axis."""
        span = dim + sum(pad) - reach
        if not isinstance(span, Dim):
            self.require(span >= 0, "a window is longer than the padded axis")
            return span // step + 1
        whole = [(names, factor) for names, factor in span.terms if names]
        if any(factor % step for _, factor in whole):
            raise self.misfit(f"windows {step} apart along {dim}: their number is no polynomial")
        rest = next((factor for names, factor in span.terms if not names), 0)
        # The part with symbols is a multiple of the step: only the rest is rounded down.
        return (span - rest) // step + rest // step + 1

    def padded(self, x: Array, fill: object) -> Array:
        """`x` with `fill` before and after each axis that windows slide along."""
        return np.pad(x, [(0, 0), (0, 0), *self.pads], constant_values=np.asarray(fill, x.dtype))

    def windows(self, padded: Array, taps: Ints) -> Array:
        """Every window of what is padded already: `[B, C, *windows, *taps]`."""
        along = tuple(range(2, padded.ndim))
        seen = np.lib.stride_tricks.sliding_window_view(padded, self.reaches(taps), along)
        picks = [slice(None, None, step) for step in (*self.steps, *self.gaps)]
        result: Array = seen[(slice(None), slice(None), *picks)]
        return result


class Filtered(Windowed):
    """A convolution: windows of `x` times `weight`, channels in groups."""

    x: Value
    weight: Value
    bias: Value | None
    stride: Ints
    low: Ints
    high: Ints
    dilation: Ints
    groups: int

    def check_filter(self, outputs: DimLike) -> Ints:
        """The taps, after bias and types were found to fit."""
        self.require(self.weight.rank == self.x.rank, "x and weight must have one rank")
        self.require(self.x.dtype is self.weight.dtype, "operands must have one dtype")
        if self.bias is not None:
            self.require(self.bias.shape == (outputs,), "the bias is [O]")
            self.require(self.bias.dtype is self.x.dtype, "operands must have one dtype")
        self.require(self.groups > 0, "there is at least one group")
        return self.check_windows(self.weight.shape[2:])

    def in_groups(self, x: Array) -> Array:
        """Axis 1 cut into groups, which then come first: `[G, B, C/G, ...]`."""
        grouped = x.reshape(x.shape[0], self.groups, x.shape[1] // self.groups, *x.shape[2:])
        return np.moveaxis(grouped, 1, 0)

    def biased(self, result: Array, bias: tuple[Array, ...]) -> Array:
        """With the bias added, in the result's type."""
        if bias:
            result = result + as_f32(bias[0]).reshape(-1, *(1,) * self.axes)
        return result.astype(self.x.dtype.numpy)


@op("conv")
class Conv(Filtered):
    """The cross-correlation that neural networks call convolution.

    `x [B, C, *D]`, `weight [O, C/groups, *K]`, `bias [O]` -> `[B, O, *windows]`.
    """

    x: Value
    weight: Value
    bias: Value | None = None
    stride: Ints = ()
    low: Ints = ()
    high: Ints = ()
    dilation: Ints = ()
    groups: int = 1

    def infer(self) -> TensorType:
        taps = self.check_filter(self.weight.shape[0])
        self.require(self.x.shape[1] == self.weight.shape[1] * self.groups, "channels differ")
        outputs = self.weight.shape[0]
        divides = isinstance(outputs, int) and outputs % self.groups == 0
        self.require(divides, "the outputs must be a multiple of the groups")
        lie = zip(self.x.shape[2:], self.reaches(taps), self.steps, self.pads, strict=True)
        return TensorType(
            self.x.dtype, (self.x.shape[0], outputs, *(self.count(*part) for part in lie))
        )

    def cost(self) -> Cost:
        base = super().cost()
        taps = product(self.weight.shape[1:])
        return Cost(2 * self.result.size * taps, base.bytes_read, base.bytes_written)

    def semantics(self, x: Array, weight: Array, *bias: Array) -> Array:
        seen = self.in_groups(self.windows(self.padded(as_f32(x), 0), weight.shape[2:]))
        filters = as_f32(weight).reshape(self.groups, -1, *weight.shape[1:])
        taps = range(-self.axes, 0)
        parts = [
            np.tensordot(part, each, axes=((1, *taps), (1, *taps)))
            for part, each in zip(seen, filters, strict=True)
        ]
        result = np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)
        return self.biased(result, bias)


@op("conv_transpose")
class ConvTranspose(Filtered):
    """The gradient of a convolution as an op: each element of `x` adds its multiple of `weight`.

    `x [B, C, *D]`, `weight [C, O/groups, *K]`, `bias [O]` -> `[B, O, *E]`. `low` and `high`
    elements are cut off before and after; a negative `high` adds zeros.
    """

    x: Value
    weight: Value
    bias: Value | None = None
    stride: Ints = ()
    low: Ints = ()
    high: Ints = ()
    dilation: Ints = ()
    groups: int = 1

    def infer(self) -> TensorType:
        outputs = self.weight.shape[1] * self.groups
        taps = self.check_filter(outputs)
        channels = self.x.shape[1]
        self.require(channels == self.weight.shape[0], "channels differ")
        divides = isinstance(channels, int) and channels % self.groups == 0
        self.require(divides, "the channels must be a multiple of the groups")
        lie = zip(self.x.shape[2:], self.reaches(taps), self.steps, self.pads, strict=True)
        lengths = [(dim - 1) * step + reach - sum(pad) for dim, reach, step, pad in lie]
        self.require(
            all(isinstance(length, Dim) or length >= 0 for length in lengths),
            "more is cut off than there is",
        )
        return TensorType(self.x.dtype, (self.x.shape[0], outputs, *lengths))

    def cost(self) -> Cost:
        base = super().cost()
        taps = product(self.weight.shape[1:])
        return Cost(2 * self.x.size * taps, base.bytes_read, base.bytes_written)

    def semantics(self, x: Array, weight: Array, *bias: Array) -> Array:
        taps, given = weight.shape[2:], self.in_groups(as_f32(x))
        filters = as_f32(weight).reshape(self.groups, -1, *weight.shape[1:])
        reach = self.reaches(taps)
        spans = [(n - 1) * step + 1 for n, step in zip(x.shape[2:], self.steps, strict=True)]
        sizes = [span + end - 1 for span, end in zip(spans, reach, strict=True)]
        full = np.zeros((self.groups, x.shape[0], weight.shape[1], *sizes), given.dtype)
        for place in itertools.product(*map(range, taps)):
            starts = [at * gap for at, gap in zip(place, self.gaps, strict=True)]
            target = tuple(
                slice(start, start + span, step)
                for start, span, step in zip(starts, spans, self.steps, strict=True)
            )
            tap: tuple[Any, ...] = (..., *place)
            part = np.einsum("gbc...,gco->gbo...", given, filters[tap])
            full[(slice(None), slice(None), slice(None), *target)] += part
        joined = np.moveaxis(full, 0, 1).reshape(x.shape[0], -1, *sizes)
        cut = tuple(
            slice(low, size - max(high, 0))
            for (low, high), size in zip(self.pads, sizes, strict=True)
        )
        grown = [(0, max(-high, 0)) for _, high in self.pads]
        result = np.pad(joined[(slice(None), slice(None), *cut)], [(0, 0), (0, 0), *grown])
        return self.biased(result, bias)


class Pool(Windowed):
    """One result for each window of each channel. With `ceil` the last window may end behind the
    padding, as long as it begins before the end of `x`."""

    x: Value
    window: Ints
    stride: Ints
    low: Ints
    high: Ints
    dilation: Ints
    ceil: bool

    def extra(self, dims: Shape) -> Ints:
        """How far the last windows reach beyond the padded axes."""
        if not self.ceil:
            return (0,) * self.axes
        lie = zip(dims, self.reaches(self.window), self.steps, self.pads, strict=True)
        return tuple(self._extra(*part) for part in lie)

    def _extra(self, dim: DimLike, reach: int, step: int, pad: tuple[int, int]) -> int:
        if step == 1:
            return 0
        if isinstance(dim, Dim):
            raise self.misfit(f"where the last window ends depends on the size {dim}")
        span = dim + sum(pad) - reach
        over = -span % step
        return over if span + over < dim + pad[0] else 0

    def seen(self, padded: Array, x: Array, fill: object) -> Array:
        """The elements of each window, with `fill` behind the padding: `[B, C, *windows, taps]`."""
        ends = [(0, 0), (0, 0), *((0, end) for end in self.extra(x.shape[2:]))]
        whole = np.pad(padded, ends, constant_values=np.asarray(fill, padded.dtype))
        found = self.windows(whole, self.window)
        return found.reshape(*found.shape[: x.ndim], math.prod(self.window))

    def pooled(self) -> Shape:
        """The shape of the result."""
        taps = self.check_windows(self.window)
        self.require(self.x.dtype is not BOOL, "bools are not pooled: cast them first")
        dims = self.x.shape[2:]
        ends = zip(self.pads, self.extra(dims), strict=True)
        pads = [(low, high + extra) for (low, high), extra in ends]
        lie = zip(dims, self.reaches(taps), self.steps, pads, strict=True)
        return (*self.x.shape[:2], *(self.count(*part) for part in lie))

    def cost(self) -> Cost:
        base = super().cost()
        flops = self.results[0].size * math.prod(self.window)
        return Cost(flops, base.bytes_read, base.bytes_written)


@op("max_pool")
class MaxPool(Pool):
    """The largest element of each window, and its place (i64): an index into the flattened `*D`.

    Ties go to the first; NaN is the largest; padding never wins.
    """

    x: Value
    window: Ints
    stride: Ints = ()
    low: Ints = ()
    high: Ints = ()
    dilation: Ints = ()
    ceil: bool = False

    def infer(self) -> tuple[TensorType, TensorType]:
        shape = self.pooled()
        return TensorType(self.x.dtype, shape), TensorType(I64, shape)

    def semantics(self, x: Array) -> tuple[Array, Array]:
        wide = as_f32(x)
        lowest = -np.inf if wide.dtype.kind == "f" else np.iinfo(wide.dtype).min
        seen = self.seen(self.padded(wide, lowest), x, lowest)
        numbered = np.arange(math.prod(x.shape[2:])).reshape(1, 1, *x.shape[2:])
        places = np.broadcast_to(self.seen(self.padded(numbered, -1), x, -1), seen.shape)
        best = np.argmax(seen, axis=-1)[..., None]
        # Where nothing is above the padding, the first element inside is as good as any.
        padding = np.take_along_axis(places, best, axis=-1) < 0
        best = np.where(padding, np.argmax(places >= 0, axis=-1)[..., None], best)
        values, found = (np.take_along_axis(part, best, axis=-1) for part in (seen, places))
        return values[..., 0].astype(x.dtype), found[..., 0]


@op("avg_pool")
class AvgPool(Pool):
    """The mean of each window.

    Padding counts as zeros with `count_pad`, and not at all without; what lies behind it never
    counts. With a `divisor` the sum of a window is divided by it, whatever counts.
    """

    x: Value
    window: Ints
    stride: Ints = ()
    low: Ints = ()
    high: Ints = ()
    dilation: Ints = ()
    ceil: bool = False
    count_pad: bool = False
    divisor: int | None = None

    def infer(self) -> TensorType:
        self.require(self.divisor != 0, "the divisor is 0")
        return TensorType(self.x.dtype, self.pooled())

    def semantics(self, x: Array) -> Array:
        total = self.seen(self.padded(as_f32(x), 0), x, 0).sum(axis=-1)
        count: Array | int | None = self.divisor
        if count is None:
            ones = np.ones((1, 1, *x.shape[2:]), total.dtype)
            count = self.seen(self.padded(ones, self.count_pad), x, 0).sum(axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean: Array = total / count
        # Integers truncate toward zero, as in a division.
        return mean.astype(x.dtype)
