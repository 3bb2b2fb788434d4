"""Regions in the reference interpreter: slow, and right by definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hetc.backends.reference import ReferenceBackend
from hetc.errors import Reason
from hetc.frontends.torch_export.dtypes import to_numpy, to_torch
from hetc.interop.runner import Run
from hetc.ir.graph import Graph
from hetc.ir.interpret import interpret
from hetc.ir.op import Op

if TYPE_CHECKING:
    import torch


class ReferenceRunner:
    """The NumPy semantics of every op."""

    name = "reference"

    def why_not(self, op: Op) -> Reason | None:
        """As the backend reference says."""
        return ReferenceBackend().supports(op)

    def prepare(self, graph: Graph) -> Run:
        """A closure over the graph; calls raise IRError where an op cannot take its values."""

        def run(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
            arrays = interpret(graph, [to_numpy(tensor) for tensor in tensors])
            return tuple(
                to_torch(array, value.dtype)
                for array, value in zip(arrays, graph.outputs, strict=True)
            )

        return run
