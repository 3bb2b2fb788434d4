"""Canonicalize: from the ops that frameworks export to those in which people talk about models."""

from __future__ import annotations

from hetc.ir.graph import Graph
from hetc.passes.manager import run_passes
from hetc.passes.registry import load_pipeline


def canonicalize(graph: Graph) -> Graph:
    """Lift norms, activations, rotary embeddings, attention and mixtures of experts out of `graph`.

    What no pattern lifts stays as it is and still runs. Raises InternalError where a pass fails.
    """
    result = run_passes(load_pipeline("canonicalize"), graph)
    assert isinstance(result, Graph)
    return result
