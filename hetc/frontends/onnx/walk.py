"""The walk over a model's nodes: each by the table, by its function body, or kept as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hetc.errors import HetcError, InputError, IRError, Reason
from hetc.frontends.onnx import (  # noqa: F401  (importing a table fills it)
    table_attention,
    table_bits,
    table_einsum,
    table_elementwise,
    table_index,
    table_integer,
    table_nn,
    table_quantized,
    table_recurrent,
    table_reduce,
    table_resize,
    table_runtime,
    table_runtime_attention,
    table_sample,
    table_shape,
    table_signal,
    table_source,
    table_window,
)
from hetc.frontends.onnx.context import TABLE, Bound, Context, Unsupported
from hetc.frontends.onnx.control import control
from hetc.frontends.onnx.functions import function_body
from hetc.frontends.onnx.inlined_size import require_inlinable
from hetc.frontends.onnx.item import Item, SequenceItem
from hetc.frontends.onnx.known import fold
from hetc.frontends.onnx.nodes import Node, read_node
from hetc.frontends.onnx.opaque import keep_opaque
from hetc.frontends.onnx.table_source import initializer
from hetc.ir.graph import Graph
from hetc.ir.model import WeightData
from hetc.ir.ops.source import Weight

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

# What a malformed attribute or input makes a table function raise.
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError)


def without_functions(model: ModelProto) -> ModelProto:
    """`model` with the functions that it defines itself put in place of their calls."""
    if not model.functions:
        return model
    require_inlinable(model)
    from onnx import inliner

    inlined: ModelProto = inliner.inline_local_functions(model)
    return inlined


def import_graph(ctx: Context, model: ModelProto, folder: Path | None) -> dict[str, Bound]:
    """Import the weights and nodes of a model whose inputs `ctx` has; return its outputs by name.

    `folder` holds external data; None where there is none to hold.
    """
    versions = {_domain(item.domain): item.version for item in model.opset_import}
    ctx.declared = {info.name: info for info in (*model.graph.value_info, *model.graph.output)}
    for tensor in model.graph.initializer:
        ctx.env[tensor.name] = initializer(ctx, tensor, folder)
    import_nodes(ctx, model.graph.node, versions)
    return {item.name: _existing(ctx, item.name) for item in model.graph.output}


def built(
    ctx: Context, outputs: Mapping[str, Item]
) -> tuple[Graph, dict[str, WeightData], tuple[Reason, ...]]:
    """The graph that makes `outputs`, its weights, and why any of its ops is opaque."""
    values = [item.value for item in outputs.values()]
    for value in values:
        # An output that nothing reads may be a constant or a weight that no op has placed yet.
        if value.op is not None:
            ctx.builder.add(value.op)
    graph = ctx.builder.finish(values, tuple(outputs)).prune()
    used = [op.name for op in graph.ops if isinstance(op, Weight)]
    weights = {name: ctx.weights[name].data for name in dict.fromkeys(used)}
    kept = {op.loc for op in graph.ops if op.kind == "opaque"}
    return graph, weights, tuple(reason for reason in ctx.opaque if reason.at in kept)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def import_nodes(ctx: Context, protos: Iterable[NodeProto], versions: dict[str, int]) -> None:
    """Import nodes in order, reading and adding names in `ctx.env`; `versions` maps a domain to its
    operator set's version.
    """
    for proto in protos:
        node = read_node(proto, versions)
        ctx.loc = _located(ctx, node)
        try:
            results = _import_node(ctx, node, versions)
        except HetcError as error:
            if isinstance(error, IRError):
                raise _bad_node(
                    node, error.what if not error.found else f"{error.what}; {error.found}"
                ) from error
            raise
        except _MALFORMED as error:
            raise _bad_node(node, f"{type(error).__name__}: {error}") from error
        if len(results) < len(node.outputs):
            raise _bad_node(
                node, f"{len(node.outputs)} outputs where the operator has {len(results)}"
            )
        ctx.env.update(
            (name, item) for name, item in zip(node.outputs, results, strict=False) if name
        )


def _located(ctx: Context, node: Node) -> str:
    # The exporter's rewrites leave nodes without a scope; they belong where their input comes from.
    if not node.loc.startswith("node_"):
        return node.loc
    sources = (ctx.env.get(name) for name in node.inputs)
    return next((item.loc for item in sources if isinstance(item, Item) and item.loc), node.loc)


def _import_node(ctx: Context, node: Node, versions: dict[str, int]) -> tuple[Bound, ...]:
    given = [ctx.lookup(name, node.title) for name in node.inputs]
    if node.kind in ("If", "Loop", "Scan"):
        return _import_control(ctx, node, given, versions)
    handler = TABLE.get(node.kind)
    if not any(isinstance(item, SequenceItem) for item in given):
        folded = fold(node, [item for item in given if not isinstance(item, SequenceItem)])
        if folded is not None:
            return (folded,)
    if handler is None:
        return _without_table(ctx, node, given, versions, "no table of hetc has it")
    try:
        result = handler(ctx, node, *given)
    except Unsupported as reason:
        return _without_table(ctx, node, given, versions, str(reason))
    return result if type(result) is tuple else (result,)  # type: ignore[return-value]


def _without_table(
    ctx: Context, node: Node, given: list[Bound | None], versions: dict[str, int], why: str
) -> tuple[Bound, ...]:
    """A node by its function body, where ONNX has one that can be imported; else as it is."""
    items = {n: item for n, item in zip(node.inputs, given, strict=True) if isinstance(item, Item)}
    plain = not any(isinstance(item, SequenceItem) for item in given)
    body = function_body(node, items, versions) if plain else None
    if body is None:
        return keep_opaque(ctx, node, versions, why)
    outside, loc, reasons = ctx.env, ctx.loc, len(ctx.opaque)
    # The names inside are the function's own: they must not hide those of the graph.
    ctx.env = dict(items)
    try:
        import_nodes(ctx, *body)
        made = [ctx.env[name] for name in node.outputs if name]
        # An output that the node leaves out keeps its place.
        return tuple(ctx.env.get(name, made[0]) for name in node.outputs)
    except InputError:
        del ctx.opaque[reasons:]
    finally:
        ctx.env, ctx.loc = outside, loc
    return keep_opaque(ctx, node, versions, why)


def _import_control(
    ctx: Context, node: Node, given: list[Bound | None], versions: dict[str, int]
) -> tuple[Bound, ...]:
    outside, loc, reasons = ctx.env, ctx.loc, len(ctx.opaque)
    weights: dict[int, dict[str, Bound]] = {}

    def run(graph: GraphProto, values: Mapping[str, Bound]) -> tuple[Bound, ...]:
        if id(graph) not in weights:
            weights[id(graph)] = {
                tensor.name: initializer(ctx, tensor, None) for tensor in graph.initializer
            }
        # A subgraph reads the names around it; its own stay inside.
        ctx.env = {**outside, **weights[id(graph)], **values}
        import_nodes(ctx, graph.node, versions)
        return tuple(_existing(ctx, item.name) for item in graph.output)

    try:
        return control(ctx, node, given, run)
    except Unsupported as reason:
        why = str(reason)
    finally:
        ctx.env, ctx.loc = outside, loc
    del ctx.opaque[reasons:]
    return keep_opaque(ctx, node, versions, why)


def _existing(ctx: Context, name: str) -> Bound:
    found = ctx.lookup(name, f"output {name}")
    if found is None:
        raise InputError("HETC-I306", "an output of the graph has no name")
    return found


def _bad_node(node: Node, found: str) -> InputError:
    return InputError(
        "HETC-I306",
        "a node of the ONNX model cannot be imported",
        at=node.title,
        found=found[:300],
        do="check the model with onnx.checker; report it if ONNX Runtime runs it",
    )
