"""Halves as MLIR text that the CPU at hand executes, and the weights as that code streams them."""

from hetc.backends.native.backend import NativeBackend, NativePlan

__all__ = ["NativeBackend", "NativePlan"]
