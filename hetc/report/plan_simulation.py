"""What `hetc simulate` shows of a spatial plan: where its cycles go, and what its time hangs on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from textwrap import wrap
from typing import Any

from hetc.report.tables import Column, table
from hetc.report.units import amount, duration, energy, percent, plural, significant

_SHOWN = 20  # stages of a table unless all are asked for
_PROSE = 100  # columns of text where nothing limits them
_ANEW = "simulate the model itself to plan anew for each"
_NOT_SIMULATED = "estimated   by the closed form, which counts waiting as idle; not calibrated"

_STAGES = (
    Column("stage"),
    Column("name"),
    Column("template", rank=3),
    Column("lanes", right=True, rank=2),
    Column("times", right=True, rank=4),
    Column("busy", right=True),
    Column("stalled", right=True, rank=1),
    Column("starved", right=True, rank=1),
    Column("idle", right=True, rank=1),
    Column("bound", rank=2),
)
_QUEUES = (
    Column("queue"),
    Column("busy", right=True),
    Column("waits for room", right=True),
    Column("for order", right=True),
    Column("read", right=True),
    Column("written", right=True),
)
_PORTS = (
    Column("memory port"),
    Column("busy", right=True),
    Column("stalled", right=True),
    Column("starved", right=True),
)
_BUFFERS = (
    Column("buffer"),
    Column("depth", right=True),
    Column("busy", right=True),
    Column("stalled", right=True),
    Column("starved", right=True),
)
_SENSITIVITY = (
    Column("assumed constant"),
    Column("value", right=True),
    Column("low", right=True, rank=1),
    Column("high", right=True, rank=1),
    Column("TPOT at low", right=True),
    Column("at high", right=True),
    Column("effect", right=True),
    Column("plan", rank=2),
)
_TECHNIQUES = (Column("technique"), Column("TPOT", right=True), Column("ratio", right=True))


def plan_simulation_lines(
    found: Mapping[str, Any], width: int | None = None, *, every_stage: bool = False
) -> list[str]:
    """Lines from the object of `hetc simulate PLAN --json`."""
    sizes = (
        f"batch {found['batch']:,}",
        f"{plural(found['past_tokens'], 'token')} in the state",
        f"context {found['context']:,}",
    )
    lines = [
        f"{found['name']}    graph {found['graph_sha256'][:12]}",
        f"{found['target']} · {plural(found['sections'], 'section')} · {' · '.join(sizes)}",
        "",
        *_stage_lines(found["stages"], width, every_stage=every_stage),
        "",
        *table(_QUEUES, [_queue(queue) for queue in found["queues"]], width).splitlines(),
        "",
        *(_resource_tables(found, width) if every_stage else ()),
        *_figures(found),
    ]
    return [*lines, *detail_lines(found, width)]


def detail_lines(found: Mapping[str, Any], width: int | None = None) -> list[str]:
    """The tables that were asked for, and where the trace is."""
    lines: list[str] = []
    if "sensitivity" in found:
        rows = [_constant(one) for one in found["sensitivity"]]
        none = "no constant that this plan's time hangs on has a range"
        lines += ["", *(table(_SENSITIVITY, rows, width).splitlines() if rows else [none])]
    if found.get("not_varied"):
        text = f"not varied: {', '.join(found['not_varied'])}: fixed in this plan; {_ANEW}"
        lines += ["", *wrap(text, width or _PROSE, break_on_hyphens=False)]
    if "techniques" in found:
        rows = [
            [one["technique"], duration(one["tpot_s"]), f"{one['ratio']:.2f}"]
            for one in found["techniques"]
        ]
        lines += ["", *table(_TECHNIQUES, rows, width).splitlines()]
    if "trace" in found:
        size = amount(found["trace"]["bytes"], "B")
        lines += ["", f"trace       {found['trace']['path']} · {size} · for ui.perfetto.dev"]
    return lines


def _stage_lines(
    stages: Sequence[Mapping[str, Any]], width: int | None, *, every_stage: bool
) -> Iterator[str]:
    """The table, in the order of the plan; of a long one those that are busy or wait the most."""
    shown, left = list(stages), 0
    if not every_stage and len(stages) > _SHOWN:
        busiest = sorted(stages, key=lambda stage: -_active(stage))[:_SHOWN]
        shown = [stage for stage in stages if stage in busiest]
        left = len(stages) - len(shown)
    yield from table(_STAGES, [_stage(stage) for stage in shown], width).splitlines()
    if left:
        most = max(_active(stage) for stage in stages if stage not in shown)
        yield f"{plural(left, 'stage')} more, each active at most {percent(most)}: --all"


def _active(stage: Mapping[str, Any]) -> float:
    share: float = stage["busy"] + stage["stalled"] + stage["starved"]
    return share


def _stage(stage: Mapping[str, Any]) -> list[str]:
    return [
        stage["id"],
        stage["name"],
        stage["template"],
        f"{stage['lanes']:,}",
        f"{stage['iterations']:,}",
        *(percent(stage[kind]) for kind in ("busy", "stalled", "starved", "idle")),
        stage["bound"],
    ]


def _resource_tables(found: Mapping[str, Any], width: int | None) -> Iterator[str]:
    """Memory ports, those that are alike on one line, and each buffer on the chip."""
    alike = groupby(found["ports"], key=lambda use: tuple(_waits(use)))
    ports = [[_span([use["port"] for use in uses]), *waits] for waits, uses in alike]
    buffers = [
        [use["id"], amount(use["depth_bytes"], "B"), *_waits(use)] for use in found["buffers"]
    ]
    yield from (*table(_PORTS, ports, width).splitlines(), "")
    yield from (*table(_BUFFERS, buffers, width).splitlines(), "")


def _span(numbers: Sequence[int]) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _waits(use: Mapping[str, float]) -> Iterator[str]:
    yield from (percent(use[kind]) for kind in ("busy", "stalled", "starved"))


def _queue(queue: Mapping[str, Any]) -> list[str]:
    return [
        queue["tier"],
        *(percent(queue[kind]) for kind in ("busy", "waits_for_room", "waits_for_order")),
        amount(queue["bytes_read"], "B"),
        amount(queue["bytes_written"], "B"),
    ]


def _figures(found: Mapping[str, Any]) -> Iterator[str]:
    per_second = f"{significant(found['tokens_per_s'])} tokens/s"
    yield f"link        {percent(found['link_busy'])} busy"
    ports, buffers = found["ports"], found["buffers"]
    if ports:
        worst = max(ports, key=lambda use: use["busy"])
        waits = "".join(f" · {kind} {percent(worst[kind])}" for kind in ("stalled", "starved"))
        used = f"{plural(len(ports), 'memory port')}, the busiest {percent(worst['busy'])}"
        yield f"ports       {used}{waits}"
    if buffers:
        worst = max(buffers, key=lambda use: use["starved"])
        full = max(use["stalled"] for use in buffers)
        text = f"{plural(len(buffers), 'buffer')}: full for a producer at most {percent(full)}"
        most = f"empty for a consumer {percent(worst['starved'])} ({worst['id']})"
        yield f"buffers     {text}, {most}"
    yield f"TPOT        {duration(found['tpot_s'])} · {per_second}"
    yield f"MBU         {percent(found['mbu'])} of {percent(found['mbu_bound'])}"
    if found["energy_j"] is not None:
        yield f"energy      {energy(found['energy_j'])} a token, estimated: sockets x power x time"
    yield f"bound by    {found['bottleneck']}: {found['bottleneck_why']}"
    difference = f"{100 * found['analytic_difference']:+.1f} %"
    yield f"closed form {duration(found['analytic_tpot_s'])}, {difference}"
    constants = ", ".join(f"{one['name']} {one['value']:g}" for one in found["constants"])
    how = "simulated   not calibrated" if found["simulated"] else _NOT_SIMULATED
    yield f"{how}; assumed: {constants or 'nothing'}"


def _constant(one: Mapping[str, Any]) -> list[str]:
    unit = "" if one["unit"] in ("1", "fraction") else one["unit"]
    low, high = one["tpot_s_at_low"], one["tpot_s_at_high"]
    return [
        one["name"],
        *(amount(one[key], unit).strip() for key in ("value", "low", "high")),
        duration(low),
        duration(high),
        f"{100 * (high / low - 1):+.1f} %",
        "made anew" if one["replanned"] else "as it is",
    ]
