"""A stage as a max-plus process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hetc.backends.dataflow.simulate.process import Process, Times, Want
from hetc.backends.dataflow.simulate.timing import Flow

if TYPE_CHECKING:
    from hetc.backends.dataflow.simulate.maxplus import Run, Scheduled


class StageProcess(Process):
    """A stage, one execution after another: gate, tiles, first result, ready, exchange, end."""

    def __init__(self, run: Run, index: int) -> None:
        self.run = run
        self.index = index
        self.stage = run.timing.stages[index]
        self.name = self.stage.name
        self.gates = Times(self)
        self.firsts = Times(self)
        self.ready = Times(self)
        self.ends = Times(self)
        self.exchanges: list[int] = []
        segment = run.timing.segments[run.timing.segment_of[index]]
        self.groups = segment.groups
        self.streamed = tuple(wait for wait in self.stage.waits if wait.streamed)
        self.clock = 0.0

    def step(self) -> Want | None:
        execution = len(self.ends)
        scheduled = self.run.turn(self.run.turn_of(self.index, execution))
        if len(self.gates) == execution:
            want = self._open(scheduled, execution)
        elif len(self.ready) == execution:
            want = self._take(scheduled, execution) or self._complete(scheduled, execution)
        else:
            want = self._close(execution)
        return want

    def wants(self, scheduled: Scheduled, execution: int) -> list[Want]:
        """What an execution begins after, beside its own end before: the turn's begin, then the
        stage's `waits`, `reads` and `room`, in their order; a negative index is nothing."""
        wants: list[Want] = [(self.run.begins.times, self.run.turn_of(self.index, execution))]
        for wait in self.stage.waits:
            other = self.run.stages[wait.stage]
            times = other.firsts if wait.streamed else other.ends
            wants.append((times, self.run.execution(wait, scheduled)))
        wants += [(self.run.moved[move], execution) for move in self.stage.reads]
        for room in self.stage.room:
            ends = self.run.stages[room.stage].ends
            wants.append((ends, execution - room.back * self.groups))
        return wants

    def _open(self, scheduled: Scheduled, execution: int) -> Want | None:
        gate = self.ends[-1] if self.ends else 0.0
        if self.groups > 1 and self.ends:
            # Row groups follow each other as soon as the units are free.
            gate -= self.stage.latency
        for times, index in self.wants(scheduled, execution):
            if len(times) <= index:
                return times, index
            if index >= 0:
                gate = max(gate, times[index])
        gate += scheduled.turn.launch
        self.clock = gate
        self.gates.append(gate)
        if not self.stage.flows and not self.stage.wire:
            self.firsts.append(gate + self.stage.latency)
        return None

    def _take(self, scheduled: Scheduled, execution: int) -> Want | None:
        """Take all tiles that have arrived; the last waits for the end of streamed producers."""
        starved, stalled = 0.0, 0.0
        clock = self.clock
        want: Want | None = None
        for index in self.stage.flows:
            flow = self.run.timing.flows[index]
            arrived, taken = self.run.arrived[index], self.run.passed[index]
            end = (execution + 1) * flow.tiles
            if len(taken) == end:
                continue
            take, done = flow.take, len(taken)
            # Of all that was taken so far, what an earlier pass had taken before.
            again = (execution - execution // flow.passes) * flow.tiles
            for arrival in arrived[done - again : end - again - 1]:
                if arrival > clock:
                    starved += arrival - clock
                    clock = arrival
                clock += take
                taken.append(clock)
            self._release(flow, index, done, execution)
            if len(taken) < end - 1:
                want = arrived, len(taken) - again
                break
            if flow.queue is None:
                arrived.append(clock)
            if len(arrived) < end - again:
                want = arrived, end - again - 1
                break
            producers = 0.0
            if index == self.stage.flows[-1]:
                want, producers = self._producers(scheduled)
                if want is not None:
                    break
            start = max(clock, arrived[end - again - 1])
            starved += start - clock
            stalled += max(0.0, producers - start)
            clock = max(start, producers) + flow.take_last
            taken.append(clock)
            self._release(flow, index, end - 1, execution)
        self.clock = clock
        self._first_result(execution)
        self.run.tally.starved[self.index] += starved
        self.run.tally.stalled[self.index] += stalled
        return want

    def _release(self, flow: Flow, index: int, done: int, execution: int) -> None:
        """In the last pass of several, the room of the tiles from number `done` on is free."""
        if flow.passes > 1 and (execution + 1) % flow.passes == 0:
            self.run.taken[index].extend(self.run.passed[index][done:])

    def _first_result(self, execution: int) -> None:
        if len(self.firsts) == execution and not self.stage.wire:
            first = execution * self.run.timing.flows[self.stage.flows[0]].tiles
            taken = self.run.passed[self.stage.flows[0]]
            if len(taken) > first:
                self.firsts.append(taken[first] + self.stage.latency)

    def _producers(self, scheduled: Scheduled) -> tuple[Want | None, float]:
        """The latest end of the producers whose results are taken as they come."""
        latest = 0.0
        for wait in self.streamed:
            ends = self.run.stages[wait.stage].ends
            execution = self.run.execution(wait, scheduled)
            if len(ends) <= execution:
                return (ends, execution), latest
            if execution >= 0:
                latest = max(latest, ends[execution])
        return None, latest

    def _complete(self, scheduled: Scheduled, execution: int) -> Want | None:
        want, producers = self._producers(scheduled)
        if want is not None:
            return want
        own = max(self.clock, self.gates[execution] + self.stage.work)
        self.run.tally.stalled[self.index] += max(0.0, producers - own)
        self.ready.append(max(own, producers))
        return None

    def _close(self, execution: int) -> Want | None:
        done = self.ready[execution]
        if self.stage.wire:
            exchange = self.exchanges[execution]
            sent = self.run.link_of(self.index).times
            if len(sent) <= exchange:
                return sent, exchange
            self.run.tally.stalled[self.index] += sent[exchange] - self.stage.wire_last - done
            done = sent[exchange]
        end = done + self.stage.latency
        if self.stage.wire:
            self.firsts.append(end)
        before = self.ends[-1] if self.ends else 0.0
        self.ends.append(end)
        self.run.tally.active[self.index] += end - max(before, self.gates[execution])
        return None
