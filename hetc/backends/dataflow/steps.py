"""The steps of a plan's program: what a socket does for one token."""

from __future__ import annotations

from typing import Literal

from hetc.backends.dataflow.part import Part


class Configure(Part, frozen=True, kw_only=True, tag="configure"):
    """Load a section, which takes `cycles`."""

    section: str
    cycles: float


class Execute(Part, frozen=True, kw_only=True, tag="execute"):
    """Run the stages of `section` that belong to `block`, for the present iteration.

    `launch_cycles` are paid before each `launch`: of the block, or of every stage where ops are not
    fused; nothing is read for what is not launched. 0: resident and started by its data.
    """

    block: str
    section: str
    launch: Literal["block", "stage"] = "block"
    launch_cycles: float = 0.0


class Loop(Part, frozen=True, kw_only=True, tag="loop"):
    """Run `body` for the iterations of `block`: pointers advance by the strides of its tensors.

    `prefetch`: the memory queues go on into the next iteration while this one computes.
    """

    block: str
    count: int
    body: tuple[Configure | Execute, ...]
    prefetch: bool = True


class Advance(Part, frozen=True, kw_only=True, tag="advance"):
    """The end of a token: the row pointer of every state moves by `rows`."""

    rows: int


Step = Configure | Execute | Loop | Advance


class Program(Part, frozen=True, kw_only=True):
    """One token. `overhead_cycles` (sampling, host) lie between the end of one and the start of the
    next; with `prefetch` the memory queues do not wait for it."""

    steps: tuple[Step, ...]
    prefetch: bool
    overhead_cycles: float
