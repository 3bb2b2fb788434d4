"""Plans that cannot be timed: one clear error each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hetc import targets
from hetc.backends.dataflow.schema import Issue, Plan
from hetc.backends.dataflow.simulate import MemorySpeed, Speeds, simulate, speeds_of
from hetc.backends.dataflow.steps import Configure, Execute, Loop
from hetc.errors import HetcError
from tests.backends.dataflow.plans import barrier, block, plan, section, stage, stream
from tests.golden import Golden

MEMORY = MemorySpeed(bytes_per_cycle=1.0, efficiency=1.0, latency_cycles=0.0)
SPEEDS = Speeds(clock_hz=1e9, main_memory="hbm", memories={"hbm": MEMORY}, port_bytes_per_cycle=1.0)
RUN = Execute(block="b", section="all")
A = stage("a", streams=["w"])
W = stream("w", "a", 40, tile=10)


def waits_for_itself() -> Plan:
    """`v` is issued before `w` and does not fit, but `a`, which takes `w`, runs before `c`."""
    c = stage("c", barrier("a"), streams=["v"])
    v = stream("v", "c", 40, tile=10, depth=20)
    issue = [Issue(stream="v"), Issue(stream="w")]
    return plan(block("b", [A, c], [W, v], issue=issue))


def two_sections() -> Plan:
    parts = [section("one", ["a"]), section("two", ["a"])]
    steps = [Execute(block="b", section=part) for part in ("one", "two")]
    return plan(block("b", [A], [W]), sections=parts, steps=steps)


def other_block_in_a_loop() -> Plan:
    return plan(block("b", [A], [W]), steps=[Loop(block="c", count=2, body=(RUN,))])


CASES: dict[str, Callable[[], Plan]] = {
    "no such stage": lambda: plan(block("b", [stage("a", barrier("z"))])),
    "no such stream": lambda: plan(block("b", [A])),
    "another's stream": lambda: plan(block("b", [A], [stream("w", "z", 40)])),
    "no such section": lambda: plan(
        block("b", [A], [W]), steps=[Execute(block="b", section="other")]
    ),
    "two sections": two_sections,
    "a tile over the credits": lambda: plan(
        block("b", [A], [stream("w", "a", 40, tile=10, depth=9)])
    ),
    "waits for itself": waits_for_itself,
    "a circle of stages": lambda: plan(
        block("b", [stage("a", barrier("c"), work=1.0), stage("c", barrier("a"))])
    ),
    "no ports": lambda: plan(block("b", [A], [stream("w", "a", 40, ports=0)])),
    "negative": lambda: plan(block("b", [stage("a", work=-1.0)])),
    "never issued": lambda: plan(block("b", [A], [W], issue=[])),
    "issued twice": lambda: plan(block("b", [A], [W], issue=[Issue(stream="w")] * 2)),
    "nothing": lambda: plan(block("b", [A], [W]), steps=[Configure(section="all", cycles=1.0)]),
    "another block in a loop": other_block_in_a_loop,
    "no stage": lambda: plan(block("b", [A], [W]), sections=[section("all", [])]),
    "no such memory": lambda: plan(block("b", [A], [stream("w", "a", 40, tier="ddr")])),
    "no time": lambda: plan(block("b", [stage("a")])),
}


def refused(made: Plan) -> HetcError:
    with pytest.raises(HetcError) as caught:
        simulate(made, SPEEDS)
    return caught.value


def test_the_messages(golden: Golden) -> None:
    golden("refusals.txt", "\n\n".join(refused(made()).render() for made in CASES.values()))


@pytest.mark.parametrize("case", ["waits for itself", "a circle of stages"])
def test_both_engines_see_a_plan_that_stands_still(case: str) -> None:
    with pytest.raises(HetcError, match="HETC-L104"):
        simulate(CASES[case](), SPEEDS, mode="heap")


def test_one_token_is_no_difference() -> None:
    with pytest.raises(HetcError, match="HETC-L109"):
        simulate(plan(block("b", [A], [W])), SPEEDS, tokens=1)


def test_a_gpu_has_no_fabric() -> None:
    with pytest.raises(HetcError, match="HETC-T013"):
        speeds_of(targets.load("h200"))
