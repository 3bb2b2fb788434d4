"""Models that come as a configuration and weights: Hugging Face directories and GGUF files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hetc.frontends import sources
from hetc.frontends.repeat_layers import Depth, repeat_layers
from hetc.frontends.torch_export import ImportedGraph, import_exported
from hetc.ir.graph import Graph
from hetc.ir.model import Model, Tokenizer, WeightData
from hetc.ir.ops.source import Weight
from hetc.ir.types import DTYPES


def open_directory(path: Path) -> Model:
    """The model of a Hugging Face directory; without weight files it is a plan without weights."""
    return _model(sources.open_hf_directory(path))


def open_gguf(path: Path) -> Model:
    """The model of a GGUF file; quantized tensors are dequantized when they are read."""
    return _model(sources.open_gguf(path))


def _model(source: sources.ModelSource) -> Model:
    imported, how = _graph(source)
    weights: dict[str, WeightData] | None = None
    if source.weights is not None:
        named = source.weights
        weights = {
            op.name: _data(named[op.name]) if op.name in named else imported.weights[op.name]
            for op in imported.graph.ops
            if isinstance(op, Weight)
        }
    positions = sources.max_positions(source.config)
    longest = imported.max_sequence or positions
    if longest and positions and longest < positions - 1:
        how = (*how, f"the context ends at {longest} tokens, the configuration's at {positions}")
    tokenizer = source.tokenizer
    return Model(
        name=source.name,
        family=source.family,
        graph=imported.graph,
        weights=weights,
        dtype=DTYPES[source.dtype],
        max_context=longest or 2**31,
        stored=DTYPES[source.stored] if source.stored is not None else None,
        layers=source.config.get_text_config().num_hidden_layers,
        tokenizer=Tokenizer(tokenizer.tokenizer_json, tokenizer.config) if tokenizer else None,
        opaque=imported.opaque,
        notes=(*source.notes, *imported.notes, *how),
    )


def _data(tensor: sources.LazyTensor) -> WeightData:
    return WeightData(tensor.shape, DTYPES[tensor.dtype], tensor.load, tensor.groups)


def _graph(source: sources.ModelSource) -> tuple[ImportedGraph, tuple[str, ...]]:
    """The graph of all layers, and what the user should know of how it was made."""
    depth = sources.plan_depth(source.config)
    how: tuple[str, ...] = ()
    if depth is not None and depth.export_layers < depth.total:
        program = sources.export_program(source.config, layers=depth.export_layers)
        imported = import_exported(program, source=source.name)
        plan = Depth(depth.layers, depth.export_layers, depth.period, depth.total)
        repeated = repeat_layers(imported.graph, plan)
        if repeated is not None and _has_data(repeated, source, imported):
            return replace(imported, graph=repeated), how
        why = "two exported periods differ" if repeated is None else "layers hold data of their own"
        how = (f"all {depth.total} layers were exported: {why}",)
    return import_exported(sources.export_program(source.config), source=source.name), how


def _has_data(graph: Graph, source: sources.ModelSource, imported: ImportedGraph) -> bool:
    """Whether every weight is in the checkpoint, or among the tables that came with the export:
    those of layers that were not exported did not."""
    known = source.weights
    return known is None or all(
        op.name in known or op.name in imported.weights
        for op in graph.ops
        if isinstance(op, Weight)
    )
