"""Rooms that are imported when a command first asks them for something.

Importing the driver takes about half a second, `hetc --help` must not: commands take these names
instead of importing their rooms. For type checkers they are the modules themselves.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hetc import driver, report, targets
    from hetc.passes import registry
else:

    class _Room:
        """Stands for a module until one of its names is asked for."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module(self._name), name)

    driver = _Room("hetc.driver")
    report = _Room("hetc.report")
    targets = _Room("hetc.targets")
    registry = _Room("hetc.passes.registry")

__all__ = ["driver", "registry", "report", "targets"]
