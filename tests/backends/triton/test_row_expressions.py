"""Norms, softmax, gates and rotary embedding in the interpreter are those of the IR."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hetc.backends.triton.row_expressions import (
    apply,
    gated,
    layer_norm,
    nibble,
    rms_norm,
    rotary,
    softmax,
)
from hetc.backends.triton.row_program import Access, At, Load, Position, RowProgram, Store
from hetc.ir.ops.activation import Gated
from hetc.ir.ops.attention import Rope
from hetc.ir.ops.norm import LayerNorm, RMSNorm
from hetc.ir.ops.quant import unpacked4
from hetc.ir.ops.reduce import Softmax
from hetc.ir.types import DTYPES
from tests.backends.triton.interpreting import Interpreter
from tests.backends.triton.row_cases import (
    drawn,
    elements,
    meaning,
    one_op,
    quick,
    rows_of,
    run,
    shared,
    widths,
)
from tests.backends.triton.row_oracle import assert_close


@quick
@given(elements, widths, st.integers(1, 9), st.booleans(), st.sampled_from([0.0, 1.0]), st.data())
def test_rms_norm(
    interpreter: Interpreter,
    element: str,
    columns: int,
    rows: int,
    scaled: bool,
    offset: float,
    data: st.DataObject,
) -> None:
    x, weight = drawn((rows, columns), element), drawn((columns,), element, 1)
    arrays = {"x": x, "out": np.zeros_like(x)} | ({"weight": weight} if scaled else {})
    scale = Load(shared("weight", element)) if scaled else None
    normed = rms_norm(Load(rows_of("x", element, columns)), scale, 1e-5, offset)
    run(interpreter, one_op(columns, element, normed), arrays, [rows], data.draw(st.integers(0, 8)))
    inputs = (x, weight) if scaled else (x,)
    assert_close(arrays["out"], meaning(RMSNorm, *inputs, eps=1e-5, offset=offset), element)


@quick
@given(elements, widths, st.integers(1, 9))
def test_layer_norm(interpreter: Interpreter, element: str, columns: int, rows: int) -> None:
    x, weight = drawn((rows, columns), element), drawn((columns,), element, 1)
    bias = drawn((columns,), element, 2)
    arrays = {"x": x, "out": np.zeros_like(x), "weight": weight, "bias": bias}
    scale, shift = (Load(shared(name, element)) for name in ("weight", "bias"))
    normed = layer_norm(Load(rows_of("x", element, columns)), scale, shift)
    run(interpreter, one_op(columns, element, normed), arrays, [rows])
    assert_close(arrays["out"], meaning(LayerNorm, x, weight, bias), element)


@quick
@given(elements, widths, st.integers(1, 9), st.booleans())
def test_softmax(
    interpreter: Interpreter, element: str, columns: int, rows: int, safe: bool
) -> None:
    # Where all are far below 0, a column that does not exist must not count as 0.
    x = drawn((rows, columns), element) - DTYPES[element].numpy.type(200)
    x[-1] = -np.inf
    arrays = {"x": x, "out": np.zeros_like(x)}
    program = one_op(columns, element, softmax(Load(rows_of("x", element, columns)), safe=safe))
    run(interpreter, program, arrays, [rows])
    expected = meaning(Softmax, x, axis=-1, safe=safe)
    assert np.isnan(expected[-1].astype(np.float32)).all() != safe
    np.testing.assert_array_equal(np.isnan(arrays["out"]), np.isnan(expected))
    assert_close(np.nan_to_num(arrays["out"]), np.nan_to_num(expected), element)


@quick
@given(elements, widths, st.integers(1, 9), st.sampled_from(["silu", "gelu", "gelu_tanh"]))
def test_gated(
    interpreter: Interpreter, element: str, columns: int, rows: int, activation: Any
) -> None:
    both = drawn((rows, 2 * columns), element)
    gate, up = (Load(rows_of("x", element, 2 * columns, offset=n)) for n in (0, columns))
    arrays = {"x": both, "out": np.zeros((rows, columns), both.dtype)}
    program = one_op(columns, element, gated(activation, gate, up))
    run(interpreter, program, arrays, [rows])
    expected = meaning(Gated, both[:, :columns], both[:, columns:], activation=activation)
    assert_close(arrays["out"], expected, element)


@quick
@given(
    elements,
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(0, 3),
    st.booleans(),
    st.none() | st.integers(1, 5),
)
def test_rotary_into_a_state(
    interpreter: Interpreter,
    element: str,
    lengths: list[int],
    heads: int,
    half: int,
    rest: int,
    interleaved: bool,
    keep: int | None,
) -> None:
    """Ragged prompts; the state of each sequence is the IR's tensor, its last rows if it keeps
    those only."""
    width, columns = 2 * half, 2 * half + rest
    rows, wide = sum(lengths), 2 * heads * columns
    x, frequencies = drawn((rows, wide), element), np.linspace(1, 0.1, half, dtype=np.float32)
    frequency = At(Load(shared("frequencies", "f32")), modulo=half)
    if interleaved:
        # Both columns of a pair have the frequency of the pair.
        frequencies = np.repeat(frequencies, 2)
        frequency = At(Load(shared("frequencies", "f32")), modulo=width)
    angle = apply("mul", Position(), frequency)
    # Keys are the second half of each row.
    loaded = Load(Access("x", element, outer=wide, inner=columns, offset=heads * columns))
    cos, sin = apply("cos", angle), apply("sin", angle)
    turned = rotary(loaded, cos, sin, columns=columns, width=width, interleaved=interleaved)
    state = Access("key", element, place="state", inner=columns, keep=keep)
    program = RowProgram(columns, (Store(state, turned),), inner=heads)
    kept = [n if keep is None else min(n, keep) for n in lengths]
    starts = [sum(lengths[:b]) if keep is None else b * max(kept) for b in range(len(lengths))]
    arrays = {
        "x": x,
        "frequencies": frequencies,
        "key": np.zeros((starts[-1] + kept[-1]) * heads * columns, x.dtype),
    }
    run(interpreter, program, arrays, lengths)
    for b, length in enumerate(lengths):
        first = sum(lengths[:b])
        keys = x[first : first + length, heads * columns :].reshape(length, heads, columns)
        angles = np.arange(length)[:, None] * frequencies
        if not interleaved:
            angles = np.concatenate([angles, angles], axis=-1)
        tables = [f(angles).astype(np.float32) for f in (np.cos, np.sin)]
        expected = meaning(Rope, keys.swapaxes(0, 1), *tables, interleaved=interleaved)
        begin = starts[b] * heads * columns
        found = arrays["key"][begin : begin + kept[b] * heads * columns]
        assert_close(
            found.reshape(heads, kept[b], columns), expected[:, length - kept[b] :], element
        )


@quick
@given(st.sampled_from(["u8", "i8"]), st.integers(1, 40), st.integers(1, 9))
def test_two_numbers_of_a_byte(
    interpreter: Interpreter, element: str, pairs: int, rows: int
) -> None:
    packed = np.random.default_rng(pairs).integers(0, 256, (rows, pairs), np.uint8)
    arrays = {"x": packed, "out": np.zeros((rows, 2 * pairs), np.float32)}
    byte = At(Load(rows_of("x", "u8", pairs)), every=2)
    run(
        interpreter,
        one_op(2 * pairs, "f32", nibble(byte, signed=element == "i8")),
        arrays,
        [rows],
    )
    expected = unpacked4(packed, DTYPES[element])
    np.testing.assert_array_equal(arrays["out"], expected)
