"""The program of one token: which sections are loaded, which blocks run, how often."""

from __future__ import annotations

from collections.abc import Sequence

from hetc.backends.dataflow.blocks import Run
from hetc.backends.dataflow.schema import Request
from hetc.backends.dataflow.sections import Place
from hetc.backends.dataflow.steps import (
    Advance,
    Configure,
    Execute,
    Loop,
    Program,
    Step,
)


def make_program(
    runs: Sequence[Run],
    sections: Sequence[Sequence[Place]],
    request: Request,
    *,
    reconfigure_cycles: float,
    launch_cycles: float,
    overhead_cycles: float,
) -> Program:
    """The steps of one token.

    One section stays on the chip and is started by its data. Without looping the host launches
    every iteration, and every stage where ops are not fused.
    """
    launched = not (request.looping and request.fused)
    cost = launch_cycles if launched else 0.0
    launch = "block" if request.fused else "stage"
    steps: list[Step] = []
    on_chip: int | None = 0 if len(sections) == 1 else None
    for block, run in enumerate(runs):
        here = [number for number, part in enumerate(sections) if any(b == block for b, _ in part)]
        body: list[Configure | Execute] = []
        for number in here:
            if len(here) > 1 or number != on_chip:
                body.append(Configure(section=f"c{number}", cycles=reconfigure_cycles))
            body.append(
                Execute(
                    block=run.id,
                    section=f"c{number}",
                    launch="stage" if launch == "stage" else "block",
                    launch_cycles=cost,
                )
            )
        on_chip = here[-1]
        if run.repeat == 1:
            steps += body
            continue
        if len(here) == 1:
            # What is loaded once stays for all iterations.
            steps += [step for step in body if isinstance(step, Configure)]
            body = [step for step in body if isinstance(step, Execute)]
        prefetch = request.prefetch and not launched and len(here) == 1
        steps.append(Loop(block=run.id, count=run.repeat, body=tuple(body), prefetch=prefetch))
    steps.append(Advance(rows=1))
    return Program(
        steps=tuple(steps),
        prefetch=request.prefetch and not launched and len(sections) == 1,
        overhead_cycles=overhead_cycles,
    )
