"""Decision records in words, for `hetc explain`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Record = Mapping[str, Any]


def explain(record: Record) -> list[str]:
    """One record of `decide` as lines of text: an op's or a transfer's."""
    return list(_transfer(record) if "times" in record and "bytes" in record else _op(record))


def _op(record: Record) -> Iterator[str]:
    yield f"{record['phase']}: {record['name']}   {record['kind']} on {record['device']}"
    reason = record["reason"]
    yield f"  why       {reason['code']}: {reason['text']}"
    if record["fused_into"]:
        yield f"  fused     no kernel of its own: it is where {record['fused_into']} is"
    yield (
        f"  work      {_number(record['flops'])}FLOP, reads {_number(record['bytes_read'])}B, "
        f"writes {_number(record['bytes_written'])}B, {record['intensity']:.3g} FLOP/B "
        f"(ridge {record['ridge']:.0f})"
    )
    times = ", ".join(f"{name[:-2]} {_time(s)}" for name, s in record["times"].items())
    yield f"  mark      {record['mark']}: {times}   estimated"
    for crossover in record["crossover"]:
        side = "from" if crossover["at"] > crossover["until"] else "up to"
        yield f"  crossover {crossover['mark']} {side} {crossover['at']} {crossover['size']}"
    other = record["counterfactual"]
    for role, seconds in record["seconds"].items():
        mark = record["marks"][role]
        cannot = record["cannot"].get(role)
        here = role == record["role"]
        device = record["device"] if here else other["device"] if other else role
        limits = f", cannot: {cannot}" if cannot else ""
        yield f"  on {device:<6} {_time(seconds)}, limited by {mark}{limits}"
    if other:
        yield (
            f"  elsewhere on {other['device']}: {_signed(other['delta_seconds'])} over the "
            f"workload ({_signed(other['work_delta_seconds'])} work, "
            f"{_signed(other['transfer_delta_seconds'])} transfers)"
        )
        yield f"  flips     with {other['flips']}"


def _transfer(record: Record) -> Iterator[str]:
    yield f"{record['kind']}: {record['name']}   {record['source']} -> {record['destination']}"
    yield f"  why       {record['reason']['code']}: {record['reason']['text']}"
    times = f", {record['times']} times" if record["times"] > 1 else ""
    yield f"  size      {_number(record['bytes'])}B{times}"
    yield f"  takes     {_time(record['seconds'])} over the workload   estimated"


def _number(value: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if abs(value) < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} P"


def _time(seconds: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if abs(seconds) * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns" if seconds else "0"


def _signed(seconds: float) -> str:
    return f"+{_time(seconds)}" if seconds >= 0 else _time(seconds)
