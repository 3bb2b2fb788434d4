"""Where buffers lie: scratch memory of all threads and of each, states, and stored weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from hetc.backends.native.attention import Rule
from hetc.backends.native.module import BARRIER_BYTES
from hetc.backends.native.scope import Scope
from hetc.backends.native.ssa import BYTES
from hetc.backends.native.storage import Item, Region, Storage
from hetc.backends.native.views import View, contiguous, padded
from hetc.backends.native.writer import Buffer, Memory
from hetc.ir.dims import DimLike, product, symbol
from hetc.ir.op import Value
from hetc.ir.ops.control import Call
from hetc.ir.types import Shape

B, C = symbol("B"), symbol("C")
SHARED: frozenset[Memory] = frozenset({"shared", "state", "logits"})
_ALIGN = 64


@dataclass(frozen=True)
class StatePlace:
    """One state of the contract in the engine's own layout; `role` is `keys` or `values`."""

    name: str
    role: str
    offset: DimLike
    groups: int
    width: int
    element: str
    keep: int | None


@dataclass
class _StateRegion:
    """The states of one block: `bytes` for one iteration, beginning at `start`."""

    start: DimLike
    bytes: DimLike = 0


@dataclass
class MemoryPlan:
    """All buffers of one half. Weights and states lie alike in both halves of a bundle."""

    storage: Storage
    buffers: dict[str, Buffer] = field(default_factory=dict)
    states: list[StatePlace] = field(default_factory=list)
    shared_bytes: DimLike = 0
    private_bytes: DimLike = 0
    barrier_bytes: int = BARRIER_BYTES
    state_bytes: DimLike = 0
    _views: dict[tuple[object, ...], View] = field(default_factory=dict)
    _pending: list[tuple[Scope, Value, str, View]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.buffers["tokens"] = Buffer("tokens", "tokens", "i64")
        self.buffers["logits"] = Buffer("logits", "logits", "f32")

    def scratch(self, memory: Memory, name: str, size: DimLike, element: str = "f32") -> str:
        """A new buffer of `size` elements; gives its name."""
        assert memory in ("shared", "private")
        unique = f"{name}.{len(self.buffers)}"
        attribute = f"{memory}_bytes"
        offset = getattr(self, attribute)
        self.buffers[unique] = Buffer(unique, memory, element, offset)
        setattr(self, attribute, offset + padded(size * BYTES[element], _ALIGN))
        return unique

    def tickets(self) -> View:
        """A counter, in a cache line of its own, that is at 0 when the function begins."""
        name = f"tickets.{len(self.buffers)}"
        self.buffers[name] = Buffer(name, "barrier", "i64", self.barrier_bytes)
        self.barrier_bytes += _ALIGN
        return contiguous(name, (1,))

    def is_shared(self, view: View) -> bool:
        """Whether other threads may touch what `view` shows."""
        return self.buffers[view.buffer].memory in SHARED

    def stored(self, region: Region, item: Item, element: str) -> str:
        """The buffer of an item of the packed weights."""
        offset = region.place(item)
        name = f"weights.{self.storage.regions.index(region)}.{offset}"
        self.buffers.setdefault(name, Buffer(name, "weights", element, offset))
        return name

    def settle(self) -> None:
        """Once every item is placed: offsets in the file, and strides of what loops read."""
        for place, region in enumerate(self.storage.regions):
            start, prefix = self.storage.start(region), f"weights.{place}."
            for name, buffer in self.buffers.items():
                if name.startswith(prefix):
                    offset = int(name.removeprefix(prefix)) + start
                    stride = region.bytes if region.scope.run.repeat > 1 else 0
                    self.buffers[name] = Buffer(name, "weights", buffer.element, offset, stride)
        self._settle_states()

    def state(self, scope: Scope, formal: Value, role: str, rule: Rule) -> View:
        """The view of a state: keys [B, G, C/16] tiles, or values [B, G, C, E]."""
        key = (scope.run.id, formal, role)
        if key not in self._views:
            name = f"state.{scope.run.id}.{formal.name}.{role}"
            groups = rule.groups
            if role == "keys":
                row = C * rule.padded_width
                shape: Shape = (B, groups, C)
                strides: Shape = (groups * row, row, 16 * rule.padded_width)
            else:
                row = C * rule.value_width
                shape = (B, groups, C, rule.value_width)
                strides = (groups * row, row, rule.value_width, 1)
            self.buffers[name] = Buffer(name, "state", rule.element)
            self._views[key] = View(name, shape, strides)
            self._pending.append((scope, formal, role, self._views[key]))
        return self._views[key]

    def state_views(self, run_id: str) -> dict[Value, list[str]]:
        """Input of a block -> the roles in which it was asked for."""
        roles: dict[Value, list[str]] = {}
        for scope, formal, role, _ in self._pending:
            if scope.run.id == run_id:
                roles.setdefault(formal, []).append(role)
        return roles

    def _settle_states(self) -> None:
        regions: dict[str, _StateRegion] = {}
        places: list[tuple[Scope, Value, str, View, DimLike]] = []
        order = dict.fromkeys(scope.run.id for scope, *_ in self._pending)
        for run_id in order:
            here = [item for item in self._pending if item[0].run.id == run_id]
            region = regions[run_id] = _StateRegion(self.state_bytes)
            for scope, formal, role, view in here:
                places.append((scope, formal, role, view, region.bytes))
                size = view.strides[0] * B * BYTES[self.buffers[view.buffer].element]
                region.bytes = region.bytes + padded(size, _ALIGN)
            self.state_bytes = self.state_bytes + region.bytes * here[0][0].run.repeat
        for scope, formal, role, view, offset in places:
            region, buffer = regions[scope.run.id], self.buffers[view.buffer]
            start = region.start + offset
            stride = region.bytes if scope.run.repeat > 1 else 0
            self.buffers[view.buffer] = Buffer(buffer.name, "state", buffer.element, start, stride)
            self._name_states(scope, formal, role, start, region.bytes)

    def _name_states(
        self, scope: Scope, formal: Value, role: str, start: DimLike, stride: DimLike
    ) -> None:
        keep = next(out.keep for out in scope.run.outs if out.tensor == formal.name)
        groups, width = formal.shape[1], formal.shape[3]
        assert isinstance(groups, int)
        assert isinstance(width, int)
        calls = [call for call in scope.run.calls if isinstance(call, Call)]
        names = [formal.name]
        if calls:
            place = calls[0].callee.inputs.index(formal)
            names = [call.args[place].name for call in calls]
        for number, name in enumerate(names):
            offset = start + stride * number
            element = formal.dtype.name
            self.states.append(StatePlace(name, role, offset, groups, width, element, keep))


def dense(buffer: str, shape: Shape) -> View:
    """A buffer's elements in row-major order."""
    return contiguous(buffer, shape)


def elements(shape: Shape) -> DimLike:
    """How many elements `shape` has."""
    return product(shape)
