"""Mistakes of hetc's, which must not stop a program that runs without it."""

from __future__ import annotations

from hetc.errors import Reason

MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


def mistake(error: Exception) -> Reason:
    """Why PyTorch runs what hetc failed to take."""
    found = f"{type(error).__name__}: {error}"
    return Reason("HETC-Z002", f"hetc failed to take what PyTorch runs: {found}")
