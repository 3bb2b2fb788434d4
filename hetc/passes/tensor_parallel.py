"""Which products end in an all-reduce when the devices of a machine split the model."""

from __future__ import annotations

from collections.abc import Mapping

from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.passes.origins import Origin

_PRODUCTS = frozenset({"linear", "expert_linear"})
# The residual stream and a router's choice are needed whole by every device.
_WHOLE = frozenset({"rms_norm", "layer_norm", "embedding", "topk", "sort", "argmax"})


def reduced(graph: Graph, origin: Mapping[Value, Origin]) -> set[Op]:
    """The products whose results are summed over the devices of a tensor-parallel machine.

    A product of whole rows splits its outputs, and needs nothing; a product of split rows splits
    its inputs, and its partial sums are reduced (Shoeybi et al. 2019, section 3). Heads and the
    inner axis of an MLP are split, so that a decoder layer reduces twice.
    """
    split: set[Value] = set()
    found: set[Op] = set()
    for op in graph.ops:
        is_product = op.kind in _PRODUCTS or (
            op.kind == "matmul" and origin[op.operands[1]].place == "weight"
        )
        if is_product:
            if op.operands[0] in split:
                found.add(op)
            else:
                split.update(op.results)
        elif op.kind not in _WHOLE and any(value in split for value in op.operands):
            split.update(op.results)
    return found
