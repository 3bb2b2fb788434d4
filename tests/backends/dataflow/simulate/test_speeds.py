from __future__ import annotations

import pytest

from hetc import targets
from hetc.backends.dataflow.simulate import speeds_of


def test_the_speeds_of_a_socket() -> None:
    speeds = speeds_of(targets.load("sn40l:8"))
    hbm, ddr = speeds.memories["hbm"], speeds.memories["ddr"]
    assert hbm.bytes_per_cycle == 1125.0
    assert hbm.sustained == 0.85 * 1125.0
    assert hbm.latency_cycles == pytest.approx(960.0)
    assert ddr.bytes_per_cycle == 125.0
    assert (speeds.port_bytes_per_cycle, speeds.power_w) == (64.0, 625.0)
    assert speeds.us(1600.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("name", "main"), [("wormhole", "dram"), ("plasticine", "ddr")])
def test_the_main_memory_by_its_name_in_a_plan(name: str, main: str) -> None:
    target = targets.load(name)
    speeds = speeds_of(target)
    assert speeds.main_memory == main
    memory = target.device.memory()
    expected = memory.bandwidth.value / speeds.clock_hz
    assert speeds.memories[main].bytes_per_cycle == expected
