"""The interpreter as a backend and as an executor, and an executor that runs nothing."""

from hetc.backends.reference.backend import ReferenceBackend
from hetc.backends.reference.executor import (
    HeldState,
    MakeState,
    ReferenceExecutor,
    reference_executors,
)
from hetc.backends.reference.forward import ReferenceForward, reference_forwards
from hetc.backends.reference.null import NullExecutor, null_executors

__all__ = [
    "HeldState",
    "MakeState",
    "NullExecutor",
    "ReferenceBackend",
    "ReferenceExecutor",
    "ReferenceForward",
    "null_executors",
    "reference_executors",
    "reference_forwards",
]
