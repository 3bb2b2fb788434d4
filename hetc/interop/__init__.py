"""hetc inside PyTorch: `torch.compile(model, backend="hetc")`."""

from hetc.interop.backend import backend
from hetc.interop.recorder import RECORDER
from hetc.interop.report import Report

__all__ = ["Report", "backend", "last_report"]


def last_report() -> Report:
    """What the backend did since the process began, or since `torch._dynamo.reset()`."""
    return RECORDER.report()
