"""Every op that the onnx backend writes, run by ONNX Runtime, against the op's own semantics."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tests.backends.elementwise_cases
import tests.backends.model_cases
import tests.backends.shape_cases
import tests.backends.window_cases  # noqa: F401
from hetc.backends.onnx import OnnxBackend
from hetc.backends.onnx.table import RULES
from hetc.ir.interpret import interpret
from hetc.ir.op import OPS
from hetc.ir.types import BF16, F16
from tests.backends.cases import CASES, Draw, inputs_of, one_op
from tests.backends.runs import OnnxRun, assert_same

pytest.importorskip("onnx")
# A call is its callee's ops, a weight has no semantics, an opaque op runs in the reference alone.
ELSEWHERE = {"call", "weight", "opaque"}
# ONNX has random numbers, but not these: what hetc draws is written down in its semantics.
REFUSED = {"random"}


def test_every_op_has_a_case() -> None:
    assert set(CASES) == set(OPS) - ELSEWHERE - REFUSED


def test_every_op_is_written_or_refused() -> None:
    written = {op.kind for op in RULES}
    # Calls are inlined; opaque ops are refused (see test_onnx_refusals).
    assert written == set(OPS) - {"call", "opaque"} - REFUSED


@pytest.mark.parametrize("kind", sorted(CASES))
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1))
def test_onnx_runtime_agrees_with_the_semantics(kind: str, seed: int) -> None:
    for make in CASES[kind]:
        draw = Draw(seed)
        op = make(draw, OPS[kind])
        graph = one_op(op, draw)
        assert OnnxBackend().validate(graph) == []
        arrays = inputs_of(draw)
        expected = interpret(graph, arrays)
        found = OnnxRun(graph)(arrays)
        # ONNX computes in f32 where hetc rounds to 16 bits.
        narrow = any(v.dtype in (BF16, F16) for v in (*op.operands, *op.results))
        assert_same(found, expected, tolerance=2e-2 if narrow else 1e-5)
