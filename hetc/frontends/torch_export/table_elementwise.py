"""ATen's elementwise ops: arithmetic, comparisons, logic, selection and casts."""

from __future__ import annotations

import math
from typing import Any

from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.registry import aten
from hetc.ir.op import Op, Value
from hetc.ir.ops import elementwise as ew
from hetc.ir.types import BOOL, F32, DType


def arithmetic(ctx: Context, kind: type[Op], x: Any, y: Any) -> Value:
    """Both operands in the result's type: PyTorch's promotion, made explicit."""
    dtype = ctx.dtype
    return ctx.op(kind, ctx.cast(x, dtype), ctx.cast(y, dtype))


def scaled(ctx: Context, x: Any, alpha: Any) -> Any:
    """`alpha * x` in the result's type, where alpha is not 1."""
    if not isinstance(alpha, Value) and alpha == 1:
        return x
    if ctx.dtype is BOOL:
        # Of truth values: either of them, or neither.
        return x if alpha else False
    alpha = ctx.cast(alpha, ctx.dtype)
    return ctx.op(ew.Mul, ctx.cast(x, ctx.dtype), alpha) if isinstance(x, Value) else x * alpha


def _unary(kind: type[Op], *names: str) -> None:
    @aten(*names)
    def unary(ctx: Context, x: Value) -> Value:
        return ctx.op(kind, ctx.cast(x, ctx.dtype))


def _binary(kind: type[Op], *names: str) -> None:
    @aten(*names)
    def binary(ctx: Context, x: Any, y: Any) -> Value:
        return arithmetic(ctx, kind, x, y)


def _comparison(kind: type[Op], name: str) -> None:
    @aten(f"{name}.Tensor", f"{name}.Scalar")
    def comparison(ctx: Context, x: Any, y: Any) -> Value:
        return ctx.op(kind, *ctx.common(x, y))


_UNARY: dict[str, type[Op]] = {
    "abs": ew.Abs,
    "acos": ew.Acos,
    "acosh": ew.Acosh,
    "asin": ew.Asin,
    "asinh": ew.Asinh,
    "atan": ew.Atan,
    "atanh": ew.Atanh,
    "ceil": ew.Ceil,
    "cos": ew.Cos,
    "cosh": ew.Cosh,
    "erf": ew.Erf,
    "exp": ew.Exp,
    "expm1": ew.Expm1,
    "floor": ew.Floor,
    "log": ew.Log,
    "log1p": ew.Log1p,
    "neg": ew.Neg,
    "reciprocal": ew.Reciprocal,
    "relu": ew.Relu,
    "round": ew.Round,
    "rsqrt": ew.Rsqrt,
    "sigmoid": ew.Sigmoid,
    "silu": ew.Silu,
    "sin": ew.Sin,
    "sinh": ew.Sinh,
    "sqrt": ew.Sqrt,
    "tan": ew.Tan,
    "tanh": ew.Tanh,
    "trunc": ew.Trunc,
    "bitwise_not": ew.Not,
}
_LOGIC: dict[str, type[Op]] = {"and": ew.And, "or": ew.Or, "xor": ew.Xor}
_COMPARISONS: dict[str, type[Op]] = {
    "eq": ew.Eq,
    "ne": ew.Ne,
    "lt": ew.Lt,
    "le": ew.Le,
    "gt": ew.Gt,
    "ge": ew.Ge,
}
for _name, _kind in _UNARY.items():
    _unary(_kind, f"{_name}.default")

_binary(ew.Mul, "mul.Tensor", "mul.Scalar", "multiply.Tensor")
_binary(ew.Div, "div.Tensor", "div.Scalar", "true_divide.Tensor")
_binary(ew.FloorDiv, "floor_divide.default", "floor_divide.Scalar")
_binary(ew.Atan2, "atan2.default")
_binary(ew.FMod, "fmod.Tensor", "fmod.Scalar")
_binary(ew.Mod, "remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor")
_binary(ew.Pow, "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")
_binary(ew.Maximum, "maximum.default", "max.other", "clamp_min.default", "clamp_min.Tensor")
_binary(ew.Minimum, "minimum.default", "min.other", "clamp_max.default", "clamp_max.Tensor")
for _name, _kind in _LOGIC.items():
    _binary(
        _kind,
        f"bitwise_{_name}.Tensor",
        f"bitwise_{_name}.Scalar",
        f"__{_name}__.Tensor",
        f"__{_name}__.Scalar",
    )
for _name, _kind in _COMPARISONS.items():
    _comparison(_kind, _name)


@aten("add.Tensor", "add.Scalar")
def add(ctx: Context, x: Any, y: Any, alpha: Any = 1) -> Value:
    return arithmetic(ctx, ew.Add, x, scaled(ctx, y, alpha))


@aten("sub.Tensor", "sub.Scalar")
def sub(ctx: Context, x: Any, y: Any, alpha: Any = 1) -> Value:
    return arithmetic(ctx, ew.Sub, x, scaled(ctx, y, alpha))


@aten("rsub.Tensor", "rsub.Scalar")
def rsub(ctx: Context, x: Any, y: Any, alpha: Any = 1) -> Value:
    return arithmetic(ctx, ew.Sub, y, scaled(ctx, x, alpha))


@aten("div.Tensor_mode", "div.Scalar_mode")
def div_mode(ctx: Context, x: Any, y: Any, rounding_mode: str | None = None) -> object:
    if rounding_mode == "trunc":
        # hetc's division of integers truncates; of floats it does not.
        return _truncated(ctx, x, y) if ctx.dtype.is_float else arithmetic(ctx, ew.Div, x, y)
    return arithmetic(ctx, ew.Div if rounding_mode is None else ew.FloorDiv, x, y)


def _truncated(ctx: Context, x: Any, y: Any) -> Value:
    # In f32 for the narrow ones: a quotient that rounds up to an integer was below it.
    wide = widened(ctx.dtype)
    quotient = ctx.op(
        ew.Div, ctx.cast(ctx.cast(x, ctx.dtype), wide), ctx.cast(ctx.cast(y, ctx.dtype), wide)
    )
    return ctx.tensor(ctx.op(ew.Trunc, quotient), ctx.dtype)


def widened(dtype: DType) -> DType:
    """The type that PyTorch computes in: f32 for narrower floats."""
    return F32 if dtype.is_float and dtype.bits < 32 else dtype


def _scaled_log(name: str, factor: float) -> None:
    @aten(f"{name}.default")
    def logarithm(ctx: Context, x: Value) -> Value:
        wide = widened(ctx.dtype)
        curve = ctx.op(ew.Log, ctx.tensor(ctx.tensor(x, ctx.dtype), wide))
        return ctx.tensor(ctx.op(ew.Mul, curve, factor), ctx.dtype)


_scaled_log("log2", 1 / math.log(2))
_scaled_log("log10", 1 / math.log(10))


@aten("elu.default")
def elu(ctx: Context, x: Value, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> Value:
    wide = widened(ctx.dtype)
    x = ctx.tensor(x, wide)
    inner = x if input_scale == 1 else ctx.op(ew.Mul, x, input_scale)
    below = ctx.op(ew.Expm1, inner)
    below = below if alpha == 1 else ctx.op(ew.Mul, below, alpha)
    made = ctx.op(ew.Where, ctx.op(ew.Gt, x, 0.0), x, below)
    return ctx.tensor(made if scale == 1 else ctx.op(ew.Mul, made, scale), ctx.dtype)


@aten("leaky_relu.default")
def leaky_relu(ctx: Context, x: Value, slope: Any = 0.01) -> Value:
    return ctx.op(ew.Where, ctx.op(ew.Gt, x, 0.0), x, ctx.op(ew.Mul, x, slope))


@aten("sign.default")
def sign(ctx: Context, x: Value) -> Value:
    return x if x.dtype is BOOL else ctx.op(ew.Sign, x)


@aten("square.default")
def square(ctx: Context, x: Value) -> Value:
    return ctx.op(ew.Mul, x, x)


@aten("gelu.default")
def gelu(ctx: Context, x: Value, approximate: str = "none") -> Value:
    return ctx.op(ew.Gelu, x, tanh=approximate == "tanh")


@aten("softplus.default")
def softplus(ctx: Context, x: Value, beta: float = 1, threshold: float = 20) -> object:
    # Above the threshold PyTorch returns x itself: the difference is below the resolution of f32.
    return ctx.op(ew.Softplus, x) if beta == 1 and threshold >= 20 else NotImplemented


@aten("hardtanh.default")
def hardtanh(ctx: Context, x: Value, low: Any = -1, high: Any = 1) -> Value:
    # Of integers the bounds are integers too: their fractions are dropped.
    bounds = (int(low), int(high)) if ctx.dtype.is_int else (low, high)
    return clamp(ctx, x, *bounds)


@aten("clamp.default", "clamp.Tensor")
def clamp(ctx: Context, x: Value, low: Any = None, high: Any = None) -> Value:
    if low is not None:
        x = arithmetic(ctx, ew.Maximum, x, low)
    if high is not None:
        x = arithmetic(ctx, ew.Minimum, x, high)
    return x


@aten("isnan.default")
def isnan(ctx: Context, x: Value) -> Value:
    return ctx.op(ew.IsNan, x)


@aten("isinf.default")
def isinf(ctx: Context, x: Value) -> Value:
    return ctx.op(ew.IsInf, x)


def as_bool(ctx: Context, x: Any) -> Any:
    """Whether elements are nonzero."""
    return ctx.op(ew.Ne, x, 0) if isinstance(x, Value) and x.dtype is not BOOL else x


@aten("logical_not.default")
def logical_not(ctx: Context, x: Value) -> Value:
    return ctx.op(ew.Not, as_bool(ctx, x))


@aten("logical_and.default")
def logical_and(ctx: Context, x: Value, y: Value) -> Value:
    return ctx.op(ew.And, as_bool(ctx, x), as_bool(ctx, y))


@aten("logical_or.default")
def logical_or(ctx: Context, x: Value, y: Value) -> Value:
    return ctx.op(ew.Or, as_bool(ctx, x), as_bool(ctx, y))


@aten("logical_xor.default")
def logical_xor(ctx: Context, x: Value, y: Value) -> Value:
    return ctx.op(ew.Xor, as_bool(ctx, x), as_bool(ctx, y))


@aten("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(ctx: Context, condition: Value, x: Any, y: Any) -> Value:
    dtype = ctx.dtype
    picks = (ctx.cast(x, dtype), ctx.cast(y, dtype))
    literal = not any(isinstance(pick, Value) for pick in picks)
    return ctx.op(ew.Where, as_bool(ctx, condition), *picks, dtype=dtype if literal else None)


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(ctx: Context, x: Value, mask: Value, value: Any) -> Value:
    return where(ctx, mask, value, x)


@aten("_to_copy.default", "to.dtype", "to.dtype_layout", "to.device", "to.other", "type_as.default")
def to(ctx: Context, x: Value, *_target: object, **_dtype: object) -> Value:
    # Where to, the recorded result says; a device means nothing here.
    return (
        ctx.op(ew.Ne, x, 0) if ctx.dtype is BOOL and x.dtype is not BOOL else ctx.cast(x, ctx.dtype)
    )
