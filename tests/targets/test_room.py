"""How much a machine may be given to hold."""

from __future__ import annotations

from hetc.targets import load


def test_a_dataflow_machine_may_hold_as_much_again_behind_its_main_memory() -> None:
    machine = load("sn40l:8")
    assert machine.room_bytes == 2 * machine.capacity_bytes()


def test_a_small_tier_behind_counts_as_it_is() -> None:
    assert load("grid-8x8").room_bytes == load("grid-8x8").capacity_bytes()


def test_a_gpu_holds_what_its_memory_holds() -> None:
    assert load("h200:2").room_bytes == load("h200:2").capacity_bytes()
