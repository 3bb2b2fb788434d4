"""Models that come as a configuration and weights: Hugging Face directories and GGUF files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hetc.frontends import sources
from hetc.frontends.no_phases import ASKED
from hetc.frontends.repeat_layers import Depth, repeat_layers
from hetc.frontends.torch_export import ImportedGraph, import_exported, import_whole
from hetc.ir.graph import Graph
from hetc.ir.model import Model, Tokenizer, WeightData
from hetc.ir.ops.source import Weight
from hetc.ir.types import DTYPES


def open_directory(path: Path, *, whole: bool = False) -> Model:
    """The model of a Hugging Face directory; without weight files it is a plan without weights.

    It has no phases where its class generates no tokens, or `whole` asks for it.
    """
    return _model(sources.open_hf_directory(path, whole=whole))


def open_gguf(path: Path, *, whole: bool = False) -> Model:
    """The model of a GGUF file; quantized tensors are dequantized when they are read."""
    source = sources.open_gguf(path)
    return _model(replace(source, no_phases=ASKED) if whole else source)


def _model(source: sources.ModelSource) -> Model:
    has_phases = source.no_phases is None
    imported, how = _graph(source) if has_phases else _whole(source)
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
        max_context=longest or 2**31 if has_phases else 0,
        stored=DTYPES[source.stored] if source.stored is not None else None,
        layers=getattr(source.config.get_text_config(), "num_hidden_layers", 0),
        tokenizer=Tokenizer(tokenizer.tokenizer_json, tokenizer.config) if tokenizer else None,
        opaque=imported.opaque,
        notes=(*source.notes, *imported.notes, *how),
        no_phases=source.no_phases,
        sizes={} if has_phases else imported.sizes,
    )


def _whole(source: sources.ModelSource) -> tuple[ImportedGraph, tuple[str, ...]]:
    return import_whole(sources.export_whole(source.config), source=source.name), ()


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
