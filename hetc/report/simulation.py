"""What `hetc simulate` shows: machines side by side, the hand-off, and where constants are from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hetc.report.plan_simulation import detail_lines
from hetc.report.tables import Column, table
from hetc.report.units import amount, count, duration, percent, plural, significant

_NO_GRID = "HETC-T013"
_COLUMNS = (
    Column("machine"),
    Column("TTFT", right=True),
    Column("TPOT", right=True),
    Column("total", right=True),
    Column("decode tokens/s", right=True),
    Column("MBU", right=True, rank=2),
    Column("MFU", right=True, rank=2),
    Column("limited by", rank=1),
    Column("constants", rank=3),
)


def simulation_lines(found: Mapping[str, Any], width: int | None = None) -> list[str]:
    """At most twelve lines from the object of `hetc simulate --json`, and what else was asked
    for."""
    model, workload = found["model"], found["workload"]
    formats = [model["dtype"], *(f"weights {text}" for text in workload["weights"])]
    formats += [f"KV {workload['kv']}"] if workload["kv"] else []
    parts = [model["family"], f"{count(model['parameters'])} parameters", ", ".join(formats)]
    request = (
        f"batch {workload['batch']:,} · {plural(workload['prompt_tokens'], 'prompt token')}"
        f" · {plural(workload['new_tokens'], 'new token')}"
    )
    rows = [_row(machine) for machine in found["machines"]]
    lines = [f"{model['name']}    {' · '.join(parts)}", request, ""]
    lines += table(_COLUMNS, rows, width).splitlines()
    lines.append("")
    if found["handoff_s"]:
        size = amount(found["handoff_bytes"], "B")
        lines.append(f"hand-off    {size} · {found['link']} · {duration(found['handoff_s'])}")
    lines.append(f"estimated   {_constants(found['calibrations'])}")
    lines += _plan(found["plan"], found["plan_reason"])
    return [*lines, *detail_lines(found, width)]


def _plan(plan: Mapping[str, Any] | None, reason: Mapping[str, Any] | None) -> Iterator[str]:
    """What the ideal plan simulates to, or why there is none; nothing for a target without grid."""
    if plan is not None:
        parts = (
            plan["target"],
            f"TPOT {duration(plan['tpot_s'])}",
            f"MBU {percent(plan['mbu'])} of {percent(plan['mbu_bound'])}",
            f"bound by {plan['bottleneck']}",
            f"{'simulated' if plan['simulated'] else 'closed form'}: an ideal plan, no launch, "
            "looping and prefetch on",
        )
        yield f"plan        {'   '.join(parts)}"
    elif reason is not None and reason["code"] != _NO_GRID:
        yield f"plan        none: {reason['text']} ({reason['code']})"


def _row(machine: Mapping[str, Any]) -> list[str]:
    return [
        machine["name"],
        duration(machine["ttft_s"]),
        duration(machine["tpot_s"]),
        duration(machine["total_s"]),
        significant(machine["decode_tokens_per_s"]),
        percent(machine["mbu"]),
        percent(machine["mfu"]),
        machine["bottleneck"] if machine["fits"] else "does not fit the memory",
        ", ".join(machine["calibrated"]) or "textbook",
    ]


def _constants(calibrations: Sequence[Mapping[str, Any]]) -> str:
    """In one line, which constants were fitted."""
    if not calibrations:
        return "no time was measured; data sheets and textbook constants, nothing calibrated"
    each = (
        f"{item['target']} calibrated for {item['framework']} ("
        + ", ".join(f"{name} {value:g}" for name, value in item["constants"].items())
        + ")"
        for item in calibrations
    )
    return f"no time was measured; {'; '.join(each)}"
