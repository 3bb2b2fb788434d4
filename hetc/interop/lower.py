"""From a captured graph to the function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from hetc.errors import BackendError, Reason
from hetc.frontends.torch_export import makes_tensors, reasons_against
from hetc.interop.assemble import assemble
from hetc.interop.captured import Captured
from hetc.interop.decompose import decompose
from hetc.interop.lower_region import Lowered, lower_region
from hetc.interop.marks import Machines, mark_graph
from hetc.interop.mistakes import MISTAKES, mistake
from hetc.interop.onnx_runner import OnnxRunner
from hetc.interop.phase import phase_of
from hetc.interop.recorder import GraphRecord, RegionRecord
from hetc.interop.reference_runner import ReferenceRunner
from hetc.interop.regions import Region, cut_regions, has_effects, is_random, writes_back
from hetc.interop.runner import Executor, WholeGraph
from hetc.interop.step import compile_step
from hetc.targets import load, load_link

if TYPE_CHECKING:
    from torch.fx import Node

Compiled = Callable[..., Any]
WholeGraphCompiler = Callable[
    [Captured, Callable[[], Compiled], Callable[[Reason], None]], WholeGraph | Reason
]
EXECUTORS: Mapping[str, Callable[[], Executor]] = {
    "native": OnnxRunner,
    "onnx": OnnxRunner,
    "reference": ReferenceRunner,
}
# Tried before regions are cut: takes a graph as a whole, or says why it does not.
WHOLE_GRAPH_COMPILERS: Mapping[str, WholeGraphCompiler] = {"native": compile_step}
# Ops that no table knows, and ops that may write, such as normalisation over a batch: PyTorch may
# have other words for both.
_UNKNOWN = ("HETC-I210", "HETC-I242")


def lower(captured: Captured, record: GraphRecord) -> Compiled:
    """A function of the graph's arguments, in order; `record` is told what was decided.

    Raises HetcError under `strict` where something would run eagerly.
    """
    nodes = captured.module.graph.nodes
    record.ops = sum(node.op == "call_function" and makes_tensors(node) for node in nodes)
    record.phase = phase_of(captured.module)
    options = captured.options
    machines = Machines(
        {"prefill": load(options.prefill), "decode": load(options.decode)}, load_link(options.link)
    )
    otherwise = cache(lambda: _by_regions(captured, record, machines))
    name = options.executor
    if compile_whole := WHOLE_GRAPH_COMPILERS.get(name):
        try:
            made = compile_whole(captured, otherwise, record.refuse)
        except MISTAKES as error:
            made = mistake(error)
        if not isinstance(made, Reason):
            marks = mark_graph(made.graph, record.phase, made.sizes, machines)
            record.whole = RegionRecord(made.graph.name, made.call, name, marks)
            return made.call
        record.refuse(made)
    return otherwise()


def _by_regions(captured: Captured, record: GraphRecord, machines: Machines) -> Compiled:
    executor = EXECUTORS[captured.options.executor]()
    captured, refused = _known(captured, executor)
    made = _lowered(captured, refused, executor, record)
    while isinstance(made, Reason):
        made = _lowered(captured, refused, executor, record)
    order, regions = made
    eager = {node: why for node, why in refused.items() if not writes_back(node)}
    for node, reason in eager.items():
        record.fall_back(str(node.target), reason)
    if eager and captured.options.strict:
        raise _not_whole(next(iter(eager.values())), len(eager))
    for lowered in regions.values():
        marks = mark_graph(lowered.graph, record.phase, lowered.sizes, machines)
        record.regions.append(RegionRecord(lowered.call.name, lowered.call, executor.name, marks))
    calls = {number: (lowered.call, lowered.given) for number, lowered in regions.items()}
    return assemble(captured.module, order, calls)


def _lowered(
    captured: Captured, refused: dict[Node, Reason], executor: Executor, record: GraphRecord
) -> tuple[list[Node | Region], dict[int, Lowered]] | Reason:
    """The cut graph and its regions by number; or why one of them cannot be lowered, and then its
    nodes are `refused`: without them, others may stand together."""
    order = cut_regions(captured.module, refused)
    made: dict[int, Lowered] = {}
    for region in order:
        if isinstance(region, Region):
            try:
                lowered = lower_region(captured, region, order, executor, record)
            except MISTAKES as error:
                lowered = mistake(error)
            if isinstance(lowered, Reason):
                refused.update(dict.fromkeys(region.nodes, lowered))
                return lowered
            made[region.number] = lowered
    return order, made


def _known(captured: Captured, executor: Executor) -> tuple[Captured, dict[Node, Reason]]:
    """The graph in terms of ops that hetc knows, as far as PyTorch can express it so; and why it
    must run the other nodes itself.

    A decomposition is taken where fewer nodes are refused after it: some only lead to PyTorch's
    primitives.
    """
    refused = _refused(captured, executor)
    tried: set[Any] = set()
    while True:
        unknown = [node.target for node, why in refused.items() if why.code in _UNKNOWN]
        target = next((target for target in unknown if target not in tried), None)
        if target is None:
            return captured, refused
        tried.add(target)
        module = decompose(captured.module, captured.examples, [target])
        if module is not captured.module:
            other = captured.with_module(module)
            left = _refused(other, executor)
            if len(left) < len(refused):
                captured, refused = other, left


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


def _not_whole(reason: Reason, count: int) -> BackendError:
    return BackendError(
        "HETC-E018",
        "not all of the captured graph can be compiled",
        at=reason.at,
        found=f"{reason.code} {reason.text}" + (f" ({count} nodes in all)" if count > 1 else ""),
        do="leave out strict, and PyTorch runs what hetc does not",
    )
