"""What single rules say, and how findings read."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any

import msgspec
import pytest

from hetc import targets
from hetc.backends.dataflow.lint import RULES, Finding, lint, render, verdicts
from hetc.backends.dataflow.lint.cycles import find_cycle, followers_last
from hetc.backends.dataflow.lint.mesh import Mesh
from hetc.backends.dataflow.schema import Depends, Plan
from hetc.targets.machine import Target
from hetc.targets.model import Grid
from tests.backends.dataflow.toy_plan import Toy, toy
from tests.golden import Golden

replace = msgspec.structs.replace


@pytest.fixture(scope="module")
def good() -> Toy:
    return toy(2)


def found(good: Toy, plan: Plan) -> list[Finding]:
    return list(lint(plan, good.target, good.graph, model=good.model))


def with_part(plan: Plan, block: int, kind: str, name: str, **changes: Any) -> Plan:
    """The plan with a stage, stream or buffer of a block changed."""
    parts = getattr(plan.blocks[block], kind)
    parts = tuple(replace(part, **changes) if part.id == name else part for part in parts)
    edited = replace(plan.blocks[block], **{kind: parts})
    return replace(plan, blocks=(*plan.blocks[:block], edited, *plan.blocks[block + 1 :]))


def test_every_rule_has_a_code_a_name_and_a_remedy() -> None:
    assert len({rule.code for rule in RULES}) == len(RULES) == len({rule.name for rule in RULES})
    assert all(rule.title and rule.remedy for rule in RULES)


def test_findings_as_text(good: Toy, golden: Golden) -> None:
    plan = good.plan
    plan = with_part(plan, 1, "streams", "gateup:gate", depth_bytes=100)
    plan = with_part(plan, 1, "streams", "qkv:q", bytes=9000)
    plan = with_part(plan, 1, "stages", "o", rate_bytes_per_cycle=8.0, depends=())
    plan = with_part(plan, 1, "buffers", "gateup>down", depth_bytes=10)
    section = plan.sections[0]
    routes = tuple(route for route in section.routes if route.net != "memory.3")
    sites = {**section.sites, "rope.w0": section.sites["norm1.w0"]}
    plan = replace(plan, sections=(replace(section, sites=sites, routes=routes),))
    first, second, *rest = plan.memory
    plan = replace(plan, memory=(first, replace(second, offset=first.offset + 16), *rest))
    golden("findings.txt", render(found(good, plan)))


def test_verdicts_as_text(good: Toy, golden: Golden) -> None:
    checks = verdicts(good.plan, good.target, good.graph, model=good.model)
    lines = [f"{check.code} {'ok' if check.ok else 'no'}  {check.text}" for check in checks]
    # The digests change with every number of the target file and with the text form of graphs.
    golden("verdicts.txt", re.sub("digest [0-9a-f]+", "digest #", "\n".join(lines)))


def test_a_failed_verdict_tells_the_first_finding_and_counts_the_rest(good: Toy) -> None:
    edited = replace(good.plan, sections=(replace(good.plan.sections[0], routes=()),))
    check = next(c for c in verdicts(edited, good.target) if c.code == "HETC-L244")
    assert not check.ok
    assert "no memory net" in check.text
    assert check.text.endswith(" more")


def test_nothing_found_reads_so() -> None:
    assert render([]) == "no findings\n"


def test_advice_does_not_fail_a_verdict(good: Toy) -> None:
    slow = with_part(good.plan, 1, "stages", "o", rate_bytes_per_cycle=32.0)
    assert [item.code for item in found(good, slow)] == ["HETC-L281"]
    assert all(c.ok for c in verdicts(slow, good.target, good.graph))
    assert render(found(good, slow)).endswith("0 errors, 1 piece of advice\n")


def test_without_a_graph_its_rules_do_not_run(good: Toy) -> None:
    broken = with_part(good.plan, 1, "stages", "o", ops=())
    assert lint(broken, good.target) == ()
    codes = {c.code for c in verdicts(broken, good.target)}
    assert "HETC-L210" not in codes
    assert "HETC-L243" in codes


def test_a_plan_of_another_graph_is_not_compared_with_it(good: Toy) -> None:
    assert [item.code for item in lint(good.plan, good.target, good.model)] == ["HETC-L205"]


def test_a_target_without_a_grid_fits_no_plan(good: Toy) -> None:
    codes = [item.code for item in lint(good.plan, targets.load("h200:2"), good.graph)]
    assert set(codes) == {"HETC-L201"}


def test_banks_are_shared_at_a_price(good: Toy) -> None:
    device = good.target.device
    assert device.grid is not None
    few = dataclasses.replace(device.grid.memory_banks, value=1)
    grid = dataclasses.replace(device.grid, memory_banks=few)
    target = Target(dataclasses.replace(device, grid=grid), 2)
    advice = [i for i in lint(good.plan, target, good.graph) if i.code == "HETC-L232"]
    text = "a memory unit of stage attend holds 3 streams and buffers in 1 banks"
    assert text in [item.text for item in advice]
    assert {item.severity for item in advice} == {"advice"}


def test_a_circle_through_the_queue_is_told(good: Toy) -> None:
    """Half of gate fits, the rest waits for its stage, which waits for what is issued later."""
    plan = with_part(good.plan, 1, "streams", "gateup:gate", after="down")
    (finding,) = (item for item in found(good, plan) if item.code == "HETC-L271")
    assert "the issue of gateup:gate 0 waits for the end of down 0" in finding.text


def test_a_reconvergent_path_needs_room(good: Toy) -> None:
    """norm2 feeds add2 directly and through gateup and down: the direct buffer holds it all."""
    plan = with_part(good.plan, 1, "buffers", "norm2>add2", depth_bytes=128)
    stages = {stage.id: stage for stage in plan.blocks[1].stages}
    depends = [d for d in stages["add2"].depends if d.stage != "norm2"]
    depends.append(Depends(stage="norm2", kind="stream"))
    plan = with_part(plan, 1, "stages", "add2", depends=tuple(depends))
    codes = {item.code for item in found(good, plan)}
    assert codes == {"HETC-L271", "HETC-L222"}


def test_in_sram_tensors_may_follow_each_other(good: Toy) -> None:
    first, *rest = good.plan.memory
    last = next(item for item in rest if item.block == "post")
    above = [replace(item, tier="sram", offset=0) for item in (first, last)]
    plan = replace(good.plan, memory=tuple(above))
    assert "HETC-L251" not in {item.code for item in lint(plan, good.target)}
    both = (above[0], replace(above[1], live=("pre", "post")))
    assert "HETC-L251" in {i.code for i in lint(replace(plan, memory=both), good.target)}


def test_rows_of_a_tensor_may_lie_in_pieces(good: Toy) -> None:
    memory = []
    for item in good.plan.memory:
        if item.tensor == "head":
            half = item.bytes // 2
            middle = item.rows[1] // 2
            memory.append(replace(item, rows=(0, middle), bytes=half))
            memory.append(
                replace(item, rows=(middle, item.rows[1]), bytes=half, offset=item.offset + half)
            )
        else:
            memory.append(item)
    assert found(good, replace(good.plan, memory=tuple(memory))) == []


@pytest.mark.parametrize("name", ["grid-8x8", "sn40l", "plasticine", "wormhole", "blackhole"])
def test_every_site_has_switches_of_its_own(name: str) -> None:
    mesh = Mesh(grid_of(name))
    sites = list(itertools.product(range(mesh.sites_x), range(mesh.rows)))
    compute = {mesh.compute_switch(site) for site in sites}
    memory = {mesh.memory_switch(site) for site in sites}
    assert len(compute) == len(memory) == len(sites)
    assert compute.isdisjoint(memory) == mesh.paired
    assert len(mesh.ports) == int(mesh.grid.memory_ports.value)
    edges = {port % mesh.columns for port in mesh.ports}
    assert edges == {0, mesh.columns - 1}


def grid_of(name: str) -> Grid:
    grid = targets.load(name).device.grid
    assert grid is not None
    return grid


def test_paths_on_a_mesh_and_on_a_torus() -> None:
    mesh, torus = Mesh(grid_of("grid-8x8")), Mesh(grid_of("wormhole"))
    links = mesh.walk((1, 2, "E2S1"))
    assert [mesh.told(link) for link in links] == ["(1, 2) east", "(2, 2) east", "(3, 2) south"]
    assert mesh.ends[links[-1]] == mesh.switch(3, 3)
    assert mesh.walk((0, 0, "W1")) == []
    assert torus.ends[torus.walk((0, 0, "W1"))[0]] == torus.switch(torus.columns - 1, 0)
    assert torus.walk((0, 0, "E9999")) == [], "no path goes round for ever"
    for broken in ("", "E", "E0", "3E", "E1X2", "e1"):
        assert mesh.walk((0, 0, broken)) == []
    assert mesh.walk((8, 0, "S1")) == []


def test_cycles_and_orders() -> None:
    assert find_cycle({"a": ["b"], "b": ["c"], "c": []}) == []
    assert find_cycle({"a": ["b", "c"], "b": [], "c": ["d"], "d": ["c"]}) == ["c", "d"]
    assert find_cycle({1: [1]}) == [1]
    deep = {i: [i + 1] for i in range(50_000)}
    assert find_cycle(deep) == []
    assert find_cycle({**deep, 50_000: [0]}) == list(range(50_001))
    assert followers_last({"a": ["b", "c"], "b": ["c"], "c": []}) == ["c", "b", "a"]
