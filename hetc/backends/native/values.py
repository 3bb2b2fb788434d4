"""The values of one half while it is planned: which view each has, and which stages there are.

The halves differ in who does what. In decode, with few rows, every thread does the light ops for
itself, without waiting; only products and attention are shared out. In prefill the rows of
everything are shared out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hetc.backends.native.barriers import Access
from hetc.backends.native.grouped import Order
from hetc.backends.native.memory import MemoryPlan
from hetc.backends.native.model import Model, Refused
from hetc.backends.native.scope import Scope
from hetc.backends.native.stages import Copy, Stage
from hetc.backends.native.storage import Positions, Region, Rows, element_of
from hetc.backends.native.views import B, View, as_rows, collapse, contiguous, like
from hetc.ir.dims import Dim, DimLike, product, substitute, symbol
from hetc.ir.op import Op, Value
from hetc.ir.ops.shape import Broadcast
from hetc.ir.types import Shape

T, P, N, K = (symbol(name) for name in "TPNK")
LOGITS = "logits"
_LARGEST_TABLE = 512 * 2**20


@dataclass
class Block:
    """Stages, and how many times they run with other weights and states; `origins` are the ops that
    they come from, for errors."""

    times: int
    stages: list[Stage] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    accesses: list[Access] = field(default_factory=list)


@dataclass(frozen=True)
class Appended:
    """A state of a row for each position, an input of the block, and its new rows [B, G, T, D]."""

    state: Value
    new: View


class HalfValues:
    """Views of values, and the stages that make them; `light` results are in private memory in
    decode."""

    def __init__(self, model: Model, *, prefill: bool) -> None:
        self.model = model
        self.prefill = prefill
        self.memory = MemoryPlan(model.storage)
        self.blocks: list[Block] = []
        self.region: Region = model.storage.regions[0]
        # The op that is planned.
        self.origin = ""
        # Ops that work for the last token alone.
        self.last: frozenset[Op] = frozenset()
        # Places that some results must go to.
        self.targets: dict[Value, View] = {}
        self.views: dict[Value, View] = {}
        # What attention can read: states side by side.
        self.appended: dict[Value, tuple[Appended, ...]] = {}
        self.written: set[Value] = set()
        # Numbers of experts -> the rows in their order.
        self.orders: dict[View, Order] = {}

    def shape(self, value: Value) -> Shape:
        """Sizes of a result; of what only the last token's logits need, for one token."""
        if value.op in self.last:
            return tuple(substitute(size, {"T": 1}) for size in value.shape)
        return value.shape

    def view(self, scope: Scope, value: Value, reader: Op) -> View:
        """Where an operand of `reader` lies."""
        kind = scope.kind(value)
        if kind == "static":
            view = self.static(value)
        elif isinstance(value.op, Broadcast) and scope.kind(value.op.x) == "static":
            view = self.static(value.op.x).broadcast(self.shape(value))
        elif kind == "positional":
            view = self.table(scope.source(value), reader)
        elif value in self.views:
            view = self.views[value]
        else:
            name = value.name or (value.op.kind if value.op else "an input")
            raise Refused("HETC-E040", f"the native engine cannot read {name}", reader)
        if reader in self.last and value.op not in self.last and kind != "static":
            for axis, size in enumerate(view.shape):
                if size == T:
                    return view.sliced(axis, T - 1, 1)
        return view

    def static(self, value: Value) -> View:
        """A value that weights alone make."""
        shape = tuple(size for size in value.shape if isinstance(size, int))
        rows = Rows(value, element_of(value.dtype))
        return contiguous(self.memory.stored(self.region, rows, rows.element), shape)

    def table(self, value: Value, reader: Op) -> View:
        """A positional value: row P of its table is that of the first new token of a sequence with
        P behind it. An axis of P+T is one of keys, of which the table has all."""
        sizes = {"B": 1, "T": self.model.positions, "P": 0}
        known = tuple(substitute(size, sizes) for size in value.shape)
        if any(isinstance(size, Dim) for size in known) or T not in value.shape:
            raise Refused("HETC-E044", f"{value.type} is no table of positions", reader)
        if not self.model.is_table(value, value.shape.index(T)):
            raise Refused("HETC-E044", "its rows depend on more than their positions", reader)
        if not any(B in result.shape for result in reader.results):
            raise Refused("HETC-E044", "positions meet no axis of sequences", reader)
        shape = tuple(size for size in known if isinstance(size, int))
        item = Positions(value, self.model.positions, shape)
        if item.nbytes > _LARGEST_TABLE:
            size = f"{item.nbytes / 1e9:.1f} GB"
            text = f"a table of {self.model.positions} positions takes {size}: bound the context"
            raise Refused("HETC-E044", text, reader)
        # The main graph's values are known in every block: one table is enough for all.
        once = (r for r in self.model.storage.regions if r.scope.run.repeat == 1)
        region = next((r for r in once if r.scope.kind(value) == "positional"), self.region)
        view = contiguous(self.memory.stored(region, item, item.element), shape)
        strides = [
            0 if size == B else stride
            for size, stride in zip(value.shape, view.strides, strict=True)
        ]
        past_stride = view.strides[value.shape.index(T)]
        return View(view.buffer, value.shape, tuple(strides), past_stride=past_stride)

    def light(self, name: str, size: DimLike, element: str = "f32") -> str:
        """A buffer for what light ops make."""
        make = self.memory.shared if self.prefill else self.memory.private
        return make(name, size, element)

    def result(self, value: Value, model: View) -> View:
        """A place for a result in dense rows that is laid out as `model` is, where that has them;
        what is written in any order of axes has rows in `as_rows` of it."""
        if value in self.targets:
            view = self.targets[value]
        else:
            assert value.op is not None
            last = model.shape[-1] if model.rank else 1
            if isinstance(last, int) and last != 1 and model.strides[-1] != 1:
                model = contiguous("", model.shape)
            element = element_of(value.dtype)
            view = like(model, self.light(value.op.kind, product(model.shape), element))
        self.views[value] = view
        return view

    def add(self, stage: Stage) -> None:
        """Put a stage behind the others of the block."""
        block = self.blocks[-1]
        block.stages.append(stage)
        block.origins.append(self.origin)
        reads, writes = (
            frozenset(view.buffer for view in views if self.memory.is_shared(view))
            for views in (stage.reads, stage.writes)
        )
        block.accesses.append(Access(reads, writes))

    def dense_rows(self, view: View) -> View:
        """`view` as rows [R, K] with elements side by side, copied where it is not."""
        (joined,) = collapse([view])
        if joined.rank == 1:
            joined = replace(joined, shape=(1, *joined.shape), strides=(0, *joined.strides))
        if joined.rank == 2 and joined.strides[1] == 1:
            return joined
        return self.dense_rows(self.copied(view))

    def copied(self, view: View) -> View:
        """The elements of `view` in row-major order."""
        size, element = product(view.shape), self.memory.element(view)
        copy = contiguous(self.light("copy", size, element), view.shape)
        self.copy(view, copy)
        return copy

    def copy(self, x: View, out: View) -> None:
        """`out` = `x`, whose shape broadcasts to that of `out`."""
        target, source = as_rows([out, x.broadcast(out.shape)])
        # What all threads see is written once.
        self.add(Copy(source, target, self.prefill or self.memory.is_shared(out)))

    def private(self, name: str, shape: tuple[int, int]) -> View:
        """Memory of each thread for what a stage needs inside."""
        size = shape[0] * shape[1]
        return contiguous(self.memory.private(name, size), shape)
