"""Decode steps of language models on the native engine.

A graph that takes one token a sequence, and caches that it appends to, is a decode half: see
`hetc.passes.adopt_step`. It is made when the graph is first called, with the weights that it is
called with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from hetc.backends.native.backend import NativePlan
from hetc.bundle.native import LAYOUT_FILE, half_file
from hetc.errors import HetcError, Reason, StateError
from hetc.frontends.torch_export import Part, Size, import_part
from hetc.frontends.torch_export.dtypes import to_numpy
from hetc.frontends.torch_export.symbols import NotAPolynomial, Symbols
from hetc.interop.apart import Apart
from hetc.interop.captured import Captured
from hetc.interop.lower_region import tolerance_of
from hetc.interop.regions import Region, writes_back
from hetc.interop.runner import WholeGraph
from hetc.interop.step_call import MadeStep, StepCall
from hetc.interop.step_experts import experts_by_row
from hetc.interop.step_roles import StepRoles, find_roles
from hetc.interop.watched import Watched
from hetc.ir.dims import DimLike
from hetc.ir.graph import Graph
from hetc.ir.ops.elementwise import Cast
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.shape import Reshape
from hetc.ir.text import print_graph
from hetc.ir.types import Array
from hetc.passes.adopt_step import StepInputs, adopt_step
from hetc.passes.canonicalize import canonicalize
from hetc.passes.outline_layers import outline_layers
from hetc.passes.simplify import simplify
from hetc.passes.step_positions import by_position
from hetc.runtime.native.memory import aligned_bytes
from hetc.runtime.native.step import MadeFiles, NativeStep

if TYPE_CHECKING:
    import torch
    from torch.fx import Node

Compiled = Callable[..., Any]
# Graphs that Dynamo captured anew for another length are the same step with the same weights, whose
# identities are in the key: a step keeps its weights, so that no other tensor can take one.
_MADE: WeakValueDictionary[tuple[object, ...], MadeStep] = WeakValueDictionary()


def compile_step(
    captured: Captured, otherwise: Callable[[], Compiled], tell: Callable[[Reason], None]
) -> WholeGraph | Reason:
    """A function that runs the captured step natively; or why the graph is no step.

    Where a call does not fit what the step was made for, it runs what `otherwise` gives, and `tell`
    hears why.
    """
    roles = find_roles(captured)
    if isinstance(roles, Reason):
        return roles
    # What PyTorch computes is asked of the graph as it was captured.
    eager = _eager(captured, roles)
    by_row = experts_by_row(captured)
    if isinstance(by_row, Reason):
        return by_row
    if by_row is not captured:
        captured, found = by_row, find_roles(by_row)
        if isinstance(found, Reason):
            return found
        roles = found
    part = _imported(captured, roles)
    if isinstance(part, Reason):
        return part
    if len(part.inputs) != len(part.graph.inputs) or any(
        isinstance(item, Size) and item.symbol != "P" for item in part.inputs
    ):
        return Reason("HETC-E053", "the step hangs on sizes that are no cache's")
    names = _inputs(roles)
    try:
        placed = by_position(part.graph, names.counters, names.masks)
        graph = canonicalize(placed)
    except HetcError as error:
        return Reason(error.code, f"{error.what}: {error.found}", at=error.at)
    places = {
        node: index for index, node in enumerate(captured.module.graph.find_nodes(op="placeholder"))
    }
    numbers = _numbers(roles)
    if isinstance(numbers, Reason):
        return numbers
    constants = {
        node: getattr(captured.module, node.target)
        for node in captured.module.graph.find_nodes(op="get_attr")
    }
    make = partial(_made, graph, names, part.weights, places, constants)
    tolerance = tolerance_of(graph)
    call = StepCall(roles, places, make, eager, numbers, tolerance, _counted(), otherwise, tell)
    return WholeGraph(call, graph, part.sizes)


def _inputs(roles: StepRoles) -> StepInputs:
    """The roles by the names that inputs of the imported graph have."""
    return StepInputs(
        roles.tokens.name,
        tuple(cache.node.name for cache in roles.caches),
        tuple(node.name for node in roles.counters),
        tuple(node.name for node in roles.masks),
        {
            cache.node.name: cache.keeps
            for cache in roles.caches
            if cache.form == "grown" and cache.keeps is not None
        },
    )


def _eager(captured: Captured, roles: StepRoles) -> Apart:
    """The results of the captured graph by PyTorch, from its inputs."""
    whole = Region(0, tuple(_functional(captured)), roles.results)
    return Apart(captured.module, whole, captured.module.graph.find_nodes(op="placeholder"))


def _numbers(roles: StepRoles) -> dict[Node, DimLike] | Reason:
    """The sizes that are returned, as the position decides them."""
    symbols = Symbols({})
    for expr, meant in roles.sizes.items():
        if isinstance(meant, int):
            symbols.fix(expr, meant)
        else:
            symbols.name(expr, str(meant))
    found: dict[Node, DimLike] = {}
    for node in roles.returned:
        val = getattr(node, "meta", {}).get("val")
        if type(val).__name__ == "SymInt" or type(val) is int:
            try:
                found[node] = symbols.dim(val)  # type: ignore[index]
            except NotAPolynomial as error:
                return Reason("HETC-E053", f"the step returns a number of which is known: {error}")
        elif not (node is None or type(node) is int or hasattr(val, "dtype")):
            return Reason("HETC-E053", f"the graph returns {val}, which is no tensor and no size")
    return found


def _counted() -> frozenset[int]:
    """The places of inputs into which AOTAutograd counts a write before it calls the graph."""
    from torch._guards import TracingContext

    context = TracingContext.try_get()
    metadata: Any = None if context is None else context.fw_metadata
    found = getattr(metadata, "mutated_graph_handled_indices_seen_by_autograd", ())
    return frozenset(found)


def _imported(captured: Captured, roles: StepRoles) -> Part | Reason:
    if any(node.op == "placeholder" for node in roles.results):
        return Reason("HETC-E053", "the graph returns one of its inputs")
    outputs = [(node, tuple(range(node.meta["val"].ndim))) for node in roles.results]
    nodes = [node for node in _functional(captured) if node.op == "call_function"]
    return import_part(captured.module, nodes, outputs, roles.weights, "step", roles.sizes)


def _functional(captured: Captured) -> list[Node]:
    return [
        node
        for node in captured.module.graph.nodes
        if node.op in ("call_function", "get_attr") and not writes_back(node)
    ]


def _made(
    graph: Graph,
    names: StepInputs,
    weights: Mapping[str, Node],
    places: dict[Node, int],
    constants: Mapping[Node, torch.Tensor],
    given: tuple[Any, ...],
    capacity: int,
) -> MadeStep | Reason:
    """The step for positions below `capacity`, with the weights of this call."""
    tensors: dict[str, torch.Tensor] = {
        name: constants[node] if node in constants else given[places[node]]
        for name, node in weights.items()
    }

    def weight(name: str) -> Array:
        return to_numpy(tensors[name])

    try:
        step = adopt_step(graph, names, weight, capacity)
    except StateError as error:
        return Reason(error.code, f"{error.what}: {error.found}", at=error.at)

    def lookup(name: str) -> Array:
        table = step.tables.get(name)
        return weight(name) if table is None else table

    key = (
        print_graph(step.decode),
        *(table.tobytes() for table in step.tables.values()),
        *((name, id(tensor), tensor._version) for name, tensor in tensors.items()),
    )
    known, given_weights = _MADE.get(key), list(tensors.values())
    if known is not None and known.weights is not None and known.weights.is_still(given_weights):
        return replace(known, outputs=step.outputs)
    plan = NativePlan(outline_layers(simplify(step.decode)), step.capacity, lookup)
    if plan.reasons:
        return plan.reasons[0]
    packed = aligned_bytes(plan.packed_bytes)
    filled = 0
    for piece in plan.packed(lookup):
        packed[filled : filled + piece.nbytes] = np.frombuffer(piece, np.uint8)
        filled += piece.nbytes
    vocabulary = step.decode.outputs[0].shape[-1]
    assert isinstance(vocabulary, int), "what weights multiply has a known size"
    native = NativeStep(MadeFiles(partial(_text, plan), packed), vocabulary)
    made = MadeStep(
        native,
        step.capacity,
        _vocabulary(step.decode),
        plan.layout().states,
        step.outputs,
        Watched.of(given_weights),
    )
    _MADE[key] = made
    return made


def _vocabulary(decode: Graph) -> int:
    """How many tokens there are: no more than rows in the tables from which they pick."""
    tokens = {decode.inputs[0]}
    rows = []
    for op in decode.ops:
        if isinstance(op, Cast | Reshape) and op.x in tokens:
            tokens.add(op.result)
        elif isinstance(op, Embedding) and op.ids in tokens:
            rows.append(op.table.shape[0])
    rows.append(decode.outputs[0].shape[-1])
    return min(size for size in rows if isinstance(size, int))


def _text(plan: NativePlan, file: str) -> bytes:
    """What a bundle of this plan would hold under the name `file`."""
    if file == LAYOUT_FILE:
        return plan.layout().to_bytes()
    isa = next(isa for isa in plan.variants if half_file("decode", isa.name) == file)
    return plan.text("decode", isa).encode()
