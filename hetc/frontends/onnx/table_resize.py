"""Resizing along axes of a fixed size: a product with a matrix of weights for each axis, or a
choice of rows.

The weights are worked out when the model is imported (https://onnx.ai/onnx/operators, Resize;
R. Keys 1981, "Cubic Convolution Interpolation for Digital Image Processing").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item, is_stored, loader
from hetc.frontends.onnx.known import elements
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_source import literal, require_small
from hetc.ir.ops.elementwise import Where
from hetc.ir.ops.index import Gather
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.shape import Transpose, normalize_axis
from hetc.ir.types import Array


@dataclass(frozen=True)
class AxisSize:
    """How one axis changes: `before` and `after` elements, the factor between them, and the part
    `first` to `last` of the axis that is kept, as fractions of it.
    """

    axis: int
    before: int
    after: int
    factor: float
    first: float = 0.0
    last: float = 1.0


@onnx_op("Resize")
def resize(
    ctx: Context,
    node: Node,
    x: Item,
    roi: Item | None = None,
    scales: Item | None = None,
    sizes: Item | None = None,
) -> Item:
    if node.version < 11:
        # Then the inputs were x and scales, and a coordinate was divided by its scale.
        scales, roi = roi, None
    return _resized(ctx, node, x, _axis_sizes(node, x, roi, scales, sizes))


@onnx_op("Upsample")
def upsample(ctx: Context, node: Node, x: Item, scales: Item | None = None) -> Item:
    return _resized(ctx, node, x, _axis_sizes(node, x, None, scales, None))


def _axis_sizes(
    node: Node, x: Item, roi: Item | None, scales: Item | None, sizes: Item | None
) -> list[AxisSize]:
    axes = [normalize_axis(a, x.rank) for a in node.get("axes") or range(x.rank)]
    before = [x.shape[axis] for axis in axes]
    wanted = elements(sizes) if sizes is not None and sizes.shape != (0,) else None
    if wanted is not None:
        fixed = [_fixed(size) for size in before]
        factors = [new / old for new, old in zip(wanted, fixed, strict=True)]
        policy = node.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            factors = [min(factors) if policy == "not_larger" else max(factors)] * len(factors)
            wanted = tuple(math.floor(old * f + 0.5) for old, f in zip(fixed, factors, strict=True))
    else:
        factors = list(_fractions(scales, node.get("scales")))
    parts = (
        _fractions(roi, None)
        if node.get("coordinate_transformation_mode") == "tf_crop_and_resize"
        else ()
    )
    found = []
    for i, (axis, factor) in enumerate(zip(axes, factors, strict=True)):
        if factor == 1.0 and not parts and (wanted is None or wanted[i] == before[i]):
            continue
        old = _fixed(before[i])
        new = math.floor(old * factor) if wanted is None else wanted[i]
        kept = (parts[i], parts[i + len(axes)]) if parts else (0.0, 1.0)
        found.append(AxisSize(axis, old, new, factor, *kept))
    return found


def _fixed(size: object) -> int:
    if not isinstance(size, int):
        raise Unsupported("resizing along an axis whose size varies")
    return size


def _fractions(item: Item | None, given: tuple[float, ...] | None) -> tuple[float, ...]:
    if item is None and given is not None:
        return given
    if item is None or item.symbolic or not is_stored(item):
        raise Unsupported("resizing by numbers that depend on data")
    return tuple(float(number) for number in loader(item)().flat)


def _resized(ctx: Context, node: Node, x: Item, sizes: list[AxisSize]) -> Item:
    beyond: list[tuple[int, Array]] = []
    for size in sizes:
        require_small(size.before, size.after)
        places = _coordinates(node, size)
        beyond.append((size.axis, (places < 0) | (places > size.before - 1)))
        if node.get("mode", "nearest") == "nearest":
            rows = _nearest(node, places, size.before)
            ids = literal(ctx, f"{node.outputs[0]}_rows{size.axis}", rows)
            x = ctx.emit(Gather, x, ids, size.axis)
        else:
            x = _weighted(ctx, node, x, size, _weights(node, places, size))
    if node.get("coordinate_transformation_mode") != "tf_crop_and_resize":
        return x
    outside = np.zeros([1] * x.rank, bool)
    for axis, flags in beyond:
        outside = outside | flags.reshape([-1 if a == axis else 1 for a in range(x.rank)])
    if not outside.any():
        return x
    mask = literal(ctx, f"{node.outputs[0]}_outside", outside)
    return ctx.emit(Where, mask, node.get("extrapolation_value", 0.0), x)


def _weighted(ctx: Context, node: Node, x: Item, size: AxisSize, weights: Array) -> Item:
    if not x.dtype.is_float:
        raise Unsupported("interpolation of integers")
    matrix = literal(
        ctx, f"{node.outputs[0]}_weights{size.axis}", weights.astype(x.dtype.numpy), x.dtype
    )
    perm = [axis for axis in range(x.rank) if axis != size.axis] + [size.axis]
    last = size.axis == x.rank - 1
    made = ctx.emit(Linear, x if last else ctx.emit(Transpose, x, tuple(perm)), matrix)
    return made if last else ctx.emit(Transpose, made, tuple(map(int, np.argsort(perm))))


def _coordinates(node: Node, size: AxisSize) -> Array:
    """Where the new elements of an axis lie among the old ones."""
    mode = node.get(
        "coordinate_transformation_mode", "half_pixel" if node.version >= 11 else "asymmetric"
    )
    new = np.arange(size.after, dtype=np.float64)
    old, length = size.before, size.after
    if mode == "asymmetric":
        return np.asarray(new / size.factor)
    if mode == "align_corners":
        # The length before rounding, as ONNX's examples have it.
        whole = size.factor * old
        return np.asarray(new * ((old - 1) / (whole - 1) if whole != 1 else 0))
    if mode == "tf_crop_and_resize":
        start, span = size.first * (old - 1), (size.last - size.first) * (old - 1)
        middle = 0.5 * (size.first + size.last) * (old - 1)
        return start + new * span / (length - 1) if length > 1 else np.full(1, middle)
    if mode == "pytorch_half_pixel" and length == 1:
        return np.zeros(1)
    if mode == "half_pixel_symmetric":
        shift = old / 2 * (1 - length / (size.factor * old))
        return np.asarray(shift + (new + 0.5) / size.factor - 0.5)
    if mode not in ("half_pixel", "pytorch_half_pixel"):
        raise Unsupported(f"resizing with coordinates by {mode}")
    return np.asarray((new + 0.5) / size.factor - 0.5)


# Which of the old elements around a place is the nearest.
_ROUNDING: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _nearest(node: Node, places: Array, count: int) -> Array:
    default = "round_prefer_floor" if node.version >= 11 else "floor"
    rows = _ROUNDING[node.get("nearest_mode", default)](places)
    return np.asarray(np.clip(rows, 0, count - 1).astype(np.int64))


def _weights(node: Node, places: Array, size: AxisSize) -> Array:
    """The matrix `[after, before]` of an axis."""
    cubic = node.get("mode") == "cubic"
    if not cubic and node.get("mode") != "linear":
        raise Unsupported(f"resizing by {node.get('mode')}")
    # An antialiasing filter is as wide as the old elements that fall on one new one.
    stretch = min(size.factor, 1.0) if node.get("antialias", 0) else 1.0
    radius = (2 if cubic else 1) / stretch
    first = np.floor(places - radius).astype(int) + 1
    taps = first[:, None] + np.arange(int(2 * math.ceil(radius)))
    distance = np.abs(taps - places[:, None]) * stretch
    a = node.get("cubic_coeff_a", -0.75)
    weights = _keys(distance, a) if cubic else np.clip(1 - distance, 0, None)
    if node.get("exclude_outside", 0):
        weights = np.where((taps < 0) | (taps >= size.before), 0, weights)
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((size.after, size.before))
    rows = np.broadcast_to(np.arange(size.after)[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, size.before - 1)), weights)
    return matrix


def _keys(x: Array, a: float) -> Array:
    """Keys' cubic kernel (1981, equation 15, with its free parameter `a`)."""
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
