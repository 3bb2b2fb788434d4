"""hetc compiles a language model into a prefill half and a decode half, and runs both.

The public API is lazy: importing `hetc` costs a few milliseconds and loads no heavy package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from hetc.errors import HetcError

if TYPE_CHECKING:
    from hetc.driver.compile import compile
    from hetc.driver.load import load
    from hetc.runtime import Bundle
    from hetc.targets import Target

__version__ = "0.1.0"
__all__ = ["compile", "load", "Bundle", "Target", "HetcError", "__version__"]

_HOME = {
    "compile": "hetc.driver",
    "load": "hetc.driver",
    "Bundle": "hetc.runtime",
    "Target": "hetc.targets",
}


def __getattr__(name: str) -> object:
    """Import a public name from its room on first use, and keep it."""
    if name not in _HOME:
        raise AttributeError(f"module 'hetc' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
