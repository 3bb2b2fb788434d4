"""Run tokens through the max-plus processes."""

from __future__ import annotations

import numpy as np

from hetc.backends.dataflow.simulate.maxplus import Run
from hetc.backends.dataflow.simulate.process import know
from hetc.backends.dataflow.simulate.steady import Steady
from hetc.backends.dataflow.simulate.tally import Outcome, Tally
from hetc.backends.dataflow.simulate.timing import Timing


def run_maxplus(timing: Timing, tokens: int, *, skip: bool = True) -> tuple[Outcome, Run]:
    """Simulate `tokens`; with `skip`, iterations that repeat are not simulated one by one."""
    run = Run(timing)
    ends: list[float] = []
    before = run.tally
    number = 0
    for _ in range(tokens):
        before = run.tally.copy()
        position = 0
        watches = {
            repeat.start: Steady(run, repeat)
            for repeat in timing.repeats
            if skip and repeat.high > 4
        }
        watch: Steady | None = None
        while position < len(timing.turns):
            for queue in run.queues:
                know(queue.passed, number)
            know(run.finishes.times, number)
            watch = watches.get(position, watch)
            position += 1
            if watch is not None:
                iteration, rest = divmod(position - watch.repeat.start, watch.repeat.length)
                if rest == 0 and 1 < iteration <= watch.repeat.high:
                    position += watch.skip(number, iteration - 1) * watch.repeat.length
            number += 1
        ends.append(run.finishes.times[-1])
    last = Tally.zero(timing)
    last.add(run.tally, before, 1)
    peaks = tuple(_peak(run, flow) for flow in range(len(timing.flows)))
    return Outcome(tuple(ends), last, peaks), run


def _peak(run: Run, index: int) -> int:
    """Most bytes of a flow that were issued and not yet taken, over the run.

    Where iterations were skipped, the tiles on either side stand next to each other in time order.
    """
    flow = run.timing.flows[index]
    if flow.queue is None:
        return 0
    taken = np.array(run.taken[index])
    tiles = np.arange(len(taken))
    last = tiles % flow.tiles == flow.tiles - 1
    serve = np.where(last, flow.serve_last, flow.serve)
    issued = np.array(run.arrived[index]) - run.timing.queues[flow.queue].latency - serve
    held = np.concatenate(([0], np.cumsum(np.where(last, flow.last_bytes, flow.tile_bytes))))
    # A tile that is issued the moment another is taken: they differ by rounding.
    freed = np.searchsorted(taken, issued * (1 + 1e-12), side="right")
    return int(np.max(held[1:] - held[freed]))
