"""Exports say what the plan says, and that they are for inspection."""

from __future__ import annotations

import csv
import re
from collections import Counter
from typing import Any

import msgspec
import pytest
import yaml

from hetc.backends.dataflow.exports import FORMATS, export
from hetc.backends.dataflow.exports.label import LABEL
from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.steps import Loop
from hetc.errors import InputError
from tests.backends.dataflow.planned import ONE, TWO, fabric, planned

BOTH = pytest.mark.parametrize("target", [ONE, TWO])


def only(target: str, format: str) -> str:
    (text,) = export(planned(target), fabric(target), format).values()
    return text


def rows(target: str, name: str) -> list[dict[str, str]]:
    text = export(planned(target), fabric(target), "csv")[name]
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def dict_of(step: object) -> dict[str, object]:
    return step if isinstance(step, dict) else {}


def stages(plan: Plan) -> list[str]:
    return [stage.id for block in plan.blocks for stage in block.stages]


@BOTH
@pytest.mark.parametrize("format", FORMATS)
def test_every_file_says_what_it_is_and_is_the_same_again(target: str, format: str) -> None:
    made = export(planned(target), fabric(target), format)
    for text in made.values():
        assert LABEL in text.splitlines()[0]
    assert made == export(planned(target), fabric(target), format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_unit_without_a_place(format: str) -> None:
    plan = planned()
    sites = {unit: site for unit, site in plan.sections[0].sites.items() if unit != "b1.s0.w0"}
    section = msgspec.structs.replace(plan.sections[0], sites=sites)
    with pytest.raises(InputError, match="HETC-L010"):
        export(msgspec.structs.replace(plan, sections=(section,)), fabric(), format)


@BOTH
def test_netlist(target: str) -> None:
    plan = planned(target)
    made: dict[str, Any] = yaml.safe_load(only(target, "netlist"))
    assert list(made) == ["devices", "queues", "graphs", "programs"]
    assert len(made["queues"]) == len(plan.memory)
    sizes = sum(queue["hetc_bytes"] * queue["entries"] for queue in made["queues"].values())
    assert sizes == sum(item.bytes * item.count for item in plan.memory)
    ops = {name: op for graph in made["graphs"].values() for name, op in graph.items()}
    assert [name for name in ops if name in stages(plan)] == stages(plan)
    known = {*made["queues"], *stages(plan)}
    for name in stages(plan):
        assert set(ops[name]["inputs"]) <= known
        (section,) = (section for section in plan.sections if name in section.stages)
        (top, left), (height, width) = ops[name]["grid_loc"], ops[name]["grid_size"]
        for unit, (x, y) in section.sites.items():
            inside = top <= y < top + height and left <= x < left + width
            assert inside or not unit.startswith(f"{name}.")
    (steps,) = (program["decode"] for program in made["programs"])
    loops = [step for step in plan.program.steps if isinstance(step, Loop)]
    assert [step["loop"] for step in steps if "loop" in dict_of(step)] == [
        loop.count for loop in loops
    ]
    assert {"varinst": ["$row", "inc", 1]} in steps


@BOTH
def test_aie(target: str) -> None:
    ir = pytest.importorskip("torch_mlir.ir")
    plan, text = planned(target), only(target, "aie")
    with ir.Context() as context:
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(text)
        assert module.operation.verify()
    found = Counter(re.findall(r'"(aie\.\w+)"', text))
    used = [section.resources for section in plan.sections]
    assert found["aie.device"] == len(plan.sections)
    assert found["aie.core"] == sum(resources.pcus for resources in used)
    assert found["aie.buffer"] <= sum(resources.pmus for resources in used)
    nets = Counter(route.kind for section in plan.sections for route in section.routes)
    assert found["aie.packet_flow"] == nets["memory"]
    here = {stage: section.id for section in plan.sections for stage in section.stages}
    joined = [
        buffer.id
        for block in plan.blocks
        for buffer in block.buffers
        if any(here[buffer.producer] == here[reader] for reader in buffer.consumers)
    ]
    assert re.findall(r'"aie.objectfifo".*sym_name = "([^"]+)"', text) == joined


def test_aie_buffers_hold_what_the_plan_gives_them() -> None:
    text = only(ONE, "aie")
    sizes = re.findall(r'"aie.buffer".*memref<(\d+)xi8>', text)
    (section,) = planned().sections
    held = section.resources.sram_bytes
    # Every unit's share is rounded up.
    assert held <= sum(map(int, sizes)) <= held + len(sizes)


@BOTH
def test_nodes(target: str) -> None:
    plan, found = planned(target), rows(target, "node.csv")
    for section in plan.sections:
        kinds = Counter(row["type"] for row in found if row["section"] == section.id)
        assert kinds["PCU"] == section.resources.pcus
        assert kinds["PMU"] == section.resources.pmus
        assert kinds["AG"] >= section.resources.ports
    switches = Counter((row["section"], row["x"], row["y"]) for row in found if row["stage"])
    assert set(switches.values()) == {1}, "two units on one switch of a checkerboard"


@BOTH
def test_links(target: str) -> None:
    plan = planned(target)
    links, outs, ins = (rows(target, name) for name in ("link.csv", "out.csv", "in.csv"))
    routes = {(section.id, r.net): r for section in plan.sections for r in section.routes}
    assert {(row["section"], row["link"]) for row in links} == routes.keys()
    nodes = {(row["section"], row["node"]) for row in rows(target, "node.csv")}
    for row in links:
        route = routes[row["section"], row["link"]]
        assert float(row["demand"]) == route.bytes_per_cycle
        assert int(row["hops"]) == sum(
            int(run) for *_, runs in route.paths for run in re.findall(r"\d+", runs)
        )
        ends = row["src"].split() + row["dst"].split()
        assert all((row["section"], end) in nodes for end in ends)
    assert len(outs) == sum(len(row["src"].split()) for row in links)
    assert len(ins) == sum(len(row["dst"].split()) for row in links)


def test_tokens_of_the_streams_are_their_bytes() -> None:
    (width, plan) = fabric().link_bytes_per_cycle, planned()
    found: Counter[str] = Counter()
    lanes: Counter[str] = Counter()
    for row in rows(ONE, "in.csv"):
        if row["in"].startswith("memory."):
            owner = row["dst"].rsplit(".", 2)[0]
            found[owner] += int(row["count"])
            lanes[owner] += 1
    for block in plan.blocks:
        for stage in block.stages:
            nbytes = sum(s.bytes for s in block.streams if s.stage == stage.id)
            assert nbytes / width <= found[stage.id] <= nbytes / width + lanes[stage.id]
