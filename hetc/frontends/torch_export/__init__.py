"""Exported PyTorch programs (torch.export) as graphs."""

from hetc.frontends.torch_export.archive import load_pt2
from hetc.frontends.torch_export.captured import (
    Part,
    Size,
    import_part,
    makes_tensors,
    reasons_against,
)
from hetc.frontends.torch_export.functional import decomposable
from hetc.frontends.torch_export.importer import (
    ImportedGraph,
    import_exported,
    import_whole,
)
from hetc.frontends.torch_export.language import why_no_language_model

__all__ = [
    "ImportedGraph",
    "Part",
    "Size",
    "decomposable",
    "import_exported",
    "import_part",
    "import_whole",
    "load_pt2",
    "makes_tensors",
    "reasons_against",
    "why_no_language_model",
]
