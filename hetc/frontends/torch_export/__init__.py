"""Exported PyTorch programs (torch.export) as graphs."""

from hetc.frontends.torch_export.archive import load_pt2
from hetc.frontends.torch_export.importer import (
    ImportedGraph,
    import_exported,
    import_whole,
)
from hetc.frontends.torch_export.language import why_no_language_model

__all__ = ["ImportedGraph", "import_exported", "import_whole", "load_pt2", "why_no_language_model"]
