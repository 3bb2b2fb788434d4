"""Values into memory by row programs, with whatever has to be in memory before them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from hetc.backends.triton import row_kernel
from hetc.backends.triton.kernel import Kernel
from hetc.backends.triton.layouts import Domain, Refusal
from hetc.backends.triton.memory import ROWS, Memory
from hetc.backends.triton.places import Place, joined, split
from hetc.backends.triton.row_program import Access, Expression, RowProgram, Store
from hetc.backends.triton.rows import Rows
from hetc.backends.triton.values import PRODUCTS, MustStand, Stored, Values, element_of, source_of
from hetc.backends.triton.views import constant_numbers, seen_through
from hetc.bundle.launches import Argument, Launch
from hetc.ir.op import Op, Value
from hetc.ir.ops.quant import Dequantize
from hetc.ir.ops.shape import Concat, Slice, View
from hetc.ir.ops.source import Constant, Weight
from hetc.passes.op_names import OWNERS

_LARGEST_CONSTANT = 1 << 16


def op_name(op: Op) -> str:
    """What `hetc explain` calls an op, where its module has no two of the kind."""
    if not op.loc:
        return op.kind
    return op.loc if op.kind in OWNERS else f"{op.loc}/{op.kind}"


@dataclass
class Programs:
    """The launches so far, their kernels by id, and how values come into memory.

    `product` makes a value that only a kernel of its own can compute. Kernels are for `arch`
    (`sm_90`) and later ones.
    """

    values: Values
    product: Callable[[Value], None]
    arch: str
    memory: Memory = field(default_factory=Memory)
    kernels: dict[str, Kernel] = field(default_factory=dict)
    launches: list[Launch] = field(default_factory=list)

    def kernel(self, kernel: Kernel) -> str:
        """The id of `kernel`, which is kept."""
        return self.kernels.setdefault(kernel.id, kernel).id

    def buffer(self, value: Value, element: str = "", name: str = "") -> Stored:
        """A new buffer for the rows of `value`."""
        domain, columns = self.values.domain(value), self.values.columns(value)
        element = element or element_of(value)
        # What there is one of is computed for each sequence, and read of the first.
        rows = ROWS["sequences" if domain == "none" else domain]
        made = self.memory.buffer(element, rows, columns, name)
        return Stored(made, element, domain, columns)

    def need_as(self, value: Value, element: str) -> Argument:
        """`value`, of which there is one, as `element`."""
        stored = self.need(source_of(value))
        if stored.element == element and stored.domain == "none" and not stored.offset:
            return stored.argument
        made = self.buffer(value, element)
        self.write(value, made)
        return made.argument

    def need(self, value: Value) -> Stored:
        """Where `value` lies, which is computed now where it is nowhere yet; raises Refusal."""
        known = self.values.stored
        if value in known:
            return known[value]
        op = value.op
        if isinstance(op, Weight):
            columns = self.values.columns(value)
            placed = self.memory.weight((op.name,), op.type.dtype.name, columns)
            known[value] = Stored(placed, op.type.dtype.name, "none", 0)
        elif isinstance(op, Constant):
            if self.values.columns(value) > _LARGEST_CONSTANT:
                raise Refusal("HETC-E057", "a constant is too large for a launch plan", op.loc)
            known[value] = Stored(self.memory.constant(constant_numbers(op)), "f32", "none", 0)
        elif op is not None and op.kind in PRODUCTS:
            self.product(value)
        else:
            made = self.buffer(value)
            self.write(value, made)
            known[value] = made
        return known[value]

    def write(self, value: Value, into: Stored) -> None:
        """Launch a program that writes `value` into `into`; raises Refusal."""
        if into.domain == "none":
            into = replace(into, domain="sequences")
        sizes = [size for size in self.values.layouts[value].sizes if size > 1]
        columns = sizes[-1] if sizes else 1
        if isinstance(value.op, Dequantize):
            columns = value.op.group
        inner = self.values.columns(value) // columns
        if into.is_state:
            inner, columns = into.heads, into.width
        try:
            self.launch_program(value, inner, columns, lambda rows: rows.access(into, rows.whole))
        except MustStand:
            if not isinstance(value.op, Concat) or into.is_state:
                loc = value.op.loc if value.op else ""
                raise Refusal("HETC-E057", "no row program computes this", loc) from None
            self._write_parts(value.op, into)

    def _write_parts(self, op: Concat, into: Stored) -> None:
        """The parts of a concatenation, each where it belongs."""
        sizes, axis = self.values.layouts[op.result].sizes, op.axis % op.result.rank
        start = 0
        for x in op.xs:
            own = self.values.layouts[x].sizes

            def access(rows: Rows, own: tuple[int, ...] = own, start: int = start) -> Access:
                parts = split(rows.whole, own, rows.inner, rows.columns)
                assert parts is not None
                parts[axis] = parts[axis] + Place(start)
                return rows.access(into, joined(parts, sizes))

            columns = [size for size in own if size > 1] or [1]
            inner = self.values.columns(x) // columns[-1]
            self.launch_program(x, inner, columns[-1], access)
            start += own[axis]

    def launch_program(
        self, value: Value, inner: int, columns: int, access: Callable[[Rows], Access]
    ) -> None:
        """Launch the program that stores `value` at `access`; what it has to read is stored
        first. Raises MustStand where that is `value` itself."""
        values = self.values
        domain = values.domain(value)
        if domain == "none":
            domain = "sequences"
        rows, made = self._attempts(value, domain, inner, columns)
        stores = [Store(access(rows), made)]
        for beside, expression in rows.aside.items():
            place = self.buffer(beside)
            stores.append(Store(rows.access(place, rows.whole), expression))
            values.stored[beside] = place
        over: Literal["tokens", "sequences"] = "sequences" if domain == "sequences" else "tokens"
        program = RowProgram(columns, tuple(stores), inner, over)
        operands = {name: argument for argument, name in rows.operands.items()}
        ops = tuple(dict.fromkeys(op_name(op) for op in rows.ops)) or ("copy",)
        kernel_id = self.kernel(row_kernel.kernel(program, symbol_of(rows.ops)))
        self.launches.append(row_kernel.launch(program, kernel_id, operands, ops))

    def _attempts(
        self, value: Value, domain: Domain, inner: int, columns: int
    ) -> tuple[Rows, Expression]:
        """`value` as an expression, tried again whenever something it reads had to be stored."""
        while True:
            rows = Rows(self.values, domain, inner, columns)
            try:
                if value not in self.values.stored and self.values.stands(value):
                    return rows, rows.computed(value)
                return rows, rows.value(value, rows.whole)
            except MustStand as missing:
                if missing.value is value:
                    raise
                self.need(missing.value)

    def rows_of(self, value: Value) -> Argument:
        """`value` as rows without gaps, which is copied where it lies otherwise; raises Refusal."""
        return self.rows_seen(value, 1).argument

    def rows_seen(self, value: Value, inner: int) -> Seen:
        """`value` as `inner` rows of each of its own, and whether these are all the same one."""
        columns = self.values.columns(value) // inner
        place = Place(inner=columns, column=1) if inner > 1 else Place(column=1)
        seen: Place | None = place
        at = value
        while seen is not None and at not in self.values.stored and isinstance(at.op, View):
            if isinstance(at.op, Slice) and self._is_last(at.op):
                seen = None
                break
            seen = seen_through(at.op, at, seen, self.values.layouts, inner, columns)
            at = at.op.operands[0]
        plain = seen in (place, Place(column=1))
        if seen is not None and (plain or at in self.values.stored or self.values.stands(at)):
            stored = self.need(at)
            whole = not stored.is_state and not stored.offset
            whole = whole and stored.domain == self.values.domain(value)
            if whole and stored.row == inner * columns and seen == place:
                return Seen(stored.argument, shared=False)
            if whole and inner > 1 and stored.row == columns and seen == Place(column=1):
                return Seen(stored.argument, shared=True)
        copy = self.buffer(value)
        self.need(source_of(value))
        self.write(value, copy)
        self.values.stored[value] = copy
        return Seen(copy.argument, shared=False)

    def _is_last(self, op: Slice) -> bool:
        return self.values.domain(op.x) != self.values.domain(op.result)


@dataclass(frozen=True)
class Seen:
    """Rows without gaps; `shared` where there is one for all of a token's."""

    argument: Argument
    shared: bool


def symbol_of(ops: list[Op]) -> str:
    """The name of a program's function: what is special of what it computes."""
    kinds = {op.kind for op in ops}
    for kind in ("rope", "rms_norm", "layer_norm", "softmax", "gated", "embedding", "sum"):
        if kind in kinds:
            return f"{kind}_rows"
    return "rows" if kinds else "copy_rows"
