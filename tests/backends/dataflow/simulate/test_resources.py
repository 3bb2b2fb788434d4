"""Ports and buffers with pen and paper, on the machine of test_by_hand.py."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from msgspec.structs import replace

from hetc.backends.dataflow.schema import Buffer, Plan
from hetc.backends.dataflow.simulate import Speeds, resource_use, simulate
from hetc.backends.dataflow.simulate.unroll import unroll
from hetc.errors import BackendError
from tests.backends.dataflow.plans import barrier, block, plan, stage, stream
from tests.backends.dataflow.simulate.random_plans import random_plans, speeds
from tests.backends.dataflow.simulate.test_by_hand import SPEEDS, A, W, cycles
from tests.backends.dataflow.simulate.test_engines import at_random, longest_path


def buffer(depth: int, consumer: str = "b") -> Buffer:
    return Buffer(
        id="a.b",
        producer="a",
        consumers=(consumer,),
        bytes=8,
        tile_bytes=8,
        depth_bytes=depth,
        why="by hand",
    )


def test_a_port_is_busy_starved_stalled_and_idle() -> None:
    """One tile of credits: of 20 cycles a tile, 10 on the memory, 5 of them on a port of 2 bytes a
    cycle, and 10 until the stage has taken it."""
    tight = stream("w", "a", 40, tile=10, depth=10)
    fast = dataclasses.replace(SPEEDS, port_bytes_per_cycle=2.0)
    (use,) = resource_use(plan(block("b", [A], [tight])), fast).ports
    assert (use.busy_cycles, use.starved_cycles, use.stalled_cycles) == (20, 20, 40)
    assert use.idle_cycles == 0


def test_ports_carry_equal_shares_of_the_streams_that_are_bound_to_them() -> None:
    wide, narrow = stream("w", "a", 40, ports=2), stream("v", "b", 10, ports=1)
    made = plan(block("b", [A, stage("b", streams=["v"])], [wide, narrow]))
    slow = dataclasses.replace(SPEEDS, port_bytes_per_cycle=1.0)
    both, one = resource_use(made, slow).ports
    assert (both.busy_cycles, one.busy_cycles) == (30, 20)
    assert (both.starved_cycles, one.starved_cycles) == (20, 20)
    assert (both.idle_cycles, one.idle_cycles) == (0, 10)


def test_a_buffer_is_busy_while_somebody_still_reads_it() -> None:
    """`a` ends at 53, its first result is there at 23, and `b` is done at 63."""
    made = plan(
        block("b", [A, stage("b", barrier("a"), work=10.0)], [W], buffers=[buffer(16)]),
        prefetch=False,
    )
    (use,) = resource_use(made, SPEEDS).buffers
    assert use.busy_cycles == 63 - 23
    # `b` has been free since the token began, and waits for nothing else.
    assert use.starved_cycles == 53
    assert use.stalled_cycles == 0


def test_a_producer_waits_for_room() -> None:
    """`b` takes 50 cycles an iteration. With room for one result `a` begins when `b` is done and
    takes 20 and 3; with room for two it works meanwhile."""
    slow = stage("b", barrier("a"), work=50.0)
    loops = [block("b", [A, slow], [W], repeat=30, buffers=[buffer(d)]) for d in (8, 16)]
    one, two = (plan(loop) for loop in loops)
    assert cycles(one) == 30 * 73
    assert cycles(two) == 30 * 50 + 23
    assert resource_use(one, SPEEDS).buffers[0].stalled_cycles == pytest.approx(29 * 50)
    (roomy,) = resource_use(two, SPEEDS).buffers
    assert 0 < roomy.stalled_cycles < 29 * 50
    assert roomy.starved_cycles == pytest.approx(23)


def test_room_that_only_the_reader_of_the_next_iteration_would_free_stands_still() -> None:
    """`b` reads what `a` made an iteration before, after `a` has written over it."""
    reader = stage("b", barrier("a", carried=True), barrier("c"))
    writer = stage("c", barrier("a"))
    made = block("b", [A, writer, reader], [W], repeat=3, buffers=[buffer(8)])
    with pytest.raises(BackendError) as stuck:
        simulate(plan(made), SPEEDS)
    assert stuck.value.code == "HETC-L104"
    roomy = replace(made, buffers=(buffer(16),))
    assert cycles(plan(roomy)) == 3 * 40


@at_random
@given(random_plans(), speeds())
def test_cycles_of_ports_add_up(made: Plan, machine: Speeds) -> None:
    if longest_path(unroll(made, machine)) == "HETC-L104":
        return
    used = resource_use(made, machine)
    near = 1e-6 * max(1.0, used.cycles)
    for port in used.ports:
        parts = dataclasses.astuple(port)[1:]
        assert sum(parts) == pytest.approx(used.cycles)
        assert min(parts[:3]) >= -near
    for held in used.buffers:
        assert -near <= held.busy_cycles <= used.cycles + near
        assert held.stalled_cycles >= 0
        assert held.starved_cycles >= 0
