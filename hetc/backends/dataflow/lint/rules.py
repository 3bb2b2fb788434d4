"""All rules in the order in which they run, and what runs them."""

from __future__ import annotations

from collections.abc import Iterator

from hetc.backends.dataflow.lint import (
    coverage,
    deadlock,
    delivery,
    flow,
    identity,
    memory,
    order,
    rates,
    routes,
    row_groups,
    shards,
    state,
    units,
)
from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Finding, Rule
from hetc.backends.dataflow.schema import Check, Plan
from hetc.ir.graph import Graph
from hetc.targets.machine import Target

# What a plan must be before anything can be looked up in it.
SHAPE: tuple[Rule, ...] = (
    identity.schema,
    identity.target,
    identity.names,
    identity.references,
    identity.numbers,
)
# Rules of the plan and the target alone.
PLAN: tuple[Rule, ...] = (
    coverage.sections,
    coverage.counts,
    coverage.loaded,
    coverage.advance,
    order.acyclic,
    units.units_fit,
    units.sram_fits,
    units.resources,
    units.sites,
    units.pins,
    units.ports,
    flow.credits,
    flow.buffer_depth,
    flow.banks,
    row_groups.row_groups,
    routes.tree_shape,
    routes.link_load,
    routes.channels,
    routes.channel_cycles,
    delivery.delivered,
    delivery.outside,
    delivery.stream_demand,
    delivery.named,
    memory.inside,
    memory.apart,
    memory.iterations,
    deadlock.issued,
    deadlock.deadlock,
    deadlock.issue_order,
    rates.lane_rate,
    rates.stage_rate,
    rates.port_rate,
    rates.time_bounds,
    rates.figures,
)
# What ties the plan to its graph, before anything can be looked up there.
GRAPH_SHAPE: tuple[Rule, ...] = (identity.digest, identity.graph_references)
# Rules that compare the plan with its graph.
GRAPH: tuple[Rule, ...] = (
    coverage.ops,
    coverage.calls,
    order.dependences,
    order.program_order,
    flow.streamed,
    flow.stream_bytes,
    flow.buffered,
    flow.buffer_bytes,
    state.appends,
    memory.row_bytes,
    memory.rows_once,
    memory.strides,
    shards.shards,
    shards.shard_shapes,
    rates.estimated_bytes,
    rates.collectives,
)
RULES: tuple[Rule, ...] = (*SHAPE, *PLAN, *GRAPH_SHAPE, *GRAPH)


def lint(
    plan: Plan, target: Target, graph: Graph | None = None, *, model: Graph | None = None
) -> tuple[Finding, ...]:
    """Everything in `plan` that breaks a rule, in the order of the rules; empty for a good plan.

    `graph` is the socket's graph; without it the rules that need one do not run. `model` is the
    graph before it was sharded. A plan that names what does not exist is not looked at any further.
    """
    facts = Facts(plan, target, graph, model)
    return tuple(finding for _, findings, _ in _run(facts) for finding in findings)


def verdicts(
    plan: Plan, target: Target, graph: Graph | None = None, *, model: Graph | None = None
) -> tuple[Check, ...]:
    """A verdict of every rule that ran, with the numbers that it compared, for `Plan.checks`.

    Advice leaves a verdict as it is.
    """
    facts = Facts(plan, target, graph, model)
    return tuple(_check(rule, findings, compared) for rule, findings, compared in _run(facts))


def _check(rule: Rule, findings: list[Finding], compared: str) -> Check:
    told = f"{rule.title}: {compared}"
    if findings:
        more = f", and {len(findings) - 1} more" * (len(findings) > 1)
        told = f"{findings[0].text}{more}"
    return Check(code=rule.code, ok=not findings or rule.severity == "advice", text=told)


def _run(facts: Facts) -> Iterator[tuple[Rule, list[Finding], str]]:
    """Each rule with its findings; rules whose suppositions do not hold are left out."""
    sound = facts.target.device.grid is not None
    for rule in SHAPE:
        findings, compared = rule.run(facts)
        # A plan of another target can be looked at, one that names nothing that exists can not.
        sound = sound and (not findings or rule in (identity.schema, identity.target))
        yield rule, findings, compared
    if not sound:
        return
    for rule in PLAN:
        yield rule, *rule.run(facts)
    if facts.graph is None:
        return
    for rule in GRAPH_SHAPE:
        findings, compared = rule.run(facts)
        yield rule, findings, compared
        if findings:
            return
    for rule in GRAPH:
        yield rule, *rule.run(facts)
