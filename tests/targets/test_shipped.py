"""The files that come with hetc: valid, documented, with the numbers of the data sheets."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hetc import targets
from hetc.targets.document import document, refreshed
from hetc.targets.files import shipped_files
from tests.golden import Golden

GPUS = ["a100-40", "a100-80", "b200", "b300", "gh200", "h100", "h200", "l40s"]
# Their matrix engines have modes of lower precision, faster than the rate of any listed format.
FASTER_MODES = ["blackhole", "wormhole"]
DATAFLOW = ["blackhole", "grid-8x8", "plasticine", "sn40l", "sn50", "wormhole"]
PAGE = Path(__file__).parents[2] / "docs" / "targets.md"


def test_names_are_the_promised_ones() -> None:
    assert targets.names() == sorted([*GPUS, *DATAFLOW, "host"])


@pytest.mark.parametrize("name", [*GPUS, *DATAFLOW])
def test_file_is_valid_and_named_after_its_device(name: str) -> None:
    assert targets.check(str(shipped_files()[name])) == []
    machine = targets.load(name)
    assert machine.name == name
    assert machine.kind == ("gpu" if name in GPUS else "dataflow")


@pytest.mark.parametrize("name", [*GPUS, *DATAFLOW])
def test_every_value_lies_between_physical_limits(name: str) -> None:
    machine = targets.load(name)
    tiers = [memory.bandwidth.value for memory in machine.device.memories]
    assert tiers == sorted(tiers, reverse=True), "tiers go from near to far"
    assert 5e10 <= machine.peak_bandwidth() <= 3e13
    assert machine.peak_rate("bf16") >= machine.peak_rate("f32")
    assert 5 < machine.ridge("bf16") < 1000


@pytest.mark.parametrize("name", DATAFLOW)
def test_grid_holds_the_sram_and_computes_no_less_than_the_peak_needs(name: str) -> None:
    device = targets.load(name).device
    grid = device.grid
    assert grid is not None
    sram = grid.memory_units.value * grid.memory_unit_bytes.value
    assert sram == pytest.approx(device.memory("sram").bytes.value, rel=0.01)
    assert device.units is not None
    assert device.units.value == grid.compute_units.value
    ports = grid.memory_ports.value * grid.port_bytes_per_cycle.value * grid.clock_hz.value
    assert ports >= device.memory().bandwidth.value, "the ports can carry the main memory's stream"
    reads = grid.memory_units.value * grid.memory_unit_bytes_per_cycle.value * grid.clock_hz.value
    assert reads == pytest.approx(device.memory("sram").bandwidth.value, rel=0.01)
    assert grid.reconfigure_us.range is not None


@pytest.mark.parametrize("name", [name for name in DATAFLOW if name not in FASTER_MODES])
def test_lanes_and_stages_reproduce_the_peak(name: str) -> None:
    device = targets.load(name).device
    grid = device.grid
    assert grid is not None
    macs = grid.compute_units.value * grid.compute_lanes.value * grid.compute_stages.value
    assert 2 * macs * grid.clock_hz.value == pytest.approx(device.rate("bf16").value, rel=0.01)


def test_published_numbers() -> None:
    h200, sn40l = targets.load("h200"), targets.load("sn40l")
    assert (h200.capacity_bytes(), h200.peak_bandwidth()) == (141_000_000_000, 4.8e12)
    assert h200.peak_rate("bf16") == 989e12
    assert (sn40l.capacity_bytes(), sn40l.capacity_bytes("ddr")) == (64 << 30, 3 << 39)
    assert sn40l.capacity_bytes("sram") == 520 << 20
    assert sn40l.device.memory().bandwidth.range == (1.6e12, 2.0e12)


def test_no_number_without_grounds() -> None:
    def grounds(entry: object, path: str) -> None:
        if isinstance(entry, dict) and "value" in entry:
            assert "source" in entry or {"range", "why"} <= entry.keys(), path
        elif isinstance(entry, dict):
            for key, value in entry.items():
                grounds(value, f"{path}.{key}")
        else:
            assert isinstance(entry, str | list), f"{path}: a bare number"

    for name, file in shipped_files().items():
        grounds(tomllib.loads(file.read_text("utf-8")), name)


def test_links() -> None:
    pcie5 = targets.load_link("pcie5")
    assert pcie5.bandwidth.value == 63.0e9
    assert pcie5.seconds(0) == pytest.approx(1.5e-6)
    assert pcie5.seconds(63.0e9 * 0.85) == pytest.approx(1.0 + 1.5e-6)
    assert {
        "pcie4",
        "pcie5",
        "pcie6",
        "nvlink4",
        "ethernet100",
        "ethernet400",
        "ethernet800",
    } <= set(targets.link_names())
    assert "infiniband-ndr" in targets.link_names()
    for name in targets.link_names():
        assert targets.load_link(name).sustained_bandwidth > 0


@pytest.mark.parametrize("given", [25, 25.0, "25", "2.5e1"])
def test_a_link_may_be_a_number_of_gigabytes_a_second(given: str | float) -> None:
    link = targets.load_link(given)
    assert (link.name, link.sustained_bandwidth) == ("25GB/s", 25e9)
    assert link.latency_us.assumed


def test_page_holds_the_current_numbers() -> None:
    page = PAGE.read_text("utf-8")
    assert document() in page, "docs/targets.md is out of date; the page says how to renew it"
    assert refreshed(page) == page


def test_example_file_of_the_page_is_valid(tmp_path: Path) -> None:
    example = PAGE.read_text("utf-8").split("```toml\n")[1].split("```")[0]
    file = tmp_path / "my-chip.toml"
    file.write_text(example, "utf-8")
    assert targets.check(file) == []
    machine = targets.load(f"{file}:4")
    assert (machine.name, machine.capacity_bytes()) == ("my-chip:4", 128_000_000_000)


def test_description_shows_value_unit_and_source() -> None:
    rows = targets.describe(targets.load("grid-8x8:4"))
    by_label = {label: (value, unit, source) for label, value, unit, source in rows}
    assert by_label["hbm (main)"] == ("4", "GiB", "fictional, chosen for tests")
    assert by_label["bf16 dense"] == ("2.048", "TFLOP/s", "fictional, chosen for tests")
    assert by_label["bf16 dense, all"][:2] == ("8.192", "TFLOP/s")
    assert by_label["capacity, all"][:2] == ("16", "GiB")
    sn40l = {row[0]: row for row in targets.describe(targets.load("sn40l"))}
    assert sn40l["grid hop_cycles"][3].startswith("assumed, range 1 cycle to 10 cycle")


def test_description_of_a_dataflow_machine(golden: Golden) -> None:
    rows = targets.describe(targets.load("sn40l:16"))
    golden("sn40l-16.txt", "\n".join(" | ".join(row).rstrip(" |") for row in rows))
