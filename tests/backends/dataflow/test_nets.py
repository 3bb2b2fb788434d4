"""Stages and flows in, trees with one source or one sink out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc import targets
from hetc.backends.dataflow.fabric import fabric_of
from hetc.backends.dataflow.nets import Flow, Net, StageUnits, build_nets, chunk
from hetc.errors import PlanError
from tests.backends.dataflow.layers import sections
from tests.golden import Golden

GRID = fabric_of(targets.load("grid-8x8"))
GEMV = StageUnits("gemv", work=4, x_copies=2, reducers=2, outputs=1, ports=(0, 0, 3, 3))
NORM = StageUnits("norm", work=1)


def _line(net: Net) -> str:
    ends = f"{' '.join(net.sources)} > {' '.join(net.sinks)}"
    return f"{net.name}: {net.kind} {net.network}.{net.vc} {net.bytes_per_cycle} B/cycle {ends}"


def test_the_nets_of_two_stages(golden: Golden) -> None:
    flows = [
        Flow("norm", "gemv", 2.5),
        Flow("gemv", "norm", 7),
        Flow("gemv", "port.1", 0.25, "append"),
        Flow("peer.2", "norm", 8, "peer"),
    ]
    golden("nets.txt", "\n".join(_line(net) for net in build_nets(GRID, [GEMV, NORM], flows)))


def test_tiles_have_one_network_for_everything() -> None:
    tiles = fabric_of(targets.load("wormhole"))
    assert {net.network for net in build_nets(tiles, [GEMV], [])} == {"vector"}


@given(st.data())
def test_every_net_has_one_end_and_every_unit_a_net(data: st.DataObject) -> None:
    stages, flows = data.draw(sections(GRID))
    nets = build_nets(GRID, stages, flows)
    assert len({net.name for net in nets}) == len(nets)
    reached = {unit for net in nets for unit in (*net.sources, *net.sinks)}
    for net in nets:
        assert 1 in (len(net.sources), len(net.sinks))
        assert net.bytes_per_cycle >= 1
        assert not set(net.sources) & set(net.sinks)
    for stage in stages:
        assert not stage.ports or reached.issuperset(stage.units("w"))
        assert reached.issuperset(stage.units("r") + stage.units("x")[1:])


@given(st.integers(1, 60), st.integers(1, 80))
def test_chunks_cover_everything_and_none_is_empty(total: int, parts: int) -> None:
    runs = [chunk(total, parts, part) for part in range(parts)]
    assert all(runs)
    assert sorted({i for run in runs for i in run}) == list(range(total))
    if parts <= total:
        assert sum(map(len, runs)) == total


@pytest.mark.parametrize(
    ("stages", "flows", "code"),
    [
        ([NORM, NORM], [], "HETC-D101"),
        ([StageUnits("a", work=0)], [], "HETC-D102"),
        ([StageUnits("a", work=0, x_copies=1)], [], "HETC-D102"),
        ([StageUnits("a", work=2, ports=(0,))], [], "HETC-D102"),
        ([StageUnits("a", work=1, ports=(4,))], [], "HETC-D104"),
        ([NORM], [Flow("norm", "nowhere", 1)], "HETC-D103"),
        ([NORM], [Flow("norm", "port.4", 1)], "HETC-D104"),
        ([NORM], [Flow("norm", "port.0", 0)], "HETC-D103"),
        ([NORM], [Flow("norm", "port.0", 1, "gossip")], "HETC-D103"),
    ],
)
def test_contradictions(stages: list[StageUnits], flows: list[Flow], code: str) -> None:
    with pytest.raises(PlanError, match=code):
        build_nets(GRID, stages, flows)
