"""The engines against each other and against what must hold of any plan."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate import Simulated, Speeds, simulate
from hetc.backends.dataflow.simulate.engine import run_maxplus
from hetc.backends.dataflow.simulate.heap import run_heap
from hetc.backends.dataflow.simulate.tally import Outcome
from hetc.backends.dataflow.simulate.timing import Move, Timing, When
from hetc.backends.dataflow.simulate.unroll import unroll
from hetc.errors import BackendError
from tests.backends.dataflow.plans import Decoder, block, decoder, exchange, plan, stage
from tests.backends.dataflow.simulate.random_plans import random_plans, speeds
from tests.backends.dataflow.simulate.sn40l import SN40L

TOKENS = 4
at_random = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def longest_path(timing: Timing, *, skip: bool = True) -> Outcome | str:
    """The outcome, or the code of the error."""
    try:
        return run_maxplus(timing, TOKENS, skip=skip)[0]
    except BackendError as error:
        return error.code


def events(timing: Timing) -> Outcome | str:
    try:
        return run_heap(timing, TOKENS)
    except BackendError as error:
        return error.code


def both_the_same(one: Outcome | str, other: Outcome | str, timing: Timing) -> None:
    if isinstance(one, Outcome) and isinstance(other, Outcome):
        same(one, other, timing)
    else:
        assert one == other == "HETC-L104"


def same(one: Outcome, other: Outcome, timing: Timing) -> None:
    """All times to 1e-9 of the longest; peaks to a tile, which rounding may issue sooner."""
    assert one.ends == pytest.approx(other.ends, rel=1e-9)
    scale = max(1.0, one.ends[-1])
    for field in dataclasses.fields(one.last):
        mine, others = getattr(one.last, field.name), getattr(other.last, field.name)
        assert mine == pytest.approx(others, rel=1e-9, abs=1e-9 * scale), field.name
    for flow, peak, other_peak in zip(timing.flows, one.peaks, other.peaks, strict=True):
        assert abs(peak - other_peak) <= flow.tile_bytes
        assert max(peak, other_peak) <= flow.depth_bytes


@at_random
@given(random_plans(), speeds())
def test_events_in_time_give_the_longest_path(made: Plan, machine: Speeds) -> None:
    timing = unroll(made, machine)
    both_the_same(longest_path(timing), events(timing), timing)


@at_random
@given(random_plans(), speeds())
def test_skipping_iterations_changes_nothing(made: Plan, machine: Speeds) -> None:
    timing = unroll(made, machine)
    both_the_same(longest_path(timing), longest_path(timing, skip=False), timing)


def test_the_link_goes_on_where_the_loop_was_skipped() -> None:
    """Two stages side by side keep the link busy in a loop; then comes a third."""
    pair = [stage(name, collective=exchange(10.0)) for name in "rs"]
    third = stage("t", collective=exchange(10.0))
    timing = unroll(plan(block("b", pair, repeat=20), block("c", [third])), SN40L)
    short, full = longest_path(timing), longest_path(timing, skip=False)
    both_the_same(short, full, timing)
    assert isinstance(short, Outcome)
    assert short.ends[-1] - short.ends[-2] == pytest.approx(20 * 20 + 10)


@at_random
@given(random_plans(), speeds())
def test_a_faster_machine_is_never_slower(made: Plan, machine: Speeds) -> None:
    slow = longest_path(unroll(made, machine))
    if not isinstance(slow, Outcome):
        return
    hbm = machine.memories["hbm"]
    for better in (
        dataclasses.replace(hbm, bytes_per_cycle=hbm.bytes_per_cycle * 1.3),
        dataclasses.replace(hbm, latency_cycles=hbm.latency_cycles / 2),
    ):
        faster = dataclasses.replace(machine, memories={**machine.memories, "hbm": better})
        fast = longest_path(unroll(made, faster))
        assert isinstance(fast, Outcome)
        for sooner, later in zip(fast.ends, slow.ends, strict=True):
            assert sooner <= later * (1 + 1e-12)


@at_random
@given(random_plans(), speeds())
def test_every_cycle_is_counted_and_no_byte_is_read_twice_as_fast(
    made: Plan, machine: Speeds
) -> None:
    found = longest_path(unroll(made, machine))
    if isinstance(found, Outcome) and found.ends[-1] > found.ends[-2]:
        adds_up(simulate(made, machine, tokens=TOKENS))
        adds_up(simulate(made, machine, mode="analytic"))


@at_random
@given(random_plans(), speeds())
def test_rows_are_written_before_the_next_token_reads_them(made: Plan, machine: Speeds) -> None:
    """A queue does one thing after the other, so it is enough that the order is right."""
    timing = unroll(made, machine)
    last = timing.turns[-1].segment
    for queue in range(len(timing.queues)):
        written: Counter[str] = Counter()
        read: Counter[str] = Counter()
        for turn in timing.turns * 3:
            for item in turn.work[queue]:
                if isinstance(item, Move):
                    written[item.name] += 1
                    continue
                flow = timing.flows[item.flow]
                segment = timing.segment_of[flow.stage]
                each = sum(turn.segment == segment for turn in timing.turns)
                if flow.name in written and read[flow.name] >= each:
                    # The first turn of all writes for the last one, which was not yet executed.
                    before = segment == last and not writes_at_once(timing, flow.name)
                    assert written[flow.name] - before > read[flow.name] - each
                read[flow.name] += 1


def writes_at_once(timing: Timing, name: str) -> bool:
    moves = [item for work in timing.turns[-1].work for item in work if isinstance(item, Move)]
    return any(
        move.name == name and move.wait is not None and move.wait.when is When.SAME
        for move in moves
    )


def adds_up(result: Simulated) -> None:
    near = 1e-9 * result.cycles * result.tokens
    assert 0 <= result.mbu <= 1 + 1e-9
    for use in result.stages:
        parts = (use.busy_cycles, use.stalled_cycles, use.starved_cycles, use.idle_cycles)
        assert all(part >= -near for part in parts)
        assert sum(parts) == pytest.approx(result.cycles)
    assert sum(block.cycles for block in result.blocks) == pytest.approx(result.cycles)


@pytest.mark.parametrize(
    "shape",
    [
        Decoder(layers=6),
        Decoder(layers=6, depth=0.1),
        Decoder(layers=6, layer_prefetch=False, token_prefetch=False, launch_us=5.0, peer_us=3.0),
    ],
    ids=["all on", "small buffers", "all off"],
)
def test_a_decoder_by_both_engines(shape: Decoder) -> None:
    made = decoder(shape)
    path, heap = simulate(made, SN40L), simulate(made, SN40L, mode="heap")
    assert path.tpot_us == pytest.approx(heap.tpot_us, rel=1e-9)
    assert dataclasses.replace(heap, mode="maxplus").bottleneck == path.bottleneck
    adds_up(path)


def test_work_does_not_grow_with_the_number_of_layers() -> None:
    few, many = (
        run_maxplus(unroll(decoder(Decoder(layers=layers)), SN40L), 3)[1] for layers in (16, 160)
    )
    assert len(few.scheduled) == len(many.scheduled)
    assert [len(times) for times in few.taken] == [len(times) for times in many.taken]


def test_the_same_plan_gives_the_same_result() -> None:
    assert simulate(decoder(Decoder()), SN40L) == simulate(decoder(Decoder()), SN40L)
