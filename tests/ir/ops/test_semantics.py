"""Every op against an independent oracle, and its inferred types against its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc.errors import IRError
from hetc.ir.dims import DimLike, evaluate, symbol
from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.interpret import interpret
from hetc.ir.op import OPS, Op, Value
from hetc.ir.ops.control import OPAQUE_RUNNERS, Call, Opaque
from hetc.ir.ops.elementwise import Add
from hetc.ir.text import parse
from hetc.ir.types import DTYPES, F32, I64, Array, DType, TensorType, dtype_of
from tests.ir.ops import (  # noqa: F401  (registers the cases)
    elementwise_cases,
    index_cases,
    linear_cases,
    reduce_cases,
    sequence_cases,
    shape_cases,
    window_cases,
)
from tests.ir.ops.oracle import CASES, Draw, Trial, as_array

# These have tests of their own: below, in test_nonzero.py and in test_random.py.
APART = {"call", "opaque", "nonzero", "random"}
TOLERANCE = {"f64": 1e-9, "f32": 2e-5, "bf16": 1.6e-2, "f16": 2e-3, "c64": 2e-5}


def test_every_op_is_tested() -> None:
    assert {kind for kind, _ in CASES} | APART == set(OPS)


@pytest.mark.parametrize(("kind", "dtype"), CASES, ids=[f"{kind}-{dtype}" for kind, dtype in CASES])
@settings(max_examples=12)
@given(data=st.data())
def test_semantics(kind: str, dtype: str, data: st.DataObject) -> None:
    draw = Draw(data, kind, DTYPES[dtype])
    for case in CASES[kind, dtype]:
        trial = case(draw)
        check(kind, trial)
        check_symbolic(kind, trial)


def check(kind: str, trial: Trial) -> None:
    """What the interpreter gives is what the oracle gives, in the inferred type."""
    op, inputs = build(kind, trial, lambda size: size)
    graph = Graph("test", tuple(inputs), (op,), op.results)
    results = interpret(graph, list(inputs.values()), trial.weights.__getitem__)
    assert len(results) == len(trial.expected)
    for value, found, tensor in zip(op.results, results, trial.expected, strict=True):
        expected = as_array(tensor)
        assert found.shape == value.shape == expected.shape
        assert dtype_of(found) is value.dtype is dtype_of(expected)
        compare(found, expected, value.dtype)


def compare(found: Array, expected: Array, dtype: DType) -> None:
    if dtype.name not in TOLERANCE:
        np.testing.assert_array_equal(found, expected)
        return
    kind = np.complex128 if dtype.kind == "complex" else np.float64
    error = TOLERANCE[dtype.name]
    np.testing.assert_allclose(found.astype(kind), expected.astype(kind), rtol=error, atol=error)


def check_symbolic(kind: str, trial: Trial) -> None:
    """With a symbol for every size, the inferred type comes out as the result's."""

    def size_symbol(size: int) -> DimLike:
        return symbol(f"N{size}") if size > 1 else size

    try:
        op, inputs = build(kind, trial, size_symbol)
    except IRError:
        # Attributes still hold numbers; some ops rightly refuse that.
        return
    bindings = {f"N{size}": size for array in inputs.values() for size in array.shape}
    lengths = [size for array in inputs.values() for size in array.shape]
    for value, tensor in zip(op.results, trial.expected, strict=True):
        shape = as_array(tensor).shape
        for dim, size in zip(value.shape, shape, strict=True):
            if kind == "keep_last" and str(dim).startswith("K"):
                rows = trial.fields["rows"]
                assert size in {min(rows, length) for length in lengths}
            else:
                assert evaluate(dim, bindings) == size


def build(kind: str, trial: Trial, dim: Callable[[int], DimLike]) -> tuple[Op, dict[Value, Array]]:
    """The op with a value in the place of each array, and the array of each value."""
    inputs: dict[Value, Array] = {}

    def value(item: Any) -> Any:
        if isinstance(item, tuple):
            return tuple(map(value, item))
        if isinstance(item, np.generic):
            # Arithmetic on an array without axes gives one of NumPy's scalars.
            item = np.asarray(item)
        if not isinstance(item, np.ndarray):
            return item
        type = TensorType(dtype_of(item), tuple(map(dim, item.shape)))
        made = Value(type, name=f"x{len(inputs)}")
        inputs[made] = item
        return made

    fields = {name: value(item) for name, item in trial.fields.items()}
    if kind == "weight":
        (data,) = trial.weights.values()
        fields["type"] = TensorType(dtype_of(data), data.shape)
    return OPS[kind](**fields), inputs


def test_call_is_the_callee() -> None:
    builder = GraphBuilder("twice")
    x = builder.input("x", TensorType(F32, (3,)))
    callee = builder.finish([builder.add(Add(x, x)), x])
    outer = GraphBuilder("outer")
    y = outer.input("y", TensorType(F32, (3,)))
    outer.add(Call(callee, (y,)))
    graph = outer.finish(outer.ops[0].results)
    data = np.arange(3, dtype=np.float32)
    doubled, same = interpret(graph, [data])
    assert np.array_equal(doubled, 2 * data)
    assert np.array_equal(same, data)
    cost = outer.ops[0].cost()
    assert (cost.flops, cost.bytes_read, cost.bytes_written) == (3, 24, 12)


def test_call_takes_the_callees_types() -> None:
    callee = parse("graph @c(%x: f32[2]) { return %x }")
    with pytest.raises(IRError, match="@c takes other types"):
        Call(callee, (Value(TensorType(F32, (3,))),))


def test_opaque_runs_what_its_framework_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Opaque] = []

    def run(op: Opaque, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        seen.append(op)
        return inputs[0] + 1, inputs[0].sum().reshape(1)

    monkeypatch.setitem(OPAQUE_RUNNERS, "test", run)
    graph = parse(
        """graph @f(%x: i64[S]) {
          %0, %1 = opaque [%x] {framework = "test", target = "t", arguments = "{}",
                                types = [i64[S], i64[1]]}
          return %0, %1
        }"""
    )
    more, total = interpret(graph, [np.arange(3)])
    assert more.tolist() == [1, 2, 3]
    assert total.tolist() == [3]
    assert seen[0].types == (TensorType(I64, (3,)), TensorType(I64, (1,)))
