"""Row programs that tests run in the interpreter, and the arrays that they run on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from hetc.backends.triton import row_kernel
from hetc.backends.triton.row_program import Access, Expression, RowProgram, Store
from hetc.bundle.launches import BufferRef, StateRef
from hetc.ir.op import Op, Value
from hetc.ir.types import DTYPES, Array, TensorType, dtype_of
from tests.backends.triton.interpreting import Interpreter
from tests.backends.triton.launching import run_launch

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
