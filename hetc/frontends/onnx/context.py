"""What a table function works with: the names bound so far, and one way to add an op."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hetc.errors import InputError, IRError, Reason
from hetc.frontends.onnx.bounds import bounded_count
from hetc.frontends.onnx.item import (
    MAX_KNOWN,
    Item,
    SequenceItem,
    WeightItem,
    broadcastable_literal,
    item_of,
    transpose_data,
)
from hetc.frontends.onnx.nodes import ANONYMOUS
from hetc.ir.dims import Dim, DimLike
from hetc.ir.graph import GraphBuilder
from hetc.ir.model import WeightData
from hetc.ir.op import Op, Value
from hetc.ir.types import BOOL, I64, Array, DType

if TYPE_CHECKING:
    from onnx import ValueInfoProto

Bound = Item | SequenceItem
Handler = Callable[..., "Item | SequenceItem | tuple[Item, ...]"]


class Unsupported(Exception):
    """A table function knows the operator but not this use of it; the node becomes an opaque op."""


class Context:
    """The graph being built. `loc` is the module path of the node at hand; every op that is emitted
    carries it.
    """

    def __init__(self, name: str) -> None:
        self.builder = GraphBuilder(name)
        self.env: dict[str, Bound] = {}
        self.loc = ""
        self.opaque: list[Reason] = []
        # Trips of loops that are written out already, of all loops together.
        self.trips = 0
        self.notes: list[str] = []
        # The most that a count of tokens or a size may be, because of a table or mask.
        self.limits: dict[Dim, int] = {}
        self.weights: dict[str, WeightItem] = {}
        # What the file says of tensors and of its symbols, for operators that hetc cannot type.
        self.declared: dict[str, ValueInfoProto] = {}
        self.symbols: dict[str, DimLike] = {}
        # Matrices that an embedding reads; exporters write a tied output matrix a second time.
        self.tables: list[WeightItem] = []
        self._derived: dict[tuple[str, ...], WeightItem] = {}

    def lookup(self, name: str, at: str) -> Bound | None:
        """What `name` stands for; None for an absent optional input. Raises InputError (HETC-I314)
        for a name that nothing makes.
        """
        if not name:
            return None
        if name not in self.env:
            raise InputError(
                "HETC-I314",
                "a node reads a tensor that nothing before it makes",
                at=at,
                found=name,
                do="check the model with onnx.checker; its nodes may be out of order",
            )
        return self.env[name]

    def emit(self, kind: type[Op], *args: Any, **attributes: Any) -> Item:
        """Add an op and return its first result. Items among the arguments are its operands."""
        return self.emit_all(kind, *args, **attributes)[0]

    def emit_all(self, kind: type[Op], *args: Any, **attributes: Any) -> tuple[Item, ...]:
        """Add an op and return all its results; an op on a few known numbers is computed here."""
        op = kind(
            *map(_operand, args), loc=self.loc, **{k: _operand(v) for k, v in attributes.items()}
        )
        folded = _computed(op, _items((*args, *attributes.values())))
        if folded is not None:
            return folded
        self.builder.add(op)
        return tuple(Item(value.type, value) for value in op.results)

    def binary(self, kind: type[Op], x: Item, y: Item) -> Item:
        """An elementwise op of two operands, one of which may become a literal."""
        right = broadcastable_literal(y, x)
        if right is not None and x.known is None:
            return self.emit(kind, x, right)
        left = broadcastable_literal(x, y)
        if left is not None and y.known is None:
            return self.emit(kind, left, y)
        return self.emit(kind, x, y)

    def dims(self, item: Item, use: str) -> tuple[DimLike, ...]:
        """The elements of a shape vector; raises InputError (HETC-I312) where data decide them."""
        if item.known is None:
            raise InputError(
                "HETC-I312",
                f"the {use} of a tensor cannot be told when the model is compiled",
                at=self.loc,
                expected="a function of the batch and the sequence length",
                found="a value that depends on data, or is no polynomial in those sizes",
            )
        return tuple(
            element if not hasattr(element, "item") else element.item()
            for element in item.known.flat
        )

    def limit(self, value: DimLike, most: int) -> bool:
        """Take it that `value` <= `most`, and so that sequences are bounded; False where that says
        nothing of a single size.
        """
        found = bounded_count(value, most)
        if found is None:
            return False
        count, bound = found
        self.limits[count] = min(bound, self.limits.get(count, bound))
        return True

    @property
    def max_sequence(self) -> int | None:
        """How many tokens a sequence may have; None where nothing bounds it."""
        return min(self.limits.values(), default=None)

    def number(self, value: int | bool) -> Item:
        """One integer or flag as a tensor without axes."""
        return item_of(np.asarray(value), BOOL if isinstance(value, bool) else I64)

    def weight(self, name: str, data: WeightData) -> WeightItem:
        """A new weight of the graph under `name`, or a variation of it where that is taken."""
        free, count = name, 1
        while free in self.weights:
            count += 1
            free = f"{name}.{count}"
        item = WeightItem(free, data)
        self.weights[free] = item
        return item

    def derive(
        self,
        item: WeightItem,
        how: str,
        shape: tuple[int, ...],
        dtype: DType,
        change: Callable[[Array], Array],
    ) -> WeightItem:
        """The weight that `change` makes of another when it is loaded; asked twice, it is the same
        one.
        """
        load = item.data.load
        return self.derived(item, how, WeightData(shape, dtype, lambda: change(load())))

    def derived(self, item: WeightItem, how: str, data: WeightData) -> WeightItem:
        """The weight with `data` that are made of another; asked twice, it is the same one."""
        key = (item.name, how, str(data.shape), str(data.dtype))
        if key not in self._derived:
            self._derived[key] = self.weight(f"{item.name}_{how}", data)
        return self._derived[key]

    def transposed(self, item: WeightItem) -> WeightItem:
        """A matrix the other way round. A name that an exporter made up gives way to that of the
        module.
        """
        if item.transposed_from is not None:
            return item.transposed_from
        key = (item.name, "transposed")
        if key not in self._derived:
            anonymous = ANONYMOUS.fullmatch(item.name) and "." in self.loc
            name = f"{self.loc}.weight" if anonymous else f"{item.name}_transposed"
            result = self.weight(name, transpose_data(item.data, (1, 0)))
            result.transposed_from = item
            self._derived[key] = result
        return self._derived[key]


def _operand(argument: Any) -> Any:
    if isinstance(argument, Item):
        return argument.value
    if (
        isinstance(argument, tuple)
        and argument
        and all(isinstance(part, Item) for part in argument)
    ):
        return tuple(part.value for part in argument)
    return argument


def _items(arguments: tuple[Any, ...]) -> list[Item]:
    found: list[Item] = []
    for argument in arguments:
        if isinstance(argument, Item):
            found.append(argument)
        elif isinstance(argument, tuple):
            found.extend(part for part in argument if isinstance(part, Item))
    return found


def _computed(op: Op, items: list[Item]) -> tuple[Item, ...] | None:
    if not items or any(item.known is None or item.symbolic for item in items):
        return None
    if any(not isinstance(v.size, int) or v.size > MAX_KNOWN for v in op.results):
        return None
    known: Mapping[Value, Any] = {item.value: item.known for item in items}
    try:
        results = op.at({}).semantics(*(known[value] for value in op.operands))
    except IRError:
        # An attribute that is a size, such as the bounds of a slice.
        return None
    arrays = results if isinstance(results, tuple) else (results,)
    return tuple(
        Item(value.type, known=array) for value, array in zip(op.results, arrays, strict=True)
    )


TABLE: dict[str, Handler] = {}
_H = TypeVar("_H", bound=Handler)


def onnx_op(*kinds: str) -> Callable[[_H], _H]:
    """Register a table function for these operators (`Add`, `com.microsoft::Gelu`)."""

    def register(function: _H) -> _H:
        TABLE.update(dict.fromkeys(kinds, function))
        return function

    return register
