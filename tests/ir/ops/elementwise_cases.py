"""Elementwise ops against torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hetc.ir.types import BF16, BOOL, C64, F16, F32, F64, I8, I16, I32, I64, U8, Array
from tests.ir.ops.oracle import FLOATS, INTS, NUMBERS, Draw, Trial, as_torch, case, narrow, wide

Function = Callable[..., torch.Tensor]

# The function, and the range of its operand.
UNARY: dict[str, tuple[Function, float, float]] = {
    "exp": (torch.exp, -4, 4),
    "expm1": (torch.expm1, -4, 4),
    "log": (torch.log, 0.1, 4),
    "log1p": (torch.log1p, -0.9, 4),
    "sqrt": (torch.sqrt, 0, 4),
    "rsqrt": (torch.rsqrt, 0.1, 4),
    "reciprocal": (torch.reciprocal, 0.1, 4),
    "sin": (torch.sin, -4, 4),
    "cos": (torch.cos, -4, 4),
    "tan": (torch.tan, -1.5, 1.5),
    "acos": (torch.acos, -1, 1),
    "acosh": (torch.acosh, 1, 9),
    "asin": (torch.asin, -1, 1),
    "asinh": (torch.asinh, -9, 9),
    "atan": (torch.atan, -9, 9),
    "atanh": (torch.atanh, -0.9, 0.9),
    "cosh": (torch.cosh, -4, 4),
    "sinh": (torch.sinh, -4, 4),
    "trunc": (torch.trunc, -4, 4),
    "tanh": (torch.tanh, -4, 4),
    "sigmoid": (torch.sigmoid, -200, 200),
    "erf": (torch.erf, -4, 4),
    "silu": (F.silu, -200, 200),
    "softplus": (F.softplus, -200, 200),
    "floor": (torch.floor, -4, 4),
    "ceil": (torch.ceil, -4, 4),
    "round": (torch.round, -4, 4),
}
UNARY_OF_NUMBERS: dict[str, Function] = {
    "neg": torch.neg,
    "abs": torch.abs,
    "sign": torch.sign,
    "relu": torch.relu,
}
BINARY: dict[str, Function] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}
COMPARISONS: dict[str, Function] = {
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
}
DIVISIONS: dict[str, Function] = {
    "floor_div": torch.floor_divide,
    "mod": torch.remainder,
    "fmod": torch.fmod,
}
BITWISE: dict[str, Function] = {
    "and": torch.bitwise_and,
    "or": torch.bitwise_or,
    "xor": torch.bitwise_xor,
}


@case(*UNARY, dtypes=FLOATS)
def unary(draw: Draw) -> Trial:
    function, low, high = UNARY[draw.kind]
    x = draw.array(*draw.shape(), low=low, high=high)
    return Trial({"x": x}, [narrow(function(wide(x)), x)])


@case(*UNARY_OF_NUMBERS, dtypes=NUMBERS)
def unary_of_numbers(draw: Draw) -> Trial:
    x = draw.array(*draw.shape())
    return Trial({"x": x}, [narrow(UNARY_OF_NUMBERS[draw.kind](wide(x)), x)])


@case("round", dtypes=[F32])
def halves_round_to_even(draw: Draw) -> Trial:
    x = np.arange(-4, 5, dtype=np.float32) / 2
    return Trial({"x": x}, [np.array([-2, -2, -1, -0.0, 0, 0, 1, 2, 2], np.float32)])


@case("gelu", dtypes=FLOATS)
def gelu(draw: Draw) -> Trial:
    x, tanh = draw.array(*draw.shape()), draw.flag()
    expected = F.gelu(wide(x), approximate="tanh" if tanh else "none")
    return Trial({"x": x, "tanh": tanh}, [narrow(expected, x)])


@case("gated", dtypes=FLOATS)
def gated(draw: Draw) -> Trial:
    shape = draw.shape(1)
    gate, up = draw.array(*shape), draw.array(*shape)
    functions: dict[str, Function] = {
        "silu": F.silu,
        "sigmoid": torch.sigmoid,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    }
    activation = draw.choice(list(functions))
    expected = narrow(functions[activation](wide(gate)) * wide(up), up)
    return Trial({"gate": gate, "up": up, "activation": activation}, [expected])


@case("not", dtypes=[BOOL, I64, U8])
def bitwise_not(draw: Draw) -> Trial:
    x = draw.array(*draw.shape())
    return Trial({"x": x}, [torch.bitwise_not(as_torch(x))])


@case("is_nan", "is_inf", dtypes=FLOATS)
def special_values(draw: Draw) -> Trial:
    special = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1], np.float32).astype(draw.dtype.numpy)
    x = np.asarray(special[draw.array(*draw.shape(), dtype=I64, low=0, high=5)])
    function = torch.isnan if draw.kind == "is_nan" else torch.isinf
    return Trial({"x": x}, [function(as_torch(x))])


@case("cast", dtypes=[F64, F32, F16, BF16, I64, I32, I8, U8, BOOL])
def cast(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(), high=100, low=0)
    to = draw.choice([F64, F32, F16, BF16, I64, I32, I8, U8, BOOL])
    return Trial({"x": x, "dtype": to}, [as_torch(x).to(as_torch(np.zeros(0, to.numpy)).dtype)])


def operands(draw: Draw, low: float, high: float) -> tuple[Any, Any]:
    """Two tensors that broadcast, or one and a literal on either side."""
    x = draw.array(*draw.shape(), low=low, high=high)
    form = draw.choice(["tensors", "literal right", "literal left"])
    if form == "tensors":
        y = draw.array(*draw.under(x.shape), low=low, high=high)
        return (x, y) if draw.flag() else (y, x)
    literal = draw.array(low=low, high=high)
    number = float(literal) if draw.dtype.is_float else int(literal)
    return (x, number) if form == "literal right" else (number, x)


def as_tensors(x: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor, Array]:
    """Both as tensors of at least f32, and the array whose element type the result has."""
    like: Array = x if isinstance(x, np.ndarray) else y
    first, second = (
        wide(item) if isinstance(item, np.ndarray) else torch.tensor(item, dtype=wide(like).dtype)
        for item in (x, y)
    )
    return first, second, like


@case(*BINARY, *COMPARISONS, dtypes=NUMBERS)
def binary(draw: Draw) -> Trial:
    x, y = operands(draw, -4, 4)
    first, second, like = as_tensors(x, y)
    if draw.kind in COMPARISONS:
        return Trial({"x": x, "y": y}, [COMPARISONS[draw.kind](first, second)])
    return Trial({"x": x, "y": y}, [narrow(BINARY[draw.kind](first, second), like)])


@case("div", dtypes=FLOATS)
def div(draw: Draw) -> Trial:
    x, y = operands(draw, 0.5, 4)
    first, second, like = as_tensors(x, y)
    return Trial({"x": x, "y": y}, [narrow(first / second, like)])


@case("div", dtypes=INTS)
def div_of_integers(draw: Draw) -> Trial:
    x, y = signed_quotient(draw)
    return Trial({"x": x, "y": y}, [torch.div(as_torch(x), as_torch(y), rounding_mode="trunc")])


@case("div", dtypes=[I64])
def div_of_large_integers(draw: Draw) -> Trial:
    x = np.array([2**62 + 1, -(2**62) - 1, 7], np.int64)
    return Trial({"x": x, "y": 1}, [x])


@case(*DIVISIONS, dtypes=INTS)
def divisions(draw: Draw) -> Trial:
    x, y = signed_quotient(draw)
    return Trial({"x": x, "y": y}, [DIVISIONS[draw.kind](as_torch(x), as_torch(y))])


@case(*DIVISIONS, dtypes=FLOATS)
def divisions_of_floats(draw: Draw) -> Trial:
    # Whole and half numbers, so that rounding does not decide on which side of a step they fall.
    x, y = (np.rint(part * 2) / 2 for part in signed_quotient(draw))
    x, y = x.astype(draw.dtype.numpy), y.astype(draw.dtype.numpy)
    return Trial({"x": x, "y": y}, [narrow(DIVISIONS[draw.kind](wide(x), wide(y)), x)])


def signed_quotient(draw: Draw) -> tuple[Array, Array]:
    """Operands of both signs, the second never zero."""
    x = draw.array(*draw.shape(), low=-9, high=9)
    y = draw.array(*draw.under(x.shape), low=1, high=4)
    return x, np.asarray(y * draw.choice([-1, 1]), x.dtype)


@case("atan2", dtypes=FLOATS)
def angle(draw: Draw) -> Trial:
    x, y = operands(draw, -3, 3)
    first, second, like = as_tensors(x, y)
    return Trial({"x": x, "y": y}, [narrow(torch.atan2(first, second), like)])


@case("atan2")
def angle_of_every_quadrant(draw: Draw) -> Trial:
    ends = np.array([-np.inf, -2, -0.0, 0.0, 2, np.inf, np.nan], np.float32)
    x, y = (np.ascontiguousarray(grid) for grid in np.meshgrid(ends, ends))
    return Trial({"x": x, "y": y}, [torch.atan2(as_torch(x), as_torch(y))])


@case("pow", dtypes=NUMBERS)
def power(draw: Draw) -> Trial:
    x, y = operands(draw, 1 if draw.dtype.is_float else 0, 3)
    first, second, like = as_tensors(x, y)
    return Trial({"x": x, "y": y}, [narrow(torch.pow(first, second), like)])


@case(*BITWISE, dtypes=[BOOL, I64, U8])
def bitwise(draw: Draw) -> Trial:
    x = draw.array(*draw.shape())
    y = draw.array(*draw.under(x.shape))
    return Trial({"x": x, "y": y}, [BITWISE[draw.kind](as_torch(x), as_torch(y))])


@case("shift_left", "shift_right", dtypes=[I64, I32, U8])
def shifts(draw: Draw) -> Trial:
    x, width = draw.array(*draw.shape(), low=-100, high=100), draw.dtype.bits
    y = draw.array(*draw.under(x.shape), low=0, high=width + 2)
    # Python's integers have no width: what is shifted out is cut off afterwards.
    shift = int.__lshift__ if draw.kind == "shift_left" else int.__rshift__
    pairs = zip(*(part.flat for part in np.broadcast_arrays(x, y)), strict=True)
    bits = [shift(int(a), int(b)) % 2**width for a, b in pairs]
    unsigned = np.array(bits, np.uint64).astype(f"u{width // 8}")
    return Trial({"x": x, "y": y}, [unsigned.astype(x.dtype).reshape(x.shape)])


@case("bitcast", dtypes=[F32, BF16, I32, I64])
def bit_patterns(draw: Draw) -> Trial:
    x = draw.array(*draw.shape())
    to = draw.choice({16: [BF16, F16, I16], 32: [F32, I32], 64: [F64, I64]}[draw.dtype.bits])
    torch_type = as_torch(np.zeros(0, to.numpy)).dtype
    return Trial({"x": x, "dtype": to}, [as_torch(x).view(torch_type)])


@case("where", dtypes=[*NUMBERS, BOOL])
def where(draw: Draw) -> Trial:
    shape = draw.shape()
    condition = draw.array(*draw.under(shape), dtype=BOOL)
    x: Any = draw.array(*shape)
    y: Any = draw.array(*draw.under(shape))
    literal = 0 if draw.dtype.is_int else True if draw.dtype is BOOL else float("-inf")
    second = as_torch(np.full((), literal, draw.dtype.numpy))
    if draw.flag():
        expected = torch.where(as_torch(condition), as_torch(x), second)
        return Trial({"condition": condition, "x": x, "y": literal}, [expected])
    expected = torch.where(as_torch(condition), as_torch(x), as_torch(y))
    return Trial({"condition": condition, "x": x, "y": y}, [expected])


@case("where", dtypes=[F32, BF16, I64])
def where_of_literals(draw: Draw) -> Trial:
    condition = draw.array(*draw.shape(), dtype=BOOL)
    expected = np.where(condition, 1, -3).astype(draw.dtype.numpy)
    return Trial({"condition": condition, "x": 1, "y": -3, "dtype": draw.dtype}, [expected])


@case("add", "mul", dtypes=[C64])
def complex_numbers(draw: Draw) -> Trial:
    shape = draw.shape()
    x, y = (
        (draw.array(*shape, dtype=F32) + 1j * draw.array(*shape, dtype=F32)).astype(np.complex64)
        for _ in range(2)
    )
    return Trial({"x": x, "y": y}, [BINARY[draw.kind](as_torch(x), as_torch(y))])


@case("pow", dtypes=INTS)
def negative_powers_of_integers(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(), low=-3, high=3)
    y = draw.array(*draw.under(x.shape), low=-3, high=3)
    return Trial({"x": x, "y": y}, [torch.pow(as_torch(x), as_torch(y))])
