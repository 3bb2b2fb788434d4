"""Where keys and values of attention lie: layer after layer, at equal distances."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hetc.backends.native.attention import Rule
from hetc.backends.native.scope import Scope
from hetc.backends.native.ssa import BYTES, F32, LANES
from hetc.backends.native.views import View, padded
from hetc.backends.native.writer import Buffer
from hetc.ir.dims import DimLike, symbol
from hetc.ir.op import Value
from hetc.ir.ops.control import Call

Role = Literal["keys", "values"]
B, C = symbol("B"), symbol("C")
_ALIGN = 64


@dataclass(frozen=True)
class StatePlace:
    """One state of the contract in the engine's own layout, `offset` bytes into the memory, where
    its numbers are `stored`."""

    name: str
    role: Role
    offset: DimLike
    groups: int
    width: int
    element: str
    stored: str
    keep: int | None


@dataclass(frozen=True)
class _Wanted:
    """A state that a block's attention reads: an input of the block, and its view."""

    scope: Scope
    formal: Value
    role: Role
    view: View
    element: str

    @property
    def nbytes(self) -> DimLike:
        return padded(self.view.strides[0] * B * BYTES[self.element], _ALIGN)

    @property
    def names(self) -> list[str]:
        """What the contract calls it in every iteration."""
        calls = [call for call in self.scope.run.calls if isinstance(call, Call)]
        if not calls:
            return [self.formal.name]
        place = calls[0].callee.inputs.index(self.formal)
        return [call.args[place].name for call in calls]


@dataclass
class StatePlan:
    """The states of all blocks; they lie alike in both halves, which ask for them alike."""

    places: list[StatePlace] = field(default_factory=list)
    nbytes: DimLike = 0
    _wanted: dict[tuple[str, Value, Role], _Wanted] = field(default_factory=dict)

    def view(self, scope: Scope, formal: Value, role: Role, rule: Rule) -> View:
        """The view of a state: keys as tiles, by [B, G, tile]; or values [B, G, C, E]."""
        key = (scope.run.id, formal, role)
        if key not in self._wanted:
            name = f"state.{scope.run.id}.{formal.name}.{role}"
            scales = BYTES[F32] if rule.is_scaled else 0
            if role == "keys":
                row = C * (rule.padded_width + scales)
                tile = LANES * rule.padded_width
                view = View(name, (B, rule.groups, C), (rule.groups * row, row, tile))
            else:
                row = C * (rule.value_width + scales)
                shape = (B, rule.groups, C, rule.value_width)
                view = View(name, shape, (rule.groups * row, row, rule.value_width, 1))
            self._wanted[key] = _Wanted(scope, formal, role, view, rule.element)
        return self._wanted[key].view

    def roles(self, scope: Scope, formal: Value) -> list[Role]:
        """The roles in which an input of a block was asked for."""
        return [role for run, other, role in self._wanted if (run, other) == (scope.run.id, formal)]

    def settle(self) -> dict[str, Buffer]:
        """The buffers of all views, now that all are known."""
        buffers = {}
        for run in dict.fromkeys(run for run, *_ in self._wanted):
            wanted = [item for item in self._wanted.values() if item.scope.run.id == run]
            stride: DimLike = 0
            for item in wanted:
                stride = stride + item.nbytes
            start = self.nbytes
            for item in wanted:
                buffers[item.view.buffer] = self._placed(item, start, stride)
                start = start + item.nbytes
            self.nbytes = self.nbytes + stride * wanted[0].scope.run.repeat
        return buffers

    def _placed(self, item: _Wanted, start: DimLike, stride: DimLike) -> Buffer:
        keep = next(out.keep for out in item.scope.run.outs if out.tensor == item.formal.name)
        groups, width = item.formal.shape[1], item.formal.shape[3]
        assert isinstance(groups, int)
        assert isinstance(width, int)
        for number, name in enumerate(item.names):
            offset = start + stride * number
            element = item.formal.dtype.name
            place = StatePlace(name, item.role, offset, groups, width, element, item.element, keep)
            self.places.append(place)
        repeats = item.scope.run.repeat > 1
        return Buffer(item.view.buffer, "state", item.element, start, stride if repeats else 0)
