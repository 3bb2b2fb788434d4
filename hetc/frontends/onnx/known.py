"""Arithmetic on shapes: tensors whose elements are known as functions of the sizes of the inputs.

An exporter writes the target of a Reshape as `Concat(Gather(Shape(x), 0), -1, 8)`. Each operator
here takes and gives object arrays of ints and Dims, so that such a subgraph ends as a tuple of dims
and never becomes ops. `Undecided` means that the answer depends on the sizes in a way that a
polynomial cannot say; the operator is then imported like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hetc.errors import IRError
from hetc.frontends.onnx.bounds import equal, less
from hetc.frontends.onnx.item import MAX_KNOWN, Item, dims_item, item_of
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.tensors import dtype_named
from hetc.ir.dims import Dim, DimLike, exact_div
from hetc.ir.types import BOOL, I64, Array


class Undecided(Exception):
    """The elements cannot be told from the sizes alone."""


Fold = Callable[..., Array]
FOLDS: dict[str, Fold] = {}
COMPARISONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Not")


def folds(*kinds: str) -> Callable[[Fold], Fold]:
    """Register a function from known elements to known elements for these operators."""

    def register(function: Fold) -> Fold:
        FOLDS.update(dict.fromkeys(kinds, function))
        return function

    return register


def fold(node: Node, items: Sequence[Item | None]) -> Item | None:
    """The result of a node on shapes, or None where it is not one or cannot be told."""
    if node.kind in ("Shape", "Size") and items and items[0] is not None:
        return _size_of(node, items[0])
    function = FOLDS.get(node.kind)
    given = [item for item in items if item is not None]
    if function is None or any(item.known is None for item in given):
        return None
    if not any(item.symbolic for item in given):
        return None
    try:
        arrays = [None if item is None else _objects(item) for item in items]
        result = np.asarray(function(node, *arrays), dtype=object)
    except (Undecided, IRError):
        return None
    if result.size > MAX_KNOWN:
        return None
    dtype = given[1 if node.kind in ("Where", "CastLike") else 0].dtype
    if node.kind == "Cast":
        dtype = dtype_named(node.get("to", 0), node.title)
    elif node.kind in COMPARISONS:
        dtype = BOOL
    return item_of(result, dtype)


def _size_of(node: Node, item: Item) -> Item:
    if node.kind == "Size":
        return item_of(np.asarray(item.type.size, dtype=object), I64)
    return dims_item(item.shape[node.get("start", 0) : node.get("end")])


def _objects(item: Item) -> Array:
    assert item.known is not None
    if item.symbolic:
        return item.known
    array = item.known.astype(object)
    # Polynomials have integer coefficients; a fraction among them is no size.
    for position, element in enumerate(array.flat):
        if isinstance(element, float):
            if not element.is_integer():
                raise Undecided
            array.flat[position] = int(element)
    return array


def elements(item: Item | None, default: Sequence[int] | None = None) -> tuple[int, ...] | None:
    """The plain integers of a known vector, `default` where the item is absent, None where they are
    not known as numbers.
    """
    if item is None:
        return None if default is None else tuple(default)
    if item.known is None or item.symbolic:
        return None
    return tuple(int(element) for element in item.known.flat)


def _each(function: Callable[..., Any]) -> Callable[..., Array]:
    def apply(node: Node, *arrays: Array) -> Array:
        result = arrays[0]
        for other in arrays[1:]:
            result = np.asarray(np.frompyfunc(function, 2, 1)(result, other), dtype=object)
        return result

    return apply


def _known(answer: bool | None) -> bool:
    if answer is None:
        raise Undecided
    return answer


def _divide(a: DimLike, b: DimLike) -> DimLike:
    if isinstance(a, int) and isinstance(b, int) and b:
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return exact_div(a, b)


def _modulo(a: DimLike, b: DimLike) -> DimLike:
    if isinstance(a, int) and isinstance(b, int) and b:
        return a % b
    exact_div(a, b)
    return 0


def _smaller(a: DimLike, b: DimLike) -> DimLike:
    return b if _known(less(b, a)) else a


def _larger(a: DimLike, b: DimLike) -> DimLike:
    return b if _known(less(a, b)) else a


for _kind, _function in {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": _divide,
    "Mod": _modulo,
    "Min": _smaller,
    "Max": _larger,
    "Equal": lambda a, b: _known(equal(a, b)),
    "Less": lambda a, b: _known(less(a, b)),
    "Greater": lambda a, b: _known(less(b, a)),
    "LessOrEqual": lambda a, b: not _known(less(b, a)),
    "GreaterOrEqual": lambda a, b: not _known(less(a, b)),
}.items():
    FOLDS[_kind] = _each(_function)


@folds("Identity", "Cast", "CastLike", "Floor", "Ceil", "Round")
def _same(node: Node, x: Array, *rest: Array) -> Array:
    return x


@folds("Neg")
def _neg(node: Node, x: Array) -> Array:
    return np.asarray(-x, dtype=object)


@folds("Where")
def _where(node: Node, condition: Array, x: Array, y: Array) -> Array:
    condition, x, y = np.broadcast_arrays(condition, x, y)
    chosen = [a if c else b for c, a, b in zip(condition.flat, x.flat, y.flat, strict=True)]
    result = np.empty(condition.shape, dtype=object)
    result.flat[:] = chosen
    return result


@folds("Gather")
def _gather(node: Node, x: Array, ids: Array) -> Array:
    return np.asarray(np.take(x, _numbers(ids), axis=node.get("axis", 0)), dtype=object)


@folds("Concat")
def _concat(node: Node, *xs: Array) -> Array:
    return np.concatenate(xs, axis=node.get("axis", 0))


@folds("Squeeze")
def _squeeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    given = node.get("axes") if axes is None else tuple(_numbers(axes).flat)
    return np.squeeze(x, given)


@folds("Unsqueeze")
def _unsqueeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    given = node.get("axes") if axes is None else tuple(_numbers(axes).flat)
    return np.expand_dims(x, given)


@folds("Reshape", "Expand")
def _reshape(node: Node, x: Array, shape: Array | None = None) -> Array:
    target = tuple(_numbers(shape).flat) if shape is not None else node.get("shape")
    if node.kind == "Expand":
        return np.broadcast_to(x, np.broadcast_shapes(x.shape, target))
    zeros_stay = not node.get("allowzero", 0)
    return np.reshape(x, [x.shape[i] if d == 0 and zeros_stay else d for i, d in enumerate(target)])


@folds("Transpose")
def _transpose(node: Node, x: Array) -> Array:
    return np.transpose(x, node.get("perm"))


@folds("Slice")
def _slice(node: Node, x: Array, *bounds: Array | None) -> Array:
    attributes = (node.get("starts"), node.get("ends"), node.get("axes"))
    given = [None if part is None else tuple(_numbers(part).flat) for part in bounds] or list(
        attributes
    )
    starts, ends, axes, steps = (*given, None, None)[:4]
    if starts is None or ends is None:
        raise Undecided
    index = [slice(None)] * x.ndim
    for i, (start, stop) in enumerate(zip(starts, ends, strict=True)):
        axis = axes[i] if axes else i
        index[axis] = slice(start, stop, steps[i] if steps else None)
    return x[tuple(index)]


@folds("ReduceProd", "ReduceSum")
def _reduce(node: Node, x: Array, axes: Array | None = None) -> Array:
    given = node.get("axes") if axes is None else tuple(_numbers(axes).flat)
    function = np.prod if node.kind == "ReduceProd" else np.sum
    return np.asarray(function(x, axis=given, keepdims=bool(node.get("keepdims", 1))), dtype=object)


@folds("And", "Or")
def _logic(node: Node, x: Array, y: Array) -> Array:
    left, right = _numbers(x).astype(bool), _numbers(y).astype(bool)
    function = np.logical_and if node.kind == "And" else np.logical_or
    return np.asarray(function(left, right))


def _numbers(array: Array) -> Array:
    if any(isinstance(element, Dim) for element in array.flat):
        raise Undecided
    return array.astype(np.int64)
