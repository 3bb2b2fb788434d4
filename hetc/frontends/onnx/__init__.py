"""The ONNX frontend: a `.onnx` file becomes a graph, by tables of small functions."""

from hetc.frontends.onnx.importer import ImportedOnnx, import_onnx, import_whole
from hetc.frontends.onnx.language import why_no_language_model
from hetc.frontends.onnx.loader import load_onnx

__all__ = ["ImportedOnnx", "import_onnx", "import_whole", "load_onnx", "why_no_language_model"]
