"""Writes one MLIR function as text, value by value, with the types kept right.

Everything is `!llvm.ptr`, `vector`, `arith` and `scf`; addresses are bytes. Constants and sizes go
to the function's entry, so that loops may use one that was first asked for inside another loop.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Literal

from hetc.backends.native.isa import PORTABLE, Isa

PTR, I1, I32, I64, F32 = "!llvm.ptr", "i1", "i32", "i64", "f32"
LANES = 16
BYTES = {"f32": 4, "i32": 4, "bf16": 2, "f16": 2, "i16": 2, "i8": 1, "i64": 8, "bool": 1}
# What is held as it is while the code runs; floats are f32.
HELD = frozenset({"i64", "i32", "bool"})


@dataclass(frozen=True)
class Ssa:
    """One value of the function: its name, and its type as MLIR writes it."""

    name: str
    type: str

    @property
    def lanes(self) -> int:
        """Elements of a vector, 0 for a scalar."""
        return int(self.type[7:].split("x")[0]) if self.type.startswith("vector<") else 0

    @property
    def element(self) -> str:
        """The type of one element."""
        return self.type[7:-1].split("x")[1] if self.lanes else self.type


Body = Callable[..., Sequence[Ssa]]


def vector(lanes: int, element: str) -> str:
    """The type of `lanes` elements."""
    return f"vector<{lanes}x{element}>"


class Emitter:
    """Collects the text of a function for a CPU with the instructions of `isa`; every method that
    gives a value writes one op."""

    def __init__(self, isa: Isa = PORTABLE) -> None:
        self.isa = isa
        self._entry: list[str] = []
        self._lines: list[str] = []
        self._into = self._lines
        self._count = 0
        self._known: dict[tuple[str, str], Ssa] = {}

    def op(self, text: str, type: str) -> Ssa:
        """Write `%n = text`, which gives a value of `type`."""
        value = Ssa(self._fresh(), type)
        self._into.append(f"{value.name} = {text}")
        return value

    def line(self, text: str) -> None:
        """Write an op without a result."""
        self._into.append(text)

    def at_entry(self, key: str, type: str, make: Callable[[], Ssa]) -> Ssa:
        """What `make` writes, at the entry of the function and once for each key."""
        found = self._known.get((key, type))
        if found is None:
            into, self._into = self._into, self._entry
            found = self._known[key, type] = make()
            self._into = into
        return found

    # Constants.

    def index(self, number: int) -> Ssa:
        return self.constant(str(number), I64)

    def constant(self, text: str, type: str) -> Ssa:
        """A scalar, or a vector with `text` in every lane."""
        literal = f"dense<{text}>" if type.startswith("vector<") else text
        return self.at_entry(
            text, type, lambda: self.op(f"arith.constant {literal} : {type}", type)
        )

    def number(self, value: float, like: Ssa | str) -> Ssa:
        """A float as a scalar or splat of the type of `like`, exactly as f32 holds it."""
        return self.constant(f32_literal(value), like if isinstance(like, str) else like.type)

    # Arithmetic: both operands have one type, which is that of the result.

    def arith(self, name: str, x: Ssa, y: Ssa) -> Ssa:
        return self.op(f"arith.{name} {x.name}, {y.name} : {x.type}", x.type)

    def add(self, x: Ssa, y: Ssa) -> Ssa:
        return self.arith("addf" if x.element == F32 else "addi", x, y)

    def sub(self, x: Ssa, y: Ssa) -> Ssa:
        return self.arith("subf" if x.element == F32 else "subi", x, y)

    def mul(self, x: Ssa, y: Ssa) -> Ssa:
        return self.arith("mulf" if x.element == F32 else "muli", x, y)

    def div(self, x: Ssa, y: Ssa) -> Ssa:
        """Of sizes: they are never negative."""
        return self.arith("divf" if x.element == F32 else "divui", x, y)

    def remainder(self, x: Ssa, y: Ssa) -> Ssa:
        return self.arith("remui", x, y)

    def maximum(self, x: Ssa, y: Ssa) -> Ssa:
        """The larger one; `y` where one is NaN."""
        return self.select(self.compare("ogt" if x.element == F32 else "sgt", x, y), x, y)

    def minimum(self, x: Ssa, y: Ssa) -> Ssa:
        """The smaller one; `y` where one is NaN."""
        return self.select(self.compare("olt" if x.element == F32 else "slt", x, y), x, y)

    def fma(self, x: Ssa, y: Ssa, z: Ssa) -> Ssa:
        """x * y + z of vectors."""
        return self.op(f"vector.fma {x.name}, {y.name}, {z.name} : {x.type}", x.type)

    def compare(self, predicate: str, x: Ssa, y: Ssa) -> Ssa:
        kind = "cmpf" if x.element == F32 else "cmpi"
        type = vector(x.lanes, I1) if x.lanes else I1
        return self.op(f"arith.{kind} {predicate}, {x.name}, {y.name} : {x.type}", type)

    def select(self, condition: Ssa, x: Ssa, y: Ssa) -> Ssa:
        types = f"{condition.type}, {x.type}" if condition.lanes else x.type
        return self.op(f"arith.select {condition.name}, {x.name}, {y.name} : {types}", x.type)

    def intrinsic(self, name: str, x: Ssa) -> Ssa:
        """A function of LLVM that has one operand and gives its type: sqrt, rint, fabs, floor."""
        return self.op(f"llvm.intr.{name}({x.name}) : ({x.type}) -> {x.type}", x.type)

    def convert(self, name: str, x: Ssa, element: str) -> Ssa:
        """`arith.<name>` to another element type: extf, truncf, bitcast, sitofp, fptosi."""
        type = vector(x.lanes, element) if x.lanes else element
        return self.op(f"arith.{name} {x.name} : {x.type} to {type}", type)

    # Vectors.

    def splat(self, x: Ssa, lanes: int) -> Ssa:
        """`x` in every lane; the scalar itself for no lanes."""
        if lanes == 0:
            return x
        type = vector(lanes, x.type)
        return self.op(f"vector.broadcast {x.name} : {x.type} to {type}", type)

    def reduce(self, kind: Literal["add", "maximum"], x: Ssa) -> Ssa:
        """All lanes as one, half with half: LLVM would take one lane after the other."""
        combine = self.add if kind == "add" else self.maximum
        odd: list[Ssa] = []
        while x.lanes > 1:
            half = x.lanes // 2
            if x.lanes % 2:
                odd.append(self._some_lanes(x, 2 * half, 1))
            x = combine(self._some_lanes(x, 0, half), self._some_lanes(x, half, half))
        for lane in odd:
            x = combine(x, lane)
        return self.op(f"vector.extract {x.name}[0] : {x.element} from {x.type}", x.element)

    def first_lanes(self, x: Ssa, lanes: int) -> Ssa:
        return x if lanes == x.lanes else self._some_lanes(x, 0, lanes)

    def _some_lanes(self, x: Ssa, first: int, lanes: int) -> Ssa:
        type = vector(lanes, x.element)
        cut = f"{{offsets = [{first}], sizes = [{lanes}], strides = [1]}}"
        return self.op(f"vector.extract_strided_slice {x.name} {cut} : {x.type} to {type}", type)

    def shuffle(self, x: Ssa, y: Ssa, order: Sequence[int]) -> Ssa:
        """The lanes of `x`, behind which those of `y` are counted, that `order` says."""
        type = vector(len(order), x.element)
        text = f"vector.shuffle {x.name}, {y.name} {list(order)} : {x.type}, {y.type}"
        return self.op(text, type)

    def insert(self, x: Ssa, into: Ssa, lane: int) -> Ssa:
        return self.op(
            f"vector.insert {x.name}, {into.name} [{lane}] : {x.type} into {into.type}", into.type
        )

    # Memory.

    def offset(self, base: Ssa, bytes: Ssa) -> Ssa:
        """The address `bytes` behind `base`."""
        return self.op(
            f"llvm.getelementptr {base.name}[{bytes.name}] : (!llvm.ptr, i64) -> !llvm.ptr, i8", PTR
        )

    def load(self, address: Ssa, type: str, align: int = 0, *, again: bool = False) -> Ssa:
        """The value at `address`, aligned to its element unless `align` says more.

        With `again`, it is read whether or not it was before. LLVM would rather keep what it has
        read, and where registers are too few for that, write it to the stack.
        """
        align = align or BYTES[Ssa("", type).element] if type != PTR else 8
        place = f"volatile {address.name}" if again else address.name
        return self.op(
            f"llvm.load {place} {{alignment = {align} : i64}} : !llvm.ptr -> {type}", type
        )

    def store(self, value: Ssa, address: Ssa) -> None:
        align = BYTES[value.element]
        self.line(
            f"llvm.store {value.name}, {address.name} {{alignment = {align} : i64}}"
            f" : {value.type}, !llvm.ptr"
        )

    # Control.

    def loop(
        self, low: Ssa, high: Ssa, step: int | Ssa, body: Body, carried: Sequence[Ssa] = ()
    ) -> tuple[Ssa, ...]:
        """`for i in range(low, high, step)`; `body(i, *carried)` gives the next `carried`."""
        counter = Ssa(self._fresh(), I64)
        inside = [Ssa(self._fresh(), value.type) for value in carried]
        apart = step if isinstance(step, Ssa) else self.index(step)
        head = f"scf.for {counter.name} = {low.name} to {high.name} step {apart.name}"
        results: tuple[Ssa, ...] = ()
        if carried:
            group = self._fresh()
            results = tuple(
                Ssa(f"{group}#{place}", value.type) for place, value in enumerate(carried)
            )
            pairs = zip(inside, carried, strict=True)
            taken = ", ".join(f"{now.name} = {before.name}" for now, before in pairs)
            types = ", ".join(value.type for value in carried)
            head = f"{group}:{len(carried)} = {head} iter_args({taken}) -> ({types})"
        self.line(f"{head} : i64 {{")
        given = body(counter, *inside)
        self._yield(given)
        self.line("}")
        return results

    def when(
        self,
        condition: Ssa,
        body: Callable[[], None],
        otherwise: Callable[[], None] | None = None,
    ) -> None:
        """`body` where the scalar `condition` holds, else what is done `otherwise`."""
        self.line(f"scf.if {condition.name} {{")
        body()
        if otherwise is not None:
            self.line("} else {")
            otherwise()
        self.line("}")

    def if_any(
        self,
        conditions: Sequence[Ssa],
        body: Callable[[], Sequence[Ssa]],
        otherwise: Sequence[Ssa],
    ) -> tuple[Ssa, ...]:
        """What `body` gives where one lane of one of `conditions` holds, else `otherwise`."""
        some = reduce(partial(self.arith, "ori"), conditions)
        text = f"vector.reduction <or>, {some.name} : {some.type} into i1"
        condition, group = self.op(text, I1), self._fresh()
        types = ", ".join(value.type for value in otherwise)
        count = len(otherwise)
        self.line(f"{group}:{count} = scf.if {condition.name} -> ({types}) {{")
        self._yield(body())
        self.line("} else {")
        self._yield(otherwise)
        self.line("}")
        return tuple(Ssa(f"{group}#{place}", value.type) for place, value in enumerate(otherwise))

    def tickets(
        self, counter: Ssa, first_ticket: Ssa, total: Ssa, body: Callable[[Ssa], None]
    ) -> None:
        """`body(ticket)` for the tickets below `total` that this thread draws from `counter`, an
        i64 in memory that all threads count up; it was at `first_ticket` before any was drawn."""
        taken, held, ticket = (Ssa(self._fresh(), I64) for _ in range(3))
        first = self.sub(self._draw(counter), first_ticket)
        head = f"{taken.name} = scf.while ({held.name} = {first.name}) : (i64) -> i64 {{"
        self.line(head)
        more = self.compare("ult", held, total)
        self.line(f"scf.condition({more.name}) {held.name} : i64")
        self.line("} do {")
        self.line(f"^bb0({ticket.name}: i64):")
        body(ticket)
        self._yield([self.sub(self._draw(counter), first_ticket)])
        self.line("}")

    def _draw(self, counter: Ssa) -> Ssa:
        names = f"{counter.name}, {self.index(1).name} monotonic {{alignment = 8 : i64}}"
        return self.op(f"llvm.atomicrmw add {names} : !llvm.ptr, i64", I64)

    def _yield(self, values: Sequence[Ssa]) -> None:
        if values:
            names = ", ".join(value.name for value in values)
            self.line(f"scf.yield {names} : {', '.join(value.type for value in values)}")

    def _fresh(self) -> str:
        self._count += 1
        return f"%{self._count}"

    def text(self) -> str:
        """The body of the function: entry first."""
        return "\n".join((*self._entry, *self._lines))


def f32_literal(value: float) -> str:
    """A float as MLIR reads it without rounding: the bits of the f32."""
    bits: int = struct.unpack("<I", struct.pack("<f", value))[0]
    return f"0x{bits:08X}"
