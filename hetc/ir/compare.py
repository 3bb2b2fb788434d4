"""Whether two graphs have the same structure, and where they first differ."""

from __future__ import annotations

import math
from typing import Any

from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value


def same_structure(a: Graph, b: Graph, *, locations: bool = False) -> bool:
    """Whether both have the same inputs, ops, attributes and outputs, names of graphs apart."""
    return first_difference(a, b, locations=locations) is None


def first_difference(a: Graph, b: Graph, *, locations: bool = False) -> str | None:
    """One sentence about the first thing that differs, or None.

    Numbers are compared exactly, with their Python types; NaN equals NaN. With `locations`, the
    source locations of the ops count too.
    """
    for what, one, other in (
        ("inputs", [(v.name, v.type) for v in a.inputs], [(v.name, v.type) for v in b.inputs]),
        ("output names", a.output_names, b.output_names),
        ("numbers of ops", len(a.ops), len(b.ops)),
        ("numbers of outputs", len(a.outputs), len(b.outputs)),
    ):
        if one != other:
            return f"@{a.name} and @{b.name} have different {what}: {one} and {other}"
    partner: dict[Value, Value] = dict(zip(a.inputs, b.inputs, strict=True))
    for left, right in zip(a.ops, b.ops, strict=True):
        difference = _op_difference(left, right, partner, locations)
        if difference:
            return f"@{a.name}: {difference}"
        partner.update(zip(left.results, right.results, strict=True))
    if [partner.get(value) for value in a.outputs] != list(b.outputs):
        return f"@{a.name} and @{b.name} return different values"
    return None


def _op_difference(a: Op, b: Op, partner: dict[Value, Value], locations: bool) -> str | None:
    if a.kind != b.kind:
        return f"{a} is not {b}"
    if [value.type for value in a.results] != [value.type for value in b.results]:
        return f"{a} and {b} differ in their result types"
    if locations and a.loc != b.loc:
        return f"{a} and {b} differ in their locations"
    for spec in a.signature:
        left, right = getattr(a, spec.name), getattr(b, spec.name)
        if isinstance(left, Graph) and isinstance(right, Graph):
            inner = first_difference(left, right, locations=locations)
            if inner:
                return inner
        elif not _same(left, right, partner):
            return f"{a} and {b} differ in {spec.name}: {left} and {right}"
    return None


def _same(a: Any, b: Any, partner: dict[Value, Value]) -> bool:
    if isinstance(a, Value):
        return partner.get(a) is b
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_same(x, y, partner) for x, y in zip(a, b, strict=True))
    if type(a) is not type(b):
        return False
    if isinstance(a, float) and (math.isnan(a) or a == 0):
        return repr(a) == repr(b)
    return bool(a == b)
