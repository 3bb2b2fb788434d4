"""Every kind of fault seeded into a good plan: the linter finds it."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc.backends.dataflow.lint import RULES, lint, render, verdicts
from tests.backends.dataflow.mutations import MUTATIONS, Mutation
from tests.backends.dataflow.toy_plan import Toy, toy

# Sockets, sections, rows that a window keeps.
KINDS = ((1, 1, 0), (2, 1, 0), (1, 2, 0), (2, 2, 8))


@cache
def cached(sockets: int, sections: int, window: int) -> Toy:
    return toy(sockets, sections, window)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
@settings(max_examples=12)
@given(st.data())
def test_a_fault_is_found(mutation: Mutation, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(KINDS) - 1))
    for kind in KINDS[start:] + KINDS[:start]:
        good = cached(*kind)
        plan = mutation.mutate(good.plan, data.draw)
        if plan is not None:
            findings = lint(plan, good.target, good.graph, model=good.model)
            codes = {finding.code for finding in findings}
            assert not codes.isdisjoint(mutation.codes), f"found {sorted(codes)}"
            return
    raise AssertionError("no toy plan has a place for this fault")


def test_faults_are_seeded_for_every_rule_that_is_not_about_the_target_alone() -> None:
    seeded = {code for mutation in MUTATIONS for code in mutation.codes}
    assert {rule.code for rule in RULES} - seeded == {"HETC-L232"}


@settings(max_examples=60)
@given(st.data())
def test_no_plan_is_too_broken_to_be_linted(data: st.DataObject) -> None:
    good = cached(*data.draw(st.sampled_from(KINDS)))
    plan = good.plan
    for mutation in data.draw(st.lists(st.sampled_from(MUTATIONS), min_size=2, max_size=4)):
        plan = mutation.mutate(plan, data.draw) or plan
    render(lint(plan, good.target, good.graph, model=good.model))
    verdicts(plan, good.target)


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_plan_has_no_finding(kind: tuple[int, int, int]) -> None:
    good = cached(*kind)
    assert lint(good.plan, good.target, good.graph, model=good.model) == ()
    checks = verdicts(good.plan, good.target, good.graph, model=good.model)
    assert [check.code for check in checks] == [rule.code for rule in RULES]
    assert all(check.ok for check in checks)
