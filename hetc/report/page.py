"""Rows and bars of the HTML report, as plain data for its template."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hetc.bundle import Contract, StateSpec, dtypes
from hetc.report.fold import FoldedOp, layer_of, layer_path, with_layers
from hetc.report.inspect_tables import flips
from hetc.report.phases import PHASES
from hetc.report.units import amount, binary_bytes, duration, percent, significant
from hetc.targets import Link, Quantity, Target

Decisions = Mapping[str, Any]
Row = dict[str, Any]

_LISTED = 5e-4  # of the phase's time: what takes less is counted, not listed
_SEGMENT = 0.015  # of the phase's time: what takes less is among the others
_LETTER = 0.75  # percent of the bar that a letter takes


def op_rows(folded: Sequence[FoldedOp]) -> list[Row]:
    """One row for each op that takes a visible part of its phase."""
    total = sum(op.seconds for op in folded) or 1.0
    return [
        {
            "name": op.name,
            "count": op.count,
            "kind": op.record["kind"],
            "device": op.record["device"],
            "role": op.record["role"],
            "mark": op.record["mark"],
            "flops": amount(op.record["flops"], "FLOP") if op.record["flops"] else "",
            "bytes": amount(op.record["bytes_read"] + op.record["bytes_written"], "B"),
            "intensity": significant(op.record["intensity"]),
            "time": duration(op.seconds),
            "share": percent(op.seconds / total),
            "width": round(op.seconds / total * 100, 2),
            "flips": flips(op.record),
            "reason": op.record["reason"],
        }
        for op in folded
        if is_listed(op, total)
    ]


def is_listed(op: FoldedOp, total: float) -> bool:
    """Whether an op takes time that can be seen, or is somewhere by force."""
    return op.seconds / total >= _LISTED or bool(op.record["cannot"])


def hidden_ops(folded: Sequence[FoldedOp]) -> int:
    """How many ops `op_rows` leaves out."""
    total = sum(op.seconds for op in folded) or 1.0
    return sum(op.count for op in folded if not is_listed(op, total))


def segments(folded: Sequence[FoldedOp], phase_seconds: float) -> list[Row]:
    """The time of a phase as parts of one bar, in the order of the model: ops, then transfers."""
    work = sum(op.seconds for op in folded)
    total = max(work, phase_seconds) or 1.0
    large = [op for op in folded if op.seconds / total >= _SEGMENT]
    parts = [(_tail(op.names[0]), op.record["mark"], op.seconds) for op in large]
    rest = work - sum(op.seconds for op in large)
    parts += [("other ops", "rest", rest), ("transfers", "link", total - work)]
    return [
        {
            "name": name,
            "mark": mark,
            "width": round(seconds / total * 100, 2),
            "label": name if seconds / total * 100 >= _LETTER * len(name) else "",
            "title": f"{name}: {duration(seconds)}, {percent(seconds / total)}",
        }
        for name, mark, seconds in parts
        if seconds / total > 1e-3
    ]


def _tail(name: str) -> str:
    """A name without its layer: `mlp.down_proj`."""
    return name.removeprefix(layer_path(name)).strip("./") if layer_of(name) is not None else name


def alternatives(decisions: Decisions) -> list[Row]:
    """The chosen cut and the others, the fastest first; `width` in percent of the slowest."""
    cut = decisions["cut"]
    others = {
        name: seconds
        for name, seconds in cut["alternatives_seconds"].items()
        if name != "best by op, no pins" or seconds != cut["seconds"]
    }
    known = [seconds for seconds in (cut["seconds"], *others.values()) if seconds is not None]
    slowest = max(known) or 1.0
    rows = [_alternative("this cut", cut["seconds"], slowest, chosen=True)]
    ordered = sorted(others.items(), key=lambda item: (item[1] is None, item[1] or 0.0))
    return rows + [_alternative(name, seconds, slowest) for name, seconds in ordered]


def _alternative(name: str, seconds: float | None, slowest: float, *, chosen: bool = False) -> Row:
    return {
        "name": name,
        "time": "does not fit" if seconds is None else duration(seconds),
        "width": 0 if seconds is None else round(seconds / slowest * 100, 1),
        "chosen": chosen,
    }


def memory(decisions: Decisions, targets: Mapping[str, Target]) -> list[Row]:
    """What each device holds, of what it has."""
    rows = []
    for role in PHASES:
        nbytes = decisions["cut"]["held_bytes"][role]
        capacity = targets[role].capacity_bytes()
        rows.append(
            {
                "name": targets[role].name,
                "role": role,
                "held": amount(nbytes, "B"),
                "capacity": amount(capacity, "B"),
                "tier": targets[role].device.main_memory,
                "share": percent(nbytes / capacity),
                "width": round(min(1.0, nbytes / capacity) * 100, 2),
            }
        )
    return rows


def transfers(decisions: Decisions) -> list[Row]:
    """What crosses the link, equal tensors of different layers as one row."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for item in decisions["transfers"]:
        same = ("kind", "phase", "source", "destination", "bytes", "times")
        key = (_layerless(item["name"]), *(item[field] for field in same))
        groups.setdefault(key, []).append(item)
    rows = []
    for items in groups.values():
        first = items[0]
        rows.append(
            {
                "name": _joint_name([item["name"] for item in items]),
                "count": len(items),
                "kind": first["kind"],
                "phase": first["phase"],
                "source": first["source"],
                "destination": first["destination"],
                "bytes": amount(first["bytes"], "B"),
                "times": f"{first['times']:,}",
                "time": duration(sum(item["seconds"] for item in items)),
                "reason": first["reason"],
            }
        )
    return rows


def _layerless(name: str) -> str:
    """A name with a star for its layer."""
    if layer_of(name) is None:
        return name
    path = layer_path(name)
    return f"{path.rstrip('0123456789')}*{name.removeprefix(path)}"


def reasons(decisions: Decisions) -> list[Row]:
    """Every reason that was given, and to how many ops; texts that differ in names as one."""
    texts: dict[str, dict[str, None]] = {}
    given: Counter[str] = Counter()
    for record in decisions["ops"]:
        reason = record["reason"]
        texts.setdefault(reason["code"], {})[reason["text"]] = None
        given[reason["code"]] += 1
    return [
        {"code": code, "text": _common(list(texts[code])), "count": given[code]}
        for code in sorted(texts)
    ]


def _common(texts: Sequence[str]) -> str:
    if len(texts) < 3:
        return " · ".join(texts)
    words = zip(*(text.split() for text in texts), strict=False)
    same = itertools.takewhile(lambda column: len(set(column)) == 1, words)
    return " ".join([*(column[0] for column in same), "…"])


def states(contract: Contract) -> list[Row]:
    """The state tensors, equal ones of different layers as one row."""
    groups: dict[tuple[Any, ...], list[StateSpec]] = {}
    for spec in contract.states:
        name = _layerless(spec.name)
        key = (name, spec.kind, spec.shape, spec.dtype, spec.keep, spec.conversion)
        groups.setdefault(key, []).append(spec)
    return [
        {
            "name": _joint_name([spec.name for spec in specs]),
            "count": len(specs),
            "kind": specs[0].kind,
            "shape": "[" + ", ".join(map(str, specs[0].shape)) + "]",
            "dtype": specs[0].dtype,
            "keeps": "all" if specs[0].keep is None else f"the last {specs[0].keep}",
            "per_token": binary_bytes(sum(map(_bytes_per_token, specs))),
            "conversion": specs[0].conversion,
        }
        for specs in groups.values()
    ]


def state_bytes_per_token(contract: Contract) -> float:
    """What one more token of one sequence adds to the state that keeps growing."""
    return sum(_bytes_per_token(spec) for spec in contract.states if spec.keep is None)


def _bytes_per_token(spec: StateSpec) -> float:
    if spec.append_axis is None:
        return 0.0
    size = 1
    for place, dim in enumerate(spec.shape):
        size *= dim if isinstance(dim, int) and place != spec.append_axis else 1
    return float(size * dtypes.BY_NAME[spec.dtype].itemsize)


def _joint_name(names: Sequence[str]) -> str:
    """One name for equal things of different layers: `layer0-31.key`."""
    layers = [layer for layer in map(layer_of, names) if layer is not None]
    return with_layers(names[0], layers) if len(layers) == len(names) else names[0]


def role_of(targets: Mapping[str, Target], name: str) -> str:
    """The role of the device called `name`."""
    return next(role for role, target in targets.items() if target.name == name)


def link_rows(link: Link) -> list[tuple[str, str, str]]:
    """What is known of the link: label, value, and source."""

    def row(label: str, quantity: Quantity, value: str) -> tuple[str, str, str]:
        grounds = quantity.source or f"assumed: {quantity.why}"
        return label, value, grounds

    return [
        row("bandwidth, one way", link.bandwidth, amount(link.bandwidth.value, "B/s")),
        row("fraction reached", link.fraction, f"{link.fraction.value:g}"),
        row("latency", link.latency_us, duration(link.latency_us.value * 1e-6)),
    ]
