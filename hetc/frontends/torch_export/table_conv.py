"""ATen's convolutions along any number of axes, forwards and backwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.registry import aten
from hetc.ir.dims import DimLike
from hetc.ir.op import Value
from hetc.ir.ops.reduce import Sum
from hetc.ir.ops.sequence import Conv1dCausal
from hetc.ir.ops.shape import Pad
from hetc.ir.ops.window import Conv, ConvTranspose

Ints = Sequence[int]


def per_axis(given: Ints | int, axes: int) -> tuple[int, ...]:
    """One number for each axis; PyTorch lets one stand for all."""
    numbers = (given,) if isinstance(given, int) else tuple(given)
    return numbers * axes if len(numbers) == 1 else numbers


@aten("convolution.default")
def convolution(
    ctx: Context,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
) -> object:
    if transposed:
        return _transposed(ctx, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return convolved(ctx, x, weight, bias, stride, padding, dilation, groups)


@aten("conv1d.default", "conv2d.default", "conv3d.default")
def convolved(
    ctx: Context,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Ints = (1,),
    padding: Ints = (0,),
    dilation: Ints = (1,),
    groups: int = 1,
) -> object:
    axes = weight.rank - 2
    steps, widths, gaps = (per_axis(item, axes) for item in (stride, padding, dilation))
    if axes == 1 and x.rank == 3 and (steps, gaps) == ((1,), (1,)):
        made = _causal(ctx, x, weight, bias, widths[0], groups)
        if made is not NotImplemented:
            return made
    return _conv(ctx, x, weight, bias, steps, widths, widths, gaps, groups)


@aten("conv1d.padding", "conv2d.padding", "conv3d.padding")
def convolved_same(
    ctx: Context,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Ints = (1,),
    padding: str = "valid",
    dilation: Ints = (1,),
    groups: int = 1,
) -> object:
    axes = weight.rank - 2
    steps, gaps = per_axis(stride, axes), per_axis(dilation, axes)
    taps = weight.shape[2:]
    if padding == "same":
        total = [gap * (tap - 1) for gap, tap in zip(gaps, taps, strict=True)]
        low = tuple(width // 2 for width in total)
        high = tuple(width - before for width, before in zip(total, low, strict=True))
    else:
        low = high = (0,) * axes
    return _conv(ctx, x, weight, bias, steps, low, high, gaps, groups)


def _conv(
    ctx: Context,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Ints,
    low: Sequence[Any],
    high: Sequence[Any],
    dilation: Ints,
    groups: int,
) -> Value:
    lie = {"stride": stride, "low": tuple(low), "high": tuple(high), "dilation": dilation}
    made = ctx.op(Conv, batched(ctx, x, weight.rank), weight, bias, groups=groups, **lie)
    return ctx.reshape(made, ctx.shape)


def batched(ctx: Context, x: Value, rank: int) -> Value:
    """`x` with an axis for the batch, which PyTorch lets people leave out."""
    return x if x.rank == rank else ctx.reshape(x, (1, *x.shape))


@aten("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input")
def _transposed(
    ctx: Context,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Ints = (1,),
    padding: Ints = (0,),
    output_padding: Ints = (0,),
    groups: int = 1,
    dilation: Ints = (1,),
) -> Value:
    axes = weight.rank - 2
    low, more = per_axis(padding, axes), per_axis(output_padding, axes)
    made = ctx.op(
        ConvTranspose,
        batched(ctx, x, weight.rank),
        weight,
        bias,
        stride=per_axis(stride, axes),
        low=low,
        high=tuple(width - extra for width, extra in zip(low, more, strict=True)),
        dilation=per_axis(dilation, axes),
        groups=groups,
    )
    return ctx.reshape(made, ctx.shape)


def _causal(
    ctx: Context, x: Value, weight: Value, bias: Value | None, padding: int, groups: int
) -> object:
    """A convolution that is padded by k-1 in front, or on both sides and then cut to the input's
    length; NotImplemented where it is neither."""
    taps = weight.shape[-1]
    if not isinstance(taps, int):
        return NotImplemented
    if padding == 0 and isinstance(x.op, Pad) and _pads_front(x.op, taps - 1):
        return ctx.op(Conv1dCausal, x.op.x, weight, bias, groups=groups)
    if padding != taps - 1 or not _users_keep_front(ctx, x.shape[-1]):
        return NotImplemented
    made = ctx.op(Conv1dCausal, x, weight, bias, groups=groups)
    assert ctx.node is not None
    ctx.values.update(dict.fromkeys(ctx.node.users, made))
    # The whole of it, should anybody else want that: who cuts a graph may take the readers apart.
    sides = (padding,)
    return _conv(ctx, x, weight, bias, (1,), sides, sides, (1,), groups)


def _pads_front(pad: Pad, width: int) -> bool:
    return pad.low == (0, 0, width) and pad.high == (0, 0, 0) and pad.value == 0


def _users_keep_front(ctx: Context, length: DimLike) -> bool:
    """Whether every reader of the current node takes its first `length` elements of the last axis
    and nothing else."""
    assert ctx.node is not None
    for user in ctx.node.users:
        arguments = dict(zip(("x", "dim", "start"), user.args, strict=False)) | user.kwargs
        if str(user.target) != "aten.slice.Tensor" or arguments.get("dim", 0) not in (2, -1):
            return False
        if arguments.get("start") not in (0, None) or ctx.shape_of(user.meta["val"])[-1] != length:
            return False
    return True


@aten("convolution_backward.default")
def convolution_backward(
    ctx: Context,
    grad: Value,
    x: Value,
    weight: Value,
    _bias_sizes: object,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    _output_padding: object,
    groups: int,
    wanted: Sequence[bool],
) -> tuple[Value | None, ...]:
    axes = weight.rank - 2
    steps, widths, gaps = (per_axis(item, axes) for item in (stride, padding, dilation))
    lie = {"stride": steps, "dilation": gaps, "groups": groups, "low": widths}
    of_x = of_weight = of_bias = None
    if wanted[0] and transposed:
        made = ctx.op(Conv, grad, weight, high=widths, **lie)
        of_x = _front(ctx, made, x.shape)
    elif wanted[0]:
        high = tuple(
            (out - 1) * step + gap * (tap - 1) + 1 - width - size
            for out, step, gap, tap, width, size in zip(
                grad.shape[2:], steps, gaps, weight.shape[2:], widths, x.shape[2:], strict=True
            )
        )
        of_x = ctx.op(ConvTranspose, grad, weight, high=high, **lie)
    if wanted[1]:
        image, marks = (grad, x) if transposed else (x, grad)
        of_weight = _filters(ctx, image, marks, weight, steps, widths, gaps, groups)
    if wanted[2]:
        of_bias = ctx.op(Sum, grad, (0, *range(2, grad.rank)))
    return of_x, of_weight, of_bias


def _filters(
    ctx: Context,
    image: Value,
    marks: Value,
    weight: Value,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Value:
    """The gradient of the weight: `image` seen through windows with `marks` as the filter.

    The sum runs over the batch, which takes the place of the channels; strides become gaps.
    """
    batch, channels = image.shape[:2]
    inner = channels // groups
    rest = range(3, image.rank + 1)
    parts = ctx.reshape(image, (batch, groups, inner, *image.shape[2:]))
    turned = ctx.move(parts, (2, 1, 0, *rest))
    seen = ctx.reshape(turned, (inner, groups * batch, *image.shape[2:]))
    filters = ctx.move(marks, (1, 0, *range(2, marks.rank)))
    lie = {"stride": dilation, "dilation": stride, "low": padding, "high": padding}
    made = ctx.op(Conv, seen, filters, groups=groups, **lie)
    return _front(ctx, ctx.move(made, (1, 0, *range(2, made.rank))), weight.shape)


def _front(ctx: Context, x: Value, shape: Sequence[DimLike]) -> Value:
    """The first elements of every axis."""
    for axis, length in enumerate(shape):
        x = ctx.part(x, axis, 0, length)
    return x
