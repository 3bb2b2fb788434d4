from __future__ import annotations

import json
from typing import Any

import pytest

from hetc.backends.dataflow.simulate import MemorySpeed, Speeds, simulate, trace
from tests.backends.dataflow.plans import (
    Decoder,
    barrier,
    block,
    decoder,
    exchange,
    plan,
    stage,
    stream,
)
from tests.backends.dataflow.simulate.sn40l import SN40L

SPEEDS = Speeds(
    clock_hz=1e6,
    main_memory="hbm",
    memories={"hbm": MemorySpeed(1.0, 1.0, 5.0)},
    port_bytes_per_cycle=1.0,
)


def lanes(events: list[dict[str, Any]]) -> dict[str, list[tuple[str, float, float]]]:
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    found: dict[str, list[tuple[str, float, float]]] = {name: [] for name in names.values()}
    for event in events:
        if event["ph"] == "X":
            found[names[event["tid"]]].append((event["name"], event["ts"], event["dur"]))
    return found


def test_a_token_by_hand() -> None:
    a = stage("a", streams=["w"], rate=2.0, latency=3.0)
    r = stage("r", barrier("a"), collective=exchange(16.0, latency=7.0))
    w = stream("w", "a", 20, tile=10)
    events = trace(plan(block("b", [a, r], [w]), prefetch=False), SPEEDS)["traceEvents"]
    found = lanes(events)
    assert found["a"] == [("a", 0, 33), ("w", 15, 5), ("w", 25, 5)]
    assert found["hbm"] == [("w", 0, 20)]
    assert found["r"] == [("r", 33, 23)]
    assert found["peer link"] == [("r", 33, 16)]
    counted = [(e["ts"], e["args"]["held"]) for e in events if e["ph"] == "C"]
    assert counted == [(0, 10), (10, 20), (20, 10), (30, 0)]


def test_a_decoder() -> None:
    shape = decoder(Decoder(layers=4))
    result = simulate(shape, SN40L)
    made = trace(shape, SN40L)
    events = made["traceEvents"]
    json.dumps(made)
    ends = [event["ts"] + event["dur"] for event in events if event["ph"] == "X"]
    assert max(ends) == pytest.approx(result.tpot_us)
    served = [dur for _, _, dur in lanes(events)["hbm"]]
    (hbm,) = (queue for queue in result.queues if queue.tier == "hbm")
    # A stream's slice is from its first tile to its last, with what it waits between.
    assert sum(served) >= SN40L.us(hbm.busy_cycles) * (1 - 1e-9)
    held = {event["name"]: event["args"]["held"] for event in events if event["ph"] == "C"}
    assert set(held.values()) == {0}
