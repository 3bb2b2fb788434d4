"""Where models come from: Hugging Face directories and GGUF files, and the programs of configs."""

from hetc.frontends.sources.agreement import periods_agree
from hetc.frontends.sources.depth import Depth, layer_modules, plan_depth
from hetc.frontends.sources.export import export_program, max_positions
from hetc.frontends.sources.gguf_file import open_gguf
from hetc.frontends.sources.huggingface import open_hf_directory
from hetc.frontends.sources.model_source import LazyTensor, ModelSource, TokenizerFiles
from hetc.frontends.sources.whole import export_whole, named_class

__all__ = [
    "open_hf_directory",
    "open_gguf",
    "export_program",
    "export_whole",
    "named_class",
    "max_positions",
    "plan_depth",
    "layer_modules",
    "periods_agree",
    "Depth",
    "ModelSource",
    "LazyTensor",
    "TokenizerFiles",
]
