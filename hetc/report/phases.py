"""What the decisions come to for a whole phase: devices, work, time, and what limits it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hetc.report.fold import own_seconds

PHASES = ("prefill", "decode")
MARKS = ("compute", "memory", "link", "latency")


@dataclass(frozen=True)
class PhaseFacts:
    """One phase in numbers, for one execution: the whole prompt, or one decode step.

    `devices` maps the targets that run it to their number of ops, the busiest first; `shares` maps
    marks to their part of the time of all ops. `stored_bytes` are the weights and the state that
    are read; `seconds` is estimated and holds transfers too.
    """

    phase: str
    devices: Mapping[str, int]
    shares: Mapping[str, float]
    flops: float
    stored_bytes: float
    seconds: float

    @property
    def ops(self) -> int:
        return sum(self.devices.values())


def phases_of(decisions: Mapping[str, Any]) -> tuple[str, ...]:
    """The phases of a decisions document: both, or `forward` of a model that has none."""
    return ("forward",) if "sizes" in decisions["workload"] else PHASES


def phase_facts(decisions: Mapping[str, Any], phase: str) -> PhaseFacts:
    """The facts of `phase` (`prefill`, `decode` or `forward`) in a decisions document."""
    records = [record for record in decisions["ops"] if record["phase"] == phase]
    by_device: dict[str, float] = defaultdict(float)
    by_mark: dict[str, float] = defaultdict(float)
    ops: dict[str, int] = defaultdict(int)
    for record in records:
        seconds = own_seconds(record)
        by_device[record["device"]] += seconds
        by_mark[record["mark"]] += seconds
        ops[record["device"]] += 1
    total = sum(by_mark.values()) or 1.0
    steps = decisions["workload"]["new_tokens"] if phase == "decode" else 1
    busiest = sorted(by_device, key=lambda name: (-by_device[name], name))
    return PhaseFacts(
        phase=phase,
        devices={name: ops[name] for name in busiest},
        shares={mark: by_mark[mark] / total for mark in MARKS if by_mark.get(mark)},
        flops=sum(record["flops"] for record in records),
        stored_bytes=sum(record["weight_bytes"] + record["state_bytes"] for record in records),
        seconds=decisions["cut"]["phase_seconds"][phase] / steps,
    )
