"""The tables of `hetc inspect`: a decisions document by op, by layer or by phase."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hetc.report.fold import FoldedOp, fold, layer_path, own_seconds, ranges
from hetc.report.phases import phase_facts, phases_of
from hetc.report.summary import sizes_text
from hetc.report.tables import Column, table
from hetc.report.units import amount, count, duration, percent, significant

Decisions = Mapping[str, Any]
Group = dict[str, Any]

_OPS = (
    Column("op"),
    Column("×", right=True),
    Column("kind", rank=5),
    Column("device"),
    Column("mark"),
    Column("flops", right=True, rank=3),
    Column("bytes", right=True, rank=2),
    Column("FLOP/B", right=True, rank=4),
    Column("time", right=True),
    Column("share", right=True, rank=1),
    Column("flips", rank=6),
)
_LAYERS = (
    Column("layer"),
    Column("×", right=True),
    Column("device"),
    Column("mark"),
    Column("ops", right=True, rank=3),
    Column("flops", right=True, rank=2),
    Column("bytes", right=True, rank=1),
    Column("time", right=True),
    Column("share", right=True),
)
_PHASES = (
    Column("phase"),
    Column("device"),
    Column("ops", right=True),
    Column("flops", right=True),
    Column("weights and state", right=True, rank=2),
    Column("marks", rank=1),
    Column("time", right=True),
)
_NEGLIGIBLE = 5e-4  # of its phase's time


def by_op(decisions: Decisions, width: int | None = None) -> str:
    """Every op of both phases, identical layers folded; flops and bytes of one, time of all.

    Ops that run inside a neighbour's kernel and take next to no time are counted, not listed.
    """
    return _both(decisions, lambda records: _op_table(records, width))


def by_layer(decisions: Decisions, width: int | None = None) -> str:
    """Every layer of both phases, identical ones folded; flops and bytes of one, time of all."""
    return _both(decisions, lambda records: _layer_table(layer_groups(records), width))


def by_phase(decisions: Decisions, width: int | None = None) -> str:
    """One row for each phase: the whole prompt, and one decode step."""
    rows = []
    for phase in phases_of(decisions):
        facts = phase_facts(decisions, phase)
        marks = ", ".join(f"{mark} {percent(share)}" for mark, share in facts.shares.items())
        rows.append(
            [
                phase,
                ", ".join(f"{name} ({number})" for name, number in facts.devices.items()),
                count(facts.ops),
                amount(facts.flops, "FLOP"),
                amount(facts.stored_bytes, "B"),
                marks,
                duration(facts.seconds),
            ]
        )
    return table(_PHASES, rows, width)


def layer_groups(records: Iterable[Mapping[str, Any]]) -> list[Group]:
    """The layers of one phase as JSON values, identical ones as one: `name`, `count`, `phase`,
    `device`, `mark` (the one that takes most time), `ops`, `flops`, `bytes` of one layer, and
    `seconds` of all."""
    layers: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        layers.setdefault(layer_path(record["name"]), []).append(record)
    alike: dict[tuple[Any, ...], list[tuple[str, Group]]] = {}
    for path, inside in layers.items():
        group = _group(inside)
        key = (path.rstrip("0123456789"), *(v for k, v in group.items() if k != "seconds"))
        alike.setdefault(key, []).append((path, group))
    return [_joined(groups) for groups in alike.values()]


def phase_groups(decisions: Decisions) -> list[Group]:
    """Both phases as JSON values: `name`, `devices` (ops on each), `shares` (of the time, by mark),
    `ops`, `flops`, `bytes` (of weights and state), `seconds` of one execution."""
    found = [phase_facts(decisions, phase) for phase in phases_of(decisions)]
    return [
        {
            "name": facts.phase,
            "devices": dict(facts.devices),
            "shares": dict(facts.shares),
            "ops": facts.ops,
            "flops": facts.flops,
            "bytes": facts.stored_bytes,
            "seconds": facts.seconds,
        }
        for facts in found
    ]


def _both(decisions: Decisions, show: Callable[[list[Any]], str]) -> str:
    titles = _titles(decisions["workload"])
    parts = []
    for phase in phases_of(decisions):
        records = [record for record in decisions["ops"] if record["phase"] == phase]
        parts.append(f"{titles[phase]}   (times are estimated)\n{show(records)}")
    return "\n\n".join(parts)


def _titles(workload: Mapping[str, Any]) -> dict[str, str]:
    if "sizes" in workload:
        return {"forward": f"forward   {sizes_text(workload['sizes'])}".rstrip()}
    return {
        "prefill": f"prefill   {workload['prompt_tokens']} tokens, batch {workload['batch']}",
        "decode": f"decode   one step of {workload['new_tokens']}, batch {workload['batch']}",
    }


def _op_table(records: Sequence[Mapping[str, Any]], width: int | None) -> str:
    folded = fold(records)
    total = sum(op.seconds for op in folded) or 1.0
    listed = [op for op in folded if op.seconds / total >= _NEGLIGIBLE or op.record["cannot"]]
    shown = table(_OPS, [_op_row(op, total) for op in listed], width)
    left = sum(op.count for op in folded) - sum(op.count for op in listed)
    return f"{shown}\nand {left} ops inside their neighbours' kernels" if left else shown


def _op_row(op: FoldedOp, total: float) -> list[str]:
    record = op.record
    return [
        op.name,
        str(op.count) if op.count > 1 else "",
        record["kind"],
        record["device"],
        record["mark"],
        amount(record["flops"], "FLOP") if record["flops"] else "",
        amount(record["bytes_read"] + record["bytes_written"], "B"),
        significant(record["intensity"]),
        duration(op.seconds),
        percent(op.seconds / total),
        flips(record),
    ]


def flips(record: Mapping[str, Any]) -> str:
    """The nearest sizes at which the op's mark changes: `compute from batch 213`.

    A batch is as good as that many tokens where both flip the mark alike; then it is said once.
    """
    texts = {}
    for crossover in record["crossover"]:
        side = "from" if crossover["at"] > crossover["until"] else "up to"
        size, at = crossover["size"], f"{crossover['at']:,}"
        texts[crossover["mark"], at] = f"{crossover['mark']} {side} {_size(size, at)}"
    return ", ".join(texts.values())


def _size(size: str, at: str) -> str:
    return f"{at} {size}" if size == "tokens" else f"{size} {at}"


def _layer_table(groups: Sequence[Group], width: int | None) -> str:
    total = sum(group["seconds"] for group in groups) or 1.0
    rows = [
        [
            group["name"],
            str(group["count"]) if group["count"] > 1 else "",
            group["device"],
            group["mark"],
            str(group["ops"]),
            amount(group["flops"], "FLOP"),
            amount(group["bytes"], "B"),
            duration(group["seconds"]),
            percent(group["seconds"] / total),
        ]
        for group in groups
    ]
    return table(_LAYERS, rows, width)


def _group(inside: Sequence[Mapping[str, Any]]) -> Group:
    seconds: dict[str, float] = {}
    for record in inside:
        seconds[record["mark"]] = seconds.get(record["mark"], 0.0) + own_seconds(record)
    return {
        "phase": inside[0]["phase"],
        "device": "+".join(dict.fromkeys(record["device"] for record in inside)),
        "mark": max(seconds, key=lambda mark: seconds[mark]),
        "ops": len(inside),
        "flops": sum(record["flops"] for record in inside),
        "bytes": sum(record["bytes_read"] + record["bytes_written"] for record in inside),
        "seconds": sum(seconds.values()),
    }


def _joined(groups: Sequence[tuple[str, Group]]) -> Group:
    paths = [path for path, _ in groups]
    name = paths[0]
    if len(paths) > 1:
        stem = name.rstrip("0123456789")
        name = stem + ranges(int(path[len(stem) :]) for path in paths)
    seconds = sum(group["seconds"] for _, group in groups)
    return {"name": name, "count": len(paths)} | groups[0][1] | {"seconds": seconds}
