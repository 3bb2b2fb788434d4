"""Numbers at the limits of their types, in a later call than the one that is compared."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.interop.compiled import compiled, same

INF, MOST = float("inf"), 2**63 - 1


@pytest.mark.parametrize(
    ("run", "first", "then"),
    [
        (lambda x: x.sum(1), [[1, 2, 3]], [[2**53, 1, 0]]),
        (lambda x: x.sum(1), [[1, 2, 3]], [[MOST, 1, 0]]),
        (lambda x: x.sum(1, dtype=torch.int32), [[1, 2, 3]], [[2**31 - 1, 1, 0]]),
        (lambda x: x.prod(1), [[1, 2, 3]], [[2**31 + 1, 2**31 + 1, 1]]),
        (lambda x: x.sum() + (x * x).sum(), [1, 2, 3], [2**53, 1, 0]),
        (lambda x: x[0] // x[1], [[5, 7], [2, 3]], [[-MOST - 1, 7], [-1, 2]]),
        (lambda x: x // 2, [5, -5, 0], [MOST, -MOST, -1]),
        (lambda x: nn.functional.max_pool1d(x, 2), [[1.0, 2.0]], [[INF, math.nan]]),
        (lambda x: x.softmax(-1), [[1.0, 2.0]], [[math.nan, 2.0], [INF, -INF], [math.nan, -INF]]),
        (lambda x: x.softmax(-1), [[1.0, 2.0]], [[-INF, -INF], [1.0, -INF]]),
        (lambda x: torch.ops.aten._safe_softmax(x, 1), [[1.0, 2.0]], [[-INF, -INF], [1.0, -INF]]),
        (lambda x: x[0] // x[1], [[5.0, 7.0], [2.0, 3.0]], [[1.0, -5.0], [0.0, INF]]),
        (lambda x: x[0] // x[1], [[5.0, 7.0], [2.0, 3.0]], [[3.0, INF], [-INF, 2.0]]),
        (lambda x: x[0] // x[1], [[5.0, 7.0], [2.0, 3.0]], [[0.0, -7.5], [-0.0, 2.0]]),
    ],
)
def test_numbers_at_the_limits_in_a_later_call(run: Any, first: Any, then: Any) -> None:
    taken = compiled(run)
    with torch.no_grad():
        for numbers in (first, then):
            x = torch.tensor(numbers)
            torch.testing.assert_close(taken(x), run(x), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "run",
    [
        lambda x, i: nn.functional.embedding(i, x),
        lambda x, i: x.gather(0, i[:, None]),
    ],
)
@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_that_pytorch_refuses(run: Any, index: int) -> None:
    x, taken = torch.randn(3, 2), compiled(run)
    with torch.no_grad():
        same(taken(x, torch.tensor([1, 2])), run(x, torch.tensor([1, 2])))
        with pytest.raises((IndexError, RuntimeError), match="index"):
            taken(x, torch.tensor([1, index]))
