"""The ONNX frontend: a `.onnx` file becomes a graph, by tables of small functions."""

from hetc.frontends.onnx.importer import ImportedOnnx, import_onnx
from hetc.frontends.onnx.loader import load_onnx

__all__ = ["ImportedOnnx", "import_onnx", "load_onnx"]
