"""Instances of moves, views, and reads and writes by index."""

from __future__ import annotations

from typing import Any

import numpy as np

from hetc.ir.types import BF16, BOOL, F32, I8, I16, I32, I64, U8
from tests.backends.cases import B, Draw, S, case

ANY = (F32, BF16, I64, I32, I16, I8, U8, BOOL)


@case("reshape")
def reshape(draw: Draw, op: Any) -> Any:
    source, target = draw.pick(
        ((B, S, 12), (B, S, 3, 4)),
        ((B, S, 3, 4), (B, S, 12)),
        ((B, S, 4), (B * S, 4)),
        ((B * S, 4), (B, S, 4)),
        ((B, 2, 3, S), (B, 6 * S)),
        ((S,), (1, S, 1)),
        ((B, S), (S, B)),
        ((S, 1), (S,)),
        ((2, 6), (3, 4)),
        ((1,), ()),
        ((B, 0, S), (0, S)),
    )
    return op(draw.x(source, draw.pick(*ANY)), target)


@case("transpose")
def transpose(draw: Draw, op: Any) -> Any:
    x = draw.x(draw.shape(), draw.pick(*ANY))
    return op(x, tuple(int(axis) for axis in draw.rng.permutation(x.rank)))


@case("broadcast")
def broadcast(draw: Draw, op: Any) -> Any:
    source, target = draw.pick(
        ((S, 4), (B, S, 4)),
        ((B, 1, S), (B, 3, S)),
        ((), (B, S)),
        ((1,), (S,)),
        ((B, S), (B, S)),
        ((2, 1), (5, 2, 3)),
    )
    return op(draw.x(source, draw.pick(*ANY)), target)


@case("slice")
def slice_(draw: Draw, op: Any) -> Any:
    x = draw.x((B, S, 7), draw.pick(*ANY))
    bounds = draw.pick((1, 0, S), (1, S - 1, S), (-2, S - 1, None), (2, 2, 5, 2), (-1, 0, None, 3))
    return op(x, *bounds)


@case("concat")
def concat(draw: Draw, op: Any) -> Any:
    dtype = draw.pick(*ANY)
    parts = tuple(draw.x((B, dim, 4), dtype) for dim in (S, 2, 1)[: draw.upto(1, 3)])
    return op(parts, draw.pick(1, -2))


@case("split")
def split(draw: Draw, op: Any) -> Any:
    x = draw.x((B, S, 7), draw.pick(*ANY))
    axis, sizes = draw.pick((2, (3, 4)), (-1, (1, 1, 5)), (1, (1, S - 1)), (1, (S,)))
    return op(x, axis, sizes)


@case("pad")
def pad(draw: Draw, op: Any) -> Any:
    x = draw.x((B, S, 4), draw.pick(*ANY))
    low, high = draw.pick(((0, 2, 0), (1, 0, 0)), ((0, 0, -1), (0, S, 2)), ((0, 0, 0), (0, 0, -2)))
    return op(x, low, high, True if x.dtype is BOOL else 1)


@case("flip")
def flip(draw: Draw, op: Any) -> Any:
    return op(draw.x((B, S, 4), draw.pick(*ANY)), draw.pick((0,), (1, 2), (-1,), ()))


@case("tile")
def tile(draw: Draw, op: Any) -> Any:
    return op(draw.x((B, S, 2), draw.pick(*ANY)), draw.pick((1, 2, 3), (1, 1, S), (2, 1, 1)))


@case("embedding")
def embedding(draw: Draw, op: Any) -> Any:
    return op(draw.x((7, 4), draw.pick(F32, BF16)), draw.ids(draw.pick((B, S), (S,)), 7))


@case("gather")
def gather(draw: Draw, op: Any) -> Any:
    x = draw.x((5, S, 5), draw.pick(*ANY))
    ids = draw.ids(draw.pick((B, S), (3,), ()), 5, negative=True)
    return op(x, ids, draw.pick(0, 2, -1))


@case("take_along", "put_along")
def along(draw: Draw, op: Any) -> Any:
    dtype = draw.pick(*ANY)
    x = draw.x((B, S, 6), dtype)
    if op.kind == "take_along":
        return op(x, draw.ids((B, S, draw.upto(1, 6)), 6, negative=True), draw.pick(2, -1))
    # Distinct places: of writes to one place the order is nobody's promise.
    order = np.argsort(draw.rng.random(draw.numbers((B, S, 6))), axis=-1)[..., :3]
    ids = draw.data(order, (B, S, 3), I64)
    return op(x, ids, draw.x(draw.pick((B, S, 3), (1, 1, 3)), dtype), 2)


@case("nonzero")
def nonzero(draw: Draw, op: Any) -> Any:
    return op(draw.x(draw.shape(), draw.pick(F32, BF16, I64, I16, U8, BOOL), -1, 1), "U0")


@case("put_along")
def reduced(draw: Draw, op: Any) -> Any:
    dtype = draw.pick(F32, BF16, I64, I32, I16, I8, U8)
    x, ids = draw.x((B, S, 6), dtype), draw.ids((B, S, draw.upto(1, 6)), 6, negative=True)
    updates = draw.x(draw.pick(ids.shape, (1, 1, 1)), dtype)
    return op(x, ids, updates, 2, draw.pick("add", "mul", "max", "min"))


@case("index", "index_put")
def index(draw: Draw, op: Any) -> Any:
    adding = draw.pick(True, False)
    dtype = draw.pick(F32, BF16, I64, I32) if adding else draw.pick(*ANY)
    x = draw.x((4, S, 3, B), dtype)
    axes = draw.pick((0,), (2,), (0, 2), (2,))
    shapes = draw.pick(((2,), (2,)), ((B, 2), (2,)), ((), (2,)), ((S, 1), (1, 2)))
    sizes = {0: 4, 2: 3}
    if op.kind == "index":
        ids = tuple(
            draw.ids(shape, sizes[axis], negative=True)
            for axis, shape in zip(axes, shapes, strict=False)
        )
        return op(x, ids, axes)
    if adding:
        ids = tuple(draw.ids(shapes[0], sizes[axis]) for axis in axes)
    else:
        ids = tuple(draw.data(np.array([0, 2]), (2,), I64) for _ in axes)
    updates = draw.x(draw.pick((), (1,), (B,)), dtype)
    if axes == (2,):
        updates = draw.x(draw.pick((), (1,), (B,)), dtype)
    return op(x, updates, ids, axes, adding)


@case("topk", "sort")
def order(draw: Draw, op: Any) -> Any:
    # Few distinct numbers: ties matter.
    x = draw.x((B, S, 6), draw.pick(F32, BF16, I64, I32, I8), -2, 2)
    draw.arrays[0] = np.round(draw.arrays[0].astype(np.float32)).astype(x.dtype.numpy)
    if op.kind == "sort":
        return op(x, draw.pick(2, 1), draw.pick(True, False))
    return op(x, draw.upto(1, 6), draw.pick(2, -1), draw.pick(True, False))
