"""The interpreter computes with bf16 as torch does, and tells what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from tests.backends.triton.interpreting import Address, Interpreter

HEAD = """
import triton
import triton.language as tl


@triton.jit
def kernel(x, y, out, n, SIZE: tl.constexpr):
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    a = tl.load(x + at, mask=at < n, other=1.0)
    b = tl.load(y + at, mask=at < n, other=1.0)
    tl.store(out + at, {expression}, mask=at < n)
"""
Function = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
EXPRESSIONS: dict[str, Function] = {
    "a + b": lambda a, b: a + b,
    "a - b": lambda a, b: a - b,
    "a * b": lambda a, b: a * b,
    "-a": lambda a, b: -a,
    "tl.abs(a)": lambda a, b: a.abs(),
    "tl.where(a < b, a, b)": lambda a, b: torch.where(a < b, a, b),
    "tl.maximum(a, b)": torch.maximum,
    "tl.exp(a.to(tl.float32))": lambda a, b: a.float().exp().bfloat16(),
    "a.to(tl.float32) / 3": lambda a, b: (a.float() / 3).bfloat16(),
    "a.to(tl.float16).to(tl.float32)": lambda a, b: a.half().bfloat16(),
    "a * 0.1": lambda a, b: a * torch.tensor(0.1, dtype=torch.bfloat16),
    "(a + b).to(tl.int32)": lambda a, b: (a + b).int().bfloat16(),
    "tl.sum(a.to(tl.float32)) + a": lambda a, b: (a.float().sum() + a.float()).bfloat16(),
    "tl.max(a, axis=0) + b": lambda a, b: a.max() + b,
}


def tensor(x: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)


def numbers(count: int, seed: int) -> np.ndarray[Any, Any]:
    drawn = np.random.default_rng(seed).normal(size=count).astype(np.float32)
    return drawn.astype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_bfloat16_is_that_of_torch(interpreter: Interpreter, expression: str) -> None:
    x, y = numbers(1024, 1), numbers(1024, 2)
    out = np.zeros_like(x)
    source = HEAD.format(expression=expression)
    interpreter.run(source, "kernel", (1,), [x, y, out, 1024], {"SIZE": 1024})
    expected = EXPRESSIONS[expression](tensor(x), tensor(y))
    assert torch.equal(tensor(out), expected)


def test_products_of_bfloat16_are_exact(interpreter: Interpreter) -> None:
    source = """
import triton
import triton.language as tl


@triton.jit
def product(x, y, out):
    row = tl.arange(0, 32)[:, None]
    column = tl.arange(0, 32)[None, :]
    x_tile = tl.load(x + row * 32 + column)
    y_tile = tl.load(y + row * 32 + column)
    tl.store(out + row * 32 + column, tl.dot(x_tile, y_tile.T))
"""
    x, y = numbers(1024, 3).reshape(32, 32), numbers(1024, 4).reshape(32, 32)
    out = np.zeros((32, 32), np.float32)
    interpreter.run(source, "product", (1,), [x, y, out])
    np.testing.assert_allclose(out, x.astype(np.float32) @ y.astype(np.float32).T, rtol=1e-5)


def test_an_address_points_into_memory(interpreter: Interpreter) -> None:
    memory = interpreter.allocate(4096)
    x, out = memory.view(256, np.float32, (8,)), memory.view(512, np.float32, (8,))
    x[:] = np.arange(8)
    at = [Address(memory, offset, "*fp32") for offset in (256, 256, 512)]
    interpreter.run(HEAD.format(expression="a + b"), "kernel", (2,), [*at, 7], {"SIZE": 4})
    np.testing.assert_array_equal(out, [0, 2, 4, 6, 8, 10, 12, 0])


@pytest.mark.parametrize(("short", "told"), [("x", "1 of 5"), ("y", "1 of 5"), ("out", "1 of 5")])
def test_what_lies_beside_an_array_is_not_touched(
    interpreter: Interpreter, short: str, told: str
) -> None:
    given = {name: np.ones(4 if name == short else 8, np.float32) for name in ("x", "y", "out")}
    source = HEAD.format(expression="a + b")
    with pytest.raises(AssertionError, match=f"OutOfBounds.*{told}"):
        interpreter.run(source, "kernel", (1,), [*given.values(), 5], {"SIZE": 8})
    interpreter.run(source, "kernel", (1,), [*given.values(), 4], {"SIZE": 8})


def test_a_kernel_that_fails_shows_its_traceback(interpreter: Interpreter) -> None:
    x = np.ones(8, np.float32)
    with pytest.raises(AssertionError, match="undefined_name"):
        interpreter.run(
            HEAD.format(expression="undefined_name"), "kernel", (1,), [x, x, x, 8], {"SIZE": 8}
        )
    interpreter.run(HEAD.format(expression="a + b"), "kernel", (1,), [x, x, x, 8], {"SIZE": 8})
    np.testing.assert_array_equal(x, 2)
