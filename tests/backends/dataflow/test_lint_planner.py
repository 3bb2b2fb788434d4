"""Plans that hetc makes: the linter finds nothing in them, and every fault seeded into them."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc import targets
from hetc.backends.dataflow.lint import RULES, lint
from hetc.backends.dataflow.schema import Request
from hetc.driver.spatial import Spatial, plan_spatially
from hetc.ir.graph import Graph
from hetc.passes.canonicalize import canonicalize
from hetc.passes.outline_layers import outline_layers
from hetc.passes.synthesize_state import synthesize_state
from hetc.passes.workload import Workload
from hetc.targets.machine import Target
from tests.backends.dataflow.mutations import MUTATIONS, Mutation
from tests.backends.llama import Llama

ERRORS = {rule.code for rule in RULES if rule.severity == "error"}
# Machine, rows that a window keeps, batch and its row groups.
KINDS = (("grid-8x8", None, 1, None), ("sn40l:2", 8, 1, None), ("sn40l:2", None, 4, 2))
Kind = tuple[str, int | None, int, int | None]
# No pin was asked for, and every buffer holds what a consumer may wait for.
NO_PLACE = {"another pin", "a wait for the end"}


@cache
def planned(
    name: str, window: int | None, batch: int, row_groups: int | None
) -> tuple[Spatial, Target, Graph]:
    llama = Llama(window=window)
    graph = llama.graph()
    weights = llama.weights(graph)
    program = synthesize_state(canonicalize(graph), weights.__getitem__, 64)
    decode, target = outline_layers(program.decode), targets.load(name)
    workload = Workload(batch=batch, prompt_tokens=32, new_tokens=16)
    request = Request(row_groups=row_groups)
    return plan_spatially(decode, target, workload, request), target, decode


@pytest.mark.parametrize("kind", KINDS)
def test_the_planner_makes_plans_without_errors(kind: Kind) -> None:
    spatial, target, decode = planned(*kind)
    found = lint(spatial.plan, target, spatial.sharded.graph, model=decode)
    assert {item.code for item in found}.isdisjoint(ERRORS)


@pytest.mark.parametrize(
    "mutation", [m for m in MUTATIONS if ERRORS & {*m.codes}], ids=lambda mutation: mutation.name
)
@settings(max_examples=4)
@given(st.data())
def test_a_fault_in_a_real_plan_is_found(mutation: Mutation, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(KINDS) - 1))
    for kind in KINDS[start:] + KINDS[:start]:
        spatial, target, decode = planned(*kind)
        plan = mutation.mutate(spatial.plan, data.draw)
        if plan is not None:
            graph = spatial.sharded.graph
            before = Counter(item.code for item in lint(spatial.plan, target, graph, model=decode))
            after = Counter(item.code for item in lint(plan, target, graph, model=decode))
            assert any(after[code] > before[code] for code in mutation.codes), after - before
            return
    assert mutation.name in NO_PLACE
