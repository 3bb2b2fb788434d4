"""The text that the emitter writes is MLIR that compiles, and computes what it says."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc.backends.native import vector_math
from hetc.backends.native.module import BARRIER_BYTES, FUNCTION, barrier, module_text
from hetc.backends.native.ssa import F32, I32, I64, LANES, PTR, Emitter, Ssa, vector
from hetc.errors import RuntimeFault
from hetc.ir.types import Array
from hetc.runtime.native.jit import Compiled
from hetc.runtime.native.threads import ThreadPool

ARGS = Ssa("%args", PTR)


def compiled(body: Callable[[Emitter], None]) -> Compiled:
    e = Emitter()
    body(e)
    return Compiled(module_text(e), FUNCTION, at="test")


def applied(function: Callable[[Emitter, Ssa], Ssa], x: Array) -> Array:
    """`function` of f32 `x`, LANES elements at a time."""

    def body(e: Emitter) -> None:
        def step(offset: Ssa) -> tuple[()]:
            address = e.offset(ARGS, offset)
            e.store(function(e, e.load(address, vector(LANES, F32))), address)
            return ()

        e.loop(e.index(0), e.index(x.nbytes), LANES * 4, step)

    result = np.ascontiguousarray(x, np.float32).copy()
    compiled(body)(result.ctypes.data)
    return result


WIDE = np.linspace(-30, 30, 512).astype(np.float32)
NEAR_ZERO = np.geomspace(1e-7, 1, 128).astype(np.float32)
POSITIVE = np.geomspace(1e-30, 1e30, 256).astype(np.float32)
erf = np.vectorize(math.erf)


@pytest.mark.parametrize(
    ("name", "x", "exact"),
    [
        ("exp", np.linspace(-80, 80, 512), np.exp),
        ("log", POSITIVE, np.log),
        ("tanh", WIDE, np.tanh),
        ("tanh", NEAR_ZERO, np.tanh),
        ("sigmoid", WIDE, lambda x: 1 / (1 + np.exp(-x))),
        ("silu", WIDE, lambda x: x / (1 + np.exp(-x))),
        ("softplus", WIDE, lambda x: np.logaddexp(x, 0)),
    ],
)
def test_functions_are_within_a_few_units_in_the_last_place(
    name: str, x: Array, exact: Callable[[Array], Array]
) -> None:
    x = x.astype(np.float32)
    expected = exact(x.astype(np.float64))
    found = applied(getattr(vector_math, name), x)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("erf", erf),
        ("gelu", lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2)))),
        ("gelu_tanh", lambda x: 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))),
    ],
)
def test_functions_of_the_normal_distribution(name: str, exact: Callable[[Array], Array]) -> None:
    expected = exact(WIDE.astype(np.float64))
    found = applied(getattr(vector_math, name), WIDE)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=2e-6)


def test_exp_of_what_no_f32_can_hold() -> None:
    x = np.array([-1e30, -200, 200, 1e30] * 4, np.float32)
    found = applied(vector_math.exp, x)
    assert np.isfinite(found).all()
    assert (found[:2] < 2e-38).all()
    assert (found[2:4] > 1e38).all()


def test_powers_of_two_for_what_is_rounded_to_bf16() -> None:
    x = np.concatenate([np.linspace(-126, 0, 510), [-127.5, -1e30]]).astype(np.float32)
    found = applied(vector_math.small_exp2, x)
    np.testing.assert_allclose(found[:-2], np.exp2(x[:-2].astype(np.float64)), rtol=1e-4)
    assert (found[-2:] == 0).all()


@given(st.lists(st.floats(width=32), min_size=1, max_size=3))
def test_numbers_arrive_exactly(numbers: list[float]) -> None:
    def body(e: Emitter) -> None:
        for place, number in enumerate(numbers):
            e.store(e.number(number, F32), e.offset(ARGS, e.index(4 * place)))

    found = np.empty(len(numbers), np.float32)
    compiled(body)(found.ctypes.data)
    assert found.tobytes() == np.array(numbers, np.float32).tobytes()


def test_loops_carry_values() -> None:
    def body(e: Emitter) -> None:
        total, last = e.loop(
            e.index(1),
            e.index(10),
            2,
            lambda i, total, _: (e.add(total, i), i),
            (e.index(0), e.index(-1)),
        )
        e.store(total, ARGS)
        e.store(last, e.offset(ARGS, e.index(8)))

    found = np.zeros(2, np.int64)
    compiled(body)(found.ctypes.data)
    assert found.tolist() == [1 + 3 + 5 + 7 + 9, 9]


@pytest.mark.parametrize("units", [1, 2, 3])
def test_a_barrier_holds_every_thread(units: int) -> None:
    """Each round, a thread adds what its neighbour had after the round before."""
    rounds = 200

    def body(e: Emitter) -> None:
        unit, count = e.load(ARGS, I64), e.load(e.offset(ARGS, e.index(8)), I64)
        shared = e.load(e.offset(ARGS, e.index(16)), PTR)
        threads = e.op(f"arith.trunci {count.name} : i64 to i32", I32)
        neighbour = e.remainder(e.add(unit, e.index(1)), count)
        own, other = (
            e.offset(shared, e.add(e.mul(place, e.index(8)), e.index(BARRIER_BYTES)))
            for place in (unit, neighbour)
        )

        def step(_: Ssa) -> tuple[()]:
            seen = e.load(other, I64)
            barrier(e, shared, threads)
            e.store(e.add(e.load(own, I64), e.add(seen, e.index(1))), own)
            barrier(e, shared, threads)
            return ()

        e.loop(e.index(0), e.index(rounds), 1, step)

    function = compiled(body)
    shared = np.zeros(BARRIER_BYTES // 8 + units, np.int64)
    arguments = np.array([[unit, units, shared.ctypes.data] for unit in range(units)], np.int64)
    pool = ThreadPool(units)
    pool.run(lambda unit: function(arguments[unit].ctypes.data))
    pool.close()
    expected = np.zeros(units, np.int64)
    for _ in range(rounds):
        expected = expected + np.roll(expected, -1) + 1
    np.testing.assert_array_equal(shared[BARRIER_BYTES // 8 :], expected)


def test_what_mlir_refuses_is_one_error() -> None:
    with pytest.raises(RuntimeFault, match="HETC-R040") as caught:
        Compiled("module { func.func @half( }", FUNCTION, at="decode")
    assert caught.value.at == "decode"
    assert "--executor onnx" in caught.value.do


def test_a_function_that_is_not_there() -> None:
    with pytest.raises(RuntimeFault, match="no function other"):
        Compiled(module_text(Emitter()), "other", at="decode")
