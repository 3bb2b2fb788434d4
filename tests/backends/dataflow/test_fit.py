"""What stages take of a socket, and what is missing."""

from __future__ import annotations

import msgspec

from hetc import targets
from hetc.backends.dataflow.fit import LEVERS, Capacity, capacity_of, demand_of, fit, total
from hetc.backends.dataflow.schema import Buffer, Stage, Stream, Units


def stage(name: str, **units: int) -> Stage:
    return Stage(
        id=name,
        name=name,
        template="gemv",
        ops=(),
        bound="memory",
        units=Units(**units),
        rate_bytes_per_cycle=64,
        work_cycles=0,
        latency_cycles=0,
    )


def stream(name: str, depth: int, *ports: int) -> Stream:
    return Stream(
        id=f"{name}:w",
        stage=name,
        tensors=("w",),
        kind="weight",
        tier="hbm",
        bytes=depth,
        tile_bytes=depth,
        depth_bytes=depth,
        ports=ports,
        why="",
    )


def buffer(producer: str, consumer: str, nbytes: int, depth: int) -> Buffer:
    return Buffer(
        id=producer,
        producer=producer,
        consumers=(consumer,),
        bytes=nbytes,
        tile_bytes=nbytes,
        depth_bytes=depth,
        why="",
    )


def test_units_and_bytes_of_a_stage() -> None:
    gemv = stage("a", lanes=4, x_copies=2, reducers=1, outputs=2)
    found = demand_of(gemv, [stream("a", 1000, 0, 1)], [buffer("a", "b", 60, 90)])
    assert (found.pcus, found.pmus) == (5, 8)
    assert found.sram_bytes == 1000 + 90
    assert found.pmu_bytes == 250, "credits lie with the lanes, evenly"
    assert found.ports == {0, 1}


def test_each_region_of_lanes_has_a_copy_of_what_the_producer_may_send_ahead() -> None:
    copied = stage("b", lanes=40, x_copies=3)
    ahead = demand_of(copied, [], [buffer("a", "b", 60, 90)])
    assert (ahead.sram_bytes, ahead.pmu_bytes) == (3 * 60, 60)
    assert demand_of(copied, [], [buffer("a", "b", 60, 20)]).sram_bytes == 3 * 20
    halves = msgspec.structs.replace(copied, split_rows=2)
    assert demand_of(halves, [], [buffer("a", "b", 60, 90)]).sram_bytes == 2 * 60
    assert demand_of(stage("b", lanes=1), [], [buffer("a", "b", 60, 90)]).sram_bytes == 0


def test_results_lie_with_the_lanes_where_there_are_no_outputs() -> None:
    plain = stage("a", lanes=2)
    assert demand_of(plain, [stream("a", 100)], [buffer("a", "b", 60, 60)]).pmu_bytes == 80
    through_memory = msgspec.structs.replace(buffer("a", "b", 60, 60), tier="hbm")
    assert demand_of(plain, [], [through_memory]).sram_bytes == 0
    assert demand_of(stage("a", lanes=0), [stream("a", 100)], []).pmu_bytes == 100


def test_stages_add_up_and_share_ports() -> None:
    one = demand_of(stage("a", lanes=2), [stream("a", 100, 0, 1)], [])
    other = demand_of(stage("b", lanes=1), [stream("b", 90, 1, 2)], [])
    both = total([one, other])
    assert both == one + other
    assert (both.pcus, both.sram_bytes, both.pmu_bytes, both.fullest) == (3, 190, 90, "b")
    assert both.ports == {0, 1, 2}


def test_every_shortfall_is_told() -> None:
    demand = demand_of(stage("a", lanes=4), [stream("a", 1000, 0, 1)], [])
    assert fit(demand, Capacity(pcus=4, pmus=4, pmu_bytes=250, ports=2)) == ()
    short = fit(demand, Capacity(pcus=3, pmus=2, pmu_bytes=249, ports=1))
    assert [(item.resource, item.place, item.shortfall) for item in short] == [
        ("compute units", "", 1),
        ("memory units", "", 2),
        ("SRAM", "", 502),
        ("memory unit", "a", 1),
        ("memory ports", "", 1),
    ]
    assert {item.resource for item in short} == LEVERS.keys()
    assert all(item.lever for item in short)


def test_the_capacity_of_a_target_leaves_a_reserve() -> None:
    grid = targets.load("grid-8x8").device.grid
    assert grid is not None
    assert capacity_of(grid) == Capacity(pcus=32, pmus=32, pmu_bytes=262144 * 31 // 32, ports=4)
