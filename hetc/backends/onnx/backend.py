"""The onnx backend as the driver sees it."""

from __future__ import annotations

from collections.abc import Mapping

from hetc.backends.base import reasons
from hetc.backends.onnx.emit import emit_onnx, supports
from hetc.errors import Reason
from hetc.ir.graph import Graph
from hetc.ir.op import Op

MODEL_FILE = "model.onnx"


class OnnxBackend:
    """Writes a half as `model.onnx`; the runtime's executor of the same name runs it."""

    name = "onnx"

    def supports(self, op: Op) -> Reason | None:
        """Why `op` cannot be emitted (HETC-E010, E011, E012), None where it can."""
        return supports(op)

    def validate(self, graph: Graph) -> list[Reason]:
        """Every reason why `graph` cannot be emitted."""
        return reasons(graph, supports)

    def emit(self, graph: Graph) -> Mapping[str, bytes]:
        """`model.onnx` without the weights' data; raises BackendError as `emit_onnx` does."""
        return {MODEL_FILE: emit_onnx(graph)}
