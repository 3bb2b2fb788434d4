"""Operators on the bits of numbers."""

from __future__ import annotations

from hetc.frontends.onnx.context import Context, onnx_op
from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.tensors import dtype_named
from hetc.ir.ops import elementwise as ops


@onnx_op("BitShift")
def bit_shift(ctx: Context, node: Node, x: Item, y: Item) -> Item:
    left = node.get("direction") == "LEFT"
    return ctx.binary(ops.ShiftLeft if left else ops.ShiftRight, x, y)


@onnx_op("BitCast")
def bit_cast(ctx: Context, node: Node, x: Item) -> Item:
    return ctx.emit(ops.BitCast, x, dtype_named(node.get("to", 0), node.title))
