"""Functional ATen graphs as torch.compile captures them: node by node, and any part of one as a
graph.

A node that cannot be imported gives its reason, and what it makes becomes an input of whatever
reads it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hetc.errors import HetcError, Reason
from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.dtypes import dtype_of_torch
from hetc.frontends.torch_export.places import Places, place
from hetc.frontends.torch_export.symbols import NotAPolynomial, Range, Symbols
from hetc.frontends.torch_export.walk import Walk
from hetc.ir.dims import Dim, DimLike, capped_rows, symbol
from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.op import Op, Value
from hetc.ir.ops.shape import Transpose
from hetc.ir.ops.source import Weight
from hetc.ir.types import BOOL, TensorType
from hetc.ir.verify import sizes_used

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

OpCheck = Callable[[Op], Reason | None]
Names = Mapping["Node", str]


@dataclass(frozen=True)
class Size:
    """An input of a part that only shows a size that none of its tensors shows: bool[N,0]."""

    expr: Any
    symbol: str


@dataclass(frozen=True)
class Part:
    """Some nodes as a graph.

    `inputs` are what its inputs stand for, in order: the nodes that make the tensors, and `Size`s.
    Weights stand for the nodes in `weights`, by name. `sizes` are the symbols of the graph as they
    were when it was captured; 1 where that hangs on data.
    """

    graph: Graph
    inputs: tuple[Node | Size, ...]
    weights: Mapping[str, Node]
    sizes: Mapping[str, int]


def reasons_against(
    module: GraphModule, parameters: Names, why_not: OpCheck
) -> tuple[dict[Node, Reason], Graph]:
    """Why nodes of `module` cannot be imported, for those that make tensors and cannot, and the
    graph of all others.

    `why_not` says of an op of the IR why whoever runs the graph does not take it. Where an op needs
    sizes to be equal that merely are so now, they are guarded to be: PyTorch captures the graph
    anew for others.
    """
    while True:
        work = _Work("captured", module.graph.nodes, parameters, {})
        refused: dict[Node, Reason] = {}
        for node in module.graph.nodes:
            if node.op != "call_function" or not makes_tensors(node):
                continue
            if node.target is operator.getitem and node.args[0] in refused:
                continue
            reason = work.add(module, node, why_not)
            if reason is not None:
                if reason.code == "HETC-I211" and _guard_equal(node):
                    break
                refused[node] = reason
        else:
            made = [value for value in work.ctx.values.values() if isinstance(value, Value)]
            return refused, work.ctx.builder.finish(made)


def _guard_equal(node: Node) -> bool:
    """Guard that sizes which `node` reads under different symbols are equal, where they are now;
    whether that made any the same."""
    seen: dict[int, Any] = {}
    for item in node.all_input_nodes:
        for size in _sizes_of(item.meta.get("val")):
            if not size.node.has_hint() or not _is_sum(size.node.expr):
                continue
            other = seen.setdefault(size.node.hint, size)
            # The comparison itself is what makes the guard.
            if other.node.expr != size.node.expr and bool(other == size):
                return bool(other.node.expr == size.node.expr)
    return False


def _is_sum(expr: Any) -> bool:
    """Whether it is a symbol, perhaps with a number added: only those can become the same."""
    terms = expr.args if expr.func.__name__ == "Add" else (expr,)
    symbols = [term for term in terms if not term.is_Integer]
    return len(symbols) == 1 and bool(symbols[0].is_Symbol)


def import_part(
    module: GraphModule,
    nodes: Sequence[Node],
    outputs: Sequence[tuple[Node, tuple[int, ...]]],
    parameters: Names,
    name: str,
    called: Mapping[Any, DimLike] | None = None,
) -> Part | Reason:
    """`nodes`, which `reasons_against` had nothing against, as one graph.

    `outputs` are nodes with the order of the axes in which they are wanted. `called` says what
    symbols of PyTorch's are: the caller makes sure that it is so, also where two are one.
    """
    work = _Work(name, nodes, parameters, called or {})
    for node in nodes:
        reason = work.add(module, node, _takes_all)
        if reason is not None:
            return reason
    return work.finish(outputs)


def makes_tensors(node: Node) -> bool:
    """Whether the node's result is a tensor or holds some."""
    val = node.meta.get("val")
    return hasattr(val, "dtype") or (
        isinstance(val, tuple | list) and any(hasattr(part, "dtype") for part in val)
    )


def _takes_all(op: Op) -> Reason | None:
    return None


class _Work:
    """One walk over nodes, in which what no node has made is an input."""

    def __init__(
        self, name: str, nodes: Iterable[Node], parameters: Names, called: Mapping[Any, DimLike]
    ) -> None:
        nodes = list(nodes)
        symbols = Symbols({})
        self.ctx = Context(symbols, GraphBuilder(name))
        self._walk = Walk(self.ctx, Places(""))
        self._parameters = parameters
        self._inputs: list[Node | Size] = []
        self._weights: dict[str, Node] = {}
        self._sizes: dict[str, Any] = {}
        self._hints: dict[str, int] = {}
        for expr, (bounds, hint) in _free_symbols(nodes).items():
            meant = called.get(expr)
            if isinstance(meant, int):
                self.ctx.symbols.fix(expr, meant)
            elif meant is not None:
                self.ctx.symbols.name(expr, str(meant), bounds)
                self._sizes.setdefault(str(meant), expr)
                self._hints.setdefault(str(meant), hint)
            else:
                self._name(expr, bounds, hint)

    def add(self, module: GraphModule, node: Node, why_not: OpCheck) -> Reason | None:
        """Import one node, or say why not; then nothing is left of the attempt."""
        if node in self.ctx.values:
            return None
        for item in (node, *node.all_input_nodes):
            reason = _strange(item)
            if reason is not None:
                return reason
        builder, unknown = self.ctx.builder, self._walk.unknown
        before, known = len(builder.ops), len(unknown)
        reason = None
        try:
            for item in node.all_input_nodes:
                self._bind(item)
            before = len(builder.ops)
            self._walk.call(module, node)
        except HetcError as error:
            reason = Reason(error.code, f"{error.what}: {error.found}", at=place(node, ""))
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError) as error:
            # A mistake in a table, which must not stop a program that runs without hetc.
            found = f"{type(error).__name__}: {error}"
            reason = Reason("HETC-Z001", f"the import of {node.target} failed: {found}")
        if reason is None and len(unknown) > known:
            reason = unknown[-1][1]
        if reason is None:
            made = builder.ops[before:]
            reason = next((why for op in made if (why := why_not(op)) is not None), None)
        if reason is None:
            reason = self._missing(node)
        if reason is not None:
            builder.drop(before)
            self.ctx.values.pop(node, None)
        return reason

    def finish(self, outputs: Sequence[tuple[Node, tuple[int, ...]]]) -> Part:
        """What was added as a graph with these outputs."""
        ctx = self.ctx
        results = []
        for node, order in outputs:
            value = ctx.values[node]
            is_turned = order != tuple(range(value.rank))
            results.append(ctx.op(Transpose, value, order) if is_turned else value)
        names = [f"{node.name}.out" for node, _ in outputs]
        graph = ctx.builder.finish(results, names).prune()
        shown = {str(dim) for value in graph.inputs for dim in value.shape if isinstance(dim, Dim)}
        used = {name if capped_rows(name) is None else "P" for name in sizes_used(graph)}
        for name in sorted(used - shown):
            ctx.builder.input(f"size.{name}", TensorType(BOOL, (symbol(name), 0)))
            self._inputs.append(Size(self._sizes[name], name))
        graph = ctx.builder.finish(results, names).prune()
        return Part(graph, tuple(self._inputs), self._weights, self._hints)

    def _bind(self, node: Node) -> None:
        """Make what the node stands for an input or a weight, where nothing made it."""
        fake: Any = node.meta.get("val")
        if node in self.ctx.values or not hasattr(fake, "dtype"):
            return
        shape = tuple(self._dim(size) for size in fake.shape)
        type = TensorType(dtype_of_torch(fake.dtype), shape)
        name = self._parameters.get(node)
        if name is not None and all(isinstance(dim, int) for dim in shape):
            self.ctx.values[node] = self.ctx.op(Weight, name, type)
            self._weights[name] = node
        else:
            self.ctx.values[node] = self.ctx.builder.input(node.name, type)
            self._inputs.append(node)

    def _dim(self, size: Any) -> DimLike:
        try:
            return self.ctx.symbols.dim(size)
        except NotAPolynomial:
            hint = size.node.hint if size.node.has_hint() else 1
            return self._name(size.node.expr, (0.0, math.inf), hint)

    def _name(self, expr: Any, bounds: Range, hint: int) -> DimLike:
        name = f"N{len(self._sizes)}"
        self._sizes[name], self._hints[name] = expr, hint
        return self.ctx.symbols.name(expr, name, bounds)

    def _missing(self, node: Node) -> Reason | None:
        """Whether a result that somebody reads is one that hetc does not make."""
        made = self.ctx.values.get(node)
        if not isinstance(made, tuple):
            return None
        for user in node.users:
            index: Any = user.args[1]
            if made[index] is None:
                text = f"hetc makes no result {index} of {node.target}"
                return Reason("HETC-I211", text, at=place(node, ""))
        return None


def _strange(node: Node) -> Reason | None:
    """Why hetc has no such tensor as the node makes."""
    val = node.meta.get("val")
    for fake in val if isinstance(val, tuple | list) else (val,):
        if not hasattr(fake, "dtype"):
            continue
        if fake.dtype.is_complex or fake.is_quantized:
            return Reason("HETC-I240", f"hetc runs no {fake.dtype} tensors", at=place(node, ""))
        if fake.device.type != "cpu" or str(fake.layout) != "torch.strided":
            found = f"{fake.layout} on {fake.device}"
            return Reason("HETC-I240", f"hetc runs dense tensors on the CPU, not {found}")
    return None


def _free_symbols(nodes: Iterable[Node]) -> dict[Any, tuple[Range, int]]:
    """The symbols of all sizes that the nodes make or read, in order, with their ranges and present
    values."""
    ranges: dict[Any, Range] = {}
    hints: dict[Any, int] = {}
    for node in nodes:
        for item in (*node.all_input_nodes, node):
            for size in _sizes_of(item.meta.get("val")):
                expr = size.node.expr
                if expr.is_Symbol and size.node.has_hint():
                    hints[expr] = int(size.node.hint)
                for free in sorted(expr.free_symbols, key=str):
                    if free not in ranges:
                        ranges[free] = _range(size.node.shape_env.var_to_range.get(free))
    return {free: (bounds, hints.get(free, 1)) for free, bounds in ranges.items()}


def _sizes_of(val: Any) -> Iterator[Any]:
    if type(val).__name__ == "SymInt":
        yield val
    for fake in val if isinstance(val, tuple | list) else (val,):
        if hasattr(fake, "dtype"):
            yield from (size for size in fake.shape if type(size) is not int)


def _range(bounds: Any) -> Range:
    low: Any = getattr(bounds, "lower", 0)
    high: Any = getattr(bounds, "upper", None)
    return (
        max(0.0, float(int(low))) if getattr(low, "is_Integer", False) else 0.0,
        float(int(high)) if getattr(high, "is_Integer", False) else math.inf,
    )
