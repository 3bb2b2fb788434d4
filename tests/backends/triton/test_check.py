"""The checker of launch plans finds whatever is changed of a good one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc.backends.triton.check import check_plan
from hetc.bundle.launches import (
    Buffer,
    BufferRef,
    Build,
    Choice,
    Extent,
    Launch,
    LaunchPlan,
    SizeOf,
)
from tests.backends.triton.halves import half

replace = msgspec.structs.replace
Change = Callable[[LaunchPlan], LaunchPlan]


def good() -> LaunchPlan:
    return half("gemma2").plan()


def codes(plan: LaunchPlan) -> set[str]:
    return {reason.code for reason in check_plan(plan, half("gemma2").states)}


def changed(plan: LaunchPlan, field: str, index: int, **changes: Any) -> LaunchPlan:
    """`plan` with some fields of the part number `index` of `field` changed."""
    parts = list(getattr(plan, field))
    parts[index] = replace(parts[index], **changes)
    return replace(plan, **{field: tuple(parts)})


def kernel_changed(plan: LaunchPlan, **changes: Any) -> LaunchPlan:
    name = plan.launches[0].kernel
    return replace(plan, kernels=plan.kernels | {name: replace(plan.kernels[name], **changes)})


def argument_changed(plan: LaunchPlan, argument: Any) -> LaunchPlan:
    launch = plan.launches[-1]
    return changed(plan, "launches", -1, arguments=(argument, *launch.arguments[1:]))


def _constant_cut(plan: LaunchPlan) -> LaunchPlan:
    index = next(n for n, weight in enumerate(plan.weights) if weight.data)
    return changed(plan, "weights", index, data=plan.weights[index].data[:-8])


BUILD = Build(
    arch="sm_90", config=0, cubin="x", threads=128, shared_bytes=0, registers=1, spill_bytes=0
)
CHANGES: dict[str, tuple[str, Change]] = {
    "an unknown kernel": ("HETC-E060", lambda p: changed(p, "launches", 3, kernel="no")),
    "two buffers of one name": (
        "HETC-E060",
        lambda p: replace(p, buffers=(*p.buffers, p.buffers[0])),
    ),
    "a state too few": ("HETC-E060", lambda p: replace(p, states=p.states[1:])),
    "a state of another name": ("HETC-E060", lambda p: changed(p, "states", 0, name="other")),
    "logits that are not there": ("HETC-E060", lambda p: replace(p, logits="b0")),
    "an argument too few": (
        "HETC-E060",
        lambda p: changed(p, "launches", 2, arguments=p.launches[2].arguments[1:]),
    ),
    "a number for a pointer": ("HETC-E060", lambda p: argument_changed(p, SizeOf(size="M"))),
    "a pointer to other elements": (
        "HETC-E060",
        lambda p: changed(p, "buffers", 0, element="bf16"),
    ),
    "a weight of other elements": ("HETC-E060", lambda p: changed(p, "weights", 0, element="f16")),
    "an arena that is too small": ("HETC-E061", lambda p: replace(p, arena_bytes="256*M")),
    "states that are too small": ("HETC-E061", lambda p: replace(p, state_bytes="64*M")),
    "weights that are too small": ("HETC-E061", lambda p: replace(p, weight_bytes=4096)),
    "an offset that is not aligned": (
        "HETC-E061",
        lambda p: changed(p, "buffers", 1, offset=p.buffers[1].offset + "+8"),
    ),
    "a weight on another": ("HETC-E061", lambda p: changed(p, "weights", 1, offset=0)),
    "a state on another": ("HETC-E061", lambda p: changed(p, "states", 1, offset="0")),
    "a constant cut short": ("HETC-E061", _constant_cut),
    "a reference beside its buffer": (
        "HETC-E061",
        lambda p: argument_changed(p, BufferRef(name=p.launches[-1].reads[0], offset="1024*M*M")),
    ),
    "a launch before what it reads": (
        "HETC-E062",
        lambda p: replace(p, launches=(p.launches[4], *p.launches[1:])),
    ),
    "a launch left out": (
        "HETC-E062",
        lambda p: replace(p, launches=(*p.launches[:4], p.launches[5], *p.launches[5:])),
    ),
    "a lifetime that ends early": (
        "HETC-E062",
        lambda p: changed(p, "buffers", 0, last=0, first=0),
    ),
    "a read that is not told": ("HETC-E062", lambda p: changed(p, "launches", -1, reads=())),
    "an empty grid": (
        "HETC-E063",
        lambda p: changed(p, "launches", 0, grid=((Extent(size="M-1"),), (), ())),
    ),
    "a grid beyond the limit": (
        "HETC-E063",
        lambda p: changed(p, "launches", 0, grid=((), (Extent(size="2*M"),), ())),
    ),
    "a grid by an unknown constant": (
        "HETC-E063",
        lambda p: changed(p, "launches", 0, grid=((Extent(size="M", by="BLOCK_Z"),), (), ())),
    ),
    "a choice that is not built": (
        "HETC-E064",
        lambda p: kernel_changed(
            p, builds=(BUILD,), choices={"sm_90": (Choice(rows=None, config=1),)}
        ),
    ),
    "choices that end": (
        "HETC-E064",
        lambda p: kernel_changed(
            p, builds=(BUILD,), choices={"sm_90": (Choice(rows=64, config=0),)}
        ),
    ),
    "a block of no whole warps": (
        "HETC-E064",
        lambda p: kernel_changed(
            p,
            builds=(replace(BUILD, threads=100),),
            choices={"sm_90": (Choice(rows=None, config=0),)},
        ),
    ),
}


def matrix_changed(plan: LaunchPlan, **changes: Any) -> LaunchPlan:
    """The first matrix of the first kernel that has one, with some fields changed."""
    name, kernel = next(
        (name, kernel)
        for name, kernel in plan.kernels.items()
        if any(parameter.matrix for parameter in kernel.parameters)
    )
    parameters = list(kernel.parameters)
    place = next(n for n, parameter in enumerate(parameters) if parameter.matrix)
    matrix = parameters[place].matrix
    assert matrix is not None
    parameters[place] = replace(parameters[place], matrix=replace(matrix, **changes))
    return replace(
        plan, kernels=plan.kernels | {name: replace(kernel, parameters=tuple(parameters))}
    )


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("HETC-E061", {"rows": "1024*M"}),
        ("HETC-E061", {"columns": 9}),
        ("HETC-E064", {"tile": ("BLOCK_Z", "BLOCK_K")}),
    ],
    ids=str,
)
def test_a_matrix_that_cannot_be_mapped_is_found(code: str, changes: dict[str, Any]) -> None:
    made = half("llama", "bf16")
    assert check_plan(made.plan(), made.states) == []
    found = check_plan(matrix_changed(made.plan(), **changes), made.states)
    assert code in {reason.code for reason in found}


def test_a_good_plan_has_nothing_wrong() -> None:
    assert check_plan(good(), half("gemma2").states) == []


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_found(change: str) -> None:
    code, make = CHANGES[change]
    assert code in codes(make(good()))


@given(st.data())
def test_a_buffer_moved_onto_another_is_found(data: st.DataObject) -> None:
    plan = good()
    pairs = [(a, b) for a in plan.buffers for b in plan.buffers if a is not b and _meet(a, b)]
    one, other = data.draw(st.sampled_from(pairs))
    index = plan.buffers.index(one)
    assert "HETC-E061" in codes(changed(plan, "buffers", index, offset=other.offset))


def _meet(one: Buffer, other: Buffer) -> bool:
    return one.first <= other.last and other.first <= one.last


@given(st.data())
def test_two_launches_in_the_wrong_order_are_found(data: st.DataObject) -> None:
    plan = good()
    launches = list(plan.launches)
    first = data.draw(st.integers(0, len(launches) - 2))
    readers = [n for n in range(first + 1, len(launches)) if _reads(launches[n], launches[first])]
    if not readers:
        return
    second = data.draw(st.sampled_from(readers))
    launches[first], launches[second] = launches[second], launches[first]
    assert "HETC-E062" in codes(replace(plan, launches=tuple(launches)))


def _reads(reader: Launch, writer: Launch) -> bool:
    return bool(set(reader.reads) & set(writer.writes))
