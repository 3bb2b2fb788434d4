"""Buffers between stages: the last results of a stage, as many as its buffer has room for."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from hetc.backends.dataflow.interpret.row_group import ALL, RowGroup, joined
from hetc.backends.dataflow.interpret.wiring import LOGITS, Origin, Wiring
from hetc.backends.dataflow.schema import Stage
from hetc.errors import PlanError
from hetc.ir.lockstep import Shards
from hetc.ir.op import Value

Stamp = tuple[int, int, RowGroup]
"""Token, iteration, and the sequences that it is of."""


class Buffers:
    """What stages have handed on, by the iteration that made it."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._handed = _handed(wiring)
        self._held: dict[str, deque[tuple[Stamp, Mapping[Value, Shards]]]] = {}
        names = wiring.main.output_names
        self._logits = wiring.outer(wiring.main.outputs[names.index(LOGITS)])

    def clear(self) -> None:
        self._held.clear()

    def put(self, stage: Stage, stamp: Stamp, values: Mapping[Value, Shards]) -> None:
        """Keep what others read of a stage; the oldest results make room.

        Raises PlanError (HETC-L310) where the buffer cannot hold those of one pass.
        """
        kept = {value: values[value] for value in self._handed.get(stage.id, ())}
        nbytes = sum(shards[0].nbytes for shards in kept.values())
        buffer = self._wiring.buffers.get(stage.id)
        room = 0 if buffer is None else buffer.depth_bytes
        if nbytes > room:
            raise PlanError(
                "HETC-L310",
                "a buffer is too small for what its stage hands on",
                at=f"{stage.id} ({stage.name})",
                expected=f"at least {nbytes} bytes",
                found=f"{room} bytes",
                do="plan the graph again",
            )
        if stage.id == self._logits.stage:
            # The host takes them from the stage itself.
            kept[self._logits.value] = values[self._logits.value]
        versions = self._held.setdefault(stage.id, deque(maxlen=max(1, room // max(1, nbytes))))
        versions.append((stamp, kept))

    def get(self, origin: Origin, token: int, group: RowGroup) -> Shards | None:
        """A group's rows of a value as the iteration made it that its origin names, None where
        they are not there."""
        made: list[Shards] = []
        for (when, iteration, of), values in self._held.get(origin.stage, ()):
            if (when, iteration) == (token, origin.iteration) and origin.value in values:
                if of == group:
                    return values[origin.value]
                made.append(values[origin.value])
                if of.is_last and len(made) == of.count:
                    return group.rows(origin.value, joined(origin.value, made))
        return None

    def logits(self, token: int) -> Shards | None:
        return self.get(self._logits, token, ALL)


def _handed(wiring: Wiring) -> dict[str, tuple[Value, ...]]:
    """Stage -> its values that other stages read, or a later iteration of its own."""
    found: dict[str, dict[Value, None]] = {}
    for wired in wiring.blocks.values():
        for stage in wired.block.stages:
            for _, origin in wiring.origins(wired, stage):
                if origin.stage:
                    found.setdefault(origin.stage, {})[origin.value] = None
    return {stage: tuple(values) for stage, values in found.items()}
