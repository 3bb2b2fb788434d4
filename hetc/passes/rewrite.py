"""Rewrites: match, check and rewrite kept apart. A check that says no says why.

A pattern is built from `node(OpClass)(operands...)`, `var("x")` (any tensor) and `literal("eps")`
(any number). A name that appears twice must match the same value. Operands of commutative ops match
in either order. Between nodes, casts from one float dtype to another are looked through, because
models widen to f32 and back around a norm or a softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from hetc.errors import Reason
from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Scalar, Value
from hetc.ir.ops.elementwise import Add, And, Cast, Eq, Maximum, Minimum, Mul, Or

COMMUTATIVE = (Add, Mul, Maximum, Minimum, And, Or, Eq)


@dataclass(frozen=True)
class Var:
    """Any tensor, bound to `name`."""

    name: str


@dataclass(frozen=True)
class Literal:
    """Any literal number, bound to `name`; or, with `value`, that number only."""

    name: str
    value: float | None = None


@dataclass(frozen=True)
class Node:
    """An op of class `cls` whose operands match; `attributes` must be equal; bound to `name` where
    it has one."""

    cls: type[Op]
    operands: tuple[Pattern, ...]
    attributes: tuple[tuple[str, object], ...] = ()
    name: str = ""


Pattern = Var | Literal | Node


def var(name: str) -> Var:
    return Var(name)


def literal(name: str = "", value: float | None = None) -> Literal:
    return Literal(name, value)


def node(cls: type[Op], name: str = "") -> Callable[..., Node]:
    """A constructor of patterns for ops of class `cls`."""

    def make(*operands: Pattern, **attributes: object) -> Node:
        return Node(cls, operands, tuple(attributes.items()), name)

    return make


@dataclass(frozen=True)
class Match:
    """What the names of a pattern stand for; `root` is the op at its top."""

    root: Op
    bound: dict[str, Scalar] = field(default_factory=dict)

    def value(self, name: str) -> Value:
        """The tensor bound to `name`."""
        found = self.bound[name]
        assert isinstance(found, Value), name
        return found

    def number(self, name: str) -> float:
        """The literal bound to `name`."""
        found = self.bound[name]
        assert isinstance(found, (int, float)), name
        return float(found)

    def op(self, name: str) -> Op:
        """The op bound to the node `name`."""
        found = self.value(name).op
        assert found is not None, name
        return found


class Rewrite:
    """One local rewrite. `patterns` are alternatives of the same thing; the first that matches
    counts."""

    patterns: Sequence[Node] = ()

    def check(self, match: Match) -> Reason | None:
        """Why this match must not be rewritten, or None."""
        return None

    def rewrite(self, match: Match) -> Op:
        """The op that replaces the root; its result has the type of the root's."""
        raise NotImplementedError(type(self).__name__)


@dataclass
class RewriteLog:
    """What rewrites did: how often each fired, and each refusal."""

    fired: dict[str, int] = field(default_factory=dict)
    refused: list[Reason] = field(default_factory=list)


def apply(graph: Graph, rewrites: Sequence[Rewrite], log: RewriteLog | None = None) -> Graph:
    """Apply `rewrites` in one walk, operands before users, so that a result can be part of a later
    match."""
    log = log or RewriteLog()
    by_root: dict[type[Op], list[tuple[Rewrite, Node]]] = {}
    for rewrite in rewrites:
        for pattern in rewrite.patterns:
            by_root.setdefault(pattern.cls, []).append((rewrite, pattern))

    def step(op: Op) -> Op | tuple[Value, ...] | None:
        for rewrite, pattern in by_root.get(type(op), ()):
            match = match_op(pattern, op)
            if match is None:
                continue
            reason = rewrite.check(match)
            if reason is not None:
                log.refused.append(reason)
                continue
            name = type(rewrite).__name__
            log.fired[name] = log.fired.get(name, 0) + 1
            return fit(rewrite.rewrite(match), op)
        return None

    return rebuild(graph, step)


def fit(new: Op, old: Op) -> tuple[Value, ...]:
    """The results of `new` for those of `old`: placed at its location, cast where only the dtype
    differs."""
    located = new if new.loc else new.replace(loc=old.loc)
    values = []
    for value, wanted in zip(located.results, old.results, strict=False):
        same = value.dtype is wanted.dtype
        values.append(value if same else Cast(value, wanted.dtype, loc=old.loc).result)
    return tuple(values)


def match_op(pattern: Node, op: Op) -> Match | None:
    """Match `pattern` with `op` at its root."""
    for bound in _match_node(pattern, op, {}):
        return Match(op, bound)
    return None


def skip_casts(value: Value) -> Value:
    """The value before casts between float dtypes."""
    while isinstance(value.op, Cast) and value.dtype.is_float and value.op.x.dtype.is_float:
        value = value.op.x
    return value


def _match_node(pattern: Node, op: Op, bound: dict[str, Scalar]) -> Iterator[dict[str, Scalar]]:
    if type(op) is not pattern.cls:
        return
    if any(getattr(op, name) != wanted for name, wanted in pattern.attributes):
        return
    items = [getattr(op, spec.name) for spec in op.signature if spec.role in ("operand", "scalar")]
    orders = [items, items[::-1]] if isinstance(op, COMMUTATIVE) and len(items) == 2 else [items]
    for order in orders:
        found = _match_all(pattern.operands, order, bound)
        for result in found:
            yield {**result, pattern.name: op.result} if pattern.name else result


def _match_all(
    patterns: Sequence[Pattern], items: Sequence[Scalar], bound: dict[str, Scalar]
) -> Iterator[dict[str, Scalar]]:
    if not patterns:
        yield bound
        return
    for result in _match_item(patterns[0], items[0], bound):
        yield from _match_all(patterns[1:], items[1:], result)


def _match_item(
    pattern: Pattern, item: Scalar, bound: dict[str, Scalar]
) -> Iterator[dict[str, Scalar]]:
    if isinstance(pattern, Literal):
        number = isinstance(item, (int, float)) and not isinstance(item, bool)
        if number and (pattern.value is None or item == pattern.value):
            yield {**bound, pattern.name: item}
        return
    if not isinstance(item, Value):
        return
    if isinstance(pattern, Var):
        known = bound.get(pattern.name)
        if known is None:
            yield {**bound, pattern.name: item}
        elif isinstance(known, Value) and skip_casts(known) is skip_casts(item):
            yield bound
        return
    source = skip_casts(item)
    for candidate in (item,) if source is item else (item, source):
        if candidate.op is not None:
            yield from _match_node(pattern, candidate.op, bound)
