"""What a row program means, row by row, from the descriptions in `row_program.py` alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import erf
from typing import Any

import numpy as np

from hetc.backends.triton.row_program import (
    Access,
    Apply,
    At,
    Below,
    Column,
    Expression,
    Load,
    Number,
    Position,
    Reduce,
    Rounded,
    RowProgram,
)
from hetc.ir.types import DTYPES, Array

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "maximum": np.maximum, "minimum": np.minimum, "neg": np.negative, "abs": np.abs,
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x),
    "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "erf": np.vectorize(erf, otypes=[float]),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + np.vectorize(erf, otypes=[float])(x / np.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    "relu": lambda x: np.maximum(x, 0), "square": np.square, "floor": np.floor,
}  # fmt: skip


@dataclass
class Oracle:
    """`program` on `arrays`, which are flat, for prompts of `lengths` tokens."""

    program: RowProgram
    arrays: dict[str, Array]
    lengths: Sequence[int]
    starts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.starts = [0, *accumulate(self.lengths)]

    def run(self) -> None:
        """Every row; writes the arrays."""
        over_tokens = self.program.over == "tokens"
        for outer in range(self.starts[-1] if over_tokens else len(self.lengths)):
            for inner in range(self.program.inner):
                _Row(self, outer, inner).run()


@dataclass
class _Row:
    oracle: Oracle
    outer: int
    inner: int

    def __post_init__(self) -> None:
        starts, over = self.oracle.starts, self.oracle.program.over
        if over == "tokens":
            self.token = self.outer
            self.sequence = next(b for b, end in enumerate(starts[1:]) if self.token < end)
        else:
            self.token, self.sequence = starts[self.outer + 1] - 1, self.outer
        self.position = self.token - starts[self.sequence]

    def run(self) -> None:
        program = self.oracle.program
        columns = np.arange(program.columns)
        found = [(store.access, self.value(store.value, columns)) for store in program.stores]
        for access, value in found:
            place = self.places(access, columns)
            if place is not None:
                array = self.oracle.arrays[access.name]
                with np.errstate(all="ignore"):
                    array[place] = value.astype(np.float32).astype(array.dtype)

    def value(self, expression: Expression, columns: Array) -> Array:
        match expression:
            case Load(access):
                place = self.places(access, columns)
                assert place is not None
                return self.oracle.arrays[access.name][place].astype(np.float64)
            case Number(number):
                return np.full(len(columns), number, np.float64)
            case Position():
                return np.full(len(columns), self.position, np.float64)
            case Column():
                return columns.astype(np.float64)
            case Apply(function, arguments):
                values = [self.value(x, columns) for x in arguments]
                with np.errstate(all="ignore"):
                    return np.asarray(FUNCTIONS[function](*values))
            case Reduce(function, argument):
                every = self.value(argument, np.arange(self.oracle.program.columns))
                return np.full(len(columns), getattr(np, function)(every))
            case At(argument, step, offset, modulo, every):
                other = columns // every * step + offset
                return self.value(argument, other if modulo is None else other % modulo)
            case Below(limit, then, otherwise):
                first = columns < limit
                result = np.empty(len(columns), np.float64)
                result[first] = self.value(then, columns[first])
                result[~first] = self.value(otherwise, columns[~first])
                return result
            case Rounded(argument, element):
                kind = DTYPES[element].numpy
                value = self.value(argument, columns)
                return value.astype(np.float32).astype(kind).astype(np.float64)

    def places(self, access: Access, columns: Array) -> Array | None:
        """The elements that `columns` lie at, None where the row is not kept."""
        last = access.offset + columns * access.step
        if access.place == "state":
            begin = self.state_row(access)
            return None if begin is None else begin + last
        row = self.outer * self.oracle.program.inner + self.inner
        outer = {
            "token": self.outer,
            "position": self.position,
            "last": self.token,
            "none": 0,
            "index": int(self.oracle.arrays[access.index][row]) if access.index else 0,
        }[access.place]
        result: Array = outer * access.outer + self.inner * access.inner + last
        return result

    def state_row(self, access: Access) -> int | None:
        """Where the row begins: [heads, rows, width] of each sequence lie behind each other."""
        heads, width, lengths = self.oracle.program.inner, access.inner, self.oracle.lengths
        length = lengths[self.sequence]
        if access.keep is None:
            begin, kept = sum(lengths[: self.sequence]), length
        else:
            begin = self.sequence * min(max(lengths), access.keep)
            kept = min(length, access.keep)
        row = self.position - (length - kept)
        if row < 0:
            return None
        within = np.ravel_multi_index((self.inner, row, 0), (heads, kept, width))
        return begin * heads * width + int(within)


def assert_close(found: Array, expected: Array, element: str) -> None:
    """Raise AssertionError unless the arrays differ by what rounding to `element` explains."""
    tolerance = {"f32": 2e-5, "f16": 2e-3, "bf16": 1.6e-2}[element]
    np.testing.assert_allclose(
        found.astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=tolerance
    )
