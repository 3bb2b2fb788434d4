"""Einsum: operands joined two at a time, each pair by one matrix product."""

from __future__ import annotations

import string

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_shape import reshaped
from hetc.ir.dims import DimLike, product
from hetc.ir.ops.index import Index
from hetc.ir.ops.linear import MatMul
from hetc.ir.ops.reduce import Sum
from hetc.ir.ops.shape import Transpose
from hetc.ir.ops.source import Iota


@onnx_op("Einsum")
def einsum(ctx: Context, node: Node, *xs: Item) -> Item:
    terms, result = _labels(node.get("equation"), [x.rank for x in xs])
    operands = [_diagonal(ctx, x, term) for x, term in zip(xs, terms, strict=True)]
    joined, labels = operands[0]
    for i, (other, theirs) in enumerate(operands[1:], 1):
        later = set(result).union(*(rest for _, rest in operands[i + 1 :]))
        joined, labels = _joined(ctx, joined, labels, other, theirs, later)
    gone = tuple(axis for axis, label in enumerate(labels) if label not in result)
    if gone:
        joined = ctx.emit(Sum, joined, gone)
        labels = "".join(label for label in labels if label in result)
    return _ordered(ctx, joined, labels, result)


def _labels(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """A letter for each axis of the operands and of the result; axes under `...` get capitals that
    the equation leaves free.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    given = left.split(",")
    hidden = [rank - len(t.replace("...", "")) for t, rank in zip(given, ranks, strict=True)]
    if any(count < 0 or (count and "..." not in t) for t, count in zip(given, hidden, strict=True)):
        raise ValueError(f"{equation} for operands of {ranks} axes")
    free = [letter for letter in string.ascii_uppercase if letter not in equation]
    most = free[: max([0, *hidden])]
    terms = [
        t.replace("...", "".join(most[len(most) - count :]))
        for t, count in zip(given, hidden, strict=True)
    ]
    if arrow:
        return terms, right.replace("...", "".join(most))
    once = sorted(c for c in set(left) - set(",.") if left.count(c) == 1)
    return terms, "".join([*most, *once])


def _diagonal(ctx: Context, x: Item, labels: str) -> tuple[Item, str]:
    """`x` with one axis for each label: equal labels name a diagonal."""
    for label in dict.fromkeys(labels):
        axes = tuple(axis for axis, name in enumerate(labels) if name == label)
        if len(axes) > 1:
            ids = ctx.emit(Iota, x.shape[axes[0]])
            adjacent = axes[-1] - axes[0] == len(axes) - 1
            x = ctx.emit(Index, x, (ids,) * len(axes), axes)
            rest = labels.replace(label, "")
            place = axes[0] if adjacent else 0
            labels = rest[:place] + label + rest[place:]
    return x, labels


def _joined(
    ctx: Context, x: Item, ours: str, y: Item, theirs: str, later: set[str]
) -> tuple[Item, str]:
    """The product of two operands, summed over the labels that only they have."""
    sizes: dict[str, DimLike] = dict(zip(ours, x.shape, strict=True))
    for label, size in zip(theirs, y.shape, strict=True):
        if sizes.setdefault(label, size) != size:
            raise Unsupported("operands that broadcast along a label")
    batch = [label for label in ours if label in theirs and label in later]
    inner = [label for label in ours if label in theirs and label not in later]
    left = [label for label in ours if label not in theirs]
    right = [label for label in theirs if label not in ours]
    shape = tuple(sizes[label] for label in batch)
    rows, width, columns = (
        product(sizes[label] for label in part) for part in (left, inner, right)
    )
    a = reshaped(ctx, _ordered(ctx, x, ours, [*batch, *left, *inner]), (*shape, rows, width))
    b = reshaped(ctx, _ordered(ctx, y, theirs, [*batch, *inner, *right]), (*shape, width, columns))
    made = ctx.emit(MatMul, a, b)
    labels = "".join([*batch, *left, *right])
    return reshaped(ctx, made, tuple(sizes[label] for label in labels)), labels


def _ordered(ctx: Context, x: Item, labels: str, wanted: str | list[str]) -> Item:
    perm = tuple(labels.index(label) for label in wanted)
    return x if perm == tuple(range(x.rank)) else ctx.emit(Transpose, x, perm)
