"""Where buffers lie: scratch memory of all threads and of each, counters, stored weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from hetc.backends.native.module import BARRIER_BYTES
from hetc.backends.native.ssa import BYTES
from hetc.backends.native.states import StatePlan
from hetc.backends.native.storage import Item, Region, Storage
from hetc.backends.native.views import View, padded
from hetc.backends.native.writer import Buffer, Memory
from hetc.ir.dims import DimLike

SHARED: frozenset[Memory] = frozenset({"shared", "state", "logits"})
_ALIGN = 64


@dataclass
class MemoryPlan:
    """All buffers of one half. Weights and states lie alike in both halves of a bundle."""

    storage: Storage
    states: StatePlan = field(default_factory=StatePlan)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    shared_bytes: DimLike = 0
    private_bytes: DimLike = 0
    barrier_bytes: DimLike = BARRIER_BYTES
    _stored: dict[str, tuple[Region, int, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.buffers["tokens"] = Buffer("tokens", "tokens", "i64")
        self.buffers["logits"] = Buffer("logits", "logits", "f32")

    def shared(self, name: str, size: DimLike, element: str = "f32") -> str:
        """A new buffer of `size` elements for all threads; gives its name."""
        offset = self.shared_bytes
        self.shared_bytes = offset + padded(size * BYTES[element], _ALIGN)
        return self._new(name, "shared", element, offset)

    def private(self, name: str, size: DimLike, element: str = "f32") -> str:
        """A new buffer of `size` elements for each thread; gives its name."""
        offset = self.private_bytes
        self.private_bytes = offset + padded(size * BYTES[element], _ALIGN)
        return self._new(name, "private", element, offset)

    def tickets(self, count: DimLike) -> View:
        """Counters, in cache lines of their own, that are at 0 when the function begins."""
        offset = self.barrier_bytes
        self.barrier_bytes = offset + count * _ALIGN
        buffer = self._new("tickets", "barrier", "i64", offset)
        return View(buffer, (count,), (_ALIGN // BYTES["i64"],))

    def stored(self, region: Region, item: Item, element: str) -> str:
        """The buffer of an item of the packed weights."""
        offset = region.place(item)
        name = f"weights.{region.scope.run.id}.{offset}"
        self._stored[name] = (region, offset, element)
        return name

    def element(self, view: View) -> str:
        """What the elements of a view are."""
        if view.buffer in self._stored:
            return self._stored[view.buffer][2]
        found = self.buffers.get(view.buffer)
        return self.states.element(view) if found is None else found.element

    def settle(self) -> None:
        """Once every item and state of both halves is known: where they lie."""
        for name, (region, offset, element) in self._stored.items():
            stride = region.bytes if region.scope.run.repeat > 1 else 0
            place = self.storage.start(region) + offset
            self.buffers[name] = Buffer(name, "weights", element, place, stride)
        self.buffers |= self.states.settle()

    def is_shared(self, view: View) -> bool:
        """Whether other threads may touch what `view` shows."""
        if view.buffer in self._stored:
            return False
        # States have no buffer yet.
        return view.buffer not in self.buffers or self.buffers[view.buffer].memory in SHARED

    def _new(self, name: str, memory: Memory, element: str, offset: DimLike) -> str:
        unique = f"{name}.{len(self.buffers)}"
        self.buffers[unique] = Buffer(unique, memory, element, offset)
        return unique
