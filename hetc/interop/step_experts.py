"""Experts of a captured step, whose rows were sorted for a grouped product, by the expert of each
row.

Transformers' `grouped_mm` sorts the rows by expert, counts them, multiplies group by group, and
puts the rows back. Where all between is of each row alone, the order says nothing, and a row's
product is that with the matrix of its expert.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from hetc.errors import Reason
from hetc.interop.captured import Captured

if TYPE_CHECKING:
    from torch.fx import Graph, Node

_PRODUCTS = ("transformers.grouped_mm_fallback.default", "aten._grouped_mm.default")
_COPIES = ("aten._to_copy.default", "aten.clone.default", "aten.detach.default")


def experts_by_row(captured: Captured) -> Captured | Reason:
    """`captured` without sorting by expert, with the inputs in the same order; itself where there
    is none, and why not where something hangs on the order."""
    from torch.fx import Graph, GraphModule

    products = [node for node in captured.module.graph.nodes if _name(node) in _PRODUCTS]
    if not products:
        return captured
    orders: dict[Node, _Order] = {}
    for product in products:
        sort = _sort_of(product)
        if sort is None:
            return Reason("HETC-E053", "the rows of experts are grouped in a way of their own")
        orders.setdefault(sort, _Order(sort))
    for order in orders.values():
        reason = order.follow()
        if reason is not None:
            return reason
    graph = Graph()
    new: dict[Node, Node] = {}
    for node in captured.module.graph.nodes:
        made: Node | None = None
        for order in orders.values():
            if node in order:
                made = order.put(graph, node, new)
                break
        else:
            made = graph.node_copy(node, new.__getitem__)
        if made is not None:
            new[node] = made
    return captured.with_module(GraphModule(captured.module, graph))


@dataclass
class _Order:
    """What one sort by experts leads to: `counts` are made of it for the products alone, `places`
    are where rows came from, `rows` the tensors in the new order, `ends` those put back."""

    sort: Node
    counts: set[Node] = field(default_factory=set)
    places: set[Node] = field(default_factory=set)
    rows: set[Node] = field(default_factory=set)
    ends: set[Node] = field(default_factory=set)

    def __contains__(self, node: Node) -> bool:
        return node in self.counts or node in self.places or node in self.rows or node in self.ends

    @property
    def ids(self) -> Any:
        """The expert of each row, before they were sorted."""
        return self.sort.args[0]

    def follow(self) -> Reason | None:
        """Find all that hangs on the order; or what of it is not of each row alone."""
        self.counts.add(self.sort)
        for user in self.sort.users:
            (self.rows if user.args[1] == 0 else self.places).add(user)
        waiting = [*self.sort.users]
        while waiting:
            node = waiting.pop()
            for user in node.users:
                if user in self or self._is_end(user):
                    continue
                kind = self._kind(user)
                if kind is None:
                    return Reason("HETC-E053", f"{user} hangs on the order of rows of experts")
                kind.add(user)
                waiting.append(user)
        if not all(end.args[0] in self.rows for end in self.ends):
            return Reason("HETC-E053", "something else than rows of experts is put back")
        # Only now all is known: what is read beside rows must not have rows of its own.
        for node in self.rows:
            if any(self._has_rows(item) and item not in self for item in _read_by_row(node)):
                return Reason("HETC-E053", f"{node} joins rows of experts in two orders")
        return None

    def _kind(self, user: Node) -> set[Node] | None:
        """The set that a user of one of the nodes belongs to."""
        name, args = _name(user), cast("tuple[Any, ...]", user.args)
        if user.op == "output":
            return None
        counted = [item for item in user.all_input_nodes if item in self.counts]
        if counted and name in (*_COPIES, "aten.cumsum.default"):
            return self.counts
        if name == "aten.histc.default" or (name in _COPIES and _is_counted(user)):
            return self.counts
        if name == "aten.index_put.default":
            return self.places if self._is_inverse(user) else None
        if args and args[0] in self.places:
            places = ("aten.floor_divide.default", "aten.empty_like.default")
            return self.places if name in places else None
        if name == "aten.index.Tensor":
            by = _only(args[1])
            is_row = by in self.places or by in self.rows
            return self.rows if is_row and args[0] not in self else None
        if name in _PRODUCTS:
            return self.rows if args[0] in self.rows else None
        return self.rows if self._is_of_each_row(user) else None

    def _is_end(self, user: Node) -> bool:
        """Whether `user` puts rows back; it is kept in `ends`."""
        if _name(user) != "aten.index.Tensor" or not self._is_inverse(_only(user.args[1])):
            return False
        self.ends.add(user)
        return True

    def _is_inverse(self, by: Any) -> bool:
        """Whether it is `empty[places] = 0, 1, 2, ...`."""
        if _name(by) != "aten.index_put.default" or len(by.args) != 3:
            return False
        into, ids, numbers = by.args
        is_count = _name(numbers) == "aten.arange.default" and len(numbers.args) == 1
        return is_count and self._is_fresh(into) and self._is_permutation(_only(ids))

    def _is_fresh(self, into: Any) -> bool:
        return _name(into) == "aten.empty_like.default" and self._is_permutation(into.args[0])

    def _is_permutation(self, item: Any) -> bool:
        return getattr(item, "target", None) is operator.getitem and item.args == (self.sort, 1)

    def _has_rows(self, item: Node) -> bool:
        val: Any = item.meta["val"]
        return bool(val.ndim > 0 and val.shape[0] == self.ids.meta["val"].shape[0])

    def _is_of_each_row(self, user: Node) -> bool:
        import torch

        val: Any = user.meta["val"]
        name = _name(user)
        if user.target is operator.getitem or name == "aten.unsqueeze.default":
            return user.target is operator.getitem or user.args[1] in (-1, 1)
        if name in ("aten.split.Tensor", "aten.slice.Tensor"):
            first: Any = user.args[0]
            axis = user.args[2] if name == "aten.split.Tensor" else user.args[1]
            return len(user.args) > 2 and axis in (-1, first.meta["val"].ndim - 1, 1)
        tags = getattr(user.target, "tags", ())
        is_pointwise = torch.Tag.pointwise in tags or name in _COPIES
        return is_pointwise and self._has_rows(user) and val.ndim > 0

    def put(self, graph: Graph, node: Node, new: dict[Node, Node]) -> Node | None:
        """What stands for `node` without sorting; None where nothing does."""
        if node in self.counts or node in self.places:
            return None
        if node in self.ends:
            return new[node.args[0]]  # type: ignore[index]
        if node.target is operator.getitem and node.args[0] is self.sort:
            return new[self.ids]
        if _name(node) in _PRODUCTS:
            return self._product(graph, node, new)
        if _name(node) == "aten.index.Tensor" and node.args[1][0] in self.places:  # type: ignore[index, operator]
            return self._picked(graph, node, new)
        return graph.node_copy(node, new.__getitem__)

    def _product(self, graph: Graph, node: Node, new: dict[Node, Node]) -> Node:
        import torch

        aten = torch.ops.aten
        rows, matrices = new[node.args[0]], new[node.args[1]]  # type: ignore[index]
        own = _call(graph, node, aten.index.Tensor, matrices, [new[self.ids]])
        column = _call(graph, node, aten.unsqueeze.default, rows, 1)
        product = _call(graph, node, aten.bmm.default, column, own)
        return _call(graph, node, aten.squeeze.dim, product, 1)

    def _picked(self, graph: Graph, node: Node, new: dict[Node, Node]) -> Node:
        """`x[places]` in the order that was, or `x[places // k]`: each row of x k times."""
        import torch

        aten = torch.ops.aten
        x, by = new[node.args[0]], node.args[1][0]  # type: ignore[index]
        if self._is_permutation(by):
            return x
        count, val = by.args[1], x.meta["val"]  # type: ignore[union-attr]
        apart = _call(graph, node, aten.unsqueeze.default, x, 1)
        sizes = [val.shape[0], count, *val.shape[1:]]
        repeated = _call(graph, node, aten.expand.default, apart, sizes)
        flat = [val.shape[0] * count, *val.shape[1:]]
        return _call(graph, node, aten.reshape.default, repeated, flat)


def _call(graph: Graph, like: Node, target: Any, *args: Any) -> Node:
    node = graph.call_function(target, args)
    fakes = [_fake(item) for item in args]
    node.meta = {**like.meta, "val": target(*fakes)}
    return node


def _fake(item: Any) -> Any:
    if isinstance(item, list):
        return [_fake(part) for part in item]
    return item.meta["val"] if hasattr(item, "meta") else item


def _sort_of(product: Node) -> Node | None:
    """The sort of ids, of which the groups of a product are the counts."""
    matrices, total = product.args[1], product.args[2] if len(product.args) > 2 else None
    total = product.kwargs.get("offs", total)
    if _name(total) != "aten.cumsum.default" or total.args[1] != 0:  # type: ignore[union-attr]
        return None
    counts: Any = total.args[0]  # type: ignore[union-attr]
    experts = matrices.meta["val"].shape[0]  # type: ignore[union-attr]
    if _name(counts) != "aten.histc.default" or counts.args[1:] != (experts, 0, experts - 1):
        return None
    ids: Any = counts.args[0]
    while _name(ids) in _COPIES:
        ids = ids.args[0]
    if ids.target is not operator.getitem or ids.args[1] != 0:
        return None
    sort = ids.args[0]
    is_plain = _name(sort) == "aten.sort.default" and len(sort.args) == 1
    return sort if is_plain and sort.args[0].meta["val"].ndim == 1 else None


def _is_counted(node: Node) -> bool:
    """Whether all that reads a copy of the ids counts them."""
    return bool(node.users) and all(_name(user) == "aten.histc.default" for user in node.users)


def _read_by_row(node: Node) -> Iterator[Node]:
    """What an op reads beside rows, but for tables that it looks rows up in."""
    if _name(node) in ("aten.index.Tensor", *_PRODUCTS) or node.target is operator.getitem:
        return
    yield from (item for item in node.all_input_nodes if hasattr(item.meta.get("val"), "ndim"))


def _only(items: Any) -> Any:
    """The one item of a list, and None of others."""
    return items[0] if len(items) == 1 else None


def _name(node: Any) -> str:
    return str(getattr(node, "target", ""))
