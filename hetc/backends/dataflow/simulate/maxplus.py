"""The longest path through a plan's events: the default engine."""

from __future__ import annotations

from hetc.backends.dataflow.simulate.process import Process, Times, Want
from hetc.backends.dataflow.simulate.queue import QueueProcess
from hetc.backends.dataflow.simulate.stage import StageProcess
from hetc.backends.dataflow.simulate.tally import Tally
from hetc.backends.dataflow.simulate.timing import Timing, Turn, Wait, When


class Scheduled:
    """A turn in the run: the `execution` of its segment, and all segments' executions before it."""

    __slots__ = ("before", "execution", "turn")

    def __init__(self, turn: Turn, before: tuple[int, ...]) -> None:
        self.turn = turn
        self.before = before
        self.execution = before[turn.segment]


class Run:
    """All processes of a run. Turns, executions and tiles are numbered from its start."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.tally = Tally.zero(timing)
        self.scheduled: list[Scheduled] = []
        self.turns_of: list[list[int]] = [[] for _ in timing.segments]
        self.position = 0
        self.link = LinkProcess(self)
        self.shares = {
            index: LinkProcess(self)
            for index, stage in enumerate(timing.stages)
            if stage.wire and stage.share < 1
        }
        self.queues = [QueueProcess(self, index) for index in range(len(timing.queues))]
        self.stages = [StageProcess(self, index) for index in range(len(timing.stages))]
        self.arrived = [
            Times(self.queues[flow.queue] if flow.queue is not None else self.stages[flow.stage])
            for flow in timing.flows
        ]
        # When tiles were taken, in every pass, and when that was for the last time.
        self.passed = [Times(self.stages[flow.stage]) for flow in timing.flows]
        self.taken = [
            passed if flow.passes == 1 else Times(self.stages[flow.stage])
            for flow, passed in zip(timing.flows, self.passed, strict=True)
        ]
        self.moved = [Times(self.queues[timing.main]) for _ in range(timing.moves)]
        self.begins = BeginProcess(self)
        self.finishes = FinishProcess(self)

    def turn(self, number: int) -> Scheduled:
        """The turn of this number; the program goes on, token after token, as far as asked."""
        while len(self.scheduled) <= number:
            turn = self.timing.turns[self.position]
            self.skip(1)
            found = Scheduled(turn, tuple(len(turns) for turns in self.turns_of))
            self.turns_of[turn.segment].append(len(self.scheduled))
            self.scheduled.append(found)
            for stage in self.timing.segments[turn.segment].stages:
                if self.timing.stages[stage].wire:
                    link = self.link_of(stage)
                    self.stages[stage].exchanges.append(len(link.order))
                    link.order.append((stage, found.execution))
        return self.scheduled[number]

    def link_of(self, stage: int) -> LinkProcess:
        """The link, or the share of it, that a stage sends on."""
        return self.shares.get(stage, self.link)

    def skip(self, turns: int) -> None:
        """Go on with a later turn of the token, or with the first of the next."""
        self.position = (self.position + turns) % len(self.timing.turns)

    def turn_of(self, stage: int, execution: int) -> int:
        """The number of the turn in which a stage is executed for the n-th time."""
        turns = self.turns_of[self.timing.segment_of[stage]]
        while len(turns) <= execution:
            self.turn(len(self.scheduled))
        return turns[execution]

    def execution(self, wait: Wait, scheduled: Scheduled) -> int:
        """Which execution a turn waits for; negative for none. Of the same row group, where a block
        has groups."""
        if wait.when is When.LATEST:
            return scheduled.before[self.timing.segment_of[wait.stage]] - 1
        if wait.when is When.SAME:
            return scheduled.execution
        groups = self.timing.segments[scheduled.turn.segment].groups
        return -1 if scheduled.turn.first else scheduled.execution - groups


class BeginProcess(Process):
    """When turns begin: tokens after the overhead, and a fence after all before it."""

    name = "the program"

    def __init__(self, run: Run) -> None:
        self.run = run
        self.times = Times(self)

    def step(self) -> Want | None:
        number = len(self.times)
        turn = self.run.turn(number).turn
        begin = self.times[-1] if self.times else 0.0
        if number and (turn.opens or turn.fence is not None):
            finishes = self.run.finishes.times
            if len(finishes) < number:
                return finishes, number - 1
            begin = finishes[number - 1]
            if turn.opens:
                begin += self.run.timing.overhead
        self.times.append(begin + (turn.fence or 0.0))
        return None


class FinishProcess(Process):
    """When all stages of a turn, and of all before it, have ended."""

    name = "the end of a turn"

    def __init__(self, run: Run) -> None:
        self.run = run
        self.times = Times(self)

    def step(self) -> Want | None:
        scheduled = self.run.turn(len(self.times))
        before = self.times[-1] if self.times else 0.0
        finish = before
        segment = self.run.timing.segments[scheduled.turn.segment]
        for stage in segment.stages:
            ends = self.run.stages[stage].ends
            if len(ends) <= scheduled.execution:
                return ends, scheduled.execution
            finish = max(finish, ends[scheduled.execution])
        self.run.tally.blocks[segment.block] += finish - before
        self.times.append(finish)
        return None


class LinkProcess(Process):
    """The link to the peers, or a stage's share of it: one exchange at a time, in the order of the
    program."""

    name = "the peer link"

    def __init__(self, run: Run) -> None:
        self.run = run
        self.order: list[tuple[int, int]] = []
        self.times = Times(self)

    def step(self) -> Want | None:
        index, execution = self.order[len(self.times)]
        process = self.run.stages[index]
        if len(process.ready) <= execution:
            return process.ready, execution
        stage = process.stage
        start = max(process.gates[execution], self.times[-1] if self.times else 0.0)
        self.run.tally.link[0] += stage.wire * stage.share
        self.times.append(max(start + stage.wire, process.ready[execution] + stage.wire_last))
        return None
