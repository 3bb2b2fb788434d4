"""Chains of elementwise ops as one expression of vectors: what stands between is never stored.

Floats are computed as f32, integers as what they are, bools as i1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hetc.backends.native import vector_math as fn
from hetc.backends.native.ssa import F32, I1, Emitter, Ssa
from hetc.backends.native.storage import element_of
from hetc.ir.dims import Dim
from hetc.ir.op import Op, Scalar, Value
from hetc.ir.ops.activation import Gated
from hetc.ir.ops.elementwise import (
    Abs,
    Add,
    And,
    Cast,
    Ceil,
    Cos,
    Div,
    Eq,
    Erf,
    Exp,
    Floor,
    FloorDiv,
    Ge,
    Gelu,
    Gt,
    IsNan,
    Le,
    Log,
    Log1p,
    Lt,
    Maximum,
    Minimum,
    Mod,
    Mul,
    Ne,
    Neg,
    Not,
    Or,
    Pow,
    Reciprocal,
    Relu,
    Round,
    Rsqrt,
    Sigmoid,
    Silu,
    Sin,
    Softplus,
    Sqrt,
    Sub,
    Tanh,
    Where,
    Xor,
)
from hetc.ir.ops.elementwise_base import Binary as TwoOperands
from hetc.ir.ops.elementwise_base import literal_array
from hetc.ir.types import BOOL
from hetc.ir.types import F32 as SINGLE

Load = Callable[[Value], Ssa]
Unary = Callable[[Emitter, Ssa], Ssa]
Binary = Callable[[Emitter, Ssa, Ssa], Ssa]


def _reciprocal(e: Emitter, x: Ssa) -> Ssa:
    return e.div(e.number(1.0, x), x)


def _or_nan(e: Emitter, x: Ssa, result: Ssa) -> Ssa:
    """`result`, or `x` where that is NaN."""
    return e.select(e.compare("uno", x, x), x, result) if x.element == F32 else result


_UNARY: Mapping[type[Op], Unary] = {
    Abs: lambda e, x: e.intrinsic("fabs", x),
    Ceil: lambda e, x: e.intrinsic("ceil", x),
    Cos: lambda e, x: e.intrinsic("cos", x),
    Erf: fn.erf,
    Exp: fn.exp,
    Floor: lambda e, x: e.intrinsic("floor", x),
    IsNan: lambda e, x: e.compare("uno", x, x),
    Log: fn.log,
    Log1p: fn.log1p,
    Neg: fn.negative,
    Reciprocal: _reciprocal,
    Relu: lambda e, x: e.maximum(e.number(0.0, x), x),
    Round: lambda e, x: e.intrinsic("rint", x),
    Rsqrt: lambda e, x: _reciprocal(e, e.intrinsic("sqrt", x)),
    Sigmoid: fn.sigmoid,
    Silu: fn.silu,
    Sin: lambda e, x: e.intrinsic("sin", x),
    Softplus: fn.softplus,
    Sqrt: lambda e, x: e.intrinsic("sqrt", x),
    Tanh: fn.tanh,
}
_BINARY: Mapping[type[Op], Binary] = {
    Add: Emitter.add,
    Div: Emitter.div,
    Maximum: lambda e, x, y: _or_nan(e, x, e.maximum(x, y)),
    Minimum: lambda e, x, y: _or_nan(e, x, e.minimum(x, y)),
    Mul: Emitter.mul,
    Sub: Emitter.sub,
}
_GATES: Mapping[str, Unary] = {
    "silu": fn.silu,
    "gelu": fn.gelu,
    "gelu_tanh": fn.gelu_tanh,
    "sigmoid": fn.sigmoid,
}
_INTEGER_UNARY: Mapping[type[Op], Unary] = {
    Abs: lambda e, x: e.maximum(x, e.sub(_zero(e, x), x)),
    Neg: lambda e, x: e.sub(_zero(e, x), x),
    Not: lambda e, x: e.arith("xori", x, e.constant("true" if x.element == I1 else "-1", x.type)),
    Relu: lambda e, x: e.maximum(x, _zero(e, x)),
}
_BITWISE: Mapping[type[Op], str] = {And: "andi", Or: "ori", Xor: "xori"}
# As MLIR names comparisons: of floats, and of integers.
_COMPARISONS: Mapping[type[Op], tuple[str, str]] = {
    Eq: ("oeq", "eq"),
    Ge: ("oge", "sge"),
    Gt: ("ogt", "sgt"),
    Le: ("ole", "sle"),
    Lt: ("olt", "slt"),
    Ne: ("une", "ne"),
}
# x^n by multiplication, for the powers that models write out.
_MOST_FACTORS = 4


def is_expression(op: Op) -> bool:
    """Whether `op` is computed element by element here."""
    if isinstance(op, TwoOperands | Where) and (isinstance(op.x, Dim) or isinstance(op.y, Dim)):
        return False
    if isinstance(op, Pow):
        return type(op.y) in (int, float) and op.y in range(1, _MOST_FACTORS + 1)
    if isinstance(op, Gated | Gelu | Cast | Where):
        return True
    kinds = {value.dtype.kind for value in op.operands}
    if type(op) in _COMPARISONS:
        return True
    if kinds == {"float"}:
        return type(op) in _UNARY or type(op) in _BINARY
    if isinstance(op, Div | FloorDiv | Mod):
        # The CPU traps where an integer is divided by zero.
        return kinds == {"int"} and not isinstance(op.y, Value) and op.y != 0
    known = type(op) in _INTEGER_UNARY or type(op) in _BITWISE
    return known or (kinds == {"int"} and type(op) in _BINARY)


def evaluate(e: Emitter, op: Op, load: Load) -> Ssa:
    """The result of `op` for some lanes; `load` gives those of an operand."""
    if isinstance(op, Gelu):
        return (fn.gelu_tanh if op.tanh else fn.gelu)(e, load(op.x))
    if isinstance(op, Gated):
        return e.mul(_GATES[op.activation](e, load(op.gate)), load(op.up))
    if isinstance(op, Pow) and isinstance(op.y, int | float):
        return _power(e, op, int(op.y), load)
    if isinstance(op, Cast):
        return _cast(e, load(op.x), _computed(op.result))
    if isinstance(op, Where):
        condition = load(op.condition)
        taken = f"vector<{condition.lanes}x{_computed(op.result)}>"
        x, y = (_operand(e, item, taken, load) for item in (op.x, op.y))
        return e.select(condition, x, y)
    first = load(op.operands[0])
    if len(op.operands) == 1 and not isinstance(op, TwoOperands):
        return (_UNARY if first.element == F32 else _INTEGER_UNARY)[type(op)](e, first)
    x, y = (_operand(e, item, first.type, load) for item in (op.x, op.y))  # type: ignore[attr-defined]
    if type(op) in _COMPARISONS:
        of_floats, of_integers = _COMPARISONS[type(op)]
        return e.compare(of_floats if x.element == F32 else of_integers, x, y)
    if type(op) in _BITWISE:
        return e.arith(_BITWISE[type(op)], x, y)
    if isinstance(op, Div | FloorDiv | Mod) and x.element != F32:
        return _divided(e, op, x, y)
    return _BINARY[type(op)](e, x, y)


def _divided(e: Emitter, op: Op, x: Ssa, y: Ssa) -> Ssa:
    """Integers: toward zero as the CPU divides, or with the remainder's sign that of `y`."""
    quotient = e.arith("divsi", x, y)
    if isinstance(op, Div):
        return quotient
    rest, zero = e.sub(x, e.mul(quotient, y)), _zero(e, x)
    differs = e.arith("xori", e.compare("slt", rest, zero), e.compare("slt", y, zero))
    moved = e.arith("andi", e.compare("ne", rest, zero), differs)
    if isinstance(op, Mod):
        return e.select(moved, e.add(rest, y), rest)
    return e.select(moved, e.sub(quotient, literal(e, 1, x.type)), quotient)


def literal(e: Emitter, value: float, type: str) -> Ssa:
    """A number of the graph in every lane of `type`."""
    element = Ssa("", type).element
    if element == F32:
        return e.number(float(literal_array(value, SINGLE.numpy)), type)
    return e.constant(str(bool(value)).lower() if element == I1 else str(int(value)), type)


def _operand(e: Emitter, item: Scalar, type: str, load: Load) -> Ssa:
    if isinstance(item, Value):
        return load(item)
    assert isinstance(item, int | float), "sizes as numbers are refused"
    return literal(e, item, type)


def _computed(value: Value) -> str:
    """What one element of `value` is in an expression."""
    return I1 if value.dtype is BOOL else element_of(value.dtype)


def _cast(e: Emitter, x: Ssa, element: str) -> Ssa:
    """C's conversions: floats to integers truncate; what is not zero is true."""
    if x.element == element:
        return x
    if element == I1:
        zero = _zero(e, x)
        return e.compare("une" if x.element == F32 else "ne", x, zero)
    if x.element == I1:
        return e.convert("uitofp" if element == F32 else "extui", x, element)
    if element == F32:
        return e.convert("sitofp", x, element)
    if x.element == F32:
        return e.convert("fptosi", x, element)
    return e.convert("extsi" if element == "i64" else "trunci", x, element)


def _zero(e: Emitter, x: Ssa) -> Ssa:
    return literal(e, 0, x.type)


def _power(e: Emitter, op: Pow, factors: int, load: Load) -> Ssa:
    x = load(op.operands[0])
    total = x
    for _ in range(factors - 1):
        total = e.mul(total, x)
    return total
