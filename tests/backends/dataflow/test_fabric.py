"""A target's grid in cycles and bytes, and where things stand on it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc import targets
from hetc.backends.dataflow.fabric import fabric_of
from hetc.backends.dataflow.mesh import half_of, mesh_of, port_number, switch_of
from hetc.errors import TargetError

DATAFLOW = ["blackhole", "grid-8x8", "plasticine", "sn40l", "sn50", "wormhole"]


def test_sn40l_in_cycles() -> None:
    fabric = fabric_of(targets.load("sn40l:8"))
    assert (fabric.sockets, fabric.columns, fabric.rows) == (8, 52, 40)
    assert (fabric.lanes_x, fabric.lanes_y, fabric.lanes) == (26, 40, 1040)
    assert fabric.macs_per_cycle == {"bf16": 192, "f32": 96, "f8": 192}
    assert fabric.pcu_lanes * fabric.pcu_stages == fabric.macs_per_cycle["bf16"]
    hbm = fabric.tiers[fabric.main_memory]
    assert hbm.peak_bytes_per_cycle == pytest.approx(1125)
    assert hbm.bytes_per_cycle == pytest.approx(1125 * 0.85)
    assert fabric.memory_latency_cycles == 960
    assert fabric.reconfigure_cycles == 16_000
    assert fabric.peer is not None
    assert fabric.peer.peak_bytes_per_cycle == pytest.approx(78.125)
    assert fabric.peer.latency_cycles == 1600
    # Sixteen ports on either edge, spread over the rows.
    assert len(set(fabric.ports)) == 32
    assert [x for x, _ in fabric.ports] == [0] * 16 + [51] * 16
    assert [y for _, y in fabric.ports[:4]] == [1, 3, 6, 8]


@pytest.mark.parametrize("name", DATAFLOW)
def test_every_dataflow_target_has_a_fabric(name: str) -> None:
    fabric = fabric_of(targets.load(name))
    grid = targets.load(name).device.grid
    assert grid is not None
    assert fabric.lanes == grid.compute_units.value, "every unit is in a lane"
    assert len(fabric.ports) == grid.memory_ports.value
    assert all(0 <= x < fabric.columns and 0 <= y < fabric.rows for x, y in fabric.ports)
    lanes = [(x, y) for x in range(fabric.lanes_x) for y in range(fabric.lanes_y)]
    assert sum(fabric.usable(*site) for site in lanes) == fabric.lanes
    assert not fabric.usable(-1, 0)


def test_a_target_without_a_grid_says_what_to_do() -> None:
    with pytest.raises(TargetError, match="HETC-T013") as caught:
        fabric_of(targets.load("h200"))
    assert "describe the grid" in caught.value.do


@pytest.mark.parametrize("name", DATAFLOW)
def test_no_two_units_share_a_switch_but_on_tiles(name: str) -> None:
    fabric = fabric_of(targets.load(name))
    sites = [(x, y) for x in range(fabric.lanes_x) for y in range(fabric.lanes_y)]
    pcus = [switch_of(fabric, site, "pcu") for site in sites]
    pmus = [switch_of(fabric, site, "pmu") for site in sites]
    assert len(set(pcus)) == len(set(pmus)) == len(sites)
    if fabric.layout == "tiles":
        assert pcus == pmus == sites
    else:
        assert not set(pcus) & set(pmus)
        assert {(x + y) % 2 for x, y in pcus} == {0}, "a checkerboard"


def test_data_enters_a_lane_at_its_memory_and_leaves_its_compute_unit() -> None:
    assert half_of("a.w3", entering=True, kind="memory") == "pmu"
    assert half_of("a.w3", entering=True, kind="operand") == "pcu"
    assert half_of("a.w3", entering=False, kind="gather") == "pcu"
    assert half_of("layers.0.a.r1", entering=True, kind="gather") == "pcu"
    assert half_of("a.x0", entering=True, kind="activation") == "pmu"
    assert [port_number(name) for name in ("port.5", "peer.12")] == [5, 12]
    assert [port_number(name) for name in ("a.w5", "port.x", "port")] == [None] * 3


@given(st.lists(st.sampled_from("ENWS"), min_size=1, max_size=40), st.integers(0, 63))
def test_run_length_paths_read_back(letters: list[str], start: int) -> None:
    mesh = mesh_of(fabric_of(targets.load("grid-8x8")))
    links, here = [], start
    for letter in letters:
        link = 4 * here + "ENWS".index(letter)
        if mesh.ends[link] >= 0:
            links.append(link)
            here = mesh.ends[link]
    if links:
        x, y, runs = mesh.path(links)
        assert mesh.links((x, y, runs)) == links
        assert (x, y) == (start % 8, start // 8)


@pytest.mark.parametrize("path", [(0, 0, "W1"), (8, 0, "E1"), (0, 0, "E1X2"), (0, 0, "E0")])
def test_paths_that_cannot_be(path: tuple[int, int, str]) -> None:
    with pytest.raises(ValueError, match=r"grid|runs"):
        mesh_of(fabric_of(targets.load("grid-8x8"))).links(path)


def test_a_torus_closes_its_rows_and_columns() -> None:
    mesh = mesh_of(fabric_of(targets.load("wormhole")))
    assert (mesh.columns, mesh.rows) == (9, 8)
    assert min(mesh.ends) >= 0
    (last,) = mesh.links((8, 0, "E1"))
    assert mesh.ends[last] == 0
    assert mesh.wrapping(last)
    assert not any(mesh.wrapping(link) for link in mesh.links((0, 0, "E8S7")))
