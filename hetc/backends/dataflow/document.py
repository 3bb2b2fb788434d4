"""docs/plan-format.md, made from the schema and from the docstrings of what reads a plan."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from hetc.backends.dataflow import mesh, schema, simulate
from hetc.backends.dataflow.field_meanings import MEANINGS
from hetc.backends.dataflow.lint import delivery
from hetc.backends.dataflow.part import Part

_PREFACE = """# The plan format

Made by `make docs` from `hetc/backends/dataflow/schema.py` and the docstrings of what reads plans.

A plan is one JSON file, the decode half of a model on a spatial dataflow machine:
`decode/plan.json` of a [bundle](bundle-format.md). `hetc lint` checks one, `hetc plot` draws it,
`hetc diff` compares two, and `hetc export` writes it in other tools' words ([commands](cli.md)).
The same plan always gives the same bytes.

In code: `hetc.backends.dataflow.plan_file.read_plan` and `plan_bytes`; the classes below are frozen
msgspec structures. A field with a default may be left out. An unknown field is an error."""

_COMPATIBILITY = """## Compatibility

1. `schema` is `hetc.plan/MAJOR`. The number changes when a field is added, goes away or changes its
   meaning, or when a list of values gets a new one: a plan says what a machine does, and a part of
   it that is not understood may not be ignored.
2. A reader refuses every other version (HETC-L002), and what breaks the schema, unknown fields
   included (HETC-L001).
3. Every hetc writes the newest version alone and reads only that one. A plan is made anew from its
   model in seconds, and what a user fixed of it, `request`, is in it: `hetc compile --plan` takes
   that back.
4. hetc keeps no promise that a newer hetc plans alike; `tool` says which one did. The same hetc
   does, byte for byte, for the same model, target, workload and request.
5. The exports are no formats of hetc's: they may change with any version."""

# What sends a reader to this page has no place on it.
_HERE = re.compile(r" \(docs/plan-format\.md\)|\s*docs/plan-format\.md\s(?:is|says)\s[^.]*\.")


def document() -> str:
    """The whole page as Markdown."""
    parts = [
        _PREFACE,
        "## Vocabulary",
        *_paragraphs(schema)[1:],
        "## Places and routes",
        *_paragraphs(mesh)[1:],
        "## Nets",
        *map(_fenced, _paragraphs(delivery)[1:]),
        "## What a plan means in time",
        *_paragraphs(simulate)[1:],
        _COMPATIBILITY,
        "## Fields",
        *(text for kind in _kinds() for text in _section(kind)),
    ]
    return "\n\n".join(parts) + "\n"


def _paragraphs(documented: types.ModuleType | type[Part]) -> list[str]:
    """The paragraphs of a docstring; the first one of a module's is its title."""
    return _HERE.sub("", inspect.cleandoc(documented.__doc__ or "")).strip().split("\n\n")


def _fenced(paragraph: str) -> str:
    """Columns of text as they are."""
    return f"```\n{paragraph}\n```" if re.search(r"\S {3,}\S", paragraph) else paragraph


def _kinds() -> list[type[Part]]:
    """The classes of the schema, a whole before its parts."""
    found: dict[type[Part], None] = {}
    todo: list[type[Part]] = [schema.Plan]
    while todo:
        kind = todo.pop(0)
        if kind not in found:
            found[kind] = None
            hints = typing.get_type_hints(kind)
            todo += [part for name in kind.__struct_fields__ for part in _parts_in(hints[name])]
    return list(found)


def _parts_in(hint: Any) -> Iterator[type[Part]]:
    if isinstance(hint, type) and issubclass(hint, Part):
        yield hint
    for inner in typing.get_args(hint):
        yield from _parts_in(inner)


def _section(kind: type[Part]) -> Iterator[str]:
    yield f"### {kind.__name__}"
    yield from _paragraphs(kind)
    hints = typing.get_type_hints(kind)
    rows = ["| field | type | meaning |", "|---|---|---|"]
    tag = kind.__struct_config__.tag
    if tag is not None:
        rows.append(f"| `type` | `{tag}` | which kind of step this is |")
    for field in msgspec.structs.fields(kind):
        known = MEANINGS[kind.__name__][field.name]
        rows.append(
            f"| `{field.name}` | {type_text(hints[field.name])} | {known}{_default(field)} |"
        )
    yield "\n".join(rows)


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return ""
    value = field.default
    if isinstance(value, tuple):
        return "; empty by default"
    return f"; `{msgspec.json.encode(value).decode()}` by default"


def type_text(hint: Any) -> str:
    """A type as a reader of JSON sees it: `tuple[str, ...] | None` is a list of text, or null."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return "null"
    if isinstance(hint, type) and issubclass(hint, Part):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    if origin is Literal:
        return ", ".join(f"`{value}`" if value else '`""`' for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(type_text, inner))
    if origin is tuple and inner[-1] is Ellipsis:
        return f"list of {type_text(inner[0])}"
    if origin is tuple:
        return f"[{', '.join(map(type_text, inner))}]"
    if origin is dict:
        return f"object of {type_text(inner[1])}"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}[hint]
