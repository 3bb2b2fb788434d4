"""The text form of graphs and programs: what is printed here parses back to the same graph.

The grammar is in `docs/ir.md`; `hetc.ir.parse` reads it, and both are reached from this module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass
from functools import cache
from typing import Any

from hetc.errors import IRError
from hetc.ir.dims import Dim
from hetc.ir.graph import Graph, Program, StateSpec
from hetc.ir.op import FieldSpec, Op, Value
from hetc.ir.ops.control import Call
from hetc.ir.parse import parse, parse_program
from hetc.ir.types import DType, TensorType

__all__ = ["format_attribute", "parse", "parse_program", "print_graph", "print_op", "print_program"]

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")
# Locations stand in one column; a line longer than this one pushes its own to the right.
_WIDEST = 100


def print_graph(graph: Graph) -> str:
    """`graph` as text, the graphs that it calls first; ends in a newline.

    Callees that share a name get a number. Raises IRError (HETC-X106) for an attribute that has no
    text form.
    """
    return _print_graphs([graph])


def print_program(program: Program) -> str:
    """`program` as text: what is known of it, its states, and every graph; ends in a newline."""
    graphs = [program.forward, program.prefill, program.decode]
    names = graph_names(graphs)
    roles = zip(("forward", "prefill", "decode"), graphs, strict=True)
    facts = [f"{role} = {_at(names[id(graph)])}" for role, graph in roles]
    facts.append(f"max_context = {program.max_context}")
    if program.facts:
        facts.append(f"facts = {format_attribute(program.facts)}")
    lines = [f"program {_quoted(program.name, _PLAIN_WORD)} {{{', '.join(facts)}}}"]
    lines += _aligned([(_state(spec), spec.loc) for spec in program.states])
    return "\n".join(lines) + "\n\n" + _print_graphs(graphs)


def print_op(op: Op) -> str:
    """One op on one line, its operands by kind; for messages."""
    names: dict[Value, str] = {}
    for value in op.operands:
        names[value] = "%" + (value.name or (value.op.kind if value.op else "input"))
    return _op(op, names, {id(op.callee): op.callee.name} if isinstance(op, Call) else {})


def format_attribute(item: Any) -> str:
    """An attribute or a literal as text; raises IRError (HETC-X106) for one that has none."""
    write = _WRITERS.get(type(item))
    if write is None:
        # Subclasses, such as NumPy's float64, which is a float.
        write = next((made for kind, made in _WRITERS.items() if isinstance(item, kind)), None)
    if write is None:
        raise IRError(
            "HETC-X106",
            f"an attribute of type {type(item).__name__} has no text form",
            found=repr(item),
            do="use Python numbers, strings, dims, dtypes, tensor types and tuples of these",
        )
    return write(item)


_WRITERS: dict[type, Callable[[Any], str]] = {
    bool: lambda item: "true" if item else "false",
    int: int.__repr__,
    float: float.__repr__,
    str: json.dumps,
    Dim: str,
    DType: str,
    TensorType: str,
    tuple: lambda item: f"[{', '.join(map(format_attribute, item))}]",
    type(None): lambda item: "none",
}


def _print_graphs(graphs: Iterable[Graph]) -> str:
    graphs = list(graphs)
    names = graph_names(graphs)
    return "\n".join(_graph(graph, names) for graph in graphs_in_order(graphs))


def graphs_in_order(graphs: Iterable[Graph]) -> Iterator[Graph]:
    """The graphs and those that they call, callees first, each once."""
    seen: set[int] = set()
    for graph in graphs:
        for inner in (*graph.subgraphs(), graph):
            if id(inner) not in seen:
                seen.add(id(inner))
                yield inner


def graph_names(graphs: Iterable[Graph]) -> dict[int, str]:
    """id of a graph -> a name that it alone has: `layer`, and `layer.2` for its namesake."""
    found = list(graphs_in_order(graphs))
    taken = {graph.name for graph in found}
    count: dict[str, int] = {}
    names = {}
    for graph in found:
        name = graph.name
        count[name] = count.get(name, 0) + 1
        if count[name] > 1:
            number = count[name]
            while f"{name}.{number}" in taken:
                number += 1
            name = f"{name}.{number}"
            taken.add(name)
        names[id(graph)] = name
    return names


def _graph(graph: Graph, graphs: dict[int, str]) -> str:
    names = {value: "%" + _quoted(value.name, _PLAIN_NAME) for value in graph.inputs}
    body: list[tuple[str, str]] = []
    count = 0
    for op in graph.ops:
        for value in op.results:
            names[value] = f"%{count}"
            count += 1
        results = ", ".join([names[value] for value in op.results])
        body.append((f"  {results} = {_op(op, names, graphs)}", op.loc))
    inputs = ", ".join(f"{names[value]}: {value.type}" for value in graph.inputs)
    labels = [f"{_quoted(name, _PLAIN_WORD)}: " for name in graph.output_names]
    labels += [""] * (len(graph.outputs) - len(labels))
    outputs = ", ".join(f"{a}{value.type}" for a, value in zip(labels, graph.outputs, strict=True))
    returned = "".join(["  return", " " * bool(graph.outputs), _values(graph.outputs, names)])
    head = f"graph {_at(graphs[id(graph)])}({inputs}) -> ({outputs}) {{"
    return "\n".join([head, *_aligned(body), returned, "}"]) + "\n"


def _aligned(lines: list[tuple[str, str]]) -> list[str]:
    located = (len(line) for line, loc in lines if loc and len(line) <= _WIDEST)
    column = max(located, default=0) + 2
    return [f"{line:<{column - 1}} {_at(loc)}" if loc else line for line, loc in lines]


@dataclass(frozen=True)
class _Layout:
    """The fields of an op class by where they are printed, named ones with their default's text."""

    positional: tuple[FieldSpec, ...]
    named: tuple[tuple[FieldSpec, str], ...]


@cache
def _layout(signature: tuple[FieldSpec, ...]) -> _Layout:
    named = []
    for spec in signature:
        if spec.role in ("optional", "attribute"):
            default = "" if spec.default is MISSING else format_attribute(spec.default)
            named.append((spec, default))
    positional = [s for s in signature if s.role in ("operand", "scalar", "variadic")]
    return _Layout(tuple(positional), tuple(named))


def _op(op: Op, names: dict[Value, str], graphs: dict[int, str]) -> str:
    if isinstance(op, Call):
        return f"call {_at(graphs[id(op.callee)])}({_values(op.args, names)})"
    layout = _layout(op.signature)
    operands = []
    for spec in layout.positional:
        item = getattr(op, spec.name)
        if isinstance(item, Value):
            operands.append(_name(item, names))
        elif spec.role == "variadic":
            operands.append(f"[{_values(item, names)}]")
        else:
            operands.append(format_attribute(item))
    attributes = []
    for spec, default in layout.named:
        item = getattr(op, spec.name)
        if isinstance(item, Value):
            attributes.append(f"{spec.name} = {_name(item, names)}")
            continue
        text = format_attribute(item)
        if text != default:
            flag = item is True and default == "false"
            attributes.append(spec.name if flag else f"{spec.name} = {text}")
    line = f"{op.kind} {', '.join(operands)}" if operands else op.kind
    return f"{line} {{{', '.join(attributes)}}}" if attributes else line


def _values(values: Iterable[Value], names: dict[Value, str]) -> str:
    return ", ".join([_name(value, names) for value in values])


def _name(value: Value, names: dict[Value, str]) -> str:
    # A broken graph prints too, so that one can look at it; it does not parse.
    return names.get(value) or "%?"


def _at(name: str) -> str:
    return "@" + _quoted(name, _PLAIN_WORD)


def _quoted(name: str, plain: re.Pattern[str]) -> str:
    return name if plain.fullmatch(name) else json.dumps(name)


def _state(spec: StateSpec) -> str:
    facts = [f"kind = {format_attribute(spec.kind)}"]
    for name in ("axis", "keep", "layer"):
        number = getattr(spec, name)
        if number is not None:
            facts.append(f"{name} = {number}")
    return f"state {_quoted(spec.name, _PLAIN_WORD)}: {spec.type} {{{', '.join(facts)}}}"
