"""Runs a plan token by token, as its program says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from hetc.backends.dataflow.interpret.addresses import Addresses
from hetc.backends.dataflow.interpret.load import load_states, load_weights, write_rows
from hetc.backends.dataflow.interpret.machine import Machine
from hetc.backends.dataflow.interpret.memory import Memory
from hetc.backends.dataflow.interpret.names import check_names
from hetc.backends.dataflow.interpret.queues import Queue
from hetc.backends.dataflow.interpret.row_group import RowGroup
from hetc.backends.dataflow.interpret.stage_run import StageRun, Waiting
from hetc.backends.dataflow.interpret.wiring import Wired, Wiring, check_dependences
from hetc.backends.dataflow.schema import Plan, Stage
from hetc.backends.dataflow.steps import Configure, Execute, Loop
from hetc.errors import PlanError
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup
from hetc.ir.text import print_graph
from hetc.ir.types import Array


class PlanRun:
    """All sockets of a plan with the weights of the model in their memory.

    `graph` is that of one socket, `weights` looks the model's own up by name. Raises PlanError
    (HETC-L3xx) where the plan cannot be executed as it is written, now or in a step.
    """

    def __init__(self, plan: Plan, graph: Graph, weights: WeightLookup) -> None:
        _check_graph(plan, graph)
        check_names(plan)
        wiring = Wiring(plan, graph)
        check_dependences(wiring)
        self._plan = plan
        self._machine = Machine(plan, wiring, Memory(plan))
        self._addresses = Addresses(self._machine)
        self._sections = {part.id: part for part in plan.sections}
        self._written: list[StageRun] = []
        load_weights(self._machine, weights)
        self._restart(0)

    def load_state(self, states: Mapping[str, Array], past: int) -> None:
        """Begin after `past` tokens with the state that prefill left: arrays by state name, of the
        whole model."""
        load_states(self._machine, states, past)
        self._restart(past)

    @property
    def memory(self) -> Memory:
        """The memory of the sockets."""
        return self._machine.memory

    @property
    def bytes_taken(self) -> dict[str, int]:
        """Bytes a socket that each stream has brought to its stage since the state was loaded."""
        return {name: fifo.taken for name, fifo in self._machine.fifos.items()}

    def step(self, tokens: Array) -> Array:
        """The logits [B,1,V] after one more token of each sequence, `tokens` i64[B,1]."""
        machine, batch = self._machine, self._plan.bindings.batch
        if tokens.shape != (batch, 1):
            raise PlanError(
                "HETC-L301",
                "the plan is for another batch",
                expected=f"tokens [{batch}, 1]",
                found=f"{list(tokens.shape)}",
                do=f"plan for a batch of {tokens.shape[0]}",
            )
        machine.token += 1
        machine.tokens = tokens.astype(np.int64)
        for number, step in enumerate(self._plan.program.steps):
            if isinstance(step, Loop):
                self._loop(step, number)
            elif isinstance(step, Configure | Execute):
                self._do(step, number, 0)
        self._end_iterations()
        logits = machine.buffers.logits(machine.token)
        if logits is None:
            raise _wrong_program("the logits", "no stage that makes them has run")
        return logits[0]

    def _restart(self, past: int) -> None:
        machine = self._machine
        machine.restart(past)
        self._written.clear()
        tiers = dict.fromkeys(stream.tier for stream in machine.streams.values())
        self._queues = [
            Queue(self._plan, tier, machine.memory, machine.fifos, self._addresses.locate)
            for tier in tiers
        ]

    def _loop(self, loop: Loop, number: int) -> None:
        repeat = self._machine.wiring.blocks[loop.block].block.repeat
        if loop.count != repeat:
            raise _wrong_program(f"{repeat} iterations of {loop.block}", f"{loop.count}")
        for iteration in range(loop.count):
            for step in loop.body:
                self._do(step, number, iteration)
            self._end_iterations()

    def _do(self, step: Configure | Execute, number: int, iteration: int) -> None:
        machine = self._machine
        machine.position = machine.token, number, iteration
        if step.section not in self._sections:
            raise _wrong_program("a section of the plan", step.section)
        if isinstance(step, Configure):
            self._configure(step.section)
        elif step.section != machine.on_chip:
            raise _wrong_program(f"{step.section} to be loaded", machine.on_chip or "nothing")
        else:
            self._execute(machine.wiring.blocks[step.block], step.section, iteration)

    def _configure(self, section: str) -> None:
        machine = self._machine
        for name, fifo in machine.fifos.items():
            if fifo.level and section != machine.on_chip:
                raise _wrong_program(
                    "empty FIFOs before a section goes", f"{fifo.level} bytes of {name}"
                )
        machine.on_chip = section

    def _execute(self, wired: Wired, section: str, iteration: int) -> None:
        """Run the stages of a block that are in a section, each as soon as it may start, one row
        group after the other."""
        machine, position = self._machine, self._machine.position
        here = set(self._sections[section].stages)
        groups = [RowGroup(n, wired.block.row_groups) for n in range(wired.block.row_groups)]
        stages = [stage for stage in wired.block.stages if stage.id in here]
        waiting = [(stage, group) for group in groups for stage in stages]
        running: dict[str, tuple[StageRun, Waiting[None]]] = {}
        reasons: dict[str, str] = {}
        while waiting or running:
            lacking: dict[str, str] = {}
            moved = sum(queue.pump() for queue in self._queues) > 0
            for stage, group in list(waiting):
                if stage.id in running:
                    continue
                lacks = self._lacks(wired, stage, iteration, group)
                if lacks:
                    lacking.setdefault(stage.id, f"waits for {lacks}")
                    continue
                waiting.remove((stage, group))
                machine.started[stage.id] = position
                run = StageRun(machine, wired, stage, iteration, group)
                running[stage.id] = run, run.run()
                moved = True
            for name, (run, task) in list(running.items()):
                before = run.taken
                try:
                    reasons[name] = next(task)
                except StopIteration:
                    machine.done[name] = machine.token, iteration, run.group.number
                    self._written.append(run)
                    del running[name]
                    reasons.pop(name, None)
                    moved = True
                moved |= run.taken != before
            if not moved:
                raise self._deadlock(reasons or lacking)

    def _lacks(self, wired: Wired, stage: Stage, iteration: int, group: RowGroup) -> str:
        """A stage that must run before this one and has not; itself, for the group before."""
        machine = self._machine
        if group.number and not self._is_done(stage.id, iteration, group.number - 1):
            return stage.id
        for depends in stage.depends:
            if depends.stage not in wired.stages:
                ready = machine.done.get(depends.stage, (-1,))[0] == machine.token
            else:
                wanted = iteration - depends.carried
                ready = wanted < 0 or self._is_done(depends.stage, wanted, group.number)
            if not ready:
                return depends.stage
        return ""

    def _is_done(self, stage: str, iteration: int, group: int) -> bool:
        done = self._machine.done.get(stage, (-1, 0, 0))
        return done >= (self._machine.token, iteration, group)

    def _end_iterations(self) -> None:
        """Write what the iterations that just ended append to the state."""
        machine = self._machine
        for run in self._written:
            for state, rows in run.written:
                first, stop = machine.now, machine.now + 1
                write_rows(machine.memory, state, run.iteration, first, stop, rows, run.group)
                written = state.piece.block, state.piece.tensor, run.iteration
                machine.appended[written] = machine.token + 1
        self._written.clear()

    def _deadlock(self, reasons: Mapping[str, str]) -> PlanError:
        return PlanError(
            "HETC-L307",
            "the plan stands still",
            at="; ".join(f"{stage} {reason}" for stage, reason in reasons.items()),
            found="; ".join(queue.waits_for for queue in self._queues if queue.waits_for),
            do="give the stream more depth, or issue it after what its stage waits for",
        )


def _check_graph(plan: Plan, graph: Graph) -> None:
    digest = hashlib.sha256(print_graph(graph).encode()).hexdigest()
    if digest != plan.graph_sha256:
        raise PlanError(
            "HETC-L301",
            "the plan is for another graph",
            at=graph.name,
            expected=plan.graph_sha256,
            found=digest,
            do="plan this graph",
        )


def _wrong_program(expected: object, found: object) -> PlanError:
    return PlanError(
        "HETC-L312",
        "the program of the plan cannot be followed",
        expected=expected,
        found=found,
        do="plan the graph again",
    )
