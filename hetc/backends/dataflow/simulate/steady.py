"""Skip the iterations of a loop that repeat.

In (max, +) the state at the end of an iteration follows from the one before and from constants:
x' = max(A x, c). When x is later by the same p > 0 in every component two times in a row, no
component was set by its constant the second time, and none ever is again: all iterations to come
take p. So the rest of a loop is skipped by moving the state k * p ahead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from hetc.backends.dataflow.simulate.maxplus import LinkProcess, Run
from hetc.backends.dataflow.simulate.process import Times
from hetc.backends.dataflow.simulate.stage import StageProcess
from hetc.backends.dataflow.simulate.tally import Tally
from hetc.backends.dataflow.simulate.timing import Gate, Move, Repeat

_RELATIVE = 1e-12


@dataclass(frozen=True)
class _State:
    """What the future depends on: how far everything is, and when, after the base."""

    base: float
    shape: tuple[int, ...]
    times: tuple[float, ...]
    tally: Tally


class Steady:
    """Watches one loop of a run; a new one for every token."""

    def __init__(self, run: Run, repeat: Repeat) -> None:
        self.run = run
        self.repeat = repeat
        timing = run.timing
        second = repeat.start + repeat.length
        turns = timing.turns[second : second + repeat.length]
        segments = sorted({turn.segment for turn in turns})
        self.stages = [run.stages[s] for at in segments for s in timing.segments[at].stages]
        self.flows = [flow for process in self.stages for flow in process.stage.flows]
        self.fenced = any(turn.fence is not None for turn in turns)
        self.queues = [
            queue
            for queue in run.queues
            if any(turn.work[queue.index] or turn.gate is not Gate.NOTHING for turn in turns)
        ]
        rooms = [room.back for process in self.stages for room in process.stage.room]
        # Iterations back to which a stage looks for what it waits for.
        self.history = max(1, *rooms, 1)
        work = [item for turn in turns for items in turn.work for item in items]
        self.moves = sorted({item.index for item in work if isinstance(item, Move)})
        self.states: list[_State] = []

    def skip(self, number: int, iteration: int) -> int:
        """After turn `number`, the last of `iteration`: how many more were skipped, 0 if none."""
        self.states = [*self.states[-2:], self._state(number)]
        turns_ahead = len(self.run.scheduled) - 1 - number
        times = self.repeat.high - 1 - iteration - math.ceil(turns_ahead / self.repeat.length)
        if times < 1 or len(self.states) < 3 or not self._repeats():
            return 0
        before, now = self.states[-2:]
        self._later(number, times * (now.base - before.base))
        self.run.tally.add(now.tally, before.tally, times)
        self.run.skip(times * self.repeat.length)
        return times

    def _repeats(self) -> bool:
        first, second, third = self.states
        period = third.base - second.base
        tolerance = _RELATIVE * max(1.0, third.base)
        return (
            period > tolerance
            and abs(period - (second.base - first.base)) <= tolerance
            and first.shape == second.shape == third.shape
            and all(
                abs(a - c) <= tolerance and abs(b - c) <= tolerance
                for a, b, c in zip(first.times, second.times, third.times, strict=True)
            )
        )

    def _state(self, number: int) -> _State:
        base = self.run.finishes.times[number]
        shape: list[int] = []
        times: list[float] = []
        for tail, start in self._tails(number):
            shape.append(len(tail) - start)
            times.extend(time - base for time in tail[start:])
        for queue in self.queues:
            shape += [len(queue.passed) - number, queue.entry]
            times.append(queue.free - base)
        for process in self.stages:
            done = self._done(process, number)
            for flow in process.stage.flows:
                passes = self.run.timing.flows[flow].passes
                tiles = done // passes * self.run.timing.flows[flow].tiles
                shape += [len(self.run.arrived[flow]) - tiles, len(self.run.taken[flow]) - tiles]
            if len(process.gates) > len(process.ready):
                times.append(process.clock - base)
        return _State(base, tuple(shape), tuple(times), self.run.tally.copy())

    def _later(self, number: int, cycles: float) -> None:
        for tail, start in self._tails(number):
            tail[start:] = [time + cycles for time in tail[start:]]
        for queue in self.queues:
            queue.free += cycles
        for process in self.stages:
            process.clock += cycles

    def _done(self, process: StageProcess, number: int) -> int:
        """How often a stage of the loop was executed up to turn `number`."""
        scheduled = self.run.scheduled[number]
        segment = self.run.timing.segment_of[process.index]
        return scheduled.before[segment] + (segment == scheduled.turn.segment)

    def _tails(self, number: int) -> Iterator[tuple[Times, int]]:
        """Lists of times, and the first entry of each that may be asked for from now on."""
        run = self.run
        yield run.finishes.times, number
        if self.fenced:
            yield run.begins.times, number
        links: dict[LinkProcess, int] = {}
        for process in self.stages:
            segment = run.timing.segments[run.timing.segment_of[process.index]]
            last = max(0, self._done(process, number) - self.history * segment.groups)
            for times in (process.gates, process.firsts, process.ready, process.ends):
                yield times, last
            if process.exchanges:
                link, exchange = run.link_of(process.index), process.exchanges[last]
                links[link] = max(links.get(link, 0), exchange)
        for link, exchange in links.items():
            yield link.times, exchange
        for flow in self.flows:
            arrived, taken = run.arrived[flow], run.taken[flow]
            fits = run.timing.flows[flow].fits
            if fits:
                start = max(0, len(arrived) - max(fits))
                yield arrived, start
                yield taken, start
        done = min(self._done(process, number) for process in self.stages)
        for move in self.moves:
            yield run.moved[move], min(max(0, done - 1), len(run.moved[move]))
