"""Plans small enough to time with pen and paper.

The machine: memories of one byte a cycle that answer 5 cycles later. The stage `a`, unless a test
says otherwise, takes 40 bytes in 4 tiles at 2 bytes a cycle and needs 3 cycles more: its tiles
arrive at 15, 25, 35, 45 and are taken at 20, 30, 40, 50; first result at 23, end at 53.
"""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from hetc.backends.dataflow.schema import (
    Append,
    Buffer,
    Issue,
    Plan,
    Stage,
    Stream,
)
from hetc.backends.dataflow.simulate import MemorySpeed, Speeds, simulate
from hetc.backends.dataflow.steps import (
    Configure,
    Execute,
    Loop,
    Step,
)
from tests.backends.dataflow.plans import barrier, block, exchange, plan, section, stage, stream
from tests.backends.dataflow.plans import streamed as follows

MEMORY = MemorySpeed(bytes_per_cycle=1.0, efficiency=1.0, latency_cycles=5.0)
SPEEDS = Speeds(
    clock_hz=1e6,
    main_memory="hbm",
    memories={"hbm": MEMORY, "ddr": MEMORY},
    port_bytes_per_cycle=64.0,
    power_w=2.0,
)
A = stage("a", streams=["w"], rate=2.0, latency=3.0)
W = stream("w", "a", 40, tile=10)


def cold(*stages: Stage, streams: tuple[Stream, ...] = (W,), **rest: object) -> float:
    """Cycles of a token whose queues start with it."""
    return cycles(plan(block("b", stages, streams), prefetch=False, **rest))  # type: ignore[arg-type]


def cycles(made: Plan, speeds: Speeds = SPEEDS) -> float:
    """By the longest path, and the same by events."""
    result = simulate(made, speeds)
    assert simulate(made, speeds, mode="heap").cycles == pytest.approx(result.cycles, rel=1e-12)
    return result.cycles


def test_one_stage_with_one_stream() -> None:
    assert cold(A) == 53


def test_reading_ahead_leaves_the_memory_alone() -> None:
    assert cycles(plan(block("b", [A], [W]))) == 40


def test_a_token_pays_its_overhead_unless_it_is_read_ahead_meanwhile() -> None:
    assert cold(A, overhead=7.0) == 60
    assert cycles(plan(block("b", [A], [W]), overhead=7.0)) == 40
    # 20 cycles to take all tiles, 3 to end, 100 of overhead: the memory is no longer the bound.
    assert cycles(plan(block("b", [A], [W]), overhead=100.0)) == 123


def test_credits_for_one_tile_make_every_tile_a_round_trip() -> None:
    tight = stream("w", "a", 40, tile=10, depth=10)
    result = simulate(plan(block("b", [A], [tight])), SPEEDS)
    assert result.cycles == 4 * (10 + 5 + 5)
    (use,) = result.streams
    assert (use.peak_bytes, use.depth_bytes, use.credit_cycles) == (10, 10, 40)
    assert result.bottleneck.name == "buffers"


def test_credits_are_bytes_not_tiles() -> None:
    """25 bytes are two tiles of 10, but three where one of them is the last with 5."""
    uneven = stream("w", "a", 25, tile=10, depth=25)
    (use,) = simulate(plan(block("b", [A], [uneven])), SPEEDS).streams
    assert use.peak_bytes <= 25
    assert cycles(plan(block("b", [A], [uneven]))) == 25


def test_ports_carry_less_than_the_memory() -> None:
    slow = dataclasses.replace(SPEEDS, port_bytes_per_cycle=0.25)
    two = stream("w", "a", 40, tile=10, ports=2)
    assert cycles(plan(block("b", [A], [two])), slow) == 80


def test_efficiency_is_time() -> None:
    memory = dataclasses.replace(MEMORY, efficiency=0.5)
    slow = dataclasses.replace(SPEEDS, memories={"hbm": memory})
    result = simulate(plan(block("b", [A], [W])), slow)
    assert (result.cycles, result.mbu, result.mbu_bound) == (80, 0.5, 0.5)


def test_a_barrier_waits_for_the_end_and_a_stream_for_the_first_result() -> None:
    after = stage("c", barrier("a"), work=20.0, latency=2.0)
    along = stage("c", follows("a"), work=20.0, latency=2.0)
    assert cold(A, after) == 53 + 20 + 2
    assert cold(A, along) == max(23 + 20, 53) + 2


def test_the_last_tile_waits_for_the_end_of_what_it_multiplies() -> None:
    """Tiles of `c` come from DDR at 15, 25; the first is taken from 23, the last not before 53."""
    along = stage("c", follows("a"), streams=["v"], rate=1.0)
    v = stream("v", "c", 20, tile=10, tier="ddr")
    assert cold(A, along, streams=(W, v)) == 53 + 10


def test_an_exchange_is_exposed_or_hidden() -> None:
    whole = stage("r", barrier("a"), collective=exchange(16.0, latency=7.0, chunks=4))
    chunks = stage("r", follows("a"), collective=exchange(16.0, latency=7.0, chunks=4))
    assert cold(A, whole) == 53 + 16 + 7
    assert cold(A, chunks) == 53 + 4 + 7


def test_the_wire_is_never_faster_than_the_whole_vector() -> None:
    slow = stage("r", follows("a"), collective=exchange(100.0, chunks=4))
    assert cold(A, slow) == 23 + 100


def test_one_link_serves_one_exchange_at_a_time() -> None:
    both = [stage(name, barrier("a"), collective=exchange(16.0)) for name in "rs"]
    result = simulate(plan(block("b", [A, *both], [W]), prefetch=False), SPEEDS)
    assert result.cycles == 53 + 2 * 16
    assert result.link_busy_cycles == 32
    assert [use.stalled_cycles for use in result.stages] == [0, 0, 16]


def test_the_link_is_the_bottleneck() -> None:
    many = [stage(name, barrier("a"), collective=exchange(100.0)) for name in "rstu"]
    bottleneck = simulate(plan(block("b", [A, *many], [W])), SPEEDS).bottleneck
    assert (bottleneck.name, bottleneck.why) == ("peer link", "peer link 95 % busy")


def test_hbm_and_ddr_are_read_side_by_side() -> None:
    other = stage("c", streams=["v"], rate=2.0, latency=3.0)
    together = stream("v", "c", 40, tile=10, tier="ddr")
    apart = stream("v", "c", 40, tile=10, tier="hbm")
    assert cold(A, other, streams=(W, together)) == 53
    assert cold(A, other, streams=(W, apart)) == 53 + 40


def test_what_is_resident_in_sram_takes_no_memory_traffic() -> None:
    result = simulate(plan(block("b", [A], [stream("w", "a", 40, tier="sram")])), SPEEDS)
    assert result.cycles == 40 / 2 + 3
    assert result.bytes_read == 0


def test_a_stream_whose_addresses_depend_on_a_result() -> None:
    chosen = stage("c", barrier("a"), streams=["v"], rate=2.0)
    v = stream("v", "c", 10, after="a")
    # Issued at 53, there at 68, taken at 73.
    assert cold(A, chosen, streams=(W, v)) == 73


def test_work_beside_the_tiles() -> None:
    assert cold(replace(A, work_cycles=80.0)) == 80 + 3


def test_a_stage_that_is_launched_reads_nothing_before() -> None:
    made = plan(
        block("b", [A, stage("c", barrier("a"), latency=2.0)], [W]),
        steps=[Execute(block="b", section="all", launch="stage", launch_cycles=11.0)],
    )
    assert cycles(made) == 11 + 53 + 11 + 2


def test_a_block_that_is_launched() -> None:
    launch = Execute(block="b", section="all", launch_cycles=11.0)
    assert cycles(plan(block("b", [A], [W]), steps=[launch])) == 11 + 53


def test_iterations_overlap_with_their_reads_or_do_not() -> None:
    for prefetch, each in ((True, 40), (False, 53)):
        loop = Loop(
            block="b", count=5, body=(Execute(block="b", section="all"),), prefetch=prefetch
        )
        made = plan(block("b", [A], [W], repeat=5), steps=[loop], prefetch=prefetch)
        assert cycles(made) == 5 * each


def test_a_program_without_loops_goes_on_with_the_next_iteration() -> None:
    """Executed one by one, `a` waits for `c` of the execution before, and reads ahead of it."""
    a = replace(A, depends=(barrier("c", carried=True),))
    c = stage("c", barrier("a"), latency=100.0)
    step = Execute(block="b", section="all")
    looped = plan(block("b", [a, c], [W], repeat=3))
    by_hand = plan(block("b", [a, c], [W], repeat=3), steps=[step] * 3)
    # Taking and ending 23 cycles, `c` 100; the token after it does not wait for the reads either.
    assert cycles(by_hand) == cycles(looped) == 3 * 123


def test_a_stream_is_read_ahead_while_another_waits_for_credits() -> None:
    """`a` takes 100 bytes in 100 cycles, then `c` 8 tiles for one of which there is room.

    The first of those is there in time, each other is a round trip of 10 + 5 + 1, and the queue is
    free 6 cycles before `c` ends. Then come the 100 bytes, there 105 cycles later, and `a`.
    """
    a = stage("a", barrier("c", carried=True), streams=["w"], rate=1.0)
    c = stage("c", barrier("a"), streams=["v"], rate=10.0)
    w = stream("w", "a", 100, depth=200)
    v = stream("v", "c", 80, tile=10, depth=10)
    in_turn = plan(block("b", [a, c], [w, v], repeat=6))
    assert cycles(in_turn) == 6 * 312 == 6 * (1 + 7 * 16 - 6 + 105 + 100)
    # Ahead, they are there when `c` ends, but its own first tile, behind them, is 9 cycles late: 10
    # after the first iteration, which has only now read its 100 bytes and those of the second.
    issue = (Issue(stream="w", ahead=1), Issue(stream="v"))
    ahead = plan(block("b", [a, c], [w, v], repeat=6, issue=issue))
    assert cycles(ahead) == 312 + (10 + 213) + 4 * (9 + 213)


def test_rows_of_the_state_take_bandwidth_behind_the_computation() -> None:
    row = Append(stage="a", tensor="w", op=0, bytes=6)
    assert cycles(plan(block("b", [A], [W], repeat=4, appends=[row]))) == 4 * 46


def test_a_buffer_in_memory_is_written_and_read() -> None:
    after = stage("c", barrier("a"), latency=2.0)
    buffer = Buffer(
        id="x",
        producer="a",
        consumers=("c",),
        tier="hbm",
        bytes=8,
        tile_bytes=8,
        depth_bytes=8,
        why="not fused",
    )
    made = plan(block("b", [A, after], [W], buffers=[buffer]), prefetch=False)
    # Written from 53 to 61 and 5 later there; read from 66 to 74 and 5 later there.
    assert cycles(made) == 79 + 2


def test_sections_that_take_turns_are_loaded() -> None:
    after = stage("c", barrier("a"), latency=2.0)
    parts = [section("front", ["a"]), section("back", ["c"])]
    steps: list[Step] = [
        step
        for part in ("front", "back")
        for step in (Configure(section=part, cycles=1000.0), Execute(block="b", section=part))
    ]
    made = plan(block("b", [A, after], [W]), sections=parts, steps=steps)
    assert cycles(made) == 1000 + 53 + 1000 + 2


def test_a_section_that_stays_is_loaded_once() -> None:
    steps: list[Step] = [Configure(section="all", cycles=1000.0), Execute(block="b", section="all")]
    assert cycles(plan(block("b", [A], [W]), steps=steps, prefetch=False)) == 53


def test_where_the_cycles_of_a_stage_go() -> None:
    after = stage("c", follows("a"), work=20.0, latency=2.0)
    made = plan(block("b", [A, after], [W]), prefetch=False, overhead=7.0)
    first, second = simulate(made, SPEEDS).stages
    # a: taking 20 and 3 more; waiting for tiles the rest of its 53; then idle.
    assert (first.busy_cycles, first.starved_cycles, first.stalled_cycles) == (23, 30, 0)
    assert first.idle_cycles == 62 - 53
    # c: from 23, 20 of work, waiting for the end of a at 53, 2 more.
    assert (second.busy_cycles, second.starved_cycles, second.stalled_cycles) == (22, 0, 10)


def test_the_result_in_numbers() -> None:
    result = simulate(plan(block("b", [A], [W]), batch=3), SPEEDS)
    assert result.tpot_us == 40
    assert result.tokens_per_s == 3 / 40e-6
    assert result.bytes_read == 40
    assert result.mbu == 1.0
    assert result.energy_j == pytest.approx(2.0 * 40e-6)
    assert result.bottleneck.why == "hbm 100 % busy"
    (hbm, ddr) = result.queues
    assert (hbm.busy_cycles, hbm.idle_cycles, ddr.busy_cycles) == (40, 0, 0)
    (of,) = result.blocks
    assert (of.iterations, of.memory_cycles, of.chain_cycles, of.chain) == (1, 40, 23, ("a",))
