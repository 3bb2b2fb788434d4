"""Runs a graph with ONNX Runtime and with the interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hetc.backends.onnx import emit_onnx
from hetc.backends.onnx.elements import computed
from hetc.ir.graph import Graph
from hetc.ir.interpret import no_weights
from hetc.ir.op import Value
from hetc.ir.types import Array


class OnnxRun:
    """A graph as one session with its weights inside."""

    def __init__(self, graph: Graph, weights: Mapping[str, Array] | None = None) -> None:
        import onnxruntime as ort

        settings = ort.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = 3
        lookup = weights.__getitem__ if weights else no_weights
        model = emit_onnx(graph, lookup)
        self._session = ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        self._inputs = graph.inputs
        self.output_names = [value.name for value in self._session.get_outputs()]

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """The outputs for these inputs, whose floats are widened as the file wants them."""
        feeds = {v.name: _fed(v, a) for v, a in zip(self._inputs, arrays, strict=True)}
        results: list[Any] = self._session.run(None, feeds)
        return results


def _fed(value: Value, array: Array) -> Array:
    return np.ascontiguousarray(array.astype(computed(value.dtype).numpy)).reshape(array.shape)


def assert_same(found: Sequence[Array], expected: Sequence[Array], *, tolerance: float) -> None:
    """Equal shapes; integers and bools equal, floats to `tolerance` of the largest number."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        if other.dtype.kind in "iub":
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
            continue
        wide = other.astype(np.float64)
        finite = np.abs(wide[np.isfinite(wide)])
        scale = max(1.0, float(finite.max())) if finite.size else 1.0
        np.testing.assert_allclose(one, wide, rtol=tolerance, atol=tolerance * scale)
