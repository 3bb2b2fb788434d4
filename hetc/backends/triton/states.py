"""The states that a prefill leaves, and workspaces in their layout."""

from __future__ import annotations

from dataclasses import dataclass, field

from hetc.backends.triton.layouts import Refusal
from hetc.backends.triton.memory import aligned_size, element_bytes
from hetc.backends.triton.programs import Programs
from hetc.backends.triton.row_program import Access
from hetc.backends.triton.rows import Rows
from hetc.backends.triton.values import Stored, element_of
from hetc.bundle.launches import PlacedState, Size, StateRef
from hetc.ir.dims import DimLike, symbol
from hetc.ir.op import Value
from hetc.ir.ops.sequence import KeepLast


@dataclass
class States:
    """The states of `programs`' graph by the values that they are; `names` are those of its outputs
    behind the logits."""

    programs: Programs
    names: tuple[str, ...]
    left: dict[str, Value] = field(default_factory=dict)
    placed: list[PlacedState] = field(default_factory=list)
    bytes: Size = "0"

    def __post_init__(self) -> None:
        outputs = self.programs.values.graph.outputs[1:]
        self.left = dict(zip(self.names, outputs, strict=True))
        self.placed, self.bytes = _place(self.left)

    def home(self, value: Value) -> Stored:
        """Where `value` [B, G, S, D] is to be written in the layout of a state: the state that it
        is, or a workspace; raises Refusal (HETC-E059)."""
        values = self.programs.values
        _, heads, _, width = self._axes(value, 4)
        element = element_of(value)
        for name, left in self.left.items():
            if left is value:
                return Stored(StateRef(name=name), element, "tokens", 0, 0, heads, width)
        made = self.programs.memory.buffer(element, "M", values.columns(value))
        return Stored(made, element, "tokens", 0, 0, heads, width)

    def written(self, value: Value, home: Stored) -> None:
        """`value` now lies in `home`: whatever state keeps a part of it is copied at once, so that
        a workspace is soon free and a layer's state soon whole."""
        self.programs.values.stored[value] = home
        self._leave(value)
        for name, left in list(self.left.items()):
            if isinstance(left.op, KeepLast) and left.op.x is value:
                self._keep(name, left, left.op)

    def need(self, value: Value) -> Stored:
        """Where `value` lies in the layout of a state; written now where it is not yet."""
        values = self.programs.values
        stored = values.stored.get(value)
        if stored is not None and stored.is_state:
            return stored
        home = self.home(value)
        self.programs.write(value, home)
        self.written(value, home)
        return home

    def finish(self) -> list[Refusal]:
        """Write what no attention has written, and say which states could not be."""
        refused = []
        for name, left in list(self.left.items()):
            try:
                self._finish(name, left)
            except Refusal as refusal:
                at = left.op.loc if left.op else name
                refused.append(Refusal(refusal.code, refusal.text, refusal.at or at))
        return refused

    def _finish(self, name: str, left: Value) -> None:
        if name not in self.left:
            return
        if isinstance(left.op, KeepLast):
            if left.rank == 4:
                self.need(left.op.x)
            else:
                self._keep(name, left, left.op)
        elif left.rank == 4:
            self.need(left)
        else:
            _, _, width = self._axes(left, 3)
            state = Stored(StateRef(name=name), element_of(left), "tokens", width)
            self.programs.write(left, state)
            del self.left[name]

    def _leave(self, value: Value) -> None:
        for name, left in list(self.left.items()):
            if left is value:
                del self.left[name]

    def _keep(self, name: str, left: Value, op: KeepLast) -> None:
        """Copy the last rows of each sequence of `op.x`."""
        axes = self._axes(op.x, op.x.rank)
        heads, width = axes[1] if op.x.rank == 4 else 1, axes[-1]
        if op.axis % op.x.rank != op.x.rank - 2:
            raise Refusal("HETC-E059", "rows are kept of another axis than tokens", op.loc)
        into = Stored(StateRef(name=name), element_of(left), "tokens", 0, 0, heads, width)

        def access(rows: Rows) -> Access:
            place = rows.access(into, rows.whole)
            return Access(place.name, place.element, "state", 0, width, 0, 1, keep=op.rows)

        self.programs.launch_program(op.x, heads, width, access)
        del self.left[name]

    def _axes(self, value: Value, rank: int) -> tuple[int, ...]:
        """The sizes of the axes of a state [B, G, S, D] or [B, S, D]; raises Refusal."""
        layout = self.programs.values.layouts[value]
        tokens = layout.axes[:1] == (("B",),) and layout.axes[-2:-1] == (("S",),)
        if value.rank != rank or not tokens or layout.domain != "tokens":
            loc = value.op.loc if value.op else ""
            raise Refusal("HETC-E059", f"a state {value.type} is no rows of tokens", loc)
        return layout.sizes


def _place(left: dict[str, Value]) -> tuple[list[PlacedState], Size]:
    """The states behind each other, each from an aligned byte on for any sizes; bytes of all."""
    placed: list[PlacedState] = []
    offset: DimLike = 0
    for name, value in left.items():
        element = element_of(value)
        size: DimLike = element_bytes(element)
        for dim in value.shape:
            size = size * dim if isinstance(dim, int) else size
        # Rows of all sequences are M, whatever their lengths.
        kept = symbol("B") * symbol(f"W{op.rows}") if isinstance(op := value.op, KeepLast) else None
        size = size * (kept or symbol("M"))
        placed.append(PlacedState(name=name, element=element, bytes=str(size), offset=str(offset)))
        offset = offset + aligned_size(size)
    return placed, str(offset)
