"""Row programs in the interpreter: against the IR's own meaning, and against their description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetc.backends.triton import row_kernel
from hetc.backends.triton.row_expressions import (
    apply,
    gated,
    layer_norm,
    rms_norm,
    rotary,
    softcap,
    softmax,
    total,
)
from hetc.backends.triton.row_program import (
    Access,
    At,
    Below,
    Column,
    Expression,
    Function,
    Load,
    Number,
    Position,
    Reduce,
    Rounded,
    RowProgram,
    Store,
)
from hetc.bundle.launches import BufferRef, StateRef
from hetc.errors import BackendError, InternalError
from hetc.ir.op import Op, Value
from hetc.ir.ops.activation import Gated
from hetc.ir.ops.attention import Rope
from hetc.ir.ops.norm import LayerNorm, RMSNorm
from hetc.ir.ops.reduce import Softmax
from hetc.ir.types import DTYPES, Array, TensorType, dtype_of
from tests.backends.triton.interpreting import Interpreter
from tests.backends.triton.launching import run_launch
from tests.backends.triton.row_oracle import FUNCTIONS, Oracle, close
from tests.golden import Golden

ELEMENTS = ("f32", "f16", "bf16")
# The interpreter is one process for all examples.
quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
elements, widths = st.sampled_from(ELEMENTS), st.integers(1, 150)


def drawn(shape: Sequence[int], element: str, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(DTYPES[element].numpy)


def value(x: Array) -> Value:
    return Value(TensorType(dtype_of(x), x.shape))


def meaning(op: type[Op], *arrays: Array, **attributes: Any) -> Array:
    result = op(*map(value, arrays), **attributes).semantics(*arrays)
    assert isinstance(result, np.ndarray)
    return result


def run(
    interpreter: Interpreter,
    program: RowProgram,
    arrays: dict[str, Array],
    lengths: Sequence[int],
    config: int = 0,
) -> None:
    """`program` on prompts of `lengths`, in place."""
    kernel = row_kernel.kernel(program)
    states = {store.access.name for store in program.stores if store.access.place == "state"}
    used = {name for access in program.accesses for name in (access.name, access.index)} - {""}
    operands = {
        name: StateRef(name=name) if name in states else BufferRef(name=name) for name in used
    }
    launch = row_kernel.launch(program, kernel.id, operands)
    assert set(launch.writes) == {store.access.name for store in program.stores}
    inputs = {
        "positions": np.concatenate([np.arange(n) for n in lengths]).astype(np.int32),
        "sequences": np.repeat(np.arange(len(lengths)), lengths).astype(np.int32),
        "starts": np.cumsum([0, *lengths]).astype(np.int32),
    }
    sizes = {"M": sum(lengths), "B": len(lengths), "S": max(lengths)}
    chosen = kernel.configs[config % len(kernel.configs)]
    run_launch(interpreter, kernel, launch, arrays | inputs, sizes, chosen)


def rows_of(name: str, element: str, columns: int, **other: Any) -> Access:
    return Access(name, element, outer=columns, **other)


def shared(name: str, element: str) -> Access:
    return Access(name, element, place="none")


def one_op(columns: int, element: str, result: Expression) -> RowProgram:
    return RowProgram(columns, (Store(rows_of("out", element, columns), result),))


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
    close(arrays["out"], meaning(RMSNorm, *inputs, eps=1e-5, offset=offset), element)


@quick
@given(elements, widths, st.integers(1, 9))
def test_layer_norm(interpreter: Interpreter, element: str, columns: int, rows: int) -> None:
    x, weight = drawn((rows, columns), element), drawn((columns,), element, 1)
    bias = drawn((columns,), element, 2)
    arrays = {"x": x, "out": np.zeros_like(x), "weight": weight, "bias": bias}
    scale, shift = (Load(shared(name, element)) for name in ("weight", "bias"))
    normed = layer_norm(Load(rows_of("x", element, columns)), scale, shift)
    run(interpreter, one_op(columns, element, normed), arrays, [rows])
    close(arrays["out"], meaning(LayerNorm, x, weight, bias), element)


@quick
@given(elements, widths, st.integers(1, 9))
def test_softmax(interpreter: Interpreter, element: str, columns: int, rows: int) -> None:
    # Where all are far below 0, a column that does not exist must not count as 0.
    x = drawn((rows, columns), element) - DTYPES[element].numpy.type(200)
    arrays = {"x": x, "out": np.zeros_like(x)}
    program = one_op(columns, element, softmax(Load(rows_of("x", element, columns))))
    run(interpreter, program, arrays, [rows])
    close(arrays["out"], meaning(Softmax, x, axis=-1), element)


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
    close(arrays["out"], expected, element)


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
        close(found.reshape(heads, kept[b], columns), expected[:, length - kept[b] :], element)


@pytest.mark.parametrize("function", get_args(Function))
def test_functions(interpreter: Interpreter, function: Function) -> None:
    edges = [0.0, -0.0, 1e-6, -1e-6, 0.1, -0.1, 0.25, 1.0, -1.0, 3.0, -3.0, 30.0, -30.0, 88.0]
    x = np.array(edges, np.float32)[None]
    y = drawn(x.shape, "f32")
    arrays = {"x": x, "y": y, "out": np.zeros_like(x)}
    binary = function in ("add", "sub", "mul", "div", "maximum", "minimum")
    arguments = [Load(rows_of(name, "f32", x.size)) for name in (("x", "y") if binary else ("x",))]
    run(interpreter, one_op(x.size, "f32", apply(function, *arguments)), arrays, [1])
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[function](*([x, y] if binary else [x.astype(np.float64)]))
    np.testing.assert_allclose(arrays["out"], expected.astype(np.float32), rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("function", ["maximum", "minimum", "relu", "tanh", "silu"])
def test_what_is_no_number_stays_none(interpreter: Interpreter, function: Function) -> None:
    x = np.array([[np.nan, 1.0]], np.float32)
    loaded = Load(rows_of("x", "f32", 2))
    arguments = [loaded, Number(2.0)] if function in ("maximum", "minimum") else [loaded]
    arrays = {"x": x, "out": np.zeros_like(x)}
    run(interpreter, one_op(2, "f32", apply(function, *arguments)), arrays, [1])
    assert np.isnan(arrays["out"]).tolist() == [[True, False]]


@pytest.mark.parametrize("element", ["bf16", "f16"])
def test_rounding_is_that_of_a_store(interpreter: Interpreter, element: str) -> None:
    x = drawn((4, 100), "f32")
    arrays = {
        "x": x,
        "rounded": np.zeros_like(x),
        "stored": np.zeros(x.shape, DTYPES[element].numpy),
    }
    loaded = Load(rows_of("x", "f32", 100))
    stores = (
        Store(rows_of("rounded", "f32", 100), Rounded(loaded, element)),
        Store(rows_of("stored", element, 100), loaded),
    )
    run(interpreter, RowProgram(100, stores), arrays, [4])
    expected = x.astype(DTYPES[element].numpy)
    np.testing.assert_array_equal(arrays["stored"], expected)
    np.testing.assert_array_equal(arrays["rounded"], expected.astype(np.float32))


def test_rows_of_an_index(interpreter: Interpreter) -> None:
    table, tokens = drawn((7, 33), "bf16"), np.array([6, 0, 3, 3], np.int32)
    embedded = Load(Access("table", "bf16", place="index", outer=33, index="tokens"))
    arrays = {"table": table, "tokens": tokens, "out": np.zeros((4, 33), table.dtype)}
    run(interpreter, one_op(33, "bf16", embedded), arrays, [3, 1])
    np.testing.assert_array_equal(arrays["out"], table[tokens])


def test_experts_of_a_token_are_added_up(interpreter: Interpreter) -> None:
    experts, weights = drawn((5, 3, 40), "bf16"), drawn((5, 3), "f32", 1)
    terms = [
        apply(
            "mul",
            Load(Access("experts", "bf16", outer=120, offset=40 * i)),
            Load(Access("weights", "f32", outer=3, offset=i, step=0)),
        )
        for i in range(3)
    ]
    residual = Load(rows_of("x", "bf16", 40))
    arrays = {
        "x": drawn((5, 40), "bf16", 2),
        "experts": experts,
        "weights": weights,
        "out": np.zeros((5, 40), experts.dtype),
    }
    run(interpreter, one_op(40, "bf16", apply("add", residual, total(terms))), arrays, [5])
    expected = arrays["x"].astype(np.float32)
    expected = expected + (experts.astype(np.float32) * weights[..., None]).sum(1)
    close(arrays["out"], expected, "bf16")


def test_a_row_that_is_written_where_it_is_read(interpreter: Interpreter) -> None:
    x, y = drawn((6, 50), "bf16"), drawn((6, 50), "bf16", 1)
    access = rows_of("x", "bf16", 50)
    added = apply("add", Load(access), Load(rows_of("y", "bf16", 50)))
    stores = (Store(access, added), Store(rows_of("normed", "bf16", 50), rms_norm(added)))
    arrays = {"x": x.copy(), "y": y, "normed": np.zeros_like(x)}
    program = RowProgram(50, stores)
    run(interpreter, program, arrays, [6])
    operands = {name: BufferRef(name=name) for name in arrays}
    assert set(row_kernel.launch(program, "", operands).reads) == {"x", "y"}
    expected = x.astype(np.float32) + y.astype(np.float32)
    close(arrays["x"], expected, "bf16")
    close(arrays["normed"], meaning(RMSNorm, expected), "bf16")


# Functions that neither leave the range of f32 nor make much of small errors.
TAME: tuple[Function, ...] = ("add", "sub", "maximum", "minimum", "neg", "abs", "sin", "cos")
TAME += ("tanh", "erf", "sigmoid", "relu", "silu", "gelu", "gelu_tanh")
COLUMNS, INNER, LENGTHS = 13, 2, (3, 1, 4)


def expressions() -> st.SearchStrategy[Expression]:
    """Expressions over `COLUMNS` columns whose loads stay inside of the arrays of the test."""
    leaves: list[st.SearchStrategy[Expression]] = [
        st.sampled_from([Load(Access("x", "bf16", outer=26, inner=13)), Load(shared("w", "f32"))]),
        st.sampled_from([Load(Access("x", "bf16", outer=26, offset=5, step=0)), Column()]),
        st.just(Load(Access("t", "f16", place="position", outer=13))),
        st.just(Load(Access("e", "f32", place="index", outer=13, index="ids"))),
        st.builds(Number, st.sampled_from([-1.0, 0.0, 0.5, 2.0])),
        st.just(Position()),
    ]

    def more(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        unary = st.builds(apply, st.sampled_from(TAME[4:]), inner)
        binary = st.builds(apply, st.sampled_from(TAME[:4]), inner, inner)
        reduced = st.builds(Reduce, st.sampled_from(["sum", "max", "mean"]), inner)
        moved = st.builds(At, inner, st.integers(-2, 3), st.integers(-4, 20), st.just(COLUMNS))
        below = st.builds(Below, st.integers(0, COLUMNS), inner, inner)
        return unary | binary | reduced | moved | below | st.builds(Rounded, inner, elements)

    return st.recursive(st.one_of(leaves), more, max_leaves=8)


@settings(
    quick,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(expressions(), min_size=1, max_size=2), st.sampled_from([None, 2]), st.integers(0, 8)
)
def test_any_expression(
    interpreter: Interpreter, values: list[Expression], keep: int | None, config: int
) -> None:
    rows = sum(LENGTHS)
    accesses = [
        Access("state", "f32", place="state", inner=COLUMNS, keep=keep),
        Access("out", "f32", outer=INNER * COLUMNS, inner=COLUMNS),
    ]
    stores = tuple(Store(access, x) for access, x in zip(accesses, values, strict=False))
    arrays = {
        "x": drawn((rows * 26,), "bf16"),
        "w": drawn((13,), "f32", 1),
        "t": drawn((max(LENGTHS) * 13,), "f16", 2),
        "e": drawn((5 * 13,), "f32", 3),
        "ids": np.random.default_rng(4).integers(0, 5, rows * INNER).astype(np.int32),
        "state": np.zeros(rows * INNER * COLUMNS, np.float32),
        "out": np.zeros(rows * INNER * COLUMNS, np.float32),
    }
    program = RowProgram(COLUMNS, stores, inner=INNER)
    expected = {name: array.copy() for name, array in arrays.items()}
    Oracle(program, expected, LENGTHS).run()
    run(interpreter, program, arrays, LENGTHS, config)
    for name in ("state", "out"):
        # Sums of roundings: a bit of bf16 may fall to the other side.
        np.testing.assert_allclose(arrays[name], expected[name], rtol=1e-2, atol=1e-2)


def test_a_launch_over_sequences_takes_the_last_tokens(interpreter: Interpreter) -> None:
    x = drawn((8, 40), "f16")
    last = Load(Access("x", "f16", place="last", outer=40))
    stores = (
        Store(rows_of("out", "f32", 40), softcap(last, 30.0)),
        Store(Access("length", "f32", outer=1, step=0), apply("add", Position(), 1)),
    )
    arrays = {
        "x": x,
        "out": np.zeros((3, 40), np.float32),
        "length": np.zeros(3, np.float32),
    }
    run(interpreter, RowProgram(40, stores, over="sequences"), arrays, [3, 1, 4])
    expected = np.tanh(x[[2, 3, 7]].astype(np.float32) / 30) * 30
    close(arrays["out"], expected, "f32")
    assert arrays["length"].tolist() == [3, 1, 4]


def test_branches_read_only_their_own_columns(interpreter: Interpreter) -> None:
    """Two operands end to end: behind the first and before the second lies nothing to read."""
    a, b = drawn((2, 5), "f32"), drawn((2, 9), "f32", 1)
    second = At(Load(rows_of("b", "f32", 9)), offset=-5)
    arrays = {"a": a, "b": b, "out": np.zeros((2, 14), np.float32)}
    joined = Below(5, Load(rows_of("a", "f32", 5)), second)
    run(interpreter, one_op(14, "f32", joined), arrays, [2])
    np.testing.assert_array_equal(arrays["out"], np.concatenate([a, b], axis=1))


def test_wide_rows_are_many_blocks(interpreter: Interpreter) -> None:
    x = drawn((2, 20000), "bf16")
    arrays = {"x": x, "out": np.zeros_like(x)}
    program = one_op(20000, "bf16", apply("relu", Load(rows_of("x", "bf16", 20000))))
    run(interpreter, program, arrays, [2])
    np.testing.assert_array_equal(arrays["out"], np.maximum(x, 0))
    kernel = row_kernel.kernel(program)
    assert kernel.work.blocks(kernel.configs[0], 64) > 64


def test_equal_programs_are_one_kernel_and_compute_everything_once() -> None:
    def norms() -> RowProgram:
        x = Load(rows_of("x", "bf16", 64))
        added = apply("add", x, Load(rows_of("y", "bf16", 64)))
        normed = Store(rows_of("out", "bf16", 64), rms_norm(added))
        return RowProgram(64, (Store(rows_of("sum", "bf16", 64), added), normed))

    first, second = row_kernel.kernel(norms()), row_kernel.kernel(norms())
    assert first.id == second.id
    assert first.source.count("tl.load(") == 2
    assert first.source.count("tl.sum(") == 1


def test_source(golden: Golden) -> None:
    """What is generated, to be read: a norm behind a residual, and keys that are turned into the
    last rows of a state, the first 4 of 6 columns."""
    x, y, out = (rows_of(name, "bf16", 50) for name in ("x", "y", "out"))
    added = Rounded(apply("add", Load(x), Load(y)), "bf16")
    normed = rms_norm(added, Load(shared("weight", "bf16")), 1e-5)
    norm = RowProgram(50, (Store(x, added), Store(out, normed)))
    loaded = Load(Access("qkv", "bf16", outer=36, inner=6, offset=12))
    cos, sin = (Load(Access(name, "f32", place="position", outer=4)) for name in ("cos", "sin"))
    turned = rotary(loaded, cos, sin, columns=6, width=4)
    state = Access("key", "bf16", place="state", inner=6, keep=16)
    keys = RowProgram(6, (Store(state, turned),), inner=2)
    made = (row_kernel.kernel(norm, "norm"), row_kernel.kernel(keys, "keys"))
    golden("row_kernels.txt", "\n\n".join(kernel.source for kernel in made))


X = rows_of("x", "bf16", 64)
REFUSED = {
    "it is read at columns that another thread writes": Store(X, At(Load(X), offset=1, modulo=64)),
    "it is read elsewhere": Store(X, Load(replace(X, offset=64))),
    "all columns go to one place": Store(replace(X, name="out", step=0), Load(X)),
    "all rows go to one place": Store(shared("out", "bf16"), Load(X)),
    "tokens have no last one": Store(replace(X, name="out"), Load(replace(X, place="last"))),
    "one name, two elements": Store(replace(X, element="f32"), Load(X)),
    "no name": Store(replace(X, name="out"), Load(replace(X, name="layer.0"))),
    "the name of something else": Store(replace(X, name="rows"), Load(X)),
}


@pytest.mark.parametrize("store", REFUSED.values(), ids=REFUSED)
def test_programs_without_a_meaning(store: Store) -> None:
    with pytest.raises(InternalError, match="HETC-Z030"):
        row_kernel.kernel(RowProgram(64, (store,)))


def test_rows_that_no_block_holds() -> None:
    with pytest.raises(BackendError, match="HETC-E069"):
        row_kernel.kernel(one_op(70000, "f32", softmax(Load(rows_of("x", "f32", 70000)))))
