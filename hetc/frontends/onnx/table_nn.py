"""Matrix products, normalisations, convolution and quantized weights."""

from __future__ import annotations

import numpy as np

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item, WeightItem, loader
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_elementwise import converted
from hetc.frontends.onnx.table_shape import reshaped
from hetc.ir.dims import DimLike
from hetc.ir.ops import elementwise as ew
from hetc.ir.ops.linear import Linear, MatMul
from hetc.ir.ops.norm import LayerNorm, RMSNorm
from hetc.ir.ops.reduce import Mean
from hetc.ir.ops.shape import Broadcast, Slice, Transpose, normalize_axis
from hetc.ir.types import Array

# The expansion of a determinant grows as the factorial of its rows.
_MOST_ROWS = 4


@onnx_op("MatMul")
def matmul(ctx: Context, node: Node, a: Item, b: Item) -> Item:
    if isinstance(b, WeightItem) and b.rank == 2:
        return ctx.emit(Linear, a, _tied(ctx, ctx.transposed(b)))
    left = reshaped(ctx, a, (1, *a.shape)) if a.rank == 1 else a
    right = reshaped(ctx, b, (*b.shape, 1)) if b.rank == 1 else b
    result = ctx.emit(MatMul, left, right)
    shape = list(result.shape)
    if b.rank == 1:
        shape.pop()
    if a.rank == 1:
        shape.pop(-1 if b.rank == 1 else -2)
    return reshaped(ctx, result, tuple(shape))


def _tied(ctx: Context, matrix: WeightItem) -> WeightItem:
    """The embedding table where `matrix` is a copy of it: tied weights stay one weight."""
    for table in ctx.tables:
        if table is not matrix and table.type == matrix.type:
            ours, theirs = matrix.data.load(), table.data.load()
            # One row tells almost all different matrices apart.
            if np.array_equal(ours[0], theirs[0]) and np.array_equal(ours, theirs):
                note = f"{matrix.name} is the same matrix as {table.name}"
                ctx.notes.extend([note] if note not in ctx.notes else [])
                return table
    return matrix


@onnx_op("Gemm")
def gemm(ctx: Context, node: Node, a: Item, b: Item, c: Item | None = None) -> Item:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    left = ctx.emit(Transpose, a, (1, 0)) if node.get("transA", 0) else a
    if isinstance(b, WeightItem):
        weight = _tied(ctx, b if node.get("transB", 0) else ctx.transposed(b))
        if c is not None and alpha == beta == 1.0 and c.shape == weight.shape[:1]:
            return ctx.emit(Linear, left, weight, c)
        result = ctx.emit(Linear, left, weight)
    else:
        right = ctx.emit(Transpose, b, (1, 0)) if node.get("transB", 0) else b
        result = ctx.emit(MatMul, left, right)
    if alpha != 1.0:
        result = ctx.emit(ew.Mul, result, alpha)
    if c is None or beta == 0.0:
        return result
    return ctx.binary(ew.Add, result, c if beta == 1.0 else ctx.emit(ew.Mul, c, beta))


def _last_axis(node: Node, x: Item, scale: Item | None, default: int = -1) -> None:
    if normalize_axis(node.get("axis", default), x.rank) != x.rank - 1:
        raise Unsupported("a normalisation over several axes")
    if scale is not None and scale.shape != x.shape[-1:]:
        raise Unsupported("a normalisation with a scale that is no vector")
    if len([name for name in node.outputs if name]) > 1:
        raise Unsupported("the statistics of a normalisation")


@onnx_op("LayerNormalization")
def layer_normalization(
    ctx: Context, node: Node, x: Item, scale: Item, bias: Item | None = None
) -> Item:
    _last_axis(node, x, scale)
    return ctx.emit(LayerNorm, x, scale, bias, eps=node.get("epsilon", 1e-5))


@onnx_op(
    "RMSNormalization",
    "SimplifiedLayerNormalization",
    "com.microsoft::SimplifiedLayerNormalization",
)
def rms_normalization(ctx: Context, node: Node, x: Item, scale: Item) -> Item:
    _last_axis(node, x, scale)
    return ctx.emit(RMSNorm, x, scale, eps=node.get("epsilon", 1e-5))


@onnx_op("com.microsoft::SkipLayerNormalization")
def skip_layer_normalization(
    ctx: Context,
    node: Node,
    x: Item,
    skip: Item,
    gamma: Item,
    beta: Item | None = None,
    bias: Item | None = None,
) -> tuple[Item, ...]:
    total = _residual(ctx, node, x, skip, bias)
    return _with_residual(
        node, ctx.emit(LayerNorm, total, gamma, beta, eps=node.get("epsilon", 1e-12)), total
    )


@onnx_op("com.microsoft::SkipSimplifiedLayerNormalization")
def skip_rms_normalization(
    ctx: Context, node: Node, x: Item, skip: Item, gamma: Item, bias: Item | None = None
) -> tuple[Item, ...]:
    total = _residual(ctx, node, x, skip, bias)
    return _with_residual(
        node, ctx.emit(RMSNorm, total, gamma, eps=node.get("epsilon", 1e-5)), total
    )


def _residual(ctx: Context, node: Node, x: Item, skip: Item, bias: Item | None) -> Item:
    if any(node.outputs[1:3]):
        raise Unsupported("the statistics of a normalisation")
    total = ctx.emit(ew.Add, x, skip)
    return total if bias is None else ctx.emit(ew.Add, total, bias)


def _with_residual(node: Node, normal: Item, total: Item) -> tuple[Item, ...]:
    # Outputs 1 and 2 are statistics, checked to be unused; output 3 is the sum before the
    # normalisation.
    return (normal, total, total, total)[: len(node.outputs)]


def _per_channel(ctx: Context, item: Item, x: Item) -> Item:
    return reshaped(ctx, item, (item.shape[0], *(1,) * (x.rank - 2)))


def _normal(ctx: Context, x: Item, mean: Item, variance: Item, eps: float) -> Item:
    """(x - mean) / sqrt(variance + eps)."""
    spread = ctx.emit(ew.Sqrt, ctx.emit(ew.Add, variance, eps))
    return ctx.emit(ew.Div, ctx.emit(ew.Sub, x, mean), spread)


def _moments(ctx: Context, x: Item, axes: tuple[int, ...]) -> tuple[Item, Item]:
    """Mean and variance over `axes`, which stay with length 1."""
    mean = ctx.emit(Mean, x, axes, True)
    centred = ctx.emit(ew.Sub, x, mean)
    return mean, ctx.emit(Mean, ctx.emit(ew.Mul, centred, centred), axes, True)


@onnx_op("BatchNormalization")
def batch_normalization(
    ctx: Context, node: Node, x: Item, scale: Item, bias: Item, mean: Item, variance: Item
) -> tuple[Item, ...]:
    eps, momentum = node.get("epsilon", 1e-5), node.get("momentum", 0.9)
    if not node.get("training_mode", 0):
        normal = _normal(ctx, x, _per_channel(ctx, mean, x), _per_channel(ctx, variance, x), eps)
        return (_scaled(ctx, normal, scale, bias, x),)
    ours = _moments(ctx, x, (0, *range(2, x.rank)))
    running = []
    for kept, now in zip((mean, variance), ours, strict=True):
        fresh = ctx.emit(ew.Mul, reshaped(ctx, now, kept.shape), 1 - momentum)
        running.append(ctx.emit(ew.Add, ctx.emit(ew.Mul, kept, momentum), fresh))
    return (_scaled(ctx, _normal(ctx, x, *ours, eps), scale, bias, x), *running)


def _scaled(ctx: Context, normal: Item, scale: Item, bias: Item, x: Item) -> Item:
    wide = ctx.emit(ew.Mul, normal, _per_channel(ctx, scale, x))
    return ctx.emit(ew.Add, wide, _per_channel(ctx, bias, x))


@onnx_op("InstanceNormalization")
def instance_normalization(ctx: Context, node: Node, x: Item, scale: Item, bias: Item) -> Item:
    moments = _moments(ctx, x, tuple(range(2, x.rank)))
    return _scaled(ctx, _normal(ctx, x, *moments, node.get("epsilon", 1e-5)), scale, bias, x)


@onnx_op("Det")
def det(ctx: Context, node: Node, x: Item) -> Item:
    """The determinant of small matrices, by Laplace's expansion along the first row."""
    size = x.shape[-1]
    if x.shape[-2] != size or not isinstance(size, int) or size > _MOST_ROWS:
        raise Unsupported(f"a determinant of more than {_MOST_ROWS} rows")

    def element(row: int, column: int) -> Item:
        part = ctx.emit(Slice, x, x.rank - 2, row, row + 1)
        return reshaped(ctx, ctx.emit(Slice, part, x.rank - 1, column, column + 1), x.shape[:-2])

    def minor(row: int, columns: tuple[int, ...]) -> Item:
        if len(columns) == 1:
            return element(row, columns[0])
        total: Item | None = None
        for place, column in enumerate(columns):
            rest = minor(row + 1, (*columns[:place], *columns[place + 1 :]))
            term = ctx.emit(ew.Mul, element(row, column), rest)
            if total is None:
                total = term
            else:
                total = ctx.emit(ew.Sub if place % 2 else ew.Add, total, term)
        assert total is not None, "a matrix has a column"
        return total

    return minor(0, tuple(range(size)))


@onnx_op("DequantizeLinear", "com.microsoft::DequantizeLinear")
def dequantize_linear(
    ctx: Context, node: Node, x: Item, scale: Item, zero: Item | None = None
) -> Item:
    axis = normalize_axis(node.get("axis", 1), x.rank)
    block = node.get("block_size", 0)
    stored = [item for item in (x, scale, zero) if item is not None]
    if isinstance(x, WeightItem) and all(
        isinstance(item, WeightItem) or item.known is not None for item in stored
    ):
        loads = [loader(item) for item in stored]
        rank = x.rank

        def change(data: Array) -> Array:
            factor = _spread(loads[1](), rank, axis, block, data.shape)
            wide = data.astype(np.float32)
            if zero is not None:
                wide = wide - _spread(loads[2]().astype(np.float32), rank, axis, block, data.shape)
            return (wide * factor.astype(np.float32)).astype(scale.dtype.numpy)

        return ctx.derive(x, "dequantized", x.data.shape, scale.dtype, change)
    wide = converted(ctx, x, scale.dtype)
    if zero is not None:
        shift = converted(ctx, spread_over(ctx, zero, x, axis, block), scale.dtype)
        wide = ctx.binary(ew.Sub, wide, shift)
    return ctx.binary(ew.Mul, wide, spread_over(ctx, scale, x, axis, block))


def _spread(data: Array, rank: int, axis: int, block: int, shape: tuple[int, ...]) -> Array:
    """Scales (one for the tensor, for an index of `axis`, or for a block along it) so that they
    broadcast against the tensor.
    """
    if data.ndim == 1 and rank > 1:
        return data.reshape([-1 if i == axis else 1 for i in range(rank)])
    if block:
        return np.take(data, np.arange(shape[axis]) // block, axis=axis)
    return data


def spread_over(ctx: Context, item: Item, x: Item, axis: int, block: int) -> Item:
    """Scales or zeros as they broadcast against `x`: one number, one for an index of `axis`, or one
    for each block along it.
    """
    if item.rank == 1 and x.rank > 1 and item.shape != (1,):
        return reshaped(ctx, item, tuple(item.shape[0] if i == axis else 1 for i in range(x.rank)))
    if not block:
        return item
    blocks: list[DimLike] = list(item.shape)
    split = (*blocks[: axis + 1], 1, *blocks[axis + 1 :])
    repeated = (*blocks[: axis + 1], block, *blocks[axis + 1 :])
    merged = (*blocks[:axis], blocks[axis] * block, *blocks[axis + 1 :])
    if merged != x.shape:
        raise Unsupported("blocks that do not divide the axis")
    return reshaped(ctx, ctx.emit(Broadcast, reshaped(ctx, item, split), repeated), merged)
