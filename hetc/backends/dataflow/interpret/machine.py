"""The sockets while they run: memory, FIFOs, buffers, and where in the program they are."""

from __future__ import annotations

import numpy as np

from hetc.backends.dataflow.interpret.buffers import Buffers
from hetc.backends.dataflow.interpret.fifo import Fifo, Position
from hetc.backends.dataflow.interpret.matrices import TiledMatrices, tiled_matrices
from hetc.backends.dataflow.interpret.memory import Memory
from hetc.backends.dataflow.interpret.row_group import ALL, RowGroup
from hetc.backends.dataflow.interpret.states import StoredState, stored_state
from hetc.backends.dataflow.interpret.wiring import PAST, TOKENS, Origin, Wiring
from hetc.backends.dataflow.schema import Plan, Stage
from hetc.backends.dataflow.steps import Advance
from hetc.errors import PlanError
from hetc.ir.lockstep import Shards
from hetc.ir.types import Array


class Machine:
    """All sockets of a plan, in lockstep; `past` tokens are in the state.

    Raises PlanError where the plan contradicts itself or the graph.
    """

    def __init__(self, plan: Plan, wiring: Wiring, memory: Memory) -> None:
        self.plan, self.wiring, self.memory = plan, wiring, memory
        self.sockets = plan.target.sockets
        self.buffers = Buffers(wiring)
        self.matrices: dict[str, TiledMatrices] = {}
        self.states: dict[tuple[str, str], StoredState] = {}
        for wired in wiring.blocks.values():
            for stage in wired.block.stages:
                found = tiled_matrices(wired, stage, memory, plan.bindings.batch)
                if found is not None:
                    self.matrices[stage.id] = found
        for item in plan.memory:
            if item.use == "state":
                wired = wiring.blocks[item.block]
                state = stored_state(wired, item.tensor, memory, plan.bindings.batch)
                self.states[item.block, item.tensor] = state
        self.streams = {stream.id: stream for block in plan.blocks for stream in block.streams}
        self._advance = sum(s.rows for s in plan.program.steps if isinstance(s, Advance))
        self.restart(0)

    def restart(self, past: int) -> None:
        """Empty FIFOs and buffers, and `past` tokens in the state."""
        self.buffers.clear()
        self._first_past = past
        self.token = -1
        self.tokens: Array = np.zeros((0, 0), np.int64)
        self.position: Position = (-1, 0, 0)
        self.on_chip = self.plan.sections[0].id if len(self.plan.sections) == 1 else ""
        self.started: dict[str, Position] = {}
        # Token, iteration and row group of each stage's last pass.
        self.done: dict[str, tuple[int, int, int]] = {}
        self.appended: dict[tuple[str, str, int], int] = {}
        self.fifos = {id: Fifo(id, self.sockets, s.depth_bytes) for id, s in self.streams.items()}

    def past(self, token: int) -> int:
        """How many tokens the row pointers count before a token of this run."""
        return self._first_past + token * self._advance

    @property
    def now(self) -> int:
        """Tokens in the state as the present token finds it."""
        return self.past(self.token)

    def bound(self, group: RowGroup = ALL) -> dict[str, int]:
        """The sizes of the present token."""
        return {"B": self.plan.bindings.batch // group.count, "T": 1, "P": self.now}

    def find(self, origin: Origin, group: RowGroup = ALL) -> Shards | None:
        """A group's rows of a value of the present token that a stage made, or the host gives; None
        where it is not there."""
        if origin.stage:
            return self.buffers.get(origin, self.token, group)
        past = np.array(self.now)
        given = ({TOKENS: self.tokens, PAST: past}[origin.value.name],) * self.sockets
        return group.rows(origin.value, given)

    def read(self, reader: Stage, origin: Origin, group: RowGroup) -> Shards:
        """A value as `find` gives it; raises PlanError (HETC-L303) where it is not there."""
        found = self.find(origin, group)
        if found is None:
            raise PlanError(
                "HETC-L303",
                "a stage reads a value that is not there",
                at=f"{reader.id} ({reader.name})",
                expected=f"the result of {origin.stage} in iteration {origin.iteration}",
                found="not made yet, or no longer in its buffer",
                do="plan the graph again",
            )
        return found
