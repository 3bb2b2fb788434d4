"""Row groups with pen and paper, on the machine of test_by_hand.py.

A pass of `a` takes 40 bytes in 4 tiles at 2 bytes a cycle, 20 cycles, and ends 3 cycles later.
"""

from __future__ import annotations

import pytest

from hetc.backends.dataflow.schema import Append, Block, Stage, Stream
from hetc.backends.dataflow.simulate import simulate, timeline, trace
from hetc.errors import BackendError
from tests.backends.dataflow.plans import barrier, block, exchange, plan, stage, stream
from tests.backends.dataflow.simulate.test_by_hand import SPEEDS, A, W, cycles


def grouped(*stages: Stage, streams: tuple[Stream, ...] = (W,), repeat: int = 1) -> Block:
    return block("b", stages, streams, repeat=repeat, row_groups=2)


def cold(*stages: Stage, streams: tuple[Stream, ...] = (W,)) -> float:
    return cycles(plan(grouped(*stages, streams=streams), prefetch=False))


def test_the_second_group_takes_what_is_there_as_soon_as_the_units_are_free() -> None:
    """All is there at 45 and taken at 50; again at 70, and out at 73."""
    assert cold(A) == 73


def test_stages_work_side_by_side_on_groups() -> None:
    """`b` works on the first group from 53 to 63, on the second from 73 to 83."""
    assert cold(A, stage("b", barrier("a"), work=10.0)) == 83
    # Longer than a pass of `a`: from 53 to 103 and to 153.
    assert cold(A, stage("b", barrier("a"), work=50.0)) == 153


def test_a_state_comes_in_parts() -> None:
    """Tiles at 15 and 25 for the first group, at 35 and 45 for the second: 50 and 3 cycles."""
    state = stream("w", "a", 40, tile=10, depth=20, kind="state")
    assert cold(A, streams=(state,)) == 53


def test_an_iteration_takes_as_long_as_the_busiest_stage() -> None:
    """Twice 20 cycles of `a` and twice 30 of `b`, whatever their sum is; memory takes 40."""
    stages = (A, stage("b", barrier("a"), work=30.0))
    made = plan(grouped(*stages, streams=(stream("w", "a", 40, tile=10, depth=80),), repeat=50))
    # The pipeline fills and drains once a token: `a` before the first group, 23 cycles.
    assert cycles(made) == 50 * 60 + 23
    assert simulate(made, SPEEDS, mode="analytic").cycles == 50 * 60


def test_what_stays_keeps_its_room_until_the_last_group_has_passed() -> None:
    """With credits for one iteration, tiles of the next come as the second group lets them go."""
    tight = stream("w", "a", 40, tile=10, depth=40)
    result = simulate(plan(grouped(A, streams=(tight,), repeat=20)), SPEEDS)
    (use,) = result.streams
    assert use.peak_bytes == 40
    assert use.credit_cycles > 0
    wide = stream("w", "a", 40, tile=10, depth=80)
    assert cycles(plan(grouped(A, streams=(wide,), repeat=20))) < result.cycles


def test_exchanges_share_the_link_by_what_they_send() -> None:
    """Of 40 cycles on the wire for both groups one stage sends 30: three quarters of the link."""
    many = stage("r", barrier("a"), collective=exchange(30.0))
    few = stage("s", barrier("r"), collective=exchange(10.0))
    result = simulate(plan(grouped(A, many, few), prefetch=False), SPEEDS)
    # Half of what it sends by its share: 20 cycles each. r: 53 to 73, 73 to 93; s: 93 and 113.
    assert result.cycles == 113
    assert result.link_busy_cycles == 40


def test_rows_are_appended_group_by_group() -> None:
    rows = [Append(stage="a", tensor="w", op=0, bytes=10)]
    made = block("b", [A], [W], repeat=4, appends=rows, row_groups=2)
    hbm = simulate(plan(made), SPEEDS).queues[0]
    assert (hbm.tier, hbm.bytes_written) == ("hbm", 40)


def test_a_stream_must_hold_what_all_groups_take() -> None:
    with pytest.raises(BackendError) as refused:
        simulate(plan(grouped(A, streams=(stream("w", "a", 40, tile=10, depth=30),))), SPEEDS)
    assert refused.value.code == "HETC-L103"
    assert refused.value.expected == "depth_bytes of at least 40"


def test_a_state_must_have_equal_parts() -> None:
    odd = stream("w", "a", 41, tile=10, kind="state")
    with pytest.raises(BackendError) as refused:
        simulate(plan(grouped(A, streams=(odd,))), SPEEDS)
    assert refused.value.code == "HETC-L105"


def test_the_trace_and_the_timeline_tell_every_pass() -> None:
    many = [stage(name, barrier("a"), collective=exchange(10.0)) for name in "rs"]
    made = plan(grouped(A, *many, repeat=4))
    events = trace(made, SPEEDS)["traceEvents"]
    lanes = {event["args"]["name"]: event["tid"] for event in events if event["ph"] == "M"}
    assert {"peer link", "peer link, share of r", "peer link, share of s"} <= lanes.keys()
    passes = [e for e in events if e["ph"] == "X" and e["tid"] == lanes["a"] and e["name"] == "a"]
    assert len(passes) == 2 * 4
    (lane,) = [lane for lane in timeline(made, SPEEDS).lanes if lane.name == "a"]
    assert len(lane.spans["busy"]) >= 2 * 4 * 4
