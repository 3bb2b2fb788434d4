"""The memory queues: one a tier, which fetches the streams in the order that the plan issues them.

A queue serves its entries one after the other and never out of order. The head waits for credits of
its stream, for the stage that says which addresses are read, for rows of the state that are not
written yet, or for its turn where the plan lets nothing be fetched ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from hetc.backends.dataflow.interpret.fifo import Fifo, Position
from hetc.backends.dataflow.interpret.memory import Memory, Span
from hetc.backends.dataflow.interpret.row_group import ALL, RowGroup
from hetc.backends.dataflow.schema import Issue, Plan, Stream
from hetc.backends.dataflow.steps import Execute, Loop


@dataclass(frozen=True, eq=False)
class Entry:
    """All of a stream for one iteration of its block, or what a row group takes of it; `early`: it
    may come before its turn."""

    stream: Stream
    execute: Execute
    turn: Position
    early: bool
    group: RowGroup = ALL

    @property
    def iteration(self) -> int:
        return self.turn[2]

    @property
    def token(self) -> int:
        return self.turn[0]


Locate = Callable[[Entry], "list[Span] | str"]
"""Where the bytes of an entry lie, or why that cannot be said, or read, yet."""


def entries(plan: Plan, tier: str) -> Iterator[Entry]:
    """What the queue of a tier is asked for, token after token without end."""
    asked = _Asked(plan, tier)
    for token in count():
        found = list(asked.of_token(token))
        if not found:
            return
        yield from found


class _Asked:
    def __init__(self, plan: Plan, tier: str) -> None:
        self._program, self._tier = plan.program, tier
        self._blocks = {block.id: block for block in plan.blocks}
        self._section = {stage: part.id for part in plan.sections for stage in part.stages}

    def of_token(self, token: int) -> Iterator[Entry]:
        for number, step in enumerate(self._program.steps):
            if isinstance(step, Execute):
                for _, _, stream, group in self._passes([step]):
                    turn = token, number, 0
                    yield Entry(stream, step, turn, step.launch_cycles == 0, group)
            elif isinstance(step, Loop):
                yield from self._of_loop(step, token, number)

    def _issued(self, execute: Execute) -> Iterator[tuple[Issue, Stream]]:
        block = self._blocks[execute.block]
        streams = {stream.id: stream for stream in block.streams}
        for issue in block.issue:
            stream = streams[issue.stream]
            here = self._section.get(stream.stage) == execute.section
            if here and stream.tier == self._tier:
                yield issue, stream

    def _of_loop(self, loop: Loop, token: int, number: int) -> Iterator[Entry]:
        """The iterations of a loop. What is issued ahead belongs to a later one: of this token or,
        where the program goes on into the next token, of that one."""

        def entry(stream: Stream, execute: Execute, group: RowGroup, iteration: int) -> Entry:
            later, turn = divmod(iteration, loop.count)
            early = execute.launch_cycles == 0 and (loop.prefetch or turn == 0)
            return Entry(stream, execute, (token + later, number, turn), early, group)

        issued = list(self._passes([step for step in loop.body if isinstance(step, Execute)]))
        for execute, issue, stream, group in issued:
            if token == 0 or not self._wraps(stream):
                for iteration in range(issue.ahead):
                    yield entry(stream, execute, group, iteration)
        for iteration in range(loop.count):
            for execute, issue, stream, group in issued:
                if iteration + issue.ahead < loop.count or self._wraps(stream):
                    yield entry(stream, execute, group, iteration + issue.ahead)

    def _passes(
        self, executes: Sequence[Execute]
    ) -> Iterator[tuple[Execute, Issue, Stream, RowGroup]]:
        """What is issued in one iteration: for each row group its part of the states, for the first
        one everything else as well."""
        for execute in executes:
            groups = self._blocks[execute.block].row_groups
            for number in range(groups):
                for issue, stream in self._issued(execute):
                    parts = stream.parts(groups)
                    if number < parts:
                        yield execute, issue, stream, RowGroup(number, parts)

    def _wraps(self, stream: Stream) -> bool:
        """Whether what is ahead of the last iteration is fetched for the next token."""
        hangs_on_the_token = stream.kind == "lookup" and stream.after is None
        return self._program.prefetch and not hangs_on_the_token


class Queue:
    """The queue of one tier; `waits_for` says why its head is not served."""

    def __init__(
        self, plan: Plan, tier: str, memory: Memory, fifos: dict[str, Fifo], locate: Locate
    ) -> None:
        self.waits_for = ""
        self._entries = entries(plan, tier)
        self._memory, self._fifos, self._locate = memory, fifos, locate
        self._head: Entry | None = None
        self._spans: deque[Span] | None = None
        self._left = 0

    def pump(self) -> bool:
        """Fetch as far as credits and addresses allow; whether anything moved."""
        moved, self.waits_for = False, ""
        while self._serve():
            moved = True
        return moved

    def _serve(self) -> bool:
        """Fetch one tile of the head, or take up the next entry."""
        if self._head is None:
            self._head = next(self._entries, None)
            return self._head is not None
        entry = self._head
        if self._spans is None:
            located = self._locate(entry)
            if isinstance(located, str):
                self.waits_for = f"{entry.stream.id} of iteration {entry.iteration} {located}"
                return False
            self._spans, self._left = deque(located), sum(span.bytes for span in located)
        if not self._spans:
            self._head = self._spans = None
            return True
        return self._fetch(entry, self._spans)

    def _fetch(self, entry: Entry, spans: deque[Span]) -> bool:
        stream = entry.stream
        fifo = self._fifos[stream.id]
        nbytes = min(stream.tile_bytes, self._left)
        if not fifo.has_room(nbytes):
            self.waits_for = (
                f"{stream.id} waits for credits: {fifo.level} of {fifo.credits} bytes are taken, "
                f"the next tile has {nbytes}"
            )
            return False
        self._left -= nbytes
        while nbytes:
            span = spans.popleft()
            part = min(span.bytes, nbytes)
            fifo.push(self._memory.read(span.tier, span.address, part), entry.turn)
            if part < span.bytes:
                spans.appendleft(Span(span.tier, span.address + part, span.bytes - part))
            nbytes -= part
        return True
