"""report.html of a bundle: one file, no network, light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from hetc.backends.dataflow.fabric import fabric_of
from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate import speeds_of, timeline
from hetc.bundle import Contract, Manifest
from hetc.report import page
from hetc.report.fold import FoldedOp, fold
from hetc.report.phases import MARKS, PHASES, phase_facts
from hetc.report.plots import floorplan, gantt, roofline, svg
from hetc.report.plots.svg import style
from hetc.report.summary import cut_text, flip_text, handoff_text
from hetc.report.units import amount, binary_bytes, count, duration, percent, plural
from hetc.targets import Link, Target, describe

_TEMPLATE = "report.html.j2"
_SECTIONS = 2  # so many floorplans are on the page


@dataclass(frozen=True)
class Report:
    """What the page tells.

    `decisions` is the document of `hetc.passes.decisions.decide`; `targets` are by role (`prefill`,
    `decode`), joined by `link`; `facts` are sentences about what was proven and what was assumed.
    `plan` is the spatial one of decode, if there is one. `manifest` need not know its files yet.
    """

    manifest: Manifest
    contract: Contract
    decisions: Mapping[str, Any]
    targets: Mapping[str, Target]
    link: Link
    facts: tuple[str, ...] = ()
    plan: Plan | None = None


def html_report(report: Report) -> str:
    """The page as HTML; equal reports give equal pages."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    source = resources.files("hetc.report").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source).render(_context(report))


def _context(report: Report) -> dict[str, Any]:
    decisions, manifest = report.decisions, report.manifest
    folded = {
        phase: fold(record for record in decisions["ops"] if record["phase"] == phase)
        for phase in PHASES
    }
    return {
        "manifest": manifest,
        "size": count(manifest.model.parameters),
        "workload": decisions["workload"],
        "tiles": _tiles(report),
        "halves": [_half(report, phase, folded[phase]) for phase in PHASES],
        "handoff": handoff_text(decisions),
        "link": report.link,
        "marks": MARKS,
        "roles": {role: target.name for role, target in report.targets.items()},
        "cut": cut_text(decisions),
        "flips": [flip_text(flip, decisions["devices"]) for flip in decisions["cut"]["flips"]],
        "alternatives": page.alternatives(decisions),
        "bound": duration(decisions["cut"]["lower_bound_seconds"]),
        "method": decisions["cut"]["method"],
        "memory": page.memory(decisions, report.targets),
        "transfers": page.transfers(decisions),
        "reasons": page.reasons(decisions),
        "states": page.states(report.contract),
        "contract": report.contract,
        "facts": report.facts,
        "described": [(target.name, describe(target)) for target in _different(report.targets)],
        "link_rows": page.link_rows(report.link),
        "plot_style": style(),
        **_pictures(report),
    }


def _pictures(report: Report) -> dict[str, Any]:
    """The spatial plan in pictures: its fullest sections, and a token in time."""
    plan, target = report.plan, report.targets["decode"]
    if plan is None:
        return {"floorplans": [], "gantt": "", "more_sections": 0}
    fabric = fabric_of(target)
    fullest = sorted(plan.sections, key=lambda section: -len(section.sites))[:_SECTIONS]
    drawn = [floorplan(plan, part, fabric) for part in plan.sections if part in fullest]
    told = timeline(plan, speeds_of(target))
    return {
        "floorplans": [svg(scene, alone=False) for scene in drawn],
        "gantt": svg(gantt(plan, told), alone=False),
        "more_sections": len(plan.sections) - len(drawn),
    }


def _different(targets: Mapping[str, Target]) -> list[Target]:
    return list({target.name: target for target in targets.values()}.values())


def _tiles(report: Report) -> list[tuple[str, str, str]]:
    """The headline numbers: title, value, and what it is."""
    decisions = report.decisions
    prefill, decode = (phase_facts(decisions, phase) for phase in PHASES)
    workload = decisions["workload"]
    per_token = page.state_bytes_per_token(report.contract)
    tokens = plural(workload["prompt_tokens"], "prompt token")
    speed = workload["batch"] / decode.seconds if decode.seconds else 0.0
    return [
        ("TTFT", duration(prefill.seconds), f"{tokens}, estimated"),
        ("TPOT", duration(decode.seconds), f"{speed:,.0f} tokens/s, estimated"),
        ("state", binary_bytes(per_token), "a token and sequence"),
        ("read a token", amount(decode.stored_bytes, "B"), "weights and state"),
    ]


def _half(report: Report, phase: str, folded: list[FoldedOp]) -> dict[str, Any]:
    facts = phase_facts(report.decisions, phase)
    dtype = report.manifest.model.dtype
    workload = report.decisions["workload"]
    runs = {
        "prefill": f"{plural(workload['prompt_tokens'], 'token')} at once",
        "decode": f"one step of {workload['new_tokens']:,}",
    }
    return {
        "phase": phase,
        "runs": runs[phase],
        "devices": [
            {"name": name, "ops": plural(number, "op"), "role": page.role_of(report.targets, name)}
            for name, number in facts.devices.items()
        ],
        "time": duration(facts.seconds),
        "flops": amount(facts.flops, "FLOP"),
        "bytes": amount(facts.stored_bytes, "B"),
        "limits": ", ".join(
            f"{mark} {percent(share)}"
            for mark, share in sorted(facts.shares.items(), key=lambda item: -item[1])
            if share >= 0.005
        ),
        "segments": page.segments(folded, facts.seconds),
        "roofline": svg(roofline(phase, folded, report.targets, dtype), alone=False),
        "rows": page.op_rows(folded),
        "hidden": page.hidden_ops(folded),
    }
