"""Functions of f32 vectors that MLIR does not lower, from the field's usual approximations.

Errors are a few units in the last place, but where it says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hetc.backends.native.ssa import I32, Emitter, Ssa

# exp: Cephes expf (Moshier 1992): 2^n times a polynomial on [-ln2/2, ln2/2].
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
_EXP_RANGE = (-87.3365, 88.3762)
# 2^x on [-1/2, 1/2]: the cubic with the smallest relative error, 7.5e-5 (found numerically).
_EXP2 = (0.05517167, 0.24261113, 0.69326099, 0.99992807)
# tanh below 0.625: Cephes tanhf.
_TANH = (
    -5.70498872745e-3,
    2.06390887954e-2,
    -5.37397155531e-2,
    1.33314422036e-1,
    -3.33332819422e-1,
)
# erf: Abramowitz and Stegun 7.1.26; its absolute error is 1.5e-7.
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
_ERF_P = 0.3275911
# log: Cephes logf.
_LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)


def polynomial(e: Emitter, x: Ssa, coefficients: Sequence[float]) -> Ssa:
    """By Horner's rule, the highest power first."""
    total = e.number(coefficients[0], x)
    for coefficient in coefficients[1:]:
        total = e.fma(total, x, e.number(coefficient, x))
    return total


def exp(e: Emitter, x: Ssa) -> Ssa:
    """e^x, with x held to where f32 has normal numbers for it; NaN of NaN."""
    low, high = _EXP_RANGE
    # In this order: of a number and NaN, the second is taken.
    x = e.minimum(e.number(high, x), e.maximum(e.number(low, x), x))
    whole = e.intrinsic("rint", e.mul(x, e.number(1 / math.log(2), x)))
    rest = e.fma(whole, e.number(-_LN2_HIGH, x), x)
    rest = e.fma(whole, e.number(-_LN2_LOW, x), rest)
    squared = e.mul(rest, rest)
    fraction = e.add(e.fma(polynomial(e, rest, _EXP), squared, rest), e.number(1.0, x))
    power = e.convert("fptosi", whole, I32)
    shift = e.constant("23", power.type)
    exponent = e.arith("shli", power, shift)
    bits = e.add(e.convert("bitcast", fraction, I32), exponent)
    return e.convert("bitcast", bits, "f32")


def small_exp2(e: Emitter, x: Ssa) -> Ssa:
    """2^x of x <= 0 to some 13 bits, for results that are rounded to bf16; 0 below 2^-126, and NaN
    of NaN."""
    least = e.number(-127.0, x)
    x = e.maximum(least, x)
    whole = e.intrinsic("rint", x)
    fraction = polynomial(e, e.sub(x, whole), _EXP2)
    power = e.convert("fptosi", whole, I32)
    # The exponent of 2^-127 is 0: all that is smaller comes out as good as 0.
    biased = e.add(power, e.constant("127", power.type))
    exponent = e.arith("shli", biased, e.constant("23", power.type))
    return e.mul(fraction, e.convert("bitcast", exponent, "f32"))


def log(e: Emitter, x: Ssa) -> Ssa:
    """The natural logarithm of positive normal numbers."""
    bits = e.convert("bitcast", x, I32)
    # With the mantissa brought to [sqrt(1/2), sqrt(2)): 0x3F3504F3 is sqrt(1/2).
    root = e.constant("0x3F3504F3", bits.type)
    above = e.sub(bits, root)
    power = e.arith("shrsi", above, e.constant("23", bits.type))
    kept = e.add(e.arith("andi", above, e.constant("0x7FFFFF", bits.type)), root)
    rest = e.sub(e.convert("bitcast", kept, "f32"), e.number(1.0, x))
    whole = e.convert("sitofp", power, "f32")
    squared = e.mul(rest, rest)
    tail = e.mul(e.mul(polynomial(e, rest, _LOG), rest), squared)
    tail = e.fma(whole, e.number(_LN2_LOW, x), tail)
    tail = e.fma(squared, e.number(-0.5, x), tail)
    return e.fma(whole, e.number(_LN2_HIGH, x), e.add(rest, tail))


def sigmoid(e: Emitter, x: Ssa) -> Ssa:
    one = e.number(1.0, x)
    return e.div(one, e.add(one, exp(e, negative(e, x))))


def silu(e: Emitter, x: Ssa) -> Ssa:
    return e.div(x, e.add(e.number(1.0, x), exp(e, negative(e, x))))


def tanh(e: Emitter, x: Ssa) -> Ssa:
    one, size = e.number(1.0, x), e.intrinsic("fabs", x)
    grown = exp(e, e.add(size, size))
    large = e.sub(one, e.div(e.number(2.0, x), e.add(grown, one)))
    squared = e.mul(x, x)
    small = e.fma(e.mul(polynomial(e, squared, _TANH), squared), x, x)
    return e.select(e.compare("olt", size, e.number(0.625, x)), small, with_sign(e, large, x))


def erf(e: Emitter, x: Ssa) -> Ssa:
    """With an absolute error of 1.5e-7."""
    one, size = e.number(1.0, x), e.intrinsic("fabs", x)
    t = e.div(one, e.fma(size, e.number(_ERF_P, x), one))
    tail = e.mul(e.mul(polynomial(e, t, _ERF), t), exp(e, negative(e, e.mul(x, x))))
    return with_sign(e, e.sub(one, tail), x)


def gelu(e: Emitter, x: Ssa) -> Ssa:
    inner = erf(e, e.mul(x, e.number(math.sqrt(0.5), x)))
    return e.mul(e.mul(x, e.number(0.5, x)), e.add(inner, e.number(1.0, x)))


def gelu_tanh(e: Emitter, x: Ssa) -> Ssa:
    cubed = e.mul(e.mul(x, x), x)
    sum = e.fma(cubed, e.number(0.044715, x), x)
    inner = tanh(e, e.mul(sum, e.number(math.sqrt(2 / math.pi), x)))
    return e.mul(e.mul(x, e.number(0.5, x)), e.add(inner, e.number(1.0, x)))


def softplus(e: Emitter, x: Ssa) -> Ssa:
    """log(1 + e^x), as max(x, 0) + log(1 + e^-|x|)."""
    small = exp(e, negative(e, e.intrinsic("fabs", x)))
    return e.add(e.maximum(x, e.number(0.0, x)), log1p(e, small))


def log1p(e: Emitter, x: Ssa) -> Ssa:
    """log(1 + x) without losing a small x, by Kahan's correction of the rounded sum."""
    one = e.number(1.0, x)
    sum = e.add(one, x)
    corrected = e.mul(log(e, sum), e.div(x, e.sub(sum, one)))
    return e.select(e.compare("oeq", sum, one), x, corrected)


def symmetric(e: Emitter, most: Ssa, largest: float) -> tuple[Ssa, Ssa]:
    """The scale of whole numbers up to `largest` that stand for numbers of sizes up to `most`, and
    what these are multiplied by; zeros for nothing but zeros."""
    zero, one = e.number(0.0, most), e.number(1.0, most)
    some = e.compare("ogt", most, zero)
    factor = e.div(e.number(largest, most), e.select(some, most, one))
    return e.mul(most, e.number(1 / largest, most)), e.select(some, factor, zero)


def negative(e: Emitter, x: Ssa) -> Ssa:
    return e.op(f"arith.negf {x.name} : {x.type}", x.type)


def with_sign(e: Emitter, size: Ssa, x: Ssa) -> Ssa:
    """`size` with the sign of `x`."""
    names = f"({size.name}, {x.name}) : ({x.type}, {x.type}) -> {x.type}"
    return e.op(f"llvm.intr.copysign{names}", x.type)
