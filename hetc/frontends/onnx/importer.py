"""From a checked ONNX model to a graph: bind the inputs, import the nodes, name what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hetc.errors import HetcError, InputError, IRError, Reason
from hetc.frontends.onnx import (  # noqa: F401  (importing a table fills it)
    table_attention,
    table_elementwise,
    table_index,
    table_nn,
    table_quantized,
    table_reduce,
    table_shape,
    table_source,
)
from hetc.frontends.onnx.context import TABLE, Bound, Context, Unsupported
from hetc.frontends.onnx.functions import function_body
from hetc.frontends.onnx.item import Item, SequenceItem
from hetc.frontends.onnx.known import fold
from hetc.frontends.onnx.nodes import Node, read_node
from hetc.frontends.onnx.opaque import keep_opaque
from hetc.frontends.onnx.signature import Signature, bind, pair_past, read_signature
from hetc.frontends.onnx.table_source import stored
from hetc.frontends.onnx.tensors import weight_data
from hetc.ir.graph import Graph
from hetc.ir.model import WeightData
from hetc.ir.ops.source import Weight

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

# What a malformed attribute or input makes a table function raise.
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError)


@dataclass(frozen=True)
class ImportedOnnx:
    """An ONNX decoder as a graph.

    `kind` is `stateless` (`tokens i64[B,S]` -> `logits [B,S,V]`) or `with_past`: inputs `tokens
    i64[B,T]` and every past tensor (rows `P`), outputs `logits` and every present tensor, which
    `pasts` pairs by name. `weights` holds the data of the graph's weight ops, read when asked for.
    `max_sequence` is how many tokens a sequence may have because of a table or mask of fixed size;
    None where nothing bounds it. `opaque` has one reason for each operator that only the reference
    executor runs.
    """

    graph: Graph
    weights: Mapping[str, WeightData]
    kind: str
    pasts: tuple[tuple[str, str], ...]
    max_sequence: int | None
    opaque: tuple[Reason, ...]
    notes: tuple[str, ...]


def import_onnx(model: ModelProto, path: str | Path) -> ImportedOnnx:
    """The graph of an ONNX decoder that `load_onnx` read from `path`, whose folder holds the
    external data.

    Raises InputError: HETC-I306 (a malformed node), HETC-I307 and HETC-I308 (inputs that are no
    decoder's), HETC-I309 (outputs), HETC-I311 (an unknown operator without types), HETC-I312 (a
    shape that depends on data), HETC-I313 (an element type), HETC-I314 (a name that nothing makes).
    """
    if model.functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    versions = {_domain(item.domain): item.version for item in model.opset_import}
    signature = read_signature(model.graph)
    ctx = Context("forward")
    bind(ctx, signature)
    declared = (*model.graph.value_info, *model.graph.output)
    ctx.declared = {info.name: info for info in declared}
    folder = Path(path).parent
    for tensor in model.graph.initializer:
        ctx.env[tensor.name] = stored(ctx, tensor.name, weight_data(tensor, folder))
    import_nodes(ctx, model.graph.node, versions)
    return _finish(ctx, model.graph, signature)


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
    if node.kind == "If":
        branch = _decided_branch(node, given)
        if branch is not None:
            return _import_branch(ctx, branch, versions)
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
        import_nodes(ctx, body, versions)
        made = [ctx.env[name] for name in node.outputs if name]
        # An output that the node leaves out keeps its place.
        return tuple(ctx.env.get(name, made[0]) for name in node.outputs)
    except InputError:
        del ctx.opaque[reasons:]
    finally:
        ctx.env, ctx.loc = outside, loc
    return keep_opaque(ctx, node, versions, why)


def _decided_branch(node: Node, given: list[Bound | None]) -> GraphProto | None:
    condition = given[0]
    decided = condition.literal() if isinstance(condition, Item) else None
    if decided is None:
        return None
    branch: GraphProto = node.attributes["then_branch" if decided else "else_branch"]
    return branch


def _import_branch(ctx: Context, graph: GraphProto, versions: dict[str, int]) -> tuple[Bound, ...]:
    loc = ctx.loc
    for tensor in graph.initializer:
        ctx.env[tensor.name] = stored(ctx, tensor.name, weight_data(tensor, None))
    import_nodes(ctx, graph.node, versions)
    ctx.loc = loc
    return tuple(_existing(ctx, item.name) for item in graph.output)


def _existing(ctx: Context, name: str) -> Bound:
    found = ctx.lookup(name, f"output {name}")
    if found is None:
        raise InputError("HETC-I306", "an output of the graph has no name")
    return found


def _finish(ctx: Context, graph: GraphProto, signature: Signature) -> ImportedOnnx:
    outputs = {item.name: _existing(ctx, item.name) for item in graph.output}
    tensors = {name: item for name, item in outputs.items() if isinstance(item, Item)}
    logits = _logits(tensors)
    pasts: tuple[tuple[str, str], ...] = ()
    rest = [name for name in tensors if name != logits]
    if signature.past:
        present = tuple(
            name for name in rest if tensors[name].dtype.is_float and tensors[name].rank >= 3
        )
        pasts = pair_past(signature.past, _presents(present, len(signature.past)))
    names = (logits, *(output for _, output in pasts))
    dropped = [name for name in outputs if name not in names]
    if dropped:
        ctx.notes.append(f"outputs that are not logits are dropped: {', '.join(dropped)}")
    built = ctx.builder.finish([tensors[name].value for name in names], ("logits", *names[1:]))
    built = _placed(ctx, built).prune()
    used = [op.name for op in built.ops if isinstance(op, Weight)]
    weights = {name: ctx.weights[name].data for name in dict.fromkeys(used)}
    kept = {op.loc for op in built.ops if op.kind == "opaque"}
    opaque = tuple(reason for reason in ctx.opaque if reason.at in kept)
    kind = "with_past" if signature.past else "stateless"
    return ImportedOnnx(built, weights, kind, pasts, ctx.max_sequence, opaque, tuple(ctx.notes))


def _presents(names: tuple[str, ...], wanted: int) -> tuple[str, ...]:
    named = tuple(name for name in names if "present" in name or "past" in name)
    return named if len(named) == wanted else names


def _placed(ctx: Context, graph: Graph) -> Graph:
    # An output that nothing reads may be a constant or a weight that no op has placed yet.
    for value in graph.outputs:
        if value.op is not None:
            ctx.builder.add(value.op)
    return ctx.builder.finish(graph.outputs, graph.output_names)


def _logits(tensors: Mapping[str, Item]) -> str:
    floats = [name for name, item in tensors.items() if item.dtype.is_float and item.rank == 3]
    if "logits" in floats:
        return "logits"
    if not floats:
        listed = ", ".join(f"{name} {item.type}" for name, item in tensors.items())
        raise InputError(
            "HETC-I309",
            "the ONNX model has no output that holds logits",
            expected="a float output logits [batch, sequence, vocabulary]",
            found=listed or "no tensors",
            do="export the model with its language-model head",
        )
    return floats[0]


def _bad_node(node: Node, found: str) -> InputError:
    return InputError(
        "HETC-I306",
        "a node of the ONNX model cannot be imported",
        at=node.title,
        found=found[:300],
        do="check the model with onnx.checker; report it if ONNX Runtime runs it",
    )
