"""How much memory this process has taken at most."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import resource


def peak_memory_bytes() -> int | None:
    """The most bytes that were resident so far; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
