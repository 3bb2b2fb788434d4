"""Reads the text form: lark tokenizes and parses, then ops are built one by one, types checked.

A dim (`2*B*S-1`), a number and a type (`f32[B,S,64]`) are one token each and looked up in a cache:
a model has few different ones and tens of thousands in all.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from dataclasses import MISSING
from functools import cache, lru_cache
from typing import Any, NamedTuple, TypeVar

import lark

import hetc.ir.ops  # noqa: F401  (registers every op)
from hetc.errors import IRError
from hetc.ir.dims import parse_dim
from hetc.ir.grammar import Operation, read_sections
from hetc.ir.graph import Graph, Program, StateSpec
from hetc.ir.op import OPS, FieldSpec, Op, Value
from hetc.ir.types import DTYPES, parse_type


def parse(text: str) -> Graph:
    """The last graph of `text`, with the graphs that it calls.

    Raises IRError with the line: HETC-X101 (syntax), X102 (no such op), X103 (operands or
    attributes that the op does not take), X104 (names), X105 (types), X010 (the op's own rule).
    """
    _, graphs = _read(text)
    return list(graphs.values())[-1]


def parse_program(text: str) -> Program:
    """The program that `text` describes; raises IRError as `parse` does."""
    header, graphs = _read(text)
    if header is None:
        raise IRError("HETC-X101", "there is no program header", do="read a lone graph with parse")
    facts = dict(header.facts)
    roles = {}
    for role in ("forward", "prefill", "decode"):
        name = facts.pop(role, None)
        if not isinstance(name, _GraphName) or name not in graphs:
            raise IRError("HETC-X104", f"the program's {role} names no graph", at=_at(header.line))
        roles[role] = graphs[name]
    max_context, sentences = facts.pop("max_context", None), facts.pop("facts", ())
    if facts or not isinstance(max_context, int) or not isinstance(sentences, tuple):
        raise IRError(
            "HETC-X103",
            "the program header does not fit",
            at=_at(header.line),
            expected="forward, prefill, decode, max_context, and perhaps facts",
            found=", ".join(name for name, _ in header.facts),
        )
    return Program(
        header.name, states=header.states, max_context=max_context, facts=sentences, **roles
    )


_T = TypeVar("_T")


class _GraphName(str):
    """A graph's name in the place of an attribute's value."""


class _Header(NamedTuple):
    line: int
    name: str
    facts: list[tuple[str, Any]]
    states: tuple[StateSpec, ...]


def _read(text: str) -> tuple[_Header | None, dict[str, Graph]]:
    sections = read_sections(text)
    header = None
    if isinstance(sections[0][0], lark.Token) and sections[0][0].type != "AT":
        header = _header(sections.pop(0))
    graphs: dict[str, Graph] = {}
    for section in sections:
        graph = _graph(section, graphs)
        graphs[graph.name] = graph
    return header, graphs


def _header(section: list[Any]) -> _Header:
    name, attributes, *states = section
    return _Header(
        name.line,
        _name(name),
        [(str(key), _value(*rest)) for key, *rest in attributes],
        tuple(_state(state) for state in states),
    )


def _state(section: list[Any]) -> StateSpec:
    name, type, attributes, loc = section
    facts = {str(key): _value(*rest) for key, *rest in attributes}
    kind = facts.pop("kind", None)
    numbers = all(isinstance(number, int) for number in facts.values())
    if not isinstance(kind, str) or not numbers or facts.keys() - {"axis", "keep", "layer"}:
        raise IRError(
            "HETC-X103",
            f"the state {_name(name)} does not fit",
            at=_at(name.line),
            expected="kind, and perhaps the numbers axis, keep and layer",
        )
    return StateSpec(_name(name), kind, _located(parse_type, type), loc=_name(loc), **facts)


def _graph(section: list[Any], graphs: dict[str, Graph]) -> Graph:
    name, inputs, outputs, *operations, returned = section
    if _name(name) in graphs:
        raise IRError("HETC-X104", f"two graphs are called {name}", at=_at(name.line))
    values: dict[str, Value] = {}
    for token, type in inputs:
        _define(values, token, Value(_located(parse_type, type), name=_name(token)))
    ops = tuple(_operation(operation, values, graphs) for operation in operations)
    results = tuple(_operand(token, values, name.line) for token in returned)
    names = tuple(_name(output[0]) for output in outputs or () if len(output) == 2)
    if outputs is not None:
        declared = [_located(parse_type, output[-1]) for output in outputs]
        if declared != [value.type for value in results]:
            raise IRError(
                "HETC-X105",
                f"{name} returns other types than it declares",
                at=_at(name.line),
                expected=", ".join(map(str, declared)),
                found=", ".join(str(value.type) for value in results),
            )
    arguments = tuple(values[token] for token, _ in inputs)
    return Graph(_name(name), arguments, ops, results, names)


def _operation(item: Operation, values: dict[str, Value], graphs: dict[str, Graph]) -> Op:
    line = item.kind.line or 0
    fields = _fields(item, values, graphs, line)
    cls = _op_class(item.kind, line)
    try:
        op = cls(**fields, loc=_name(item.loc))
    except IRError as error:
        at = _at(line, error.at)
        raise IRError(error.code, error.what, at=at, found=error.found, do=error.do) from None
    if len(op.results) != len(item.results):
        raise IRError(
            "HETC-X103",
            f"{item.kind} has another number of results",
            at=_at(line),
            expected=len(op.results),
            found=len(item.results),
        )
    for token, value in zip(item.results, op.results, strict=True):
        _define(values, token, value)
    return op


def _fields(
    item: Operation, values: dict[str, Value], graphs: dict[str, Graph], line: int
) -> dict[str, Any]:
    if item.callee is not None:
        if item.kind != "call" or _name(item.callee) not in graphs:
            problem = f"no graph is called {item.callee}"
            raise IRError("HETC-X104", problem, at=_at(line), do="callees stand before callers")
        args = tuple(_operand(token, values, line) for token in item.items)
        return {"callee": graphs[_name(item.callee)], "args": args}
    positional, named = _roles(_op_class(item.kind, line).signature)
    if len(item.items) != len(positional):
        raise IRError(
            "HETC-X103",
            f"{item.kind} takes other operands",
            at=_at(line),
            expected=", ".join(spec.name for spec in positional) or "none",
            found=len(item.items),
        )
    fields: dict[str, Any] = {}
    for spec, token in zip(positional, item.items, strict=True):
        if spec.role == "variadic":
            if not isinstance(token, tuple):
                raise IRError("HETC-X103", f"{spec.name} is a list: [%0, %1]", at=_at(line))
            fields[spec.name] = tuple(_operand(part, values, line) for part in token)
        elif spec.role == "operand" or _is_reference(token):
            fields[spec.name] = _operand(token, values, line)
        else:
            fields[spec.name] = _value(token)
    for key, *rest in item.attributes or ():
        if key not in named or key in fields:
            raise IRError(
                "HETC-X103",
                f"{item.kind} has no attribute {key}, or has it twice",
                at=_at(line),
                expected=", ".join(named),
            )
        if named[key].role == "optional" and rest:
            fields[str(key)] = _operand(rest[0], values, line)
        else:
            fields[str(key)] = _value(*rest)
    missing = [spec.name for spec in named.values() if spec.default is MISSING]
    missing = [name for name in missing if name not in fields]
    if missing:
        raise IRError("HETC-X103", f"{item.kind} needs {', '.join(missing)}", at=_at(line))
    return fields


@cache
def _roles(
    signature: tuple[FieldSpec, ...],
) -> tuple[tuple[FieldSpec, ...], dict[str, FieldSpec]]:
    positional = tuple(s for s in signature if s.role in ("operand", "scalar", "variadic"))
    named = {s.name: s for s in signature if s.role in ("optional", "attribute")}
    return positional, named


def _op_class(kind: str, line: int) -> type[Op]:
    cls = OPS.get(kind)
    if cls is None:
        near = ", ".join(difflib.get_close_matches(kind, OPS))
        do = f"the nearest names are {near}" if near else "docs/ir-reference.md lists the ops"
        raise IRError("HETC-X102", f"no op is called {kind}", at=_at(line), do=do)
    return cls


def _define(values: dict[str, Value], token: lark.Token, value: Value) -> None:
    if values.setdefault(token, value) is not value:
        raise IRError("HETC-X104", f"{token} is defined twice", at=_at(token.line or 0))


def _is_reference(item: Any) -> bool:
    return isinstance(item, lark.Token) and item.type == "VALUE"


def _operand(item: Any, values: dict[str, Value], line: int) -> Value:
    if not _is_reference(item):
        raise IRError("HETC-X103", "a value is needed here", at=_at(line), found=_shown(item))
    if item not in values:
        raise IRError("HETC-X104", f"{item} is not defined before its use", at=_at(line))
    return values[item]


def _value(item: Any = True) -> Any:
    """An item that is no reference, as the Python value that it stands for; a bare name is true."""
    if item is True:
        return True
    if isinstance(item, tuple):
        return tuple(map(_value, item))
    match item.type:
        case "WORD":
            return _located(_word, item)
        case "TYPE":
            return _located(parse_type, item)
        case "STRING":
            return _located(_string, item)
        case "AT":
            return _GraphName(_name(item))
    raise IRError("HETC-X103", "a literal is needed here", at=_at(item.line), found=item)


def _name(token: lark.Token | None) -> str:
    """The name in a token, without its sign and quotes; empty for none."""
    if token is None:
        return ""
    body = token[1:] if token.type in ("VALUE", "AT") else str(token)
    return _located(_string, token, body) if body.startswith('"') else body


def _located(read: Callable[[str], _T], token: Any, text: str | None = None) -> _T:
    """What `read` makes of a token (or of a part of its text); its errors get the line."""
    try:
        return read(token if text is None else text)
    except IRError as error:
        at = _at(getattr(token, "line", 0))
        raise IRError(
            error.code, error.what, at=at, expected=error.expected, found=error.found
        ) from None


def _string(body: str) -> str:
    try:
        return str(json.loads(body))
    except json.JSONDecodeError:
        raise IRError("HETC-X101", "the string is not valid JSON", found=body) from None


# Python itself reads no longer numbers.
_INT = re.compile(r"-?[0-9]{1,4000}")
_FLOAT = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?")
_WORDS = {
    "true": True,
    "false": False,
    "none": None,
    "inf": float("inf"),
    "-inf": float("-inf"),
    "nan": float("nan"),
}


@lru_cache(maxsize=65536)
def _word(text: str) -> Any:
    """A word as a value: a keyword, a number, a dtype or a dim."""
    if text in _WORDS:
        return _WORDS[text]
    if text in DTYPES:
        return DTYPES[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else parse_dim(text)


def _shown(item: Any) -> str:
    return f"[{', '.join(map(_shown, item))}]" if isinstance(item, tuple) else str(item)


def _at(line: int, loc: str = "") -> str:
    return f"line {line}, {loc}" if loc else f"line {line}"
