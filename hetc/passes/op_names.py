"""Names for ops: the module path in the model, made unique within a graph."""

from __future__ import annotations

from collections import Counter

from hetc.ir.graph import Graph
from hetc.ir.op import Op
from hetc.ir.ops.source import Source

# The op that a module of the model is there for: it has the module's name for itself.
OWNERS = frozenset({"linear", "expert_linear", "embedding", "rms_norm", "layer_norm"}) | {
    "conv1d_causal"
}


def op_names(graph: Graph) -> dict[Op, str]:
    """A unique name for every op of `graph` that is no source; the same graph gives the same names.

    The one linear, norm, embedding or convolution of a module is called what the module is called,
    `layers.3.mlp.down_proj`; every other op has its kind after it, `layers.3.self_attn/attention`,
    and from the second of a kind on a number, `layers.3.self_attn/reshape.2`.
    """
    ops = [op for op in graph.ops if not isinstance(op, Source)]
    owners = Counter(op.loc for op in ops if op.kind in OWNERS)
    seen: Counter[str] = Counter()
    names: dict[Op, str] = {}
    for op in ops:
        owns = op.kind in OWNERS and owners[op.loc] == 1
        name = op.loc if op.loc and owns else f"{op.loc}/{op.kind}" if op.loc else op.kind
        seen[name] += 1
        names[op] = name if seen[name] == 1 else f"{name}.{seen[name]}"
    return names
