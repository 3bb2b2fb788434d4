"""Deployment bundles: the schema, the crash-safe writer and the distrustful reader.

Shared by the compiler and the runtime; imports neither.
"""

from hetc.bundle.reader import OpenBundle, check_compat, open_bundle
from hetc.bundle.schema import (
    Contract,
    Fallback,
    FileEntry,
    ForwardEntry,
    Golden,
    HalfEntry,
    Manifest,
    ModelInfo,
    StateSpec,
    TargetRef,
    Tensor,
    ToolInfo,
    Workload,
)
from hetc.bundle.writer import BundleWriter

__all__ = [
    "BundleWriter",
    "Contract",
    "Fallback",
    "FileEntry",
    "ForwardEntry",
    "Golden",
    "HalfEntry",
    "Manifest",
    "ModelInfo",
    "OpenBundle",
    "StateSpec",
    "TargetRef",
    "Tensor",
    "ToolInfo",
    "Workload",
    "check_compat",
    "open_bundle",
]
