"""Row programs in the interpreter mean what their description says."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetc.backends.triton import row_kernel
from hetc.backends.triton.row_expressions import (
    apply,
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
from hetc.bundle.launches import BufferRef
from hetc.errors import BackendError, InternalError
from hetc.ir.ops.norm import RMSNorm
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
)
from tests.backends.triton.row_oracle import FUNCTIONS, Oracle, assert_close
from tests.golden import Golden


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
    assert_close(arrays["out"], expected, "bf16")


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
    assert_close(arrays["x"], expected, "bf16")
    assert_close(arrays["normed"], meaning(RMSNorm, expected), "bf16")


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
    assert_close(arrays["out"], expected, "f32")
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


def test_one_number_of_a_row_in_place(interpreter: Interpreter) -> None:
    """Rows that would be several blocks, each of which would change the number."""
    number = Access("number", "f32", outer=1, step=0)
    stores = (
        Store(
            rows_of("out", "f32", 3000), apply("mul", Load(rows_of("x", "f32", 3000)), Load(number))
        ),
        Store(number, apply("add", Load(number), 1.0)),
    )
    x, numbers = drawn((5, 3000), "f32"), drawn((5,), "f32", 1)
    arrays = {"x": x, "number": numbers.copy(), "out": np.zeros_like(x)}
    run(interpreter, RowProgram(3000, stores), arrays, [5])
    np.testing.assert_array_equal(arrays["number"], numbers + 1)
    np.testing.assert_array_equal(arrays["out"], x * numbers[:, None])


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


def test_what_is_shared_is_written_once_however_often() -> None:
    """As trees, these expressions have more nodes than can be counted."""
    x: Expression = Load(rows_of("x", "bf16", 64))
    for _ in range(60):
        x = layer_norm(apply("mul", x, apply("sigmoid", x)))
    assert row_kernel.kernel(one_op(64, "bf16", x)).source.count("tl.sum(") == 2 * 60


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


def test_work_is_what_is_read_and_written() -> None:
    x, weight = Load(rows_of("x", "bf16", 4096)), Load(shared("weight", "f32"))
    scale = Load(Access("scale", "f32", outer=1, step=0))
    kernel = row_kernel.kernel(one_op(4096, "bf16", apply("mul", rms_norm(x, weight), scale)))
    config = next(each for each in kernel.configs if each.constants["BLOCK_ROWS"] == 2)
    # Two rows are read and written, each with a number of its own; the weight is read once.
    assert kernel.work.tile(config, 512).bytes == 2 * (4096 * 2 * 2 + 4) + 4096 * 4
    assert kernel.work.blocks(config, 511) == 256


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
