"""The grammar of the text form, read by lark: text in, lists of tokens out."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import lark

from hetc.errors import IRError
from hetc.ir.types import DTYPES

_GRAMMAR = r"""
start: program? graph+
program: "program" _name attributes state*
state: "state" _name ":" TYPE attributes [AT]
graph: "graph" AT "(" inputs ")" ["->" "(" outputs ")"] "{" operation* "return" items "}"
inputs: (input ("," input)*)?
input: VALUE ":" TYPE
outputs: (output ("," output)*)?
output: (_name ":")? TYPE
operation: results "=" WORD items [attributes] [AT]
         | results "=" WORD AT "(" items ")" [AT] -> call
results: VALUE ("," VALUE)*
items: (_item ("," _item)*)?
attributes: "{" (attribute ("," attribute)*)? "}"
attribute: WORD ("=" _item)?
_item: WORD | STRING | TYPE | VALUE | AT | group
group: "[" items "]"
_name: WORD | STRING

TYPE.2: /(?:DTYPES)\[[^\[\]\n]*\]/
WORD: /-?[A-Za-z0-9_][-+A-Za-z0-9_.*]*/
STRING: /"(?:[^"\\\n]|\\.)*"/
VALUE: /%(?:[A-Za-z_][A-Za-z0-9_.]*|[0-9]+|"(?:[^"\\\n]|\\.)*")/
AT: /@(?:[A-Za-z0-9_][A-Za-z0-9_.]*|"(?:[^"\\\n]|\\.)*")/
%ignore /[ \t\r\n]+/
%ignore /#[^\n]*/
"""


class Operation(NamedTuple):
    results: list[lark.Token]
    kind: lark.Token
    callee: lark.Token | None
    items: list[Any]
    attributes: list[list[Any]] | None
    loc: lark.Token | None


class _Reader(lark.Transformer[lark.Token, Any]):
    """What becomes of each rule of the grammar: tuples and lists of tokens."""

    start = program = state = graph = input = output = attribute = list
    inputs = outputs = results = items = attributes = list

    def group(self, children: list[Any]) -> tuple[Any, ...]:
        return tuple(children[0])

    def operation(self, children: list[Any]) -> Operation:
        results, kind, items, attributes, loc = children
        return Operation(results, kind, None, items, attributes, loc)

    def call(self, children: list[Any]) -> Operation:
        results, kind, callee, items, loc = children
        return Operation(results, kind, callee, items, None, loc)


@cache
def _parser() -> lark.Lark:
    grammar = _GRAMMAR.replace("DTYPES", "|".join(DTYPES))
    return lark.Lark(grammar, parser="lalr", transformer=_Reader(), maybe_placeholders=True)


def read_sections(text: str) -> list[Any]:
    """The program header, if there is one, and the graphs; raises IRError (HETC-X101)."""
    try:
        # The transformer makes a list of what would be a tree.
        sections: list[Any] = _parser().parse(text)  # type: ignore[assignment]
    except lark.UnexpectedInput as error:
        raise _syntax_error(error, text) from None
    return sections


def _syntax_error(error: lark.UnexpectedInput, text: str) -> IRError:
    token = getattr(error, "token", None)
    at_end = token is not None and token.type == "$END"
    line = text.split("\n")[error.line - 1].strip()
    return IRError(
        "HETC-X101",
        "the text ends too soon" if at_end else "this is not the text form",
        at="" if at_end else f"line {error.line}, column {error.column}",
        found="" if at_end else line,
        do="docs/ir.md has the grammar",
    )
