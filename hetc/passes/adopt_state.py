"""Adopt state: a decoder that already carries its cache keeps it; the pass recognises and names it.

The source graph is decode: tokens[B,T] and pasts with P rows in, logits and presents with P+T rows
out. Prefill is the same graph on an empty past.
"""

from __future__ import annotations

from collections.abc import Sequence

from hetc.errors import StateError
from hetc.ir.dims import DimLike, symbol
from hetc.ir.graph import Graph, GraphBuilder, Program, StateSpec, rebuild
from hetc.ir.interpret import WeightLookup
from hetc.ir.model import CarriedState
from hetc.ir.op import Op, Value
from hetc.ir.ops.shape import Slice
from hetc.ir.ops.source import Full
from hetc.ir.types import I64, TensorType
from hetc.passes.fold_uniform import fold_uniform
from hetc.passes.prove_causal import prove_causal
from hetc.passes.simplify import simplify
from hetc.passes.state_analysis import analyse

P, S, T = symbol("P"), symbol("S"), symbol("T")


def adopt_state(
    graph: Graph, carried: Sequence[CarriedState], weights: WeightLookup, max_context: int
) -> Program:
    """The program of `graph`, whose inputs `past` and outputs `present` are listed in `carried`.

    Raises StateError: HETC-S030 for a cache that does not grow by the new tokens along one axis,
    and what prove_causal and synthesize_state raise.
    """
    outputs = dict(zip(graph.output_names, graph.outputs, strict=True))
    inputs = {value.name: value for value in graph.inputs}
    specs = tuple(
        _spec(index, inputs[item.past], outputs[item.present]) for index, item in enumerate(carried)
    )
    logits = next(
        value for name, value in outputs.items() if name not in {c.present for c in carried}
    )
    presents = [outputs[item.present] for item in carried]
    decode = _decode(graph, logits, presents, [inputs[item.past] for item in carried], specs)
    empty = _on_empty_past(graph, logits, presents, [item.past for item in carried])
    empty = simplify(fold_uniform(simplify(empty), weights, max_context))
    proof = prove_causal(empty, weights, max_context)
    forward = Graph(graph.name, empty.inputs, proof.graph.ops, proof.graph.outputs[:1], ("logits",))
    # The rest of the model must be causal as well; decode is the source's own graph.
    analyse(forward.prune(), weights, max_context)
    facts = (
        *proof.facts,
        "the cache is the source model's own",
        f"sequences of up to {max_context} tokens",
    )
    prefill = _last_row(proof.graph, specs)
    return Program(graph.name, forward.prune(), prefill, decode, specs, max_context, facts)


def _spec(index: int, past: Value, present: Value) -> StateSpec:
    grown = [
        axis
        for axis, (before, after) in enumerate(zip(past.shape, present.shape, strict=False))
        if before == P and after == P + T
    ]
    if len(grown) != 1 or past.rank != present.rank:
        raise StateError(
            "HETC-S030",
            "the cache that the model carries does not grow by its new tokens along one axis",
            at=past.name,
            expected="a past with P rows and a present with P+T",
            found=f"{past.type} and {present.type}",
        )
    part = "key" if index % 2 == 0 else "value"
    return StateSpec(
        f"layer{index // 2}.{part}", "kv", past.type, grown[0], None, index // 2, past.name
    )


def _decode(
    graph: Graph,
    logits: Value,
    presents: list[Value],
    pasts: list[Value],
    specs: tuple[StateSpec, ...],
) -> Graph:
    builder = GraphBuilder("decode")
    tokens = next(value for value in graph.inputs if value not in pasts)
    new = {tokens: builder.input("tokens", tokens.type)}
    builder.input("past", TensorType(I64, ()))
    for past, spec in zip(pasts, specs, strict=True):
        new[past] = builder.input(spec.name, past.type)
    inputs = tuple(new.get(value, value) for value in graph.inputs)
    renamed = rebuild(graph, lambda op: None, name="decode", inputs=inputs)
    placed = dict(zip(graph.outputs, renamed.outputs, strict=True))
    names = ("logits", *(f"{spec.name}.out" for spec in specs))
    results = tuple(placed[value] for value in (logits, *presents))
    return Graph("decode", tuple(builder.inputs), renamed.ops, results, names).prune()


def _on_empty_past(graph: Graph, logits: Value, presents: list[Value], pasts: list[str]) -> Graph:
    """The graph with P = 0 and T = S, whose only input is the tokens."""
    sizes: dict[str, DimLike] = {"P": 0, "T": S}
    builder = GraphBuilder(graph.name)
    made: dict[Value, Value] = {}
    for value in graph.inputs:
        type = value.type.substitute(sizes)
        if value.name in pasts:
            made[value] = builder.add(Full(0, type.shape, type.dtype, loc=value.name))
        else:
            made[value] = builder.input("tokens", type)
    for op in graph.ops:
        placed = _sized(op, made, sizes)
        builder.add(placed)
        made.update(zip(op.results, placed.results, strict=True))
    return builder.finish(made[value] for value in (logits, *presents)).prune()


def _sized(op: Op, made: dict[Value, Value], sizes: dict[str, DimLike]) -> Op:
    changes = op.map_dims(sizes)
    changes |= op.operand_changes(lambda value: made.get(value, value))
    return op.replace(**changes) if changes else op


def _last_row(graph: Graph, specs: tuple[StateSpec, ...]) -> Graph:
    logits, *presents = graph.outputs
    row = Slice(logits, 1, S - 1, S, loc=logits.op.loc if logits.op else "")
    names = ("logits", *(f"{spec.name}.out" for spec in specs))
    return Graph("prefill", graph.inputs, (*graph.ops, row), (row.result, *presents), names)
