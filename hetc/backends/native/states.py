"""Where the states lie: layer after layer, at equal distances."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hetc.backends.dataflow.blocks import StateOut
from hetc.backends.native.attention import Rule
from hetc.backends.native.scope import Scope
from hetc.backends.native.ssa import BYTES, F32, LANES
from hetc.backends.native.views import B, View, contiguous, padded
from hetc.backends.native.writer import Buffer
from hetc.bundle.native import StateLayout
from hetc.ir.dims import DimLike, product, symbol
from hetc.ir.op import Value
from hetc.ir.ops.control import Call

Role = Literal["keys", "values", "whole"]
Formals = tuple[Value, ...]
C = symbol("C")
_ALIGN = 64


@dataclass(frozen=True)
class _Wanted:
    """States that a block reads side by side as the rows of one view: inputs of the block."""

    scope: Scope
    formals: Formals
    role: Role
    view: View
    element: str

    @property
    def nbytes(self) -> DimLike:
        whole = self.role == "whole"
        numbers = product(self.view.shape) if whole else self.view.strides[0] * B
        return padded(numbers * BYTES[self.element], _ALIGN)


@dataclass
class StatePlan:
    """The states of all blocks; they lie alike in both halves, which ask for them alike."""

    places: list[StateLayout] = field(default_factory=list)
    nbytes: DimLike = 0
    _wanted: dict[tuple[str, Formals, Role], _Wanted] = field(default_factory=dict)

    def keys(self, scope: Scope, formals: Formals, rule: Rule) -> View:
        """The view of keys that `formals` hold side by side, as tiles: by [B, G, tile]."""
        row, tile = _head(rule.padded_width, rule), LANES * rule.padded_width
        view = View("", (B, rule.groups, C), (rule.groups * row, row, tile))
        return self._want(scope, formals, "keys", view, rule.element)

    def values(self, scope: Scope, formals: Formals, rule: Rule) -> View:
        """The view [B, G, C, E] of values."""
        row, width = _head(rule.value_width, rule), rule.value_width
        view = View("", (B, rule.groups, C, width), (rule.groups * row, row, width, 1))
        return self._want(scope, formals, "values", view, rule.element)

    def whole(self, scope: Scope, formal: Value) -> View:
        """The view of a state without positions, as the contract has it."""
        view = contiguous("", formal.shape)
        return self._want(scope, (formal,), "whole", view, formal.dtype.name)

    def _want(self, scope: Scope, formals: Formals, role: Role, view: View, element: str) -> View:
        key = (scope.run.id, formals, role)
        if key not in self._wanted:
            joined = "+".join(formal.name for formal in formals)
            named = View(f"state.{scope.run.id}.{joined}.{role}", view.shape, view.strides)
            self._wanted[key] = _Wanted(scope, formals, role, named, element)
        return self._wanted[key].view

    def element(self, view: View) -> str:
        """What the elements of a state are."""
        return next(
            item.element for item in self._wanted.values() if item.view.buffer == view.buffer
        )

    def is_held(self, scope: Scope, formal: Value) -> bool:
        """Whether an input of a block has a place."""
        return any(run == scope.run.id and formal in held for run, held, _ in self._wanted)

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
        parts = [(formal, _out(item.scope, formal)) for formal in item.formals]
        sizes = [_sizes(formal, out, item.role) for formal, out in parts]
        row = sum(part[-1] for part in sizes) if item.role != "whole" else 0
        first = 0
        for (formal, out), size in zip(parts, sizes, strict=True):
            for number, name in enumerate(_names(item.scope, formal)):
                offset = start + stride * number
                keep = None if item.role == "whole" else out.keep
                element = formal.dtype.name
                self.places.append(
                    StateLayout(
                        name, item.role, str(offset), size, first, row, element, item.element, keep
                    )
                )
            first += size[-1] if size else 0
        repeats = item.scope.run.repeat > 1
        return Buffer(item.view.buffer, "state", item.element, start, stride if repeats else 0)


def _head(width: int, rule: Rule) -> DimLike:
    """The numbers of a head, and its scales."""
    return C * (width + (BYTES[F32] if rule.is_scaled else 0))


def _out(scope: Scope, formal: Value) -> StateOut:
    return next(out for out in scope.run.outs if out.tensor == formal.name)


def _sizes(formal: Value, out: StateOut, role: Role) -> tuple[int, ...]:
    """The sizes of a state without its sequences and positions."""
    sizes = tuple(size for size in formal.shape if isinstance(size, int))
    assert len(sizes) == formal.rank - (1 if role == "whole" else 2), out.tensor
    return sizes


def _names(scope: Scope, formal: Value) -> list[str]:
    """What the contract calls a state in every iteration."""
    calls = [call for call in scope.run.calls if isinstance(call, Call)]
    if not calls:
        return [formal.name]
    place = calls[0].callee.inputs.index(formal)
    return [call.args[place].name for call in calls]
