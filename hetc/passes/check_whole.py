"""The compile-time check of a model without phases: the graph that is written, against the one that
was imported, on made-up inputs.

It runs in f32 whatever the type of the weights: it checks the passes, not the rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hetc.errors import CheckFailed
from hetc.ir.dims import evaluate, substitute
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup, interpret
from hetc.ir.op import Value
from hetc.ir.ops.elementwise import Cast
from hetc.ir.ops.index import Embedding, Gather
from hetc.ir.ops.shape import View
from hetc.ir.ops.source import Weight
from hetc.ir.types import F32, Array
from hetc.passes.inline import inline_calls
from hetc.passes.retype import float_dtype, retype
from hetc.passes.room_to_run import require_room
from hetc.passes.whole_weights import whole_weights

# Of the scale of an output: two orders of the same f32 arithmetic.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class CheckedWhole:
    """The inputs that were run, the outputs that they gave (floats as f32), by name, and the
    largest difference from the graph as it was imported, absolute."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    max_abs_error: float


def check_whole(
    imported: Graph, graph: Graph, weights: WeightLookup, sizes: Mapping[str, int]
) -> CheckedWhole:
    """Run `graph` and `imported` on equal inputs of `sizes`, and compare every output.

    `weights` looks up the weights of both, in any float type.
    Raises CheckFailed: HETC-V005 where they differ, HETC-V006 where they need too much memory.
    """
    for both in (imported, graph):
        require_room(inline_calls(both), sizes)
    given = example_inputs(graph, sizes)
    wanted = _run(imported, given, weights)
    found = _run(graph, given, weights)
    names = graph.output_names
    worst = 0.0
    for name, a, b in zip(names, found, wanted, strict=True):
        error, scale = _difference(a, b)
        if not error <= TOLERANCE * scale:
            raise CheckFailed(
                "HETC-V005",
                "the compiled graph does not compute what the model computes",
                at=name,
                expected=f"at most {TOLERANCE * scale:.1e} between both",
                found=f"{error:.1e}",
                do="report this model: it is a bug in hetc",
            )
        worst = max(worst, error)
    inputs = dict(zip((value.name for value in graph.inputs), given, strict=True))
    return CheckedWhole(inputs, dict(zip(names, found, strict=True)), worst)


def example_inputs(graph: Graph, sizes: Mapping[str, int]) -> tuple[Array, ...]:
    """Inputs that `graph` can take: normal floats; integers below the rows of every table that they
    index, and ones where they index none, which is a mask that hides nothing; true."""
    random = np.random.default_rng(0)
    rows = _indexed_rows(inline_calls(graph), sizes)
    found = []
    for value in graph.inputs:
        shape = [evaluate(dim, sizes) for dim in value.shape]
        dtype = value.dtype
        array: Array
        if dtype.is_float:
            array = random.standard_normal(shape)
        elif value in rows:
            array = random.integers(0, rows[value], shape)
        else:
            array = np.ones(shape)
        found.append(array.astype(dtype.numpy))
    return tuple(found)


def _indexed_rows(graph: Graph, sizes: Mapping[str, int]) -> dict[Value, int]:
    """The fewest rows that an input, as it is or under another shape, is used to index."""
    source: dict[Value, Value] = {value: value for value in graph.inputs}
    rows: dict[Value, int] = {}
    for op in graph.ops:
        if isinstance(op, View | Cast) and op.operands and op.operands[0] in source:
            source.update(dict.fromkeys(op.results, source[op.operands[0]]))
        if isinstance(op, Embedding | Gather) and op.ids in source:
            axis = 0 if isinstance(op, Embedding) else op.axis
            dim = (op.table if isinstance(op, Embedding) else op.x).shape[axis]
            count = substitute(dim, sizes)
            if isinstance(count, int) and count > 0:
                key = source[op.ids]
                rows[key] = min(count, rows.get(key, count))
    return rows


def _run(graph: Graph, inputs: tuple[Array, ...], weights: WeightLookup) -> tuple[Array, ...]:
    """The outputs of `graph` with f32 in place of its narrower float type."""
    graph, whole = whole_weights(retype(inline_calls(graph), float_dtype(graph), F32), weights)
    types = {op.name: op.type.dtype.numpy for op in graph.ops if isinstance(op, Weight)}
    given = tuple(
        array.astype(value.dtype.numpy, copy=False)
        for value, array in zip(graph.inputs, inputs, strict=True)
    )
    found = interpret(graph, given, lambda name: whole(name).astype(types[name], copy=False))
    return tuple(
        array.astype(np.float32) if value.dtype.is_float and value.dtype.bits < 32 else array
        for value, array in zip(graph.outputs, found, strict=True)
    )


def _difference(a: Array, b: Array) -> tuple[float, float]:
    """The largest difference of two outputs, and the scale that it is measured by; infinite where
    they are of different shapes, or where one alone is not finite."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return np.inf, 1.0
    if not a.size:
        return 0.0, 1.0
    if a.dtype == np.bool_:
        return float(np.any(a != b)), 1.0
    wide = np.complex128 if np.iscomplexobj(a) else np.float64
    x, y = a.astype(wide), b.astype(wide)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    finite = np.isfinite(x) & np.isfinite(y)
    if not bool(np.all(same | finite)):
        return np.inf, 1.0
    error = np.max(np.abs(np.where(same, 0, x - y)))
    return float(error), max(1.0, float(np.max(np.abs(np.where(finite, y, 0)))))
