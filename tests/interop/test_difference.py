"""What counts as PyTorch's result: rounding does, and a wrong number does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx

from hetc.interop.apart import Apart
from hetc.interop.difference import differing
from hetc.interop.regions import Region

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32


def unasked() -> list[Tensor]:
    raise AssertionError("nobody needs to know")


def near(x: Tensor, error: float, dtype: torch.dtype = BF16) -> Tensor:
    """x with errors of this size, up and down."""
    signs = torch.tensor([1.0, -1.0]).repeat(x.numel())[: x.numel()].reshape(x.shape)
    return (x + error * signs).to(dtype)


def test_what_the_tolerance_allows_is_not_asked_about() -> None:
    x = torch.randn(4, 8)
    assert differing([near(x, 0.01)], [x.to(BF16)], unasked, 0.05) is None


@pytest.mark.parametrize("dtype", [BF16, F16])
def test_who_is_nearer_to_f32_is_right(dtype: torch.dtype) -> None:
    x = torch.randn(4, 8)
    ours, theirs = near(x, 0.1, dtype), near(x, 1.0, dtype)
    assert differing([ours], [theirs], lambda: [x], 0.05) is None
    assert differing([theirs], [ours], lambda: [x], 0.05) is not None


def test_one_wrong_number_is_found() -> None:
    x = torch.zeros(64, 64)
    ours, theirs = x.to(BF16), near(x, 0.1)
    ours[3, 3] = 0.5
    place, text = differing([theirs, ours], [theirs, theirs], lambda: [x, x], 0.05) or (None, "")
    assert place == 1
    assert "a difference of 6.0e-01" in text


def test_without_f32_the_tolerance_decides() -> None:
    def refused() -> list[Tensor]:
        raise RuntimeError("no f32 here")

    x = torch.zeros(4)
    assert differing([x.to(BF16)], [x.to(BF16)], refused, 0.05) is None
    _, text = differing([near(x, 0.1)], [near(x, 0.5)], refused, 0.05) or (0, "")
    assert "no f32 here" in text


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_near(bad: float) -> None:
    x = torch.ones(4)
    ours = x.to(BF16)
    ours[0] = bad
    assert differing([ours], [near(x, 0.5)], lambda: [x], 0.05) is not None


def test_f32_and_whole_numbers_are_not_rounded_so_far() -> None:
    x, count = torch.ones(4), torch.arange(4)
    assert differing([x], [x + 0.2], unasked, 0.05) is not None
    assert differing([count], [count + 1], unasked, 0.05) is not None
    assert differing([x.to(BF16)], [x.to(F16)], unasked, 0.05) is not None


def captured(run: Any, *examples: Tensor) -> tuple[Apart, fx.GraphModule]:
    """All of `run`, to be called with what its placeholders are given."""
    module = torch.fx.experimental.proxy_tensor.make_fx(run)(*examples)
    nodes = tuple(node for node in module.graph.nodes if node.op == "call_function")
    region = Region(0, nodes, (nodes[-1],))
    return Apart(module, region, module.graph.find_nodes(op="placeholder")), module


def test_f32_takes_the_place_of_16_bits() -> None:
    def run(x: Tensor, y: Tensor) -> Tensor:
        sum = (x + y).to(F16) + torch.full((), 1.0, dtype=BF16)
        return sum.to(F32) - torch.ones((), dtype=BF16)

    apart, _ = captured(run, torch.ones(3, dtype=BF16), torch.ones(3, dtype=BF16))
    x, y = torch.tensor([256.0, 1.0, 2.0], dtype=BF16), torch.tensor([1.0, 0.5, 1e-3], dtype=BF16)
    (exact,) = apart.in_f32(x, y)
    assert exact.dtype is F32
    assert exact.tolist() == (x.float() + y.float()).tolist()
    (rounded,) = apart(x, y)
    assert rounded[0] == 256


def test_both_ways_to_run_nodes_agree_and_keep_what_they_are_given() -> None:
    apart, module = captured(lambda x: (x.sin() + x).cos() * x, torch.ones(3))
    x = torch.randn(3)
    first, second = apart(x), apart(x)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[0], module(x))
