"""Collectives over n shards, and graphs that use them."""

from __future__ import annotations

import numpy as np
import pytest

from hetc.errors import IRError
from hetc.ir.lockstep import combine, interpret_lockstep
from hetc.ir.text import parse
from hetc.ir.types import Array


def column(*numbers: float) -> Array:
    return np.array(numbers, np.float32)[:, None]


def collective(line: str) -> tuple[Array, ...]:
    """The result on each of four shards; shard r holds [[r], [10 + r]]."""
    graph = parse(f"graph @g(%x: f32[2,1]) {{ %0 = {line} return %0 }}")
    return combine(graph.ops[0], tuple(column(rank, 10 + rank) for rank in range(4)))


def test_a_sum_over_all() -> None:
    for found in collective("all_reduce %x {group_size = 4}"):
        np.testing.assert_array_equal(found, column(6, 46))


def test_a_sum_over_groups_takes_one_holder_of_each_part() -> None:
    found = collective("all_reduce %x {group_size = 2}")
    # Shards 0 and 1 hold the first part, 2 and 3 the second: 0 and 2 add up, and 1 and 3.
    for rank, total in enumerate([column(2, 22), column(4, 24)] * 2):
        np.testing.assert_array_equal(found[rank], total)


def test_a_gather_puts_parts_in_their_order() -> None:
    for whole in collective("all_gather %x {axis = 1, group_size = 4}"):
        np.testing.assert_array_equal(whole, [[0, 1, 2, 3], [10, 11, 12, 13]])
    found = collective("all_gather %x {axis = -1, group_size = 2}")
    np.testing.assert_array_equal(found[0], [[0, 2], [10, 12]])
    np.testing.assert_array_equal(found[3], [[1, 3], [11, 13]])


def test_taking_a_part_is_the_inverse_of_a_gather() -> None:
    found = collective("take_part %x {axis = 0, group_size = 2}")
    assert [part.item() for part in found] == [0, 1, 12, 13]


@pytest.mark.parametrize("kind", ["all_reduce %x", "all_gather %x", "take_part %x"])
def test_alone_nothing_changes(kind: str) -> None:
    axis = "" if kind.startswith("all_reduce") else "axis = 0, "
    for rank, alone in enumerate(collective(f"{kind} {{{axis}group_size = 1}}")):
        np.testing.assert_array_equal(alone, column(rank, 10 + rank))


def test_integers_are_added_exactly() -> None:
    graph = parse("graph @g(%x: i64[1]) { %0 = all_reduce %x {group_size = 2} return %0 }")
    found = combine(graph.ops[0], (np.array([2**60 + 1]), np.array([1])))
    assert found[0].tolist() == [2**60 + 2]


def test_groups_that_do_not_fit() -> None:
    with pytest.raises(IRError) as caught:
        collective("all_reduce %x {group_size = 3}")
    assert caught.value.code == "HETC-X024"


PRODUCT = """
graph @down(%x: f32[B,2], %w: f32[3,2]) {
  %0 = linear %x, %w
  %1 = all_reduce %0 {group_size = 2}
  return %1
}
graph @main(%x: f32[B,2]) {
  %0 = weight {name = "w", type = f32[3,2]}
  %1 = call @down(%x, %0)
  %2 = relu %1
  return %2
}
"""


def test_calls_run_in_lockstep() -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=(rows, 4)).astype(np.float32) for rows in (5, 3))
    results = interpret_lockstep(
        parse(PRODUCT),
        [[x[:, :2]], [x[:, 2:]]],
        [{"w": w[:, :2]}.__getitem__, {"w": w[:, 2:]}.__getitem__],
    )
    for (found,) in results:
        np.testing.assert_allclose(found, np.maximum(x @ w.T, 0), rtol=1e-5, atol=1e-6)
