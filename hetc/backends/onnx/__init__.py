"""Either half as one ONNX file for ONNX Runtime's CPU kernels."""

from hetc.backends.onnx.backend import OnnxBackend
from hetc.backends.onnx.emit import emit_onnx

__all__ = ["OnnxBackend", "emit_onnx"]
