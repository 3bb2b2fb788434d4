"""Arrays that are kept while memory allows: the last ones used, up to so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from hetc.ir.types import Array

CACHE_BYTES = 640 * 2**20


class KeptArrays:
    """Arrays by name; those that were used longest ago go first."""

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, Array] = OrderedDict()
        self._bytes = 0

    def get(self, name: str, make: Callable[[], Array]) -> Array:
        """The array of this name, made where it is not there (any more)."""
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        data = self._kept[name] = make()
        self._bytes += data.nbytes
        while self._bytes > self._most_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
        return data
