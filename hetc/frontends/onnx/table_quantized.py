"""Products with matrices that the file stores in blocks of small integers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item, WeightItem, is_stored, loader
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_index import gather
from hetc.ir.model import StoredGroups, WeightData
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.quant import unpacked4
from hetc.ir.types import I8, U8, Array, DType


@onnx_op("com.microsoft::MatMulNBits")
def matmul_nbits(
    ctx: Context,
    node: Node,
    a: Item,
    b: Item,
    scales: Item,
    zeros: Item | None = None,
    order: Item | None = None,
    bias: Item | None = None,
) -> Item:
    """`a [..., K]` times `(code - zero) * scale` [N, K], blocks of K sharing a scale and a zero.

    Codes of 4 bits lie two in a byte, the low half first, and so do their zeros, each row of them
    in whole bytes; without zeros, zero is the middle of the codes. The last block of a row is
    filled up.
    """
    if order is not None:
        raise Unsupported("a quantized matrix that is reordered")
    outputs, inner = node.attributes["N"], node.attributes["K"]
    matrix = _matrix(ctx, node, b, scales, zeros, (outputs, inner), a.dtype)
    return ctx.emit(Linear, a, matrix, bias)


@onnx_op("com.microsoft::GatherBlockQuantized")
def gather_block_quantized(
    ctx: Context, node: Node, table: Item, ids: Item, scales: Item, zeros: Item | None = None
) -> Item:
    """Rows of a table that is stored as the matrices of MatMulNBits are."""
    axis = node.get("quantize_axis", 1)
    plain = table.rank == 2 and axis in (1, -1) and node.get("gather_axis", 0) == 0
    if not plain or table.narrow or table.dtype is not U8:
        raise Unsupported("a quantized table that is not u8[rows, columns] by columns")
    rows, width = (int(str(size)) for size in table.shape)
    shape = (rows, width * 8 // node.get("bits", 4))
    if node.get("block_size", 128) * int(str(scales.shape[1])) != shape[1]:
        raise Unsupported("a quantized table whose rows are no whole blocks")
    return gather(ctx, node, _matrix(ctx, node, table, scales, zeros, shape, scales.dtype), ids)


def _matrix(
    ctx: Context,
    node: Node,
    b: Item,
    scales: Item,
    zeros: Item | None,
    shape: tuple[int, int],
    dtype: DType,
) -> WeightItem:
    """A matrix `[N, K]` in blocks, with its integers."""
    bits, block = node.get("bits", 4), node.get("block_size", 128)
    if bits not in (4, 8):
        raise Unsupported(f"a matrix of {bits} bits")
    if zeros is not None and zeros.dtype is not U8:
        raise Unsupported("a quantized matrix with zeros that are no integers")
    stored = [item for item in (b, scales, zeros) if item is not None]
    if not isinstance(b, WeightItem) or not all(map(is_stored, stored)):
        raise Unsupported("a quantized matrix that is no initializer")
    outputs, inner = shape
    blocks = math.ceil(inner / block)
    row = math.ceil(blocks * bits / 8)
    for item, size in zip(stored, (blocks * block * bits // 8, blocks, row), strict=False):
        if item.type.size != outputs * size:
            raise ValueError(f"{item.type} where {outputs} x {size} numbers are expected")

    def turned() -> Array:
        # With the upper bit turned, codes are signed around their middle.
        codes = loader(b)().reshape(outputs, -1)
        return codes if zeros is not None else codes ^ np.uint8(0x88 if bits == 4 else 0x80)

    def zero() -> Array:
        assert zeros is not None
        rows = loader(zeros)().reshape(outputs, row)
        return unpacked4(rows, U8)[:, :blocks] if bits == 4 else rows

    kind = I8 if zeros is None else U8
    in_bytes = U8 if bits == 4 else kind
    width = blocks * block * bits // 8
    groups = StoredGroups(
        group=block,
        codes=WeightData((outputs, width), in_bytes, lambda: turned().view(in_bytes.numpy)),
        scale=_numbers((outputs, blocks), scales.dtype, loader(scales)),
        zero=None if zeros is None else _numbers((outputs, blocks), U8, zero),
        packed=kind if bits == 4 else None,
    )
    data = WeightData(
        shape,
        dtype,
        lambda: groups.dequantized()[:, :inner].astype(dtype.numpy, copy=False),
        groups if inner % block == 0 else None,
    )
    if data.groups is None:
        ctx.notes.append(f"{b.name}: {inner} columns are no whole blocks of {block}: widened")
    return ctx.derived(b, "dequantized", data)


def _numbers(shape: tuple[int, int], dtype: DType, load: Callable[[], Array]) -> WeightData:
    return WeightData(shape, dtype, lambda: load().reshape(shape))
