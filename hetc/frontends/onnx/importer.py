"""From a checked ONNX model to a graph: bind the inputs, import the nodes, name what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hetc.errors import InputError, Reason
from hetc.frontends.onnx.context import Bound, Context
from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.loader import load_onnx
from hetc.frontends.onnx.signature import Signature, bind, bind_all, pair_past, read_signature
from hetc.frontends.onnx.walk import built, import_graph, without_functions
from hetc.ir.dims import Dim, symbol
from hetc.ir.graph import Graph
from hetc.ir.model import SizeRange, WeightData
from hetc.ir.types import Array

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True)
class ImportedOnnx:
    """An ONNX decoder as a graph.

    `kind` is `stateless` (`tokens i64[B,S]` -> `logits [B,S,V]`) or `with_past`: inputs `tokens
    i64[B,T]` and every past tensor (rows `P`), outputs `logits` and every present tensor, which
    `pasts` pairs by name; or `whole`, with the model's own inputs and outputs. `weights` holds the
    data of the graph's weight ops, read when asked for. `max_sequence` is how many tokens a
    sequence may have because of a table or mask of fixed size; None where nothing bounds it.
    `opaque` has one reason for each operator that only the reference executor runs. `sizes` is the
    range of every symbol of the inputs of a whole graph.
    """

    graph: Graph
    weights: Mapping[str, WeightData]
    kind: str
    pasts: tuple[tuple[str, str], ...]
    max_sequence: int | None
    opaque: tuple[Reason, ...]
    notes: tuple[str, ...]
    sizes: Mapping[str, SizeRange] = field(default_factory=dict)


def import_onnx(model: ModelProto, path: str | Path) -> ImportedOnnx:
    """The graph of an ONNX decoder that `load_onnx` read from `path`, whose folder holds the
    external data.

    Raises InputError: HETC-I306 (a malformed node), HETC-I307 and HETC-I308 (inputs that are no
    decoder's), HETC-I309 (outputs), HETC-I311 (an unknown operator without types), HETC-I312 (a
    shape that depends on data), HETC-I313 (an element type), HETC-I314 (a name that nothing makes).
    """
    model = without_functions(model)
    signature = read_signature(model.graph)
    ctx = Context("forward")
    bind(ctx, signature)
    return _finish(ctx, import_graph(ctx, model, Path(path).parent), signature)


def import_whole(
    model: ModelProto | str | Path,
    *,
    name: str = "forward",
    source: str = "",
    known: Mapping[str, Array] | None = None,
) -> ImportedOnnx:
    """Import a model as the function that it is: every input stays an input under its own name,
    every output an output, in order.

    `model` is a path, or a message that `load_onnx` read from `source`, whose folder holds the
    external data. Sizes that differ from call to call are called N0, N1, ... as the inputs show
    them, and are at least 1. `known` gives values to inputs that decide shapes; these stay no
    inputs. Raises InputError as `import_onnx` does.
    """
    if isinstance(model, str | Path):
        source = source or str(model)
        model = load_onnx(model)
    model = without_functions(model)
    ctx = Context(name)
    bind_all(ctx, model.graph, known or {})
    outputs = import_graph(ctx, model, Path(source).parent if source else None)
    tensors = {key: item for key, item in outputs.items() if isinstance(item, Item)}
    if len(tensors) < len(outputs):
        raise InputError(
            "HETC-I309",
            "an output of the ONNX model is a sequence of tensors",
            at=source,
            found=", ".join(key for key in outputs if key not in tensors),
            do="make it one tensor, or several outputs",
        )
    ctx.notes.extend(f"{count} is at most {most}" for count, most in ctx.limits.items())
    graph, weights, opaque = built(ctx, tensors)
    sizes = _sizes(graph, ctx.limits)
    return ImportedOnnx(graph, weights, "whole", (), None, opaque, tuple(ctx.notes), sizes)


def _sizes(graph: Graph, limits: Mapping[Dim, int]) -> dict[str, SizeRange]:
    """The range of every symbol of the inputs, as far as a limit is one of a symbol alone."""
    dims = (dim for value in graph.inputs for dim in value.shape if isinstance(dim, Dim))
    names = sorted({name for dim in dims for name in dim.symbols})
    return {name: (1, limits.get(symbol(name))) for name in names}


def _finish(ctx: Context, outputs: Mapping[str, Bound], signature: Signature) -> ImportedOnnx:
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
    graph, weights, opaque = built(
        ctx, {"logits": tensors[logits], **{key: tensors[key] for key in names[1:]}}
    )
    kind = "with_past" if signature.past else "stateless"
    return ImportedOnnx(graph, weights, kind, pasts, ctx.max_sequence, opaque, tuple(ctx.notes))


def _presents(names: tuple[str, ...], wanted: int) -> tuple[str, ...]:
    named = tuple(name for name in names if "present" in name or "past" in name)
    return named if len(named) == wanted else names


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
