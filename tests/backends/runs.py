"""Runs a graph with ONNX Runtime and with the interpreter."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hetc.backends.onnx import emit_onnx
from hetc.ir.graph import Graph
from hetc.ir.interpret import no_weights
from hetc.ir.types import BF16, Array


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

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """The outputs for these inputs."""
        feeds = {v.name: _fed(a) for v, a in zip(self._inputs, arrays, strict=True)}
        found = self._session.run_with_ort_values(None, feeds)
        return [_read(value) for value in found]


def _fed(array: Array) -> Any:
    import onnxruntime as ort

    whole = np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype == BF16.numpy:
        # The library takes the bits: NumPy has no bfloat16 of its own.
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(whole.view(np.uint16), 16)
    return ort.OrtValue.ortvalue_from_numpy(whole)


def _read(value: Any) -> Array:
    if value.data_type() != "tensor(bfloat16)":
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    size = 2 * int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(ctypes.string_at(value.data_ptr(), size), BF16.numpy).reshape(shape)


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
