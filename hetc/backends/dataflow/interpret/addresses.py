"""Address generation: where the bytes of a queue's entry lie, once that can be said."""

from __future__ import annotations

import numpy as np

from hetc.backends.dataflow.interpret.machine import Machine
from hetc.backends.dataflow.interpret.memory import Span, place
from hetc.backends.dataflow.interpret.queues import Entry
from hetc.backends.dataflow.interpret.wiring import Wired
from hetc.backends.dataflow.schema import Stage, Stream
from hetc.errors import PlanError
from hetc.ir.lockstep import Shards
from hetc.ir.op import Value
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.linear import ExpertLinear


class Addresses:
    """Answers the queues of a machine; raises PlanError where the plan contradicts the graph."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._home: dict[str, tuple[Wired, Stage]] = {}
        for wired in machine.wiring.blocks.values():
            for stream in wired.block.streams:
                stage = wired.stages[stream.stage]
                self._home[stream.id] = wired, stage
                self._require_kind(wired, stage, stream)
                for iteration in range(wired.block.repeat):
                    for value in _ids(wired, stage, stream):
                        self._require_after(wired, stream, iteration, value)

    def _require_kind(self, wired: Wired, stage: Stage, stream: Stream) -> None:
        """A stream is of the kind that its tensors are; of a state it says how much it brings."""
        machine = self._machine
        tiled = machine.matrices.get(stage.id)
        states = [machine.states.get((wired.block.id, name)) for name in stream.tensors]
        nbytes = stream.bytes
        if stream.kind == "state":
            known = [state for state in states if state is not None]
            nbytes = sum(state.nbytes(machine.plan.bindings.past) for state in known)
            right = len(known) == len(states)
        else:
            experts = tiled is not None and tiled.experts and stream.tensors[0] in tiled.matrices
            right = not any(states) and experts == (stream.kind == "expert")
        if not right or nbytes != stream.bytes:
            raise _wrong_stream(stream, nbytes)

    def _require_after(self, wired: Wired, stream: Stream, iteration: int, ids: Value) -> None:
        """What is looked up must be what the plan lets the stream wait for."""
        origin = self._machine.wiring.origin(wired.block.id, iteration, ids)
        if (origin.stage or None) != stream.after:
            raise PlanError(
                "HETC-L303",
                "a stream does not wait for what says which rows it reads",
                at=stream.id,
                expected=f"after {origin.stage or 'nothing'}",
                found=f"after {stream.after or 'nothing'}",
                do="plan the graph again",
            )

    def locate(self, entry: Entry) -> list[Span] | str:
        """The bytes of an entry in order, or why they cannot be told or read yet."""
        stream = entry.stream
        if not self._is_open(entry):
            return "waits for its turn"
        if stream.kind == "state":
            return self._of_states(entry)
        chosen: list[int] = []
        if stream.kind != "weight":
            found = self._chosen(entry)
            if found is None:
                return f"waits for the result of {stream.after or 'the host'}"
            chosen = found
        of = self._of_rows if stream.kind == "lookup" else self._of_weights
        spans = of(entry, chosen)
        nbytes = sum(span.bytes for span in spans)
        if self._is_exact(entry) and nbytes != stream.bytes:
            raise _wrong_stream(stream, nbytes)
        return spans

    def _is_exact(self, entry: Entry) -> bool:
        """Whether the plan says how much an entry brings: of experts it says what to expect, and of
        rows as many as there are with the tokens that it was planned for."""
        if entry.stream.kind == "lookup":
            return self._machine.past(entry.token) == self._machine.plan.bindings.past
        return entry.stream.kind != "expert"

    def _is_open(self, entry: Entry) -> bool:
        """Whether the program lets the entry be fetched: its section is there, and it is its turn,
        or it may be early."""
        machine = self._machine
        if entry.execute.section != machine.on_chip:
            return False
        if entry.execute.launch == "stage" and entry.execute.launch_cycles:
            return machine.started.get(entry.stream.stage) == entry.turn
        if entry.turn <= machine.position:
            return True
        return entry.early and (entry.token <= machine.token or machine.plan.program.prefetch)

    def _of_states(self, entry: Entry) -> list[Span] | str:
        machine, spans = self._machine, list[Span]()
        past = machine.past(entry.token)
        wired, _ = self._home[entry.stream.id]
        for tensor in entry.stream.tensors:
            state = machine.states[wired.block.id, tensor]
            written = machine.appended.get((wired.block.id, tensor, entry.iteration), 0)
            if state.is_written and written < entry.token:
                return "waits for the rows of the token before"
            first = past - state.kept(past)
            spans += state.spans(entry.iteration, first, past, entry.group)
        return [span for span in spans if span.tier == entry.stream.tier]

    def _chosen(self, entry: Entry) -> list[int] | None:
        """The rows or experts that are read, None while nobody has chosen them."""
        machine = self._machine
        wired, stage = self._home[entry.stream.id]
        chosen: list[int] = []
        for value in _ids(wired, stage, entry.stream):
            origin = machine.wiring.origin(wired.block.id, entry.iteration, value)
            if entry.token != machine.token:
                return None
            found = machine.find(origin)
            if found is None:
                return None
            chosen += _one_choice(found, entry.stream)
        return sorted(set(chosen)) if entry.stream.kind == "expert" else chosen

    def _of_rows(self, entry: Entry, rows: list[int]) -> list[Span]:
        wired, _ = self._home[entry.stream.id]
        spans = []
        for tensor in entry.stream.tensors:
            pieces = self._machine.memory.pieces(wired.block.id, tensor, table=True)
            for row in rows:
                item = next((p for p in pieces if p.rows[0] <= row < p.rows[1]), None)
                if item is None:
                    raise PlanError(
                        "HETC-L305",
                        "a row outside of a table is looked up",
                        at=f"{entry.stream.id} {tensor}",
                        expected=f"rows below {pieces[-1].rows[1]}",
                        found=row,
                        do="give token ids of this model",
                    )
                row_bytes = item.bytes // (item.rows[1] - item.rows[0])
                address = place(item, entry.iteration) + (row - item.rows[0]) * row_bytes
                if item.tier == entry.stream.tier:
                    spans.append(Span(item.tier, address, row_bytes))
        return spans

    def _of_weights(self, entry: Entry, experts: list[int]) -> list[Span]:
        wired, stage = self._home[entry.stream.id]
        tiled = self._machine.matrices.get(stage.id)
        if tiled is not None and entry.stream.tensors[0] in tiled.pieces:
            spans = [
                tiled.span(expert, share, piece, entry.iteration)
                for expert, share, piece in tiled.walk(experts)
            ]
        else:
            spans = [
                Span(item.tier, place(item, entry.iteration), item.bytes)
                for tensor in entry.stream.tensors
                for item in self._machine.memory.pieces(wired.block.id, tensor)
            ]
        return [span for span in spans if span.tier == entry.stream.tier]


def _wrong_stream(stream: Stream, nbytes: int) -> PlanError:
    return PlanError(
        "HETC-L313",
        "a stream is not what the plan says",
        at=stream.id,
        expected=f"{stream.bytes} bytes of {stream.kind}",
        found=f"{nbytes} bytes of {', '.join(stream.tensors)}",
        do="plan the graph again",
    )


def _ids(wired: Wired, stage: Stage, stream: Stream) -> list[Value]:
    """The values that say what a stream of chosen experts or rows reads."""
    found = []
    for op in wired.ops(stage):
        if stream.kind == "lookup" and isinstance(op, Embedding):
            if wired.stored.get(op.table) in stream.tensors:
                found.append(op.ids)
        elif stream.kind == "expert" and isinstance(op, ExpertLinear):
            found.append(op.ids)
    return list(dict.fromkeys(found))


def _one_choice(ids: Shards, stream: Stream) -> list[int]:
    """What all sockets choose alike."""
    if any(not np.array_equal(ids[0], other) for other in ids[1:]):
        raise PlanError(
            "HETC-L311",
            "the sockets choose different rows or experts",
            at=stream.id,
            expected="one choice on all sockets",
            do="keep what chooses on every socket whole",
        )
    return [int(row) for row in ids[0].ravel()]
