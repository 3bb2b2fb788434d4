"""Arithmetic on shapes ends as dims of B and S, and what data decide is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hetc.errors import InputError
from hetc.frontends.onnx import ImportedOnnx, import_onnx, load_onnx
from hetc.frontends.onnx.bounds import at_least, at_most, bounded_count, equal, less
from hetc.ir.dims import Dim, symbol
from tests.frontends.onnx_exports import write_text

B, S, P, T = (symbol(name) for name in "BSPT")

# x is [batch, sequence, 4]; the body makes logits of it.
FRAME = """
lm (int64[batch, sequence] input_ids) => (float[batch, sequence, rest] logits)
<float[8, 4] table = {NUMBERS}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2},
 int64[1] minus_one = {-1}, int64[1] far = {9223372036854775807}>
{
  x = Gather (table, input_ids)
  BODY
}
""".replace("NUMBERS", ", ".join(map(str, range(32))))


def imported(body: str, folder: Path) -> ImportedOnnx:
    path = write_text(folder / "shapes.onnx", FRAME.replace("BODY", body))
    return import_onnx(load_onnx(path), path)


BODIES = {
    "reshape by gathered sizes": """
        shape = Shape (x)
        b = Gather (shape, zero)
        s = Gather (shape, one)
        target = Concat <axis = 0> (b, s, minus_one, two)
        split = Reshape (x, target)
        back = Concat <axis = 0> (b, s, minus_one)
        logits = Reshape (split, back)""",
    "expand by where": """
        shape = Shape <start = 0, end = 2> (x)
        wanted = Concat <axis = 0> (shape, minus_one)
        count = Shape (wanted)
        ones = ConstantOfShape <value = int64[1] {1}> (count)
        unset = Equal (wanted, minus_one)
        target = Where (unset, ones, wanted)
        logits = Expand (x, target)""",
    "slices by sums of sizes": """
        s = Shape <start = 1, end = 2> (x)
        twice = Concat <axis = 1> (x, x)
        until = Add (s, s)
        tail = Slice (twice, s, until, one)
        logits = Slice (tail, zero, far, one)""",
    "a product of sizes and back": """
        b = Shape <start = 0, end = 1> (x)
        s = Shape <start = 1, end = 2> (x)
        all = Mul (b, s)
        flat = Concat <axis = 0> (all, minus_one)
        rows = Reshape (x, flat)
        each = Div (all, b)
        target = Concat <axis = 0> (b, each, minus_one)
        logits = Reshape (rows, target)""",
    "the greater of sizes": """
        s = Shape <start = 1, end = 2> (x)
        more = Add (s, one)
        most = Max (s, more)
        less = Sub (most, one)
        b = Shape <start = 0, end = 1> (x)
        target = Concat <axis = 0> (b, less, minus_one)
        logits = Reshape (x, target)""",
    "a branch on a size": """
        width = Shape <start = 2, end = 3> (x)
        is_one = Equal (width, one)
        flag = Squeeze (is_one)
        logits = If (flag) <
            then_branch = g1 () => (float[batch, sequence, rest] a) { a = Neg (x) },
            else_branch = g2 () => (float[batch, sequence, rest] b) { b = Abs (x) }
        >""",
}


@pytest.mark.parametrize("title", BODIES)
def test_shape_arithmetic_becomes_dims(title: str, tmp_path: Path) -> None:
    model = imported(BODIES[title], tmp_path)
    assert model.graph.outputs[0].shape == (B, S, 4)
    kinds = {op.kind for op in model.graph.ops}
    assert kinds <= {"weight", "embedding", "reshape", "slice", "concat", "abs", "broadcast"}


def test_slice_of_a_fixed_table_bounds_the_sequence(tmp_path: Path) -> None:
    body = """
        s = Shape <start = 1, end = 2> (x)
        rows = Slice (table, zero, s, zero)
        logits = Add (x, rows)"""
    assert imported(body, tmp_path).max_sequence == 8


def test_shape_that_depends_on_data_is_refused(tmp_path: Path) -> None:
    body = """
        b = Shape <start = 0, end = 1> (x)
        longest = ReduceMax <keepdims = 0> (input_ids)
        n = Unsqueeze (longest, zero)
        target = Concat <axis = 0> (b, n, minus_one)
        logits = Reshape (x, target)"""
    with pytest.raises(InputError, match="HETC-I312") as error:
        imported(body, tmp_path)
    assert "depends on data" in error.value.found


@pytest.mark.parametrize(
    ("a", "b", "answer"),
    [
        (S, S + 1, True),
        (S + 1, S, False),
        (S, S, False),
        (P, S, None),
        (0, S, True),
        (0, P, None),
        (B * S, B * S + 2, True),
        (P + T, P + T + B, True),
        (-S, 0, True),
    ],
)
def test_comparison_of_sizes(a: Dim | int, b: Dim | int, answer: bool | None) -> None:
    assert less(a, b) is answer


def test_bounds_of_sizes() -> None:
    assert (at_least(S + 2), at_least(P), at_least(P - T)) == (3, 0, None)
    assert (at_most(4 - S), at_most(S)) == (3, None)
    assert (equal(S, S), equal(S, -1), equal(S, 1)) == (True, False, None)
    assert (at_least(symbol("U0") + S), at_least(symbol("N0"))) == (1, 1)
    found = [bounded_count(value, 8) for value in (S, P + T + 1, symbol("N2") - 1, B, 2 * S, S - B)]
    assert found == [(S, 8), (P + T, 7), (symbol("N2"), 9), None, None, None]
