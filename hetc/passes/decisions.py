"""Decision records: for every op and every transfer, where it is, why, and what would change it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hetc.passes.cost import OpCost, Work
from hetc.passes.mark import Mark, mark_of, mark_op
from hetc.passes.op_times import Times, op_times
from hetc.passes.partition import Cut, Transfer
from hetc.passes.partition_layout import ROLES
from hetc.passes.partition_moves import Move, moves
from hetc.passes.workload import Phase

SCHEMA = "hetc.decisions/1"
INSPECTED = (
    *("name", "kind", "phase", "device", "mark", "flops", "bytes_read", "bytes_written"),
    *("intensity", "crossover", "reason"),
)

Record = dict[str, Any]


@dataclass(frozen=True)
class ReasonCode:
    """A stable code and the sentence that it stands for; `{...}` are filled in."""

    code: str
    text: str

    def fill(self, **facts: str) -> dict[str, str]:
        return {"code": self.code, "text": self.text.format(**facts)}


PINNED = ReasonCode("HETC-P100", "pinned to the {device} device by {glob}")
CANNOT = ReasonCode("HETC-P101", "the {other} device cannot run it: {why}")
FASTER = ReasonCode("HETC-P102", "faster on {target} than on {other_target}")
TRANSFERS = ReasonCode(
    "HETC-P103", "slower on {target} than on {other_target}, but moving it costs more in transfers"
)
CAPACITY = ReasonCode("HETC-P104", "{other_target} would be faster, but its memory is full")
FUSED = ReasonCode("HETC-P105", "runs inside the kernel of {host}")
FALLBACK = ReasonCode("HETC-P106", "no device can run it: {why}")
EQUAL = ReasonCode("HETC-P107", "no faster on {other_target}")
TOGETHER = ReasonCode("HETC-P108", "moves only with its neighbours: {target} is best for them all")
HANDOFF = ReasonCode(
    "HETC-P120", "prefill leaves state on {source} that decode reads on {destination}"
)
CROSSES = ReasonCode("HETC-P121", "made on {source} and read on {destination}")
CARRIED = ReasonCode("HETC-P122", "state written on {source} and read on {destination} every token")
# Seconds that rounding may make of nothing.
_NOISE = 1e-12
_TRANSFER_REASONS = {"handoff": HANDOFF, "activation": CROSSES, "carried": CARRIED}


def decide(cut: Cut) -> Record:
    """Everything that was decided, as JSON values: `ops`, `transfers`, the cut and the workload.

    Ops are in the order of their graphs, prefill first; views, which take nothing anywhere, have no
    record. Times are estimated seconds of one execution (`seconds`) or of the workload
    (`counterfactual`).
    """
    return {
        "schema": SCHEMA,
        "estimated": True,
        "workload": cut.workload.record(),
        "devices": {role: target.name for role, target in cut.devices.items()},
        "link": cut.link.name,
        "cut": _cut_record(cut),
        "ops": _op_records(cut),
        "transfers": [_transfer_record(cut, transfer) for transfer in cut.transfers],
    }


def inspected(decisions: Mapping[str, Any]) -> list[Record]:
    """The rows of `hetc inspect --json`: a part of every op's record."""
    return [{key: record[key] for key in INSPECTED} for record in decisions["ops"]]


def _cut_record(cut: Cut) -> Record:
    return {
        "method": cut.method,
        "seconds": cut.seconds_total,
        "lower_bound_seconds": cut.lower_bound,
        "gap": cut.gap,
        "phase_seconds": dict(cut.phase_seconds),
        "alternatives_seconds": dict(cut.alternatives),
        "held_bytes": {role: round(nbytes) for role, nbytes in cut.held_bytes.items()},
        "flips": [
            {"size": f.size, "at": f.at, "winner": f.winner, "until": f.until, "present": f.present}
            for f in cut.flips
        ],
    }


def _op_records(cut: Cut) -> list[Record]:
    marks: dict[tuple[Phase, Work], Mapping[Phase, Mark]] = {}
    moved = moves(cut.problem, cut.nodes)
    arriving = _arriving(cut)
    records = []
    for phase in cut.layout.phases:
        bindings = cut.workload.bindings(phase)
        for cost in cut.layout.costs[phase]:
            if cost.work.is_free:
                continue
            known = marks.get((phase, cost.work))
            if known is None:
                known = marks[phase, cost.work] = {
                    role: mark_op(cost.work, target, phase, bindings)
                    for role, target in cut.devices.items()
                }
            node = cut.layout.home[phase, cost.index]
            records.append(_op_record(cut, cost, known, moved[node], arriving.get(node, 0.0)))
    return records


def _arriving(cut: Cut) -> dict[int, float]:
    """Node -> seconds that one execution of it waits for tensors from the other device."""
    waits: dict[int, float] = {}
    net, source, destination = cut.problem.crossings(cut.nodes)
    seconds = cut.problem.crossing_seconds(net, source, destination)
    for number, device, taken in zip(net, destination, seconds, strict=True):
        for node in cut.problem.nets[number].consumers:
            if cut.nodes[node] == device:
                phase = cut.layout.phases[int(cut.layout.phase_of[node])]
                once = float(taken) / cut.workload.executions(phase)
                waits[node] = waits.get(node, 0.0) + once
                # The first that reads it waits; the others find it there.
                break
    return waits


def _op_record(
    cut: Cut, cost: OpCost, marks: Mapping[Phase, Mark], move: Move, wait: float
) -> Record:
    role = cut.assignment[cost.phase, cost.index]
    bindings = cut.workload.bindings(cost.phase)
    amounts = cost.work.at(bindings)
    node = cut.layout.home[cost.phase, cost.index]
    members = cut.layout.members[node]
    host = next((member for member in members if member.work.launches), members[0])
    leads = host is cost
    here = _waiting(marks[role], wait if leads else 0.0)
    reason = _reason(cut, cost, host, move)
    return {
        "name": cost.name,
        "kind": cost.kind,
        "phase": cost.phase,
        "device": cut.devices[role].name,
        "role": role,
        "fused_into": None if leads else host.name,
        "mark": mark_of(here),
        "flops": round(amounts.flops),
        "bytes_read": round(amounts.bytes_read),
        "bytes_written": round(amounts.bytes_written),
        "weight_bytes": round(amounts.weight_bytes),
        "state_bytes": round(amounts.state_bytes),
        "intensity": amounts.intensity,
        "ridge": marks[role].ridge,
        "crossover": [
            {"size": c.size, "until": c.until, "at": c.at, "mark": c.mark}
            for c in marks[role].crossovers
        ],
        "marks": {name: mark.kind for name, mark in marks.items()},
        "seconds": {
            name: op_times(cost.work, amounts, target).seconds
            for name, target in cut.devices.items()
        },
        "times": _times_record(here),
        "cannot": {name: str(why) for name, why in cut.rules.reasons(cost).items()},
        "counterfactual": _counterfactual(cut, cost, role, move) if leads else None,
        "reason": reason,
    }


def _waiting(mark: Mark, wait: float) -> Times:
    return replace(mark.times, link_s=mark.times.link_s + wait)


def _times_record(times: Times) -> Record:
    return {
        "compute_s": times.compute_s,
        "memory_s": times.memory_s,
        "link_s": times.link_s,
        "latency_s": times.latency_s,
    }


def _other(role: Phase) -> Phase:
    return ROLES[1 - ROLES.index(role)]


def _counterfactual(cut: Cut, cost: OpCost, role: Phase, move: Move) -> Record:
    """What moving the op and what is fused into it, alone, would change over the workload."""
    other = _other(role)
    return {
        "device": cut.devices[other].name,
        "role": other,
        "delta_seconds": move.delta,
        "work_delta_seconds": move.work,
        "transfer_delta_seconds": move.wire + move.latency,
        "allowed": move.allowed,
        "fits": move.fits,
        "flips": _what_flips(cut, cost, role, move),
    }


def _what_flips(cut: Cut, cost: OpCost, role: Phase, move: Move) -> str:
    """The pin, capability, memory or link with which the op would be on the other device."""
    if _other(role) in cut.rules.reasons(cost):
        return "a device that can run it there"
    if move.delta < -_NOISE:
        if cut.rules.pin(cost):
            return "no pin"
        return "its neighbours, which it depends on" if move.fits else "more memory there"
    saved = -(move.work + move.latency)
    if saved > 0 and move.wire > 0:
        gbps = cut.link.bandwidth.value / 1e9 * move.wire / saved
        return f"a link of at least {gbps:,.3g} GB/s"
    if move.work >= 0:
        return "no link: it is not faster there"
    return "no link: its latency alone costs more than the op would gain"


def _reason(cut: Cut, cost: OpCost, host: OpCost, move: Move) -> dict[str, str]:
    role = cut.assignment[cost.phase, cost.index]
    other = _other(role)
    names = {"target": cut.devices[role].name, "other_target": cut.devices[other].name}
    reasons = cut.rules.reasons(cost)
    glob = cut.rules.pin(cost)
    if role in reasons:
        return FALLBACK.fill(why="; ".join(map(str, reasons.values())))
    if glob:
        return PINNED.fill(device=role, glob=glob)
    if other in reasons:
        return CANNOT.fill(other=other, why=str(reasons[other]))
    if host is not cost:
        return FUSED.fill(host=host.name)
    if move.delta < -_NOISE:
        return CAPACITY.fill(**names) if not move.fits else TOGETHER.fill(**names)
    if move.work > 0:
        return FASTER.fill(**names)
    if move.work < 0:
        return TRANSFERS.fill(**names)
    return EQUAL.fill(**names)


def _transfer_record(cut: Cut, transfer: Transfer) -> Record:
    source, destination = cut.devices[transfer.source].name, cut.devices[transfer.destination].name
    reason = _TRANSFER_REASONS[transfer.kind].fill(source=source, destination=destination)
    return {
        "kind": transfer.kind,
        "name": transfer.name,
        "phase": transfer.phase,
        "source": source,
        "destination": destination,
        "bytes": transfer.nbytes,
        "times": transfer.times,
        "seconds": transfer.seconds,
        "reason": reason,
    }


def find(decisions: Mapping[str, Any], name: str) -> list[Record]:
    """The records of an op in both phases, or those of the transfers that carry the name."""
    everything: Iterable[Record] = (*decisions["ops"], *decisions["transfers"])
    return [record for record in everything if record["name"] == name]
