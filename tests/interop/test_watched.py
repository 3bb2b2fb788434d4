"""Tensors that are watched: what is noticed, and what is not mistaken for a change."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hetc.interop.watched import Watched

DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.int8, torch.bool]


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """A tensor of up to three axes, in any order and with gaps."""
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    made = torch.zeros(shape, dtype=draw(st.sampled_from(DTYPES)))
    made = made[:: draw(st.integers(1, 2))]
    return made.permute(draw(st.permutations(range(made.ndim))))


def watched(*parts: torch.Tensor) -> Watched:
    made = Watched.of(parts)
    assert made is not None
    return made


@given(st.lists(tensors(), min_size=1, max_size=4), st.data())
def test_any_number_along_the_thirds_is_looked_at(parts: list[torch.Tensor], data: Any) -> None:
    watch = watched(*parts)
    chosen = data.draw(st.sampled_from(parts))
    axes = [range(0, size, max(1, size // 3)) for size in chosen.shape]
    place = data.draw(st.sampled_from(list(product(*axes))))
    # Behind PyTorch's back.
    chosen.data[place] = 1
    assert not watch.is_still(parts)
    chosen.data[place] = 0
    assert watch.is_still(parts)


@given(st.lists(tensors(), min_size=1, max_size=4))
def test_nothing_is_written_by_looking(parts: list[torch.Tensor]) -> None:
    watch = watched(*parts)
    assert watch.is_still(parts)
    assert watch.is_still([part.detach() for part in parts])
    assert all(not part.any() for part in parts)


def test_a_write_that_pytorch_counts_is_noticed_wherever_it_is() -> None:
    x, y = torch.zeros(64, 64), torch.zeros(5)
    watch = watched(x, y)
    x[1, 1] = 1
    assert not watch.is_still([x, y])
    watch.renew()
    assert watch.is_still([x, y])
    y.add_(0)
    assert not watch.is_still([x, y])
    assert watch.is_still([x, y], [0, 1])
    assert not watch.is_still([x, y], [1, 1])


def test_other_memory_is_noticed_where_all_numbers_are_equal() -> None:
    x = torch.zeros(4, 6)
    watch = watched(x)
    assert not watch.is_still([x.clone()])
    assert not watch.is_still([])
    x.data = torch.zeros(4, 6)
    assert not watch.is_still([x])


@pytest.mark.parametrize(
    "seen", [lambda x: x[:3], lambda x: x.T, lambda x: x.view(torch.int32), lambda x: x.view(6, 4)]
)
def test_the_same_memory_seen_otherwise_is_another_tensor(seen: Any) -> None:
    x = torch.zeros(4, 6)
    assert not watched(x).is_still([seen(x)])


def test_nobody_counts_the_writes_into_tensors_of_inference() -> None:
    with torch.inference_mode():
        made = torch.zeros(3)
    assert Watched.of([torch.zeros(3), made]) is None


def test_there_may_be_nothing_to_look_at() -> None:
    empty = torch.zeros(0, 3)
    assert watched(empty).is_still([empty])
    assert not watched(empty).is_still([])
    assert watched().is_still([])
