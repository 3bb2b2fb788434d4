"""Elementwise operators."""

from __future__ import annotations

import math

import numpy as np

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item, WeightItem
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.tensors import dtype_named
from hetc.ir.op import Op
from hetc.ir.ops import elementwise as ops
from hetc.ir.ops.source import Full
from hetc.ir.types import BOOL, F8E4M3, F8E5M2, F32, DType

# The largest numbers of the 8-bit floats (Micikevicius et al. 2022, table 1).
_LARGEST = {F8E4M3: 448.0, F8E5M2: 57344.0}
_UNARY: dict[str, type[Op]] = {
    "Neg": ops.Neg,
    "Abs": ops.Abs,
    "Sign": ops.Sign,
    "Exp": ops.Exp,
    "Log": ops.Log,
    "Sqrt": ops.Sqrt,
    "Reciprocal": ops.Reciprocal,
    "Sin": ops.Sin,
    "Cos": ops.Cos,
    "Tan": ops.Tan,
    "Acos": ops.Acos,
    "Acosh": ops.Acosh,
    "Asin": ops.Asin,
    "Asinh": ops.Asinh,
    "Atan": ops.Atan,
    "Atanh": ops.Atanh,
    "Cosh": ops.Cosh,
    "Sinh": ops.Sinh,
    "Tanh": ops.Tanh,
    "Sigmoid": ops.Sigmoid,
    "Erf": ops.Erf,
    "Relu": ops.Relu,
    "Softplus": ops.Softplus,
    "Floor": ops.Floor,
    "Ceil": ops.Ceil,
    "Round": ops.Round,
    "Not": ops.Not,
    "BitwiseNot": ops.Not,
    "IsNaN": ops.IsNan,
}
_BINARY: dict[str, type[Op]] = {
    "Add": ops.Add,
    "Sub": ops.Sub,
    "Mul": ops.Mul,
    "Div": ops.Div,
    "And": ops.And,
    "Or": ops.Or,
    "Xor": ops.Xor,
    "BitwiseAnd": ops.And,
    "BitwiseOr": ops.Or,
    "BitwiseXor": ops.Xor,
    "Equal": ops.Eq,
    "Less": ops.Lt,
    "LessOrEqual": ops.Le,
    "Greater": ops.Gt,
    "GreaterOrEqual": ops.Ge,
}
_VARIADIC: dict[str, type[Op]] = {
    "Max": ops.Maximum,
    "Min": ops.Minimum,
    "Sum": ops.Add,
    "Mean": ops.Add,
}


@onnx_op(*_UNARY)
def unary(ctx: Context, node: Node, x: Item) -> Item:
    return ctx.emit(_UNARY[node.kind], x)


@onnx_op(*_BINARY)
def binary(ctx: Context, node: Node, x: Item, y: Item) -> Item:
    return ctx.binary(_BINARY[node.kind], x, y)


@onnx_op(*_VARIADIC)
def variadic(ctx: Context, node: Node, *xs: Item) -> Item:
    result = xs[0]
    for x in xs[1:]:
        result = ctx.binary(_VARIADIC[node.kind], result, x)
    return ctx.emit(ops.Mul, result, 1 / len(xs)) if node.kind == "Mean" else result


@onnx_op("Pow")
def pow_(ctx: Context, node: Node, x: Item, y: Item) -> Item:
    if y.literal() is None and y.dtype is not x.dtype:
        y = ctx.emit(ops.Cast, y, x.dtype)
    return ctx.binary(ops.Pow, x, y)


@onnx_op("Mod")
def mod(ctx: Context, node: Node, x: Item, y: Item) -> Item:
    return ctx.binary(ops.FMod if node.get("fmod", 0) else ops.Mod, x, y)


@onnx_op("IsInf")
def is_inf(ctx: Context, node: Node, x: Item) -> Item:
    positive, negative = node.get("detect_positive", 1), node.get("detect_negative", 1)
    if positive and negative:
        return ctx.emit(ops.IsInf, x)
    if not positive and not negative:
        return ctx.emit(ops.Ne, ctx.emit(ops.IsNan, x), ctx.emit(ops.IsNan, x))
    return ctx.emit(ops.Eq, x, math.inf if positive else -math.inf)


@onnx_op("Shrink")
def shrink(ctx: Context, node: Node, x: Item) -> Item:
    bias, limit = node.get("bias", 0.0), node.get("lambd", 0.5)
    wide = x if x.dtype.is_float else converted(ctx, x, F32)
    low, high = ctx.emit(ops.Add, wide, bias), ctx.emit(ops.Sub, wide, bias)
    upper = ctx.emit(ops.Where, ctx.emit(ops.Gt, wide, limit), high, 0.0)
    return converted(ctx, ctx.emit(ops.Where, ctx.emit(ops.Lt, wide, -limit), low, upper), x.dtype)


@onnx_op("Where")
def where(ctx: Context, node: Node, condition: Item, x: Item, y: Item) -> Item:
    # A literal has no axes, so it may stand only where the rest has them all.
    first = x.literal() if x.rank <= max(condition.rank, y.rank) else None
    second = y.literal() if y.rank <= max(condition.rank, x.rank) else None
    if first is not None and second is not None and max(x.rank, y.rank) <= condition.rank:
        return ctx.emit(ops.Where, condition, first, second, dtype=x.dtype)
    if first is not None:
        return ctx.emit(ops.Where, condition, first, y)
    return ctx.emit(ops.Where, condition, x, y if second is None else second)


@onnx_op("Cast", "CastLike")
def cast(ctx: Context, node: Node, x: Item, like: Item | None = None) -> Item:
    if like is not None and like.narrow:
        raise Unsupported("a cast to 2 or 4 bits")
    to = like.dtype if like is not None else dtype_named(node.get("to", 0), node.title)
    return narrowed_float(ctx, x, to, saturate=bool(node.get("saturate", 1)))


def narrowed_float(ctx: Context, x: Item, to: DType, *, saturate: bool) -> Item:
    """`x` in another dtype; what is beyond the range of an 8-bit float becomes its largest number
    if that `saturate`s.
    """
    most = _LARGEST.get(to)
    if saturate and most is not None and x.dtype.is_float and x.dtype.bits > to.bits:
        x = ctx.emit(ops.Minimum, ctx.emit(ops.Maximum, x, -most), most)
    return converted(ctx, x, to)


def converted(ctx: Context, x: Item, to: DType) -> Item:
    """`x` in another dtype; a weight is converted when it is loaded."""
    if to is x.dtype:
        return x
    if isinstance(x, WeightItem):
        dtype = to.numpy
        return ctx.derive(x, str(to), x.data.shape, to, lambda data: data.astype(dtype))
    return ctx.emit(ops.Cast, x, to)


@onnx_op("Clip")
def clip(
    ctx: Context, node: Node, x: Item, low: Item | None = None, high: Item | None = None
) -> Item:
    if low is not None:
        x = ctx.binary(ops.Maximum, x, low)
    elif node.get("min") is not None:
        x = ctx.emit(ops.Maximum, x, node.get("min"))
    if high is not None:
        return ctx.binary(ops.Minimum, x, high)
    return x if node.get("max") is None else ctx.emit(ops.Minimum, x, node.get("max"))


@onnx_op("Gelu", "com.microsoft::Gelu", "com.microsoft::FastGelu", "com.microsoft::BiasGelu")
def gelu(ctx: Context, node: Node, x: Item, bias: Item | None = None) -> Item:
    if bias is not None:
        x = ctx.emit(ops.Add, x, bias)
    tanh = node.kind == "com.microsoft::FastGelu" or node.get("approximate") == "tanh"
    return ctx.emit(ops.Gelu, x, tanh=tanh)


@onnx_op("com.microsoft::QuickGelu")
def quick_gelu(ctx: Context, node: Node, x: Item) -> Item:
    scaled = ctx.emit(ops.Mul, x, node.get("alpha", 1.702))
    return ctx.emit(ops.Mul, x, ctx.emit(ops.Sigmoid, scaled))


@onnx_op("Swish")
def swish(ctx: Context, node: Node, x: Item) -> Item:
    alpha = node.get("alpha", 1.0)
    if alpha == 1.0:
        return ctx.emit(ops.Silu, x)
    return ctx.emit(ops.Mul, x, ctx.emit(ops.Sigmoid, ctx.emit(ops.Mul, x, alpha)))


@onnx_op("LeakyRelu")
def leaky_relu(ctx: Context, node: Node, x: Item) -> Item:
    scaled = ctx.emit(ops.Mul, x, node.get("alpha", 0.01))
    return ctx.emit(ops.Where, ctx.emit(ops.Lt, x, 0), scaled, x)


@onnx_op("Elu")
def elu(ctx: Context, node: Node, x: Item) -> Item:
    curve = ctx.emit(ops.Mul, ctx.emit(ops.Expm1, x), node.get("alpha", 1.0))
    return ctx.emit(ops.Where, ctx.emit(ops.Lt, x, 0), curve, x)


@onnx_op("HardSigmoid")
def hard_sigmoid(ctx: Context, node: Node, x: Item) -> Item:
    line = ctx.emit(ops.Add, ctx.emit(ops.Mul, x, node.get("alpha", 0.2)), node.get("beta", 0.5))
    return ctx.emit(ops.Minimum, ctx.emit(ops.Maximum, line, 0.0), 1.0)


@onnx_op("HardSwish")
def hard_swish(ctx: Context, node: Node, x: Item) -> Item:
    line = ctx.emit(ops.Add, ctx.emit(ops.Mul, x, float(np.float32(1 / 6))), 0.5)
    gate = ctx.emit(ops.Minimum, ctx.emit(ops.Maximum, line, 0.0), 1.0)
    return ctx.emit(ops.Mul, x, gate)


@onnx_op("Identity")
def identity(ctx: Context, node: Node, x: Item) -> Item:
    return x


@onnx_op("Dropout")
def dropout(
    ctx: Context, node: Node, x: Item, ratio: Item | None = None, training: Item | None = None
) -> Item | tuple[Item, ...]:
    drops = training is not None and training.literal() is not False
    share = node.get("ratio", 0.5) if ratio is None else ratio.literal()
    if drops and share != 0:
        raise Unsupported("a Dropout that drops at random")
    if not any(node.outputs[1:]):
        return x
    return x, ctx.emit(Full, True, x.shape, BOOL)
