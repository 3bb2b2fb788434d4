"""Python's cycle collector, out of the way while a compile builds graphs.

It looks at every live object again and again, torch's among them, and finds nothing: passes got
slower the more layers a model had. What a compile leaves is collected afterwards.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collector() -> Iterator[None]:
    """No cycle collection inside; as it was afterwards."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
