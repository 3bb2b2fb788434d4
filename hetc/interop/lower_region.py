"""From a region's nodes to what runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hetc.errors import HetcError, Reason
from hetc.frontends.torch_export import Size, import_part
from hetc.interop.apart import Apart
from hetc.interop.captured import Captured
from hetc.interop.layout import axes_in_memory
from hetc.interop.recorder import GraphRecord
from hetc.interop.region_call import RegionCall
from hetc.interop.regions import Region
from hetc.interop.runner import Executor
from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.source import Weight
from hetc.ir.types import BF16, F16, F32, F64, DType
from hetc.passes.canonicalize import canonicalize

if TYPE_CHECKING:
    from torch.fx import Node

_TOLERANCE: Mapping[DType, float] = {F64: 1e-8, F32: 1e-3, F16: 2e-2, BF16: 5e-2}


@dataclass(frozen=True)
class Lowered:
    """A region ready to run: `call` is given what the nodes in `given` make.

    `graph` is what it runs, with the parameters as weights, and `sizes` the present values of its
    symbols.
    """

    call: RegionCall
    given: Sequence[Node]
    graph: Graph
    sizes: Mapping[str, int]


def lower_region(
    captured: Captured,
    region: Region,
    order: Sequence[Node | Region],
    executor: Executor,
    record: GraphRecord,
) -> Lowered | Reason:
    """`region` on `executor`, or why it cannot be run there; `order` is the cut that it is from."""
    name = f"region_{region.number}"
    axes = [axes_in_memory(node.meta["val"]) for node in region.outputs]
    outputs = list(zip(region.outputs, axes, strict=True))
    part = import_part(captured.module, region.nodes, outputs, captured.parameters, name)
    if isinstance(part, Reason):
        return part
    try:
        graph = canonicalize(part.graph)
        bound, weights = _weights_as_inputs(graph, part.weights)
        run = executor.prepare(bound)
    except HetcError as error:
        return Reason(error.code, f"{error.what}: {error.found}", at=name)
    sources: list[Node] = []
    for item in (*part.inputs, *weights):
        source = _size_node(item, order, region) if isinstance(item, Size) else item
        if source is None:
            return Reason("HETC-I243", f"nothing before it makes the size {item}", at=name)
        sources.append(source)
    inside = set(region.nodes)
    read = [item for node in region.nodes for item in node.all_input_nodes if item not in inside]
    given = list(dict.fromkeys([*read, *sources]))

    def tell(reason: Reason) -> None:
        for node in region.nodes:
            record.fall_back(str(node.target), reason)

    call = RegionCall(
        name,
        run,
        Apart(captured.module, region, given),
        [given.index(source) for source in sources],
        axes,
        tolerance_of(part.graph),
        captured.options.strict,
        tell,
    )
    return Lowered(call, given, graph, part.sizes)


def tolerance_of(graph: Graph) -> float:
    """How far results may be apart: the rounding of the coarsest type of the graph adds up."""
    values = [*graph.inputs, *(value for op in graph.ops for value in op.results)]
    return max((_TOLERANCE.get(value.dtype, 0.0) for value in values), default=0.0)


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
