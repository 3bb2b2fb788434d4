"""Which stage waits for which: the data dependences of the graph, across blocks and iterations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from hetc.backends.dataflow.blocks import Run
from hetc.backends.dataflow.groups import Group
from hetc.backends.dataflow.schema import Depends
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Call

# These take chunks of what a product makes, in the order in which it is made.
_STREAMING = frozenset({"all_reduce", "all_gather", "elementwise"})
_PRODUCTS = frozenset({"gemv", "gemm", "experts"})


def stage_id(block: int, number: int) -> str:
    """The id of a stage: `b1.s3`."""
    return f"b{block}.s{number}"


class Dependences:
    """The producers of every stage's operands, over all blocks of a socket's graph."""

    def __init__(self, runs: Sequence[Run], groups: Sequence[Sequence[Group]]) -> None:
        self._runs, self._groups = runs, groups
        # Two blocks may be calls of one graph, and so have the same ops.
        self._stage: dict[tuple[int, Op], tuple[int, int]] = {}
        self._main: dict[Op, int] = {}
        self._loop: dict[Op, int] = {}
        for block, (run, found) in enumerate(zip(runs, groups, strict=True)):
            self._loop.update(dict.fromkeys(run.calls, block))
            for number, group in enumerate(found):
                for op in group.ops:
                    self._stage[block, op] = (block, number)
                    if not run.calls:
                        self._main[op] = block

    def of(self, block: int, number: int, *, overlap: bool) -> tuple[Depends, ...]:
        """What stage `number` of `block` waits for, in the order of its operands, each once."""
        group = self._groups[block][number]
        found: dict[tuple[str, bool], Depends] = {}
        for op in group.ops:
            for value in op.operands:
                for maker, carried in self._makers(block, value):
                    if maker == (block, number) and not carried:
                        continue
                    kind = self._kind(maker, group) if overlap and not carried else "barrier"
                    depends = Depends(stage=stage_id(*maker), kind=kind, carried=carried)
                    found.setdefault((depends.stage, carried), depends)
        return tuple(found.values())

    def chooser(self, block: int, number: int) -> str | None:
        """The stage whose result says which rows or matrices stage `number` reads; None where the
        tokens alone say so."""
        for op in self._groups[block][number].anchors:
            ids = getattr(op, "ids", None)
            if isinstance(ids, Value):
                for maker, _ in self._makers(block, ids):
                    if maker != (block, number):
                        return stage_id(*maker)
        return None

    def _kind(self, maker: tuple[int, int], group: Group) -> Literal["barrier", "stream"]:
        makes = self._groups[maker[0]][maker[1]].template in _PRODUCTS
        return "stream" if makes and group.template in _STREAMING else "barrier"

    def _makers(self, block: int, value: Value) -> Iterator[tuple[tuple[int, int], bool]]:
        """The stages that make `value`, and whether that is in the iteration before."""
        entries = self._runs[block].entries.get(value)
        if entries is None:
            if value.op is not None:
                yield from self._maker(block, value.op, value)
            return
        for outer in entries:
            if outer.op is None:
                continue
            for maker, _ in self._maker(block, outer.op, outer):
                yield maker, maker[0] == block

    def _maker(self, block: int, op: Op, value: Value) -> Iterator[tuple[tuple[int, int], bool]]:
        if isinstance(op, Call):
            inner = op.callee.outputs[value.index]
            if inner.op is not None and op in self._loop:
                yield self._stage[self._loop[op], inner.op], False
        elif (block, op) in self._stage:
            yield self._stage[block, op], False
        elif op in self._main:
            yield self._stage[self._main[op], op], False
