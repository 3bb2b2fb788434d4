"""The native executor: runs both halves as machine code made when the bundle is loaded."""

from hetc.runtime.native.engine import NativeOptions
from hetc.runtime.native.executor import native_executors

__all__ = ["NativeOptions", "native_executors"]
