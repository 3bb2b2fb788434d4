"""State that a token leaves for the next one: written once, behind the computation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Fault, Faults, number, rule
from hetc.backends.dataflow.lint.work import Work
from hetc.backends.dataflow.schema import Append, Block
from hetc.ir.dims import capped_rows, evaluate, symbols_of
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Call
from hetc.ir.ops.sequence import KVAppend
from hetc.ir.ops.shape import View


@dataclass(frozen=True)
class Change:
    """A state that a block replaces or appends to: `value` is what it becomes, in the block's
    graph, and `old` the input that it was."""

    block: Block
    old: Value
    value: Value

    @property
    def rows(self) -> Value | None:
        """The new rows where the state only grows."""
        return self.value.op.new if isinstance(self.value.op, KVAppend) else None

    @property
    def ring(self) -> int | None:
        """The rows that a window keeps."""
        symbols = (name for dim in self.old.shape for name in symbols_of(dim))
        return next((rows for name in symbols if (rows := capped_rows(name)) is not None), None)


def changes(work: Work) -> dict[tuple[str, str], Change]:
    """(block, tensor) -> the change, of every state that a token changes."""
    found: dict[tuple[str, str], Change] = {}
    inputs = {value.name: value for value in work.main.inputs}
    main = {
        op: block for block in work.plan.blocks if work.is_main(block) for op in _ops(work, block)
    }
    for name, value in zip(work.main.output_names, work.main.outputs, strict=True):
        old = inputs.get(name.removesuffix(".out"))
        value = _unviewed(value)
        if old is None or value is old or value.op is None or not name.endswith(".out"):
            continue
        if isinstance(value.op, Call) and value.op in work.iteration_of:
            block, iteration = work.iteration_of[value.op]
            for formal in work.graph(block).inputs:
                if work.arguments(block, formal)[iteration] is old:
                    inner = _unviewed(value.op.callee.outputs[value.index])
                    found[block.id, formal.name] = Change(block, formal, inner)
        elif value.op in main:
            block = main[value.op]
            found[block.id, old.name] = Change(block, old, value)
    return found


def _ops(work: Work, block: Block) -> list[Op]:
    return [op for stage in block.stages for op in work.ops(block, stage)]


def _unviewed(value: Value) -> Value:
    while isinstance(value.op, View):
        value = value.op.operands[0]
    return value


@rule(
    "HETC-L237",
    "every state that a token changes is written once an iteration",
    "add one append of the state, with the bytes that change",
)
def appends(facts: Facts) -> Faults:
    changed = changes(facts.work)
    written: set[tuple[str, str]] = set()
    for block in facts.plan.blocks:
        for append in block.appends:
            place = f"append of {append.tensor}"
            key = block.id, append.tensor
            if key in written:
                yield Fault(place, f"{block.id} writes the state {append.tensor} twice", 2, 1)
            elif key not in changed:
                yield Fault(place, f"{block.id} writes {append.tensor}, which does not change")
            else:
                yield from _append(facts, append, changed[key], place)
            written.add(key)
    for block_id, tensor in sorted(changed.keys() - written):
        text = f"{block_id} changes the state {tensor} and does not write it"
        yield Fault(f"append of {tensor}", text, 0, 1)
    return f"{len(changed)} states"


def _append(facts: Facts, append: Append, change: Change, place: str) -> Iterator[Fault]:
    work, stage = facts.work, facts.stages[append.stage]
    rows = None if append.whole else change.rows
    if rows is None and not append.whole:
        yield Fault(place, f"the state {append.tensor} is replaced as a whole, not appended to")
        return
    nbytes = evaluate((change.old if rows is None else rows).nbytes, facts.sizes)
    if append.bytes != nbytes:
        text = f"{append.tensor} is written with {number(append.bytes)} bytes an iteration"
        yield Fault(place, f"{text}, {number(nbytes)} change", append.bytes, nbytes)
    if rows is not None and append.ring != change.ring:
        text = f"{append.tensor} is kept in a ring of {append.ring}, the state has {change.ring}"
        yield Fault(place, text)
    makers = {change.value, *work.roots(change.value), *(() if rows is None else (rows,))}
    op = work.graph(change.block).ops[append.op]
    # A state may be cut out of what changes: the last inputs of a convolution, say.
    made = {value for result in op.results for value in (result, _unviewed(result))}
    if append.op not in stage.ops or makers.isdisjoint(made):
        text = f"op {append.op} of {stage.id}, {op.kind}, does not make {append.tensor}"
        yield Fault(place, text)
