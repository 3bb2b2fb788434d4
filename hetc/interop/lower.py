"""From a captured graph to the function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from hetc.errors import BackendError, HetcError, Reason
from hetc.frontends.torch_export import (
    Size,
    import_part,
    makes_tensors,
    reasons_against,
)
from hetc.interop.assemble import apart, assemble
from hetc.interop.captured import Captured
from hetc.interop.layout import axes_in_memory
from hetc.interop.onnx_runner import OnnxRunner
from hetc.interop.recorder import GraphRecord, RegionRecord
from hetc.interop.reference_runner import ReferenceRunner
from hetc.interop.region_call import RegionCall
from hetc.interop.regions import Region, cut_regions, has_effects, is_random, writes_back
from hetc.interop.runner import Executor
from hetc.interop.step import compile_step
from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.source import Weight
from hetc.passes.canonicalize import canonicalize

if TYPE_CHECKING:
    from torch.fx import Node

Compiled = Callable[..., Any]
WholeGraphCompiler = Callable[
    [Captured, Callable[[], Compiled], Callable[[Reason], None]], "Compiled | Reason"
]
# Tried in order before regions are cut: each takes a graph as a whole, or says why it does not.
EXECUTORS: Mapping[str, Callable[[], Executor]] = {
    "onnx": OnnxRunner,
    "reference": ReferenceRunner,
}
WHOLE_GRAPH_COMPILERS: dict[str, WholeGraphCompiler] = {"native": compile_step}


def lower(captured: Captured, record: GraphRecord) -> Compiled:
    """A function of the graph's arguments, in order; `record` is told what was decided.

    Raises HetcError under `strict` where something would run eagerly.
    """
    nodes = captured.module.graph.nodes
    record.ops = sum(node.op == "call_function" and makes_tensors(node) for node in nodes)
    otherwise = cache(lambda: _by_regions(captured, record))
    for name, compile_whole in WHOLE_GRAPH_COMPILERS.items():
        made = compile_whole(captured, otherwise, record.refuse)
        if not isinstance(made, Reason):
            record.compiled_whole = name
            return made
        record.refuse(made)
    return otherwise()


def _by_regions(captured: Captured, record: GraphRecord) -> Compiled:
    module, strict = captured.module, captured.options.strict
    executor = EXECUTORS[captured.options.executor]()
    refused = _refused(captured, executor)
    while True:
        order = cut_regions(module, refused)
        calls: dict[int, tuple[RegionCall, Sequence[Node]]] = {}
        again = False
        for region in order:
            if not isinstance(region, Region):
                continue
            made = _region(captured, region, order, executor, record)
            if isinstance(made, Reason):
                # Without it, other nodes may stand together.
                refused.update(dict.fromkeys(region.nodes, made))
                again = True
                break
            calls[region.number] = made
        if not again:
            break
    eager = {node: why for node, why in refused.items() if not writes_back(node)}
    for node, reason in eager.items():
        record.fall_back(str(node.target), reason)
    if eager and strict:
        raise _not_whole(next(iter(eager.values())), len(eager))
    record.regions += [
        RegionRecord(
            call.name,
            call.ops,
            executor.name,
            "",
            {},
            0.0,
            call,
        )
        for call, _ in calls.values()
    ]
    return assemble(module, order, calls)


def _refused(captured: Captured, executor: Executor) -> dict[Node, Reason]:
    module = captured.module
    refused, _ = reasons_against(module, captured.parameters, executor.why_not)
    for node in module.graph.nodes:
        if is_random(node):
            text = f"{node.target} draws from PyTorch's generator"
            refused[node] = Reason("HETC-I241", text, at=node.name)
        elif has_effects(node) and makes_tensors(node):
            text = f"{node.target} writes in place"
            refused[node] = Reason("HETC-I242", text, at=node.name)
    return refused


def _region(
    captured: Captured,
    region: Region,
    order: Sequence[Node | Region],
    executor: Executor,
    record: GraphRecord,
) -> tuple[RegionCall, Sequence[Node]] | Reason:
    name = f"region_{region.number}"
    axes = [axes_in_memory(node.meta["val"]) for node in region.outputs]
    outputs = list(zip(region.outputs, axes, strict=True))
    part = import_part(captured.module, region.nodes, outputs, captured.parameters, name)
    if isinstance(part, Reason):
        return part
    try:
        graph = canonicalize(part.graph)
        ops = len(graph.ops)
        bound, weights = _weights_as_inputs(graph, part.weights)
        run = executor.prepare(bound)
    except HetcError as error:
        return Reason(error.code, f"{error.what}: {error.found}", at=name)
    inside = set(region.nodes)
    given = list(
        dict.fromkeys(
            item for n in region.nodes for item in n.all_input_nodes if item not in inside
        )
    )
    sources: list[Node] = []
    for item in (*part.inputs, *weights):
        source = _size_node(item, order, region) if isinstance(item, Size) else item
        if source is None:
            return Reason("HETC-I243", f"nothing gives the size {item}", at=name)
        sources.append(source)
    given = list(dict.fromkeys([*given, *sources]))
    eager = apart(captured.module, region, given)
    takes = [given.index(source) for source in sources]

    def tell(reason: Reason) -> None:
        for node in region.nodes:
            record.fall_back(str(node.target), reason)

    strict = captured.options.strict
    return RegionCall(name, ops, run, eager, takes, axes, strict, tell), given


def _weights_as_inputs(graph: Graph, nodes: Mapping[str, Node]) -> tuple[Graph, list[Node]]:
    """`graph` with an input more for each of its weights, and what those inputs stand for.

    So whoever runs it reads the parameters where they are, whatever was written there.
    """
    made: dict[str, Value] = {}

    def rewrite(op: Op) -> tuple[Value, ...] | None:
        if not isinstance(op, Weight):
            return None
        return (made.setdefault(op.name, Value(op.type, name=f"weight.{op.name}")),)

    inner = rebuild(graph, rewrite)
    whole = Graph(
        inner.name, (*inner.inputs, *made.values()), inner.ops, inner.outputs, inner.output_names
    )
    return whole, [nodes[name] for name in made]


def _size_node(size: Size, order: Sequence[Node | Region], region: Region) -> Node | None:
    """A node before `region` that makes the number `size`."""
    for item in order:
        if item is region:
            return None
        if isinstance(item, Region):
            continue
        val: Any = item.meta.get("val")
        if type(val).__name__ == "SymInt" and val.node.expr == size.expr:
            return item
    return None


def _not_whole(reason: Reason, count: int) -> BackendError:
    return BackendError(
        "HETC-E018",
        "not all of the captured graph can be compiled",
        at=reason.at,
        found=f"{reason.code} {reason.text}" + (f" ({count} nodes in all)" if count > 1 else ""),
        do="leave out strict, and PyTorch runs what hetc does not",
    )
