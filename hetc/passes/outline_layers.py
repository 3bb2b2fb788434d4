"""Outline layers: runs of ops with the same structure become one graph that is called once a layer.

Layers are found by what they compute, never by their names. Every op gets a colour (kind,
attributes, types); a layer shows as a stretch of colours that repeats at one distance. That the
repeats are also wired alike is checked before anything is replaced. What differs from one to the
next (weights, states, the values of the layer before) becomes an argument of the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Call
from hetc.ir.ops.source import Weight
from hetc.passes.find_repeats import Colours, Run, colours, find_run
from hetc.passes.index_only import IndexOnly, ops_behind
from hetc.passes.layer_names import LayerNames, name_layers


@dataclass(frozen=True)
class Repeat:
    """One outlined graph.

    `callee` is called `times` times. `carried` pairs a parameter with the result of the call before
    that it takes, `shared` are the parameters that are the same value in every call, and `own`
    those that each call has for itself: weights, states.
    """

    callee: Graph
    times: int
    carried: tuple[tuple[int, int], ...]
    shared: tuple[int, ...]
    own: tuple[int, ...]


@dataclass(frozen=True)
class Outline:
    """The graph with calls, and what was outlined, in the order of the graph."""

    graph: Graph
    repeats: tuple[Repeat, ...]


@dataclass(frozen=True)
class _Instances:
    """A run whose instances are wired alike: `ops[j][o]` is op `o` of instance `j`."""

    ops: tuple[tuple[Op, ...], ...]
    # The values that instance j takes from outside are column j of `params`.
    params: tuple[tuple[Value, ...], ...]
    # Offset of the op, and which of its results, of what others read.
    results: tuple[tuple[int, int], ...]


def outline_layers(graph: Graph) -> Graph:
    """`graph` with every repeated layer as one subgraph `@layer0`, `@layer1`, ... called once a
    layer."""
    return outline(graph).graph


def outline(graph: Graph) -> Outline:
    """Outline repeated layers and say which.

    Weight ops stay outside the layers and become arguments. A period may span several layers where
    they alternate. Takes time linear in the number of ops. `inline_calls` is the inverse.
    """
    ops = _ordered(graph)
    found = _search(graph, ops)
    # A run begins one layer late where its first layer computes what all share. What is shared is
    # known now, so that a second search can find the first layer too.
    shared = [row[0] for run in found for row in run.params if len(set(row)) == 1]
    hoisted = _moved_first(ops, shared)
    if hoisted != ops:
        again = _search(graph, hoisted)
        if _covered(again) > _covered(found):
            ops, found = hoisted, again
    return _replace(graph, ops, found)


def _covered(found: Sequence[_Instances]) -> int:
    return sum(len(row) for run in found for row in run.ops)


def _ordered(graph: Graph) -> list[Op]:
    """The ops but for weights, index-only ones where they do not hide that layers are alike.

    What they compute for several ops stands before all others: rotary tables and masks would make
    the layer differ that needs them first. What they compute for one op stands right before it.
    """
    index_only = IndexOnly()
    users = graph.users()
    builder = GraphBuilder(graph.name)
    for op in graph.ops:
        several = any(len(users.get(value, ())) > 1 for value in op.results)
        if several and not isinstance(op, Weight) and index_only(op.results[0]):
            builder.add(op)
    for op in graph.ops:
        if not index_only(op.results[0]):
            builder.add(op)
    for op in graph.ops:
        builder.add(op)
    return [op for op in builder.ops if not isinstance(op, Weight)]


def _moved_first(ops: Sequence[Op], values: Iterable[Value]) -> list[Op]:
    first = set(ops_behind(tuple(values)))
    return [op for op in ops if op in first] + [op for op in ops if op not in first]


def _search(graph: Graph, ops: Sequence[Op]) -> list[_Instances]:
    """Every run in `ops`, in order, found from the longest to the shortest."""
    found: list[tuple[int, _Instances]] = []
    outputs = set(graph.outputs)
    readers = graph.users()
    colour: Colours = colours(ops)
    segments = [(0, len(ops))]
    while segments:
        low, high = segments.pop()
        run = find_run(ops[low:high], colour[low:high])
        if run is None:
            continue
        agreed = _agreeing(ops, run, low)
        start, stop = low + run.start, low + run.start + run.times * run.period
        if agreed is not None:
            first, times = agreed
            start = low + run.start + first * run.period
            stop = start + times * run.period
            rows = tuple(tuple(ops[at : at + run.period]) for at in range(start, stop, run.period))
            found.append((start, _wire(rows, readers, outputs)))
        segments += [(low, start), (stop, high)]
    return [instances for _, instances in sorted(found, key=lambda item: item[0])]


def _agreeing(ops: Sequence[Op], run: Run, low: int) -> tuple[int, int] | None:
    """The longest stretch of neighbouring instances that are wired alike: its first, and how
    many."""
    wirings = []
    for instance in range(run.times):
        start = low + run.start + instance * run.period
        wirings.append(_wiring(ops[start : start + run.period]))
    best, first = (0, 0), 0
    for index in range(len(wirings)):
        if wirings[index] != wirings[first]:
            first = index
        best = max(best, (index - first + 1, -first))
    times, negative_first = best
    return (-negative_first, times) if times > 1 else None


def _wiring(ops: Sequence[Op]) -> list[tuple[int, int] | None]:
    """For each operand the op inside that makes it and which of its results, or None for
    outside."""
    made = {value: (o, value.index) for o, op in enumerate(ops) for value in op.results}
    return [made.get(value) for op in ops for value in op.operands]


def _wire(
    rows: tuple[tuple[Op, ...], ...], readers: dict[Value, list[Op]], outputs: set[Value]
) -> _Instances:
    columns: dict[tuple[Value, ...], None] = {}
    inside = {value for op in rows[0] for value in op.results}
    for same in zip(*rows, strict=True):
        for values in zip(*(op.operands for op in same), strict=True):
            if values[0] not in inside:
                columns[values] = None
    results: dict[tuple[int, int], None] = {}
    for row in rows:
        members = set(row)
        for offset, op in enumerate(row):
            for value in op.results:
                read = any(reader not in members for reader in readers.get(value, ()))
                if read or value in outputs:
                    results[offset, value.index] = None
    wired = _Instances(rows, tuple(columns), tuple(sorted(results)))
    # What one layer hands to the next comes first, among the parameters and among the results.
    handed = dict(_carried(wired))
    params = [*handed, *(param for param in range(len(columns)) if param not in handed)]
    taken = list(dict.fromkeys(handed.values()))
    made = [*taken, *(result for result in range(len(results)) if result not in taken)]
    return _Instances(
        rows,
        tuple(wired.params[param] for param in params),
        tuple(wired.results[result] for result in made),
    )


def _carried(run: _Instances) -> Iterable[tuple[int, int]]:
    made = [
        {row[offset].results[index]: at for at, (offset, index) in enumerate(run.results)}
        for row in run.ops
    ]
    for param, values in enumerate(run.params):
        taken = {made[j].get(value) for j, value in enumerate(values[1:])}
        (result, *others) = taken
        if not others and result is not None:
            yield param, result


def _replace(graph: Graph, ops: Sequence[Op], found: Sequence[_Instances]) -> Outline:
    builder = GraphBuilder(graph.name)
    builder.inputs.extend(graph.inputs)
    new: dict[Value, Value] = {}
    owner = {op: (run, j) for run in found for j, row in enumerate(run.ops) for op in row}
    taken = {callee.name for callee in graph.subgraphs()} | {graph.name}
    callees: dict[int, tuple[Repeat, LayerNames]] = {}
    for op in ops:
        if op not in owner:
            made = op.map_operands(lambda value: new.get(value, value))
            builder.add(made)
            new.update(zip(op.results, made.results, strict=True))
            continue
        run, instance = owner[op]
        if op is not run.ops[instance][0]:
            continue
        if id(run) not in callees:
            names = name_layers(run.ops, run.params)
            callees[id(run)] = _repeat(run, names, _fresh_name(taken)), names
        repeat, names = callees[id(run)]
        args = tuple(new.get(values[instance], values[instance]) for values in run.params)
        call = Call(repeat.callee, args, loc=names.calls[instance])
        builder.add(call)
        for (offset, index), value in zip(run.results, call.results, strict=True):
            new[run.ops[instance][offset].results[index]] = value
    for value in graph.outputs:
        # A weight that is an output and nothing else.
        if value not in new and value.op is not None:
            builder.add(value.op)
    outputs = [new.get(value, value) for value in graph.outputs]
    outlined = builder.finish(outputs, graph.output_names)
    return Outline(outlined, tuple(repeat for repeat, _ in callees.values()))


def _fresh_name(taken: set[str]) -> str:
    number = 0
    while f"layer{number}" in taken:
        number += 1
    taken.add(f"layer{number}")
    return f"layer{number}"


def _one_by_one(values: Iterator[Value]) -> Callable[[Value], Value]:
    return lambda _: next(values)


def _repeat(run: _Instances, names: LayerNames, name: str) -> Repeat:
    builder = GraphBuilder(name)
    inputs = {
        values: builder.input(label, values[0].type)
        for values, label in zip(run.params, names.params, strict=True)
    }
    new: dict[Value, Value] = {}
    for offset, loc in enumerate(names.locs):
        same = [row[offset] for row in run.ops]
        # Operand by operand: the first instance may take one value for two parameters.
        operands = zip(*(op.operands for op in same), strict=True)
        mapped = iter([new.get(values[0]) or inputs[values] for values in operands])
        made = same[0].replace(**same[0].operand_changes(_one_by_one(mapped)), loc=loc)
        builder.add(made)
        new.update(zip(same[0].results, made.results, strict=True))
    outputs = [new[run.ops[0][offset].results[index]] for offset, index in run.results]
    carried = tuple(_carried(run))
    passed_on = {param for param, _ in carried}
    rest = [param for param in range(len(run.params)) if param not in passed_on]
    shared = tuple(param for param in rest if len(set(run.params[param])) == 1)
    own = tuple(param for param in rest if param not in shared)
    return Repeat(builder.finish(outputs), len(run.ops), carried, shared, own)
