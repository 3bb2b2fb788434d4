"""A memory tier's queue as a max-plus process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hetc.backends.dataflow.simulate.process import Process, Times, Want
from hetc.backends.dataflow.simulate.timing import Flow, Gate, Move, Turn

if TYPE_CHECKING:
    from hetc.backends.dataflow.simulate.maxplus import Run, Scheduled


class QueueProcess(Process):
    """A memory tier's queue. `passed` is when it is through with a turn."""

    def __init__(self, run: Run, index: int) -> None:
        self.run = run
        self.index = index
        self.queue = run.timing.queues[index]
        self.name = f"the {self.queue.tier} queue"
        self.passed = Times(self)
        self.entry = 0
        self.free = 0.0

    def step(self) -> Want | None:
        scheduled = self.run.turn(len(self.passed))
        work = scheduled.turn.work[self.index]
        want = self._gate(scheduled.turn) if self.entry == 0 else None
        if want is None and self.entry == len(work):
            self.passed.append(self.free)
            self.entry = 0
        elif want is None:
            item = work[self.entry]
            want = self._move(item, scheduled) if isinstance(item, Move) else self._read(item.flow)
            self.entry += want is None
        return want

    def _gate(self, turn: Turn) -> Want | None:
        number = len(self.passed)
        if turn.gate is Gate.BEGIN:
            return self._wait(self.run.begins.times, number)
        if turn.gate is Gate.FINISH:
            return self._wait(self.run.finishes.times, number - 1)
        return None

    def _wait(self, times: Times, index: int) -> Want | None:
        if index < 0:
            return None
        if len(times) <= index:
            return times, index
        if times[index] > self.free:
            self.run.tally.order[self.index] += times[index] - self.free
            self.free = times[index]
        return None

    def _move(self, move: Move, scheduled: Scheduled) -> Want | None:
        want = None
        if move.wait is not None:
            ends = self.run.stages[move.wait.stage].ends
            want = self._wait(ends, self.run.execution(move.wait, scheduled))
        if move.source is not None:
            source = self.run.moved[move.source]
            want = self._wait(source, len(source) - 1)
        if want is None:
            self.run.tally.busy[self.index] += move.serve
            self.free += move.serve
            self.run.moved[move.index].append(self.free + move.latency)
        return want

    def _read(self, index: int) -> Want | None:
        """Issue all tiles of the flow's next iteration, as far as its credits go."""
        flow = self.run.timing.flows[index]
        arrived, taken = self.run.arrived[index], self.run.taken[index]
        execution, done = divmod(len(arrived), flow.tiles)
        if done == 0:
            want = self._gate_flow(flow, execution)
            if want is not None:
                return want
        free, latency, serve = self.free, self.queue.latency, flow.serve
        waited, issued, want = 0.0, len(arrived), None
        for tile in range(done, flow.tiles):
            room = len(arrived) - flow.fits[tile]
            if room >= 0:
                if room >= len(taken):
                    want = taken, room
                    break
                if taken[room] > free:
                    waited += taken[room] - free
                    free = taken[room]
            free += serve if tile < flow.tiles - 1 else flow.serve_last
            arrived.append(free + latency)
        self.run.tally.credit[index] += waited
        self.run.tally.busy[self.index] += serve * (len(arrived) - issued)
        if want is None:
            self.run.tally.busy[self.index] += flow.serve_last - serve
        self.free = free
        return want

    def _gate_flow(self, flow: Flow, execution: int) -> Want | None:
        execution *= flow.passes
        scheduled = self.run.turn(self.run.turn_of(flow.stage, execution))
        if scheduled.turn.launch:
            want = self._wait(self.run.stages[flow.stage].gates, execution)
            if want is not None:
                return want
        if flow.after is None:
            return None
        ends = self.run.stages[flow.after.stage].ends
        return self._wait(ends, self.run.execution(flow.after, scheduled))
