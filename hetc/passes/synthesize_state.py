"""Synthesize state: derive `prefill` and `decode` from a stateless causal `forward`."""

from __future__ import annotations

from hetc.ir.graph import Graph, Program
from hetc.ir.interpret import WeightLookup
from hetc.passes.derive_halves import derive_decode, derive_prefill
from hetc.passes.state_analysis import analyse, state_specs


def synthesize_state(
    graph: Graph, weights: WeightLookup, max_context: int, facts: tuple[str, ...] = ()
) -> Program:
    """The program of the causal `graph` (tokens i64[B,S] -> logits [B,S,V]); prove_causal ran
    before.

    Raises StateError (HETC-S014, HETC-S017, HETC-S018) naming the op where tokens are mixed in a
    way that has no state.
    """
    analysis = analyse(graph, weights, max_context)
    prefill = derive_prefill(analysis)
    decode = derive_decode(analysis)
    specs = tuple(state_specs(analysis))
    return Program(graph.name, graph, prefill, decode, specs, max_context, facts)
