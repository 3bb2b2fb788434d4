"""Why a thing is where it is: the decision records behind a name, in words."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from hetc.errors import UsageError
from hetc.passes.explain import explain as explain_record
from hetc.report.fold import fold, layer_path
from hetc.report.phases import MARKS, PHASES, phases_of
from hetc.report.summary import flip_text, handoff_text
from hetc.report.units import amount, duration, percent, plural

Record = Mapping[str, Any]
CUT = "cut"
_MAX_RECORDS = 12  # more are folded and counted


def explain_lines(decisions: Record, name: str) -> list[str]:
    """What was decided about an op, a glob of ops, a transferred tensor, or the `cut`, as lines.

    A name may leave out what stands before it (`layers.3.mlp.down_proj` for
    `model.layers.3.mlp.down_proj`), and a module stands for the ops inside. Raises UsageError
    (HETC-U030) with the nearest names.
    """
    if name.lower() == CUT:
        return list(_cut(decisions))
    records = find_records(decisions, name)
    lines: list[str] = []
    for record in records[:_MAX_RECORDS]:
        lines += ["", *explain_record(_ordered(record))]
    if len(records) > _MAX_RECORDS:
        lines += ["", f"and {plural(len(records) - _MAX_RECORDS, 'record')} more of this name"]
    return lines[1:]


def find_records(decisions: Record, name: str) -> list[Record]:
    """The records that `name` stands for: of an op with exactly that name, or else of all below it;
    equal layers of a glob once. Raises UsageError (HETC-U030) where there are none."""
    everything = [*decisions["ops"], *decisions["transfers"]]
    for matches in (_is, _is_inside):
        found = [record for record in everything if matches(record["name"], name)]
        if found:
            return _without_repeats(found) if _is_glob(name) else found
    raise UsageError(
        "HETC-U030",
        "there is no such op, module or tensor",
        at=name,
        expected=f"a name such as {', '.join(_nearest(everything, name))}, or cut",
        do="hetc inspect lists the names; a glob such as 'layers.*.mlp.*' takes many",
    )


def _ordered(record: Record) -> Record:
    """The record with its parts in the order of the phases: files keep the alphabet's."""
    if "role" not in record:
        return record
    times = {f"{mark}_s": record["times"][f"{mark}_s"] for mark in MARKS}
    return {**record, "times": times, "seconds": {r: record["seconds"][r] for r in PHASES}}


def _is(full: str, name: str) -> bool:
    return fnmatchcase(full, name) or fnmatchcase(full, f"*.{name}")


def _is_inside(full: str, name: str) -> bool:
    return any(_is(full, f"{name}{separator}*") for separator in "./")


def _is_glob(name: str) -> bool:
    return any(mark in name for mark in "*?[")


def _without_repeats(records: Sequence[Record]) -> list[Record]:
    ops = [record for record in records if "role" in record]
    others = [record for record in records if "role" not in record]
    folded = [{**op.record, "name": op.name} for op in fold(ops)]
    return [*folded, *others]


def _nearest(records: Sequence[Record], name: str) -> list[str]:
    """Names like `name`, one for all layers."""
    first: dict[str, str] = {}
    for record in records:
        full = str(record["name"])
        first.setdefault(
            full.replace(layer_path(full), layer_path(full).rstrip("0123456789")), full
        )
    near = difflib.get_close_matches(name, first.values(), n=3, cutoff=0.3)
    inside = [full for full in first.values() if name in full]
    return inside[:3] or near or list(first.values())[:3]


def _cut(decisions: Record) -> Iterator[str]:
    cut, devices = decisions["cut"], decisions["devices"]
    yield f"cut   {devices['prefill']} and {devices['decode']} over {decisions['link']}"
    yield f"  method    {cut['method']}, {_gap(cut['gap'])}"
    has_phases = phases_of(decisions) == PHASES
    parts = ("prefill", "handoff", "decode") if has_phases else phases_of(decisions)
    phases = ", ".join(f"{name} {duration(cut['phase_seconds'][name])}" for name in parts)
    yield f"  takes     {duration(cut['seconds'])} over the workload: {phases}   estimated"
    yield f"  bound     {duration(cut['lower_bound_seconds'])}: no cut can take less"
    for name, seconds in sorted(
        cut["alternatives_seconds"].items(), key=lambda item: item[1] or float("inf")
    ):
        taken = "does not fit the memory" if seconds is None else _compared(seconds, cut["seconds"])
        yield f"  instead   {name}: {taken}"
    for role in PHASES:
        held = amount(cut["held_bytes"][role], "B")
        yield f"  holds     {devices[role]}: {held} of weights" + " and state" * has_phases
    if has_phases:
        yield f"  hand-off  {handoff_text(decisions)}"
    for transfer in decisions["transfers"][:_MAX_RECORDS]:
        yield (
            f"  crosses   {transfer['name']} ({transfer['kind']}), {transfer['source']} -> "
            f"{transfer['destination']}, {amount(transfer['bytes'], 'B')}, "
            f"{plural(transfer['times'], 'time')}, {duration(transfer['seconds'])}"
        )
    if len(decisions["transfers"]) > _MAX_RECORDS:
        yield f"            and {len(decisions['transfers']) - _MAX_RECORDS} tensors more"
    if not cut["flips"]:
        yield "  flips     nowhere in the range of sizes that was looked at"
    for flip in cut["flips"]:
        yield f"  flips     {flip_text(flip, devices).removeprefix('flips ')}"


def _gap(gap: float) -> str:
    return "optimal (gap 0)" if gap <= 1e-9 else f"at most {percent(gap)} above the optimum"


def _compared(seconds: float, chosen: float) -> str:
    if seconds == chosen:
        return f"{duration(seconds)}, the same"
    return f"{duration(seconds)}, {seconds / chosen:.2f} times the chosen cut"
