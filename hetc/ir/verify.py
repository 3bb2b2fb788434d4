"""The verifier: rules that the types of Python cannot hold, in stages, each stricter than the last.

imported   operands defined before use, types as inferred, sizes declared, names and attributes that
           have a text form
canonical  no op without a use, no cast, reshape, broadcast or transpose that changes nothing
stateful   of a program: inputs and outputs of prefill and decode are the tokens, the logits and
           the states, by name and type
marked     every op has a cost in sizes that the graph knows
split      a transfer goes from one device to another
lowered    no opaque op is left
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from hetc.errors import IRError, Reason
from hetc.ir.dims import Dim, capped_rows, symbols_of
from hetc.ir.graph import Graph, Program
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Opaque, Transfer
from hetc.ir.ops.elementwise import Cast
from hetc.ir.ops.index import NonZero
from hetc.ir.ops.shape import Broadcast, Reshape, Transpose
from hetc.ir.ops.source import Weight
from hetc.ir.program_rules import program_problems
from hetc.ir.text import format_attribute
from hetc.ir.types import TensorType


class Stage(IntEnum):
    """How far a graph is on its way; a stage has the rules of those before it."""

    IMPORTED = 0
    CANONICAL = 1
    STATEFUL = 2
    MARKED = 3
    SPLIT = 4
    LOWERED = 5


def verify(item: Graph | Program, stage: Stage = Stage.IMPORTED) -> None:
    """Raise IRError for the first problem, with the number of all; return where there is none."""
    found = problems(item, stage)
    if found:
        first, more = found[0], len(found) - 1
        counted = f"{first.text} (and {more} more)" if more else first.text
        raise IRError(first.code, counted, at=first.at)


def problems(item: Graph | Program, stage: Stage = Stage.IMPORTED) -> list[Reason]:
    """Everything in a graph or program that breaks a rule of `stage`; the codes are HETC-X1xx."""
    if isinstance(item, Graph):
        return list(_graph_problems(item, stage, _Known()))
    known = _Known()
    found: list[Reason] = []
    for graph in (item.forward, item.prefill, item.decode):
        found += _graph_problems(graph, stage, known)
    return found + (list(program_problems(item)) if stage >= Stage.STATEFUL else [])


class _Known:
    """What holds across graphs: the one type of each weight, the graphs that were looked at."""

    def __init__(self) -> None:
        self.weights: dict[str, TensorType] = {}
        self.graphs: set[int] = set()


def _graph_problems(graph: Graph, stage: Stage, known: _Known) -> Iterator[Reason]:
    sizes = _declared(graph)
    for callee in graph.subgraphs():
        if id(callee) not in known.graphs:
            known.graphs.add(id(callee))
            # A callee is reached from its callers alone, so it knows the sizes that they know.
            yield from _one_graph(callee, stage, known, sizes | _declared(callee))
    yield from _one_graph(graph, stage, known, sizes)


def _one_graph(
    graph: Graph, stage: Stage, known: _Known, sizes: frozenset[str]
) -> Iterator[Reason]:
    yield from _names(graph)
    defined = set(graph.inputs)
    used = set(graph.outputs)
    for op in graph.ops:
        used.update(op.operands)
    for position, op in enumerate(graph.ops):
        at = f"@{graph.name}, op {position} ({op.kind}){', ' * bool(op.loc)}{op.loc}"
        for value in op.operands:
            if value not in defined:
                yield Reason("HETC-X110", f"{value} is used before its definition", at)
        defined.update(op.results)
        yield from _signature(op, at)
        yield from _sizes(op, sizes, at)
        if isinstance(op, Weight) and known.weights.setdefault(op.name, op.type) != op.type:
            other = known.weights[op.name]
            yield Reason("HETC-X113", f"the weight {op.name} is {op.type} and {other}", at)
        if stage >= Stage.CANONICAL:
            yield from _canonical(op, used, at)
        if stage >= Stage.MARKED:
            yield from _cost(op, sizes, at)
        if stage >= Stage.SPLIT and isinstance(op, Transfer) and op.source == op.destination:
            yield Reason("HETC-X150", f"a transfer from {op.source} to itself", at)
        if stage >= Stage.LOWERED and isinstance(op, Opaque):
            yield Reason("HETC-X160", f"no backend can emit {op.target}", at)
    for value in graph.outputs:
        if value not in defined:
            yield Reason("HETC-X110", f"the output {value} is not defined", f"@{graph.name}")


def _names(graph: Graph) -> Iterator[Reason]:
    inputs = [value.name for value in graph.inputs]
    for what, names in (("inputs", inputs), ("outputs", list(graph.output_names))):
        if len(set(names)) < len(names) or "" in names:
            listed = ", ".join(map(repr, names))
            yield Reason("HETC-X115", f"the {what} need names of their own: {listed}", graph.name)
    if graph.output_names and len(graph.output_names) != len(graph.outputs):
        counts = f"{len(graph.output_names)} names for {len(graph.outputs)} outputs"
        yield Reason("HETC-X115", f"there are {counts}", f"@{graph.name}")


def _signature(op: Op, at: str) -> Iterator[Reason]:
    for spec in op.signature:
        item = getattr(op, spec.name)
        if spec.role in ("attribute", "scalar") and not isinstance(item, Value | Graph):
            try:
                format_attribute(item)
            except IRError as error:
                yield Reason("HETC-X114", f"{spec.name}: {error.what}, {error.found}", at)
    try:
        inferred = op.infer()
    except IRError as error:
        yield Reason("HETC-X111", f"the op does not fit any more: {error.what}", at)
        return
    types = (inferred,) if isinstance(inferred, TensorType) else inferred
    for index, value in enumerate(op.results):
        if value.op is not op or value.index != index:
            yield Reason("HETC-X111", f"result {index} belongs to another op", at)
    if types != tuple(value.type for value in op.results):
        listed = [", ".join(map(str, part)) for part in (types, [v.type for v in op.results])]
        yield Reason("HETC-X111", f"the results are {listed[1]}, inferred are {listed[0]}", at)


def _sizes(op: Op, known: frozenset[str], at: str) -> Iterator[Reason]:
    for value in op.results:
        for dim in value.shape:
            if isinstance(dim, bool) or not isinstance(dim, int | Dim):
                yield Reason("HETC-X116", f"{dim!r} of type {type(dim).__name__} is no size", at)
            elif isinstance(dim, int) and dim < 0:
                yield Reason("HETC-X116", f"the size {dim} is negative", at)
    for name in sorted(_symbols(op) - known):
        if capped_rows(name) is None or not known & {"P", "S"}:
            yield Reason("HETC-X112", f"no input of the graph shows the size {name}", at)


def _symbols(op: Op) -> frozenset[str]:
    return frozenset().union(*(_symbols_in(getattr(op, spec.name)) for spec in op.signature))


def _symbols_in(item: object) -> frozenset[str]:
    if isinstance(item, Dim):
        return item.symbols
    if isinstance(item, TensorType):
        return _symbols_in(item.shape)
    if isinstance(item, tuple):
        return frozenset().union(*map(_symbols_in, item))
    return frozenset()


def _declared(graph: Graph) -> frozenset[str]:
    # The scalar `past` of a decode graph is the past length P itself.
    past = {"P"} if any(value.name == "past" for value in graph.inputs) else set()
    shown = (symbols_of(dim) for value in graph.inputs for dim in value.shape)
    counted = {op.count for op in graph.ops if isinstance(op, NonZero)}
    return frozenset(past | counted).union(*shown)


def _canonical(op: Op, used: set[Value], at: str) -> Iterator[Reason]:
    if used.isdisjoint(op.results):
        yield Reason("HETC-X121", "nothing uses its results", at)
    same = isinstance(op, Cast | Reshape | Broadcast) and op.result.type == op.x.type
    if same or (isinstance(op, Transpose) and op.perm == tuple(range(op.x.rank))):
        yield Reason("HETC-X120", f"the {op.kind} changes nothing", at)


def _cost(op: Op, known: frozenset[str], at: str) -> Iterator[Reason]:
    cost = op.cost()
    for amount in (cost.flops, cost.bytes_read, cost.bytes_written):
        unknown = [n for n in sorted(symbols_of(amount) - known) if capped_rows(n) is None]
        if unknown:
            yield Reason("HETC-X140", f"its cost {amount} needs {', '.join(unknown)}", at)
