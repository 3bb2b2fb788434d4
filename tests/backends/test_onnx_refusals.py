"""What the onnx backend refuses, and how it says so."""

from __future__ import annotations

import numpy as np
import pytest

from hetc.backends.onnx import OnnxBackend, emit_onnx
from hetc.errors import BackendError
from hetc.ir.dims import symbol
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import AllReduce, Call, Opaque
from hetc.ir.ops.index import IndexPut, PutAlong
from hetc.ir.ops.sequence import Conv1dCausal
from hetc.ir.ops.shape import Broadcast
from hetc.ir.ops.source import Random, Weight
from hetc.ir.ops.unary import Cast, Erf, Exp
from hetc.ir.ops.window import AvgPool, ConvTranspose, MaxPool
from hetc.ir.types import BOOL, C64, F8E4M3, F32, F64, I8, I64, TensorType

backend = OnnxBackend()


def value(*shape: int, dtype: object = F32) -> Value:
    return Value(TensorType(dtype, shape), name="x")  # type: ignore[arg-type]


def graph(op: Op) -> Graph:
    inputs = tuple(dict.fromkeys(op.operands))
    return Graph("g", inputs, (op,), op.results, tuple(f"y{i}" for i in range(len(op.results))))


UNKNOWN = Opaque((value(2),), "aten", "aten.bucketize", "{}", (TensorType(F32, (2,)),), loc="a.b")
REFUSED = [
    (UNKNOWN, "HETC-E010"),
    (Random((2,)), "HETC-E010"),
    (Exp(value(2, dtype=C64)), "HETC-E011"),
    (Cast(value(2), F8E4M3), "HETC-E011"),
    (Weight("w", TensorType(F8E4M3, (2,))), "HETC-E011"),
    (Erf(value(2, dtype=F64)), "HETC-E011"),
    (Conv1dCausal(value(1, 2, 3, dtype=F64), value(2, 2, 2, dtype=F64)), "HETC-E011"),
    (AllReduce(value(2), 4), "HETC-E012"),
    (
        PutAlong(value(2, dtype=BOOL), value(1, dtype=I64), value(1, dtype=BOOL), 0, "max"),
        "HETC-E012",
    ),
    (MaxPool(value(1, 2, 5), (2,), low=(2,)), "HETC-E012"),
    (AvgPool(value(1, 2, 6), (3,), (2,), ceil=True, count_pad=True), "HETC-E012"),
    (ConvTranspose(value(1, 2, 5), value(2, 2, 3), high=(-1,)), "HETC-E012"),
    (
        IndexPut(value(2, dtype=I8), value(dtype=I8), (value(1, dtype=I64),), (0,), True),
        "HETC-E012",
    ),
]


@pytest.mark.parametrize(("op", "code"), REFUSED, ids=lambda item: getattr(item, "kind", item))
def test_refusal(op: Op, code: str) -> None:
    reason = backend.supports(op)
    assert reason is not None
    assert reason.code == code
    assert reason.at == (op.loc or op.kind)
    with pytest.raises(BackendError) as error:
        emit_onnx(graph(op))
    assert error.value.code == "HETC-E014"
    assert code in error.value.found


def test_a_reason_inside_of_a_call_is_found_and_said_once() -> None:
    inner = graph(UNKNOWN)
    first = Call(inner, (value(2),))
    second = Call(inner, first.results)
    outer = Graph("outer", first.args, (first, second), second.results, ("y",))
    assert [reason.at for reason in backend.validate(outer)] == ["a.b"]


def test_the_message() -> None:
    with pytest.raises(BackendError) as error:
        emit_onnx(graph(UNKNOWN))
    assert str(error.value) == (
        "error[HETC-E014]: the onnx backend cannot write @g\n"
        "  at a.b\n"
        "  found: HETC-E010 at a.b: the onnx backend has no form of aten.bucketize\n"
        "  do: compile with --executor reference"
    )


def test_a_size_that_no_input_shows() -> None:
    op = Broadcast(value(1), (symbol("Q"),))
    with pytest.raises(BackendError, match="no input of the graph shows the size Q"):
        emit_onnx(graph(op))


def test_an_output_that_is_an_input_or_asked_for_twice() -> None:
    x = value(2)
    op = Exp(x)
    model = emit_onnx(Graph("g", (x,), (op,), (x, op.result, op.result), ("a", "b", "c")))
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    a, b, c = session.run(None, {"x": np.array([0, 1], np.float32)})
    np.testing.assert_array_equal(a, [0, 1])
    np.testing.assert_array_equal(b, c)
    np.testing.assert_allclose(b, np.exp(a), rtol=1e-6)
