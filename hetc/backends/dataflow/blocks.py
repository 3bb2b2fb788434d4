"""Blocks: the straight runs of a socket's graph, and the loops over its equal layers.

A loop is a row of calls of one graph that hand their results on: an input of the layer is a weight
or a state of its own in every call, the result of the call before, or one value that all share.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Call
from hetc.ir.ops.sequence import KeepLast, KVAppend
from hetc.ir.ops.source import Weight

TOKENS, PAST, OUT = "tokens", "past", ".out"


@dataclass(frozen=True)
class StateOut:
    """How a block leaves a state: the op that makes its new value, and how many rows are kept.

    `tensor` is the input that holds the past; `append`: only the rows of `op.new` are new.
    """

    tensor: str
    op: Op
    append: bool
    keep: int | None


@dataclass(frozen=True, eq=False)
class Run:
    """A block before it is planned: ops of `graph`, and the calls that repeat it.

    `weights` and `states` are what its ops read from memory: values of `graph`, by name. `entries`
    gives for every other input of a called graph the values of the main graph that it may be: that
    of the first iteration, and the one that is handed on. `handed` are the outputs of `graph` that
    others read: all but those that only become state.
    """

    id: str
    graph: Graph
    ops: tuple[Op, ...]
    calls: tuple[Op, ...]
    weights: Mapping[str, Value]
    states: Mapping[str, Value]
    outs: tuple[StateOut, ...]
    handed: frozenset[Value]
    entries: Mapping[Value, tuple[Value, ...]] = field(default_factory=dict)

    @property
    def repeat(self) -> int:
        return max(1, len(self.calls))

    @cached_property
    def places(self) -> Mapping[Op, int]:
        """Op -> its number in the ops of the graph."""
        return {op: number for number, op in enumerate(self.graph.ops)}


def find_blocks(graph: Graph) -> tuple[Run, ...]:
    """The blocks of the main graph of a socket, in the order of execution."""
    feeding, users = _before_calls(graph), graph.users()
    late = _after_calls(graph, users, feeding)
    states = {value.name: value for value in graph.inputs if value.name not in (TOKENS, PAST)}
    outs = _state_results(graph, states)
    kept = {op for out in outs.values() for op in out.extra}
    runs: list[Run] = []
    glue: list[Op] = []
    loop: list[Call] = []

    def close_loop() -> None:
        if loop:
            runs.append(_loop(f"b{len(runs)}", tuple(loop), outs, users))
            loop.clear()

    def close_glue(ops: Iterable[Op]) -> None:
        ops = tuple(ops)
        if ops:
            runs.append(_glue(f"b{len(runs)}", ops, graph, states, outs))

    close_glue(op for op in graph.ops if _computes(op) and op not in late and op not in kept)
    for op in graph.ops:
        if isinstance(op, Call):
            if glue:
                close_loop()
                close_glue(glue)
                glue.clear()
            if loop and not _continues(loop[-1], op, users):
                close_loop()
            loop.append(op)
        elif op in late and op in feeding and op not in kept:
            glue.append(op)
    close_loop()
    close_glue(
        op
        for op in graph.ops
        if _computes(op) and op in late and op not in feeding and op not in kept
    )
    return tuple(runs)


def _computes(op: Op) -> bool:
    return not isinstance(op, Call | Weight)


def _after_calls(graph: Graph, users: Mapping[Value, list[Op]], feeding: Collection[Op]) -> set[Op]:
    """Ops that hang on the result of a call, and those that turn a weight for these alone."""
    found: set[Op] = set()
    turning: dict[Op, None] = {}
    for op in graph.ops:
        if isinstance(op, Call) or any(value.op in found for value in op.operands):
            found.add(op)
        elif op.operands and all(_turns(value.op, turning) for value in op.operands):
            turning[op] = None
    for op in reversed(turning):
        readers = [user for value in op.results for user in users.get(value, ())]
        if readers and op not in feeding and all(reader in found for reader in readers):
            found.add(op)
    return found


def _turns(op: Op | None, turning: Collection[Op]) -> bool:
    """Whether `op` makes what it does of weights alone."""
    return isinstance(op, Weight) or op in turning


def _before_calls(graph: Graph) -> set[Op]:
    """Ops that a call hangs on."""
    found: set[Op] = set()
    for op in reversed(graph.ops):
        if isinstance(op, Call) or op in found:
            found.update(value.op for value in op.operands if value.op is not None)
    return found


def _continues(last: Call, call: Call, users: Mapping[Value, list[Op]]) -> bool:
    """Whether `call` can be the next iteration of the loop that `last` is in."""
    if call.callee is not last.callee:
        return False
    for before, now in zip(last.args, call.args, strict=True):
        handed_on = now.op is last or now is before
        if not handed_on and not (_is_stored(before) and _is_stored(now)):
            return False
    # What a layer gives to anything but the next one would be needed of every iteration.
    return all(
        user is call or isinstance(user, KeepLast)
        for value in last.results
        for user in users.get(value, ())
    )


def _is_stored(value: Value) -> bool:
    """Whether `value` is a weight or a state: it lies in memory."""
    if value.op is None:
        return value.name not in (TOKENS, PAST)
    return isinstance(value.op, Weight)


@dataclass(frozen=True)
class _Result:
    """What the main graph gives out as the next value of a state, and the ops that only cut it."""

    value: Value
    keep: int | None
    extra: tuple[Op, ...]


def _state_results(graph: Graph, states: Mapping[str, Value]) -> dict[str, _Result]:
    found = {}
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        state = name.removesuffix(OUT)
        if state in states and name.endswith(OUT):
            keep, extra = None, []
            if isinstance(value.op, KeepLast):
                keep, extra, value = value.op.rows, [value.op], value.op.x
            found[state] = _Result(value, keep, tuple(extra))
    return found


def _loop(
    id: str,
    calls: tuple[Call, ...],
    outs: Mapping[str, _Result],
    users: Mapping[Value, list[Op]],
) -> Run:
    first, callee = calls[0], calls[0].callee
    weights, states, entries = {}, {}, {}
    made: list[StateOut] = []
    by_value = {result.value: (name, result.keep) for name, result in outs.items()}
    for place, (formal, arg) in enumerate(zip(callee.inputs, first.args, strict=True)):
        if isinstance(arg.op, Weight):
            weights[formal.name] = formal
        elif _is_stored(arg):
            states[formal.name] = formal
        else:
            entries[formal] = tuple(dict.fromkeys(call.args[place] for call in calls[:2]))
    for value, inner in zip(first.results, callee.outputs, strict=True):
        if value in by_value:
            name, keep = by_value[value]
            formal = next(
                formal
                for formal, arg in zip(callee.inputs, first.args, strict=True)
                if arg.op is None and arg.name == name
            )
            made.append(_state_out(formal.name, inner, keep))
    handed = frozenset(
        inner
        for call in calls
        for value, inner in zip(call.results, callee.outputs, strict=True)
        if value in users or value not in by_value
    )
    return Run(id, callee, callee.ops, calls, weights, states, tuple(made), handed, entries)


def _glue(
    id: str,
    ops: tuple[Op, ...],
    graph: Graph,
    states: Mapping[str, Value],
    outs: Mapping[str, _Result],
) -> Run:
    read = {value for op in ops for value in op.operands}
    weights = {value.op.name: value for value in read if isinstance(value.op, Weight)}
    inside = set(ops)
    made = tuple(
        _state_out(name, result.value, result.keep)
        for name, result in outs.items()
        if result.value.op in inside
    )
    held = {name: value for name, value in states.items() if value in read}
    handed = frozenset(graph.outputs) - {result.value for result in outs.values()}
    return Run(id, graph, ops, (), dict(sorted(weights.items())), held, made, handed)


def _state_out(tensor: str, value: Value, keep: int | None) -> StateOut:
    op = value.op
    assert op is not None, "a state that nothing makes is not handed on"
    if isinstance(op, KeepLast):
        keep, op = op.rows, op.x.op
        assert op is not None
    return StateOut(tensor, op, isinstance(op, KVAppend), keep)
