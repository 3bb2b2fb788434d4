"""The reference interpreter: runs a graph with the NumPy semantics of its ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hetc.errors import IRError
from hetc.ir.dims import Dim, DimLike, capped_rows, evaluate, symbols_of
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Call
from hetc.ir.ops.index import NonZero
from hetc.ir.ops.source import Weight
from hetc.ir.types import Array, TensorType

WeightLookup = Callable[[str], Array]


def no_weights(name: str) -> Array:
    """The lookup of a graph that has no weights."""
    raise IRError(
        "HETC-X020", f"no data for the weight {name}", do="give the interpreter a weight lookup"
    )


def interpret(
    graph: Graph,
    inputs: Sequence[Array],
    weights: WeightLookup = no_weights,
    bindings: Mapping[str, int] | None = None,
) -> tuple[Array, ...]:
    """Run `graph` on `inputs` and return its outputs.

    The symbols are bound from the shapes of the inputs; `bindings` adds those that no input shows.
    Raises IRError: HETC-X021 where an input does not fit its type, X022 where a weight does not,
    X023 where an op cannot take the values that it got. An array is dropped after its last use.
    """
    bound = bind_symbols(graph.inputs, inputs, dict(bindings or {}))
    return _run(graph, tuple(inputs), weights, bound)


def bind_symbols(
    values: Sequence[Value], arrays: Sequence[Array], bound: dict[str, int]
) -> dict[str, int]:
    """Symbol -> number, from the shapes of `arrays`; raises IRError (HETC-X021) on a mismatch.

    A dim that is one symbol gives it its number; any other dim must come out at the size found. The
    scalar input `past` of a decode graph is P itself.
    """
    if len(values) != len(arrays):
        raise IRError(
            "HETC-X021", "wrong number of inputs", expected=len(values), found=len(arrays)
        )
    compound: list[tuple[Value, Array, DimLike, int]] = []
    for value, array in zip(values, arrays, strict=True):
        if len(value.shape) != array.ndim or value.dtype.numpy != array.dtype:
            raise _misfit(value, array, bound)
        for dim, size in zip(value.shape, array.shape, strict=True):
            name = str(dim) if isinstance(dim, Dim) and dim.is_symbol else ""
            if name and bound.setdefault(name, size) != size:
                raise _misfit(value, array, bound)
            if not name or capped_rows(name) is not None:
                compound.append((value, array, dim, size))
        if value.name == "past" and array.ndim == 0 and bound.setdefault("P", int(array)) != array:
            raise _misfit(value, array, bound)
    # Rows of a window follow from P, where P is known.
    sizes = {
        name: size for name, size in bound.items() if capped_rows(name) is None or "P" not in bound
    }
    for value, array, dim, size in compound:
        known = all(name in sizes or capped_rows(name) for name in symbols_of(dim))
        if known and evaluate(dim, sizes) != size:
            raise _misfit(value, array, bound)
    return bound


def _misfit(value: Value, array: Array, bound: Mapping[str, int]) -> IRError:
    sizes = ", ".join(f"{name}={size}" for name, size in bound.items())
    return IRError(
        "HETC-X021",
        f"the input {value.name} does not fit",
        expected=f"{value.type} ({sizes})" if sizes else value.type,
        found=f"{array.dtype}{list(array.shape)}",
    )


def _run(
    graph: Graph, inputs: tuple[Array, ...], weights: WeightLookup, bound: dict[str, int]
) -> tuple[Array, ...]:
    arrays: dict[Value, Array] = dict(zip(graph.inputs, inputs, strict=True))
    dead = dead_after(graph)
    for op in graph.ops:
        operands = tuple([arrays[value] for value in op.operands])
        if isinstance(op, Call):
            results = _run(op.callee, operands, weights, bound)
        else:
            results = evaluate_op(op, operands, weights, bound)
        if isinstance(op, NonZero):
            bind_count(op, results[0], bound)
        arrays.update(zip(op.results, results, strict=True))
        for value in dead.get(op, ()):
            del arrays[value]
    return tuple(arrays[value] for value in graph.outputs)


def bind_count(op: NonZero, places: Array, bound: dict[str, int]) -> None:
    """The size that the data of `op` decided; raises IRError (HETC-X025) where it had another."""
    if bound.setdefault(op.count, len(places)) != len(places):
        raise IRError(
            "HETC-X025",
            f"the size {op.count} is counted twice, with two results",
            at=op.loc,
            expected=bound[op.count],
            found=len(places),
            do="give every nonzero a size of its own",
        )


def dead_after(graph: Graph) -> dict[Op, list[Value]]:
    """Op -> the operands that nothing needs after it."""
    last_use = {value: op for op in graph.ops for value in op.operands}
    kept = set(graph.outputs)
    dead: dict[Op, list[Value]] = {}
    for value, op in last_use.items():
        if value not in kept:
            dead.setdefault(op, []).append(value)
    return dead


def evaluate_op(
    op: Op, operands: tuple[Array, ...], weights: WeightLookup, bound: Mapping[str, int]
) -> tuple[Array, ...]:
    """The results of one op that is no call; raises IRError (HETC-X022, HETC-X023)."""
    if isinstance(op, Weight):
        return (_checked_weight(op.name, op.type, weights(op.name)),)
    try:
        result = op.at(bound).semantics(*operands)
    except (ArithmeticError, IndexError, ValueError) as error:
        shapes = ", ".join(f"{array.dtype}{list(array.shape)}" for array in operands)
        problem = f"{op.kind} cannot be computed: {error}"
        raise IRError("HETC-X023", problem, at=op.loc, found=shapes) from error
    return result if isinstance(result, tuple) else (result,)


def _checked_weight(name: str, type: TensorType, data: Array) -> Array:
    if data.shape != type.shape or data.dtype != type.dtype.numpy:
        raise IRError(
            "HETC-X022",
            f"the weight {name} does not fit",
            expected=type,
            found=f"{data.dtype}{list(data.shape)}",
        )
    return data
