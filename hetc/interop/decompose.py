"""Expresses ops that hetc does not know by others, with PyTorch's own decompositions."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hetc.frontends.torch_export import decomposable

if TYPE_CHECKING:
    from torch.fx import GraphModule


def decompose(module: GraphModule, examples: Sequence[Any], targets: Iterable[Any]) -> GraphModule:
    """`module` traced again on its fake arguments with the decompositions of `targets`; itself
    where PyTorch knows none of them."""
    import torch
    from torch._decomp import get_decompositions
    from torch._dispatch.python import enable_python_dispatcher
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.traceback import preserve_node_meta

    known = decomposable(target for target in targets if not _is_inexact(target))
    if not known:
        return module
    with preserve_node_meta(), enable_python_dispatcher(), torch.no_grad():
        table: dict[Any, Any] = dict(get_decompositions(list(known)))
        run = torch.fx.Interpreter(module).run
        traced: GraphModule = make_fx(run, table, tracing_mode="real")(*examples)
    for before, after in zip(
        module.graph.find_nodes(op="placeholder"),
        traced.graph.find_nodes(op="placeholder"),
        strict=True,
    ):
        after.meta = {**before.meta, "val": after.meta.get("val", before.meta.get("val"))}
    # Tracing takes every result of an op apart, also those that nobody reads.
    for node in reversed(traced.graph.nodes):
        if node.target is operator.getitem and not node.users:
            traced.graph.erase_node(node)
    return traced


def _is_inexact(target: Any) -> bool:
    """Whether the decomposition rounds otherwise than the op: that of interpolated bytes does."""
    return "upsample" in str(target)
