"""Positional values that are not computed position by position: evaluated long, sliced, and shown
to be prefix-closed."""

from __future__ import annotations

import numpy as np

from hetc.errors import StateError
from hetc.ir.dims import symbols_of
from hetc.ir.interpret import WeightLookup, interpret
from hetc.ir.op import Op, Value
from hetc.passes.index_only import cone
from hetc.passes.probe import FULL_LIMIT, constants_of
from hetc.passes.tokens import LENGTH, TokenAxis, refuse


def check_prefix_closed(
    value: Value, weights: WeightLookup, max_context: int, reader: Op
) -> TokenAxis:
    """The token axis of the index-only `value`, after checking that f(S)[..:s] == f(S')[..:s]
    around every constant in it.

    Raises StateError: HETC-S014 where it has no single token axis, HETC-S015 where it changes with
    the length.
    """
    axes = [axis for axis, dim in enumerate(value.shape) if "S" in symbols_of(dim)]
    if len(axes) != 1 or value.shape[axes[0]] != LENGTH:
        raise refuse(reader, f"a positional value of type {value.type} has no single token axis")
    (axis,) = axes
    graph = cone((value,))
    limit = min(max_context, FULL_LIMIT)
    sizes = {4, 7, 13, 40, limit} | {n + d for n in constants_of(graph) for d in (-1, 0, 1)}
    longest: np.ndarray | None = None
    for size in sorted((size for size in sizes if 1 <= size <= limit), reverse=True):
        (array,) = interpret(graph, (), weights, {"B": 1, "S": size})
        if longest is None:
            longest = array
        elif not np.array_equal(np.take(longest, np.arange(size), axis=axis), array):
            raise StateError(
                "HETC-S015",
                "decode cannot be derived: a positional value changes with the sequence length",
                at=value.op.loc if value.op else reader.loc,
                found=f"{value.type} has other values at length {size}",
                do="export the model for one length regime, or bound the context with --context",
            )
    return TokenAxis(axis)
