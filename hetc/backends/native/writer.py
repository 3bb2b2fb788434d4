"""Writes the body of a half: sizes, buffers, rows and columns as addresses, one thread's share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hetc.backends.native.isa import Isa
from hetc.backends.native.module import barrier
from hetc.backends.native.ssa import BYTES, F32, I32, I64, LANES, PTR, Emitter, Ssa, vector
from hetc.backends.native.views import B, View, collapse
from hetc.bundle.native import ARGUMENTS
from hetc.ir.dims import Dim, DimLike, product

Memory = Literal["tokens", "logits", "weights", "state", "shared", "private", "barrier"]


@dataclass(frozen=True)
class Buffer:
    """Memory that stages read and write: `offset` bytes into `memory`, of `element`s.

    Of `weights` and `state`, `stride` bytes lie between the iterations of the loop that reads them.
    """

    name: str
    memory: Memory
    element: str
    offset: DimLike = 0
    stride: DimLike = 0


class Writer:
    """The emitter of one half, and what every stage needs of its function's arguments."""

    def __init__(self, buffers: Mapping[str, Buffer], isa: Isa) -> None:
        self.e = Emitter(isa)
        self.isa = isa
        self._buffers = buffers
        self._iteration: Ssa | None = None
        self._arguments: dict[str, Ssa] = {}
        argument_block = Ssa("%args", PTR)
        for place, name in enumerate(ARGUMENTS):
            type = PTR if name.islower() and name != "unit" else I64
            self._arguments[name] = self.e.at_entry(
                f"argument {name}",
                type,
                lambda place=place, type=type: self.e.load(  # type: ignore[misc]
                    self.e.offset(argument_block, self.e.index(8 * place)), type
                ),
            )

    def argument(self, name: str) -> Ssa:
        """One of ARGUMENTS: an address, or a size."""
        return self._arguments[name]

    @property
    def unit(self) -> Ssa:
        """Which thread this is, from 0."""
        return self._arguments["unit"]

    def size(self, value: DimLike) -> Ssa:
        """A polynomial of sizes as a number, computed once."""
        if not isinstance(value, Dim):
            return self.e.index(value)
        return self.e.at_entry(f"size {value}", I64, lambda: self._sum(value))

    def _sum(self, value: Dim) -> Ssa:
        total = self.e.index(0)
        for monomial, factor in value.terms:
            term = self.e.index(factor)
            for name in monomial:
                term = self.e.mul(term, self._arguments[name])
            total = self.e.add(total, term)
        return total

    def past(self, row: Ssa) -> Ssa:
        """How many tokens are behind sequence `row`: the position of its first new one."""
        e = self.e
        return e.load(e.offset(self.argument("pasts"), e.mul(row, e.index(BYTES[I64]))), I64)

    def wait(self) -> None:
        """Wait for every thread."""
        e = self.e
        threads = e.at_entry(
            "threads",
            I32,
            lambda: e.op(f"arith.trunci {self._arguments['N'].name} : i64 to i32", I32),
        )
        barrier(e, self._arguments["barrier"], threads)

    def iterate(self, times: int, body: Callable[[], None]) -> None:
        """`body` once for each layer; buffers move by their strides."""
        if times == 1:
            body()
            return

        def step(iteration: Ssa) -> tuple[()]:
            self._iteration = iteration
            body()
            return ()

        self.e.loop(self.e.index(0), self.e.index(times), 1, step)
        self._iteration = None

    # Addresses.

    def element(self, view: View) -> str:
        return self._buffers[view.buffer].element

    def base(self, buffer: str) -> Ssa:
        """Where a buffer begins, in this iteration."""
        e, found = self.e, self._buffers[buffer]
        start = e.at_entry(
            f"base {buffer}",
            PTR,
            lambda: e.offset(self._arguments[found.memory], self.size(found.offset)),
        )
        if self._iteration is None or found.stride == 0:
            return start
        return e.offset(start, e.mul(self._iteration, self.size(found.stride)))

    def address(self, view: View, index: Sequence[Ssa] = ()) -> Ssa:
        """Where the element `index` of a view lies; axes that `index` leaves out are at 0."""
        e, width = self.e, BYTES[self.element(view)]
        place = self.base(view.buffer)
        if view.offset != 0:
            place = e.offset(place, self.size(view.offset * width))
        if view.past_stride != 0:
            past = self.past(index[view.shape.index(B)])
            place = e.offset(place, e.mul(past, self.size(view.past_stride * width)))
        for number, stride in zip(index, view.strides, strict=False):
            if stride != 0:
                place = e.offset(place, e.mul(number, self.size(stride * width)))
        return place

    # Who does what.

    def share(self, total: Ssa, unit: Ssa | None = None) -> tuple[Ssa, Ssa]:
        """This thread's part of `total` things, or that of `unit`: first, and behind the last."""
        return self._part(total, unit or self.unit, self._arguments["N"])

    def _part(self, total: Ssa, place: Ssa, count: Ssa) -> tuple[Ssa, Ssa]:
        e = self.e
        low = e.div(e.mul(total, place), count)
        return low, e.div(e.mul(total, e.add(place, e.index(1))), count)

    def draw(self, tickets: View, total: Ssa, body: Callable[[Ssa], None]) -> None:
        """`body(ticket)` for the tickets that this thread draws of `total`, in this iteration.

        The counter is at 0 when the function begins, and never set back: in every iteration each
        ticket is drawn once, and by every thread one more, which tells it that there is no other.
        """
        self._draw(self.address(tickets), total, body)

    def _draw(self, counter: Ssa, total: Ssa, body: Callable[[Ssa], None]) -> None:
        e, first = self.e, self.e.index(0)
        if self._iteration is not None:
            drawn = e.add(total, self._arguments["N"])
            first = e.mul(self._iteration, drawn)
        e.tickets(counter, first, total, body)

    def draw_runs(
        self, tickets: View, total: int, runs: int, body: Callable[[Ssa, Ssa], None]
    ) -> None:
        """`body(low, high)` for runs of things from `low` to `high`, of `total` in all.

        A thread takes its share in `runs` of them, one behind the other, so that it reads one
        stream; then runs that others have left of theirs. `tickets` has a counter for each thread.
        """
        e, threads = self.e, self._arguments["N"]

        def queue(turn: Ssa) -> tuple[()]:
            owner = e.remainder(e.add(self.unit, turn), threads)
            low, high = self.share(e.index(total), owner)

            def one(ticket: Ssa) -> None:
                first, end = self._part(e.sub(high, low), ticket, e.index(runs))
                body(e.add(low, first), e.add(low, end))

            self._draw(self.address(tickets, [owner]), e.index(runs), one)
            return ()

        e.loop(e.index(0), threads, 1, queue)

    def rows(self, views: Sequence[View], split: bool, body: Callable[..., None]) -> None:
        """`body(*addresses)` for every row: where it begins in each of `views` (of one shape).

        Rows run along the last axis. With `split`, each thread does its share; else all do all.
        """
        e, joined = self.e, collapse(views)
        shape = joined[0].shape[:-1]
        total = self.size(product(shape))
        low, high = self.share(total) if split else (e.index(0), total)

        def step(row: Ssa) -> tuple[()]:
            index = self._unflatten(row, shape)
            body(*[self.address(view, index) for view in joined])
            return ()

        e.loop(low, high, 1, step)

    def _unflatten(self, place: Ssa, shape: Sequence[DimLike]) -> list[Ssa]:
        index: list[Ssa] = []
        for size in reversed(shape[1:]):
            number = self.size(size)
            index.append(self.e.remainder(place, number))
            place = self.e.div(place, number)
        return [place, *reversed(index)] if shape else []

    def columns(
        self, count: int, body: Callable[..., Sequence[Ssa]], carried: Sequence[Ssa] = ()
    ) -> tuple[Ssa, ...]:
        """`body(column, lanes, *carried)` for LANES columns at a time, then for what is left.

        Carried vectors have LANES lanes, of which the last call may fill fewer.
        """
        e, whole = self.e, count // LANES * LANES
        values = tuple(carried)
        if whole:
            values = e.loop(
                e.index(0),
                e.index(whole),
                LANES,
                lambda column, *inside: body(column, LANES, *inside),
                values,
            )
        if count > whole:
            values = tuple(body(e.index(whole), count - whole, *values))
        return values

    def lanes(self, view: View, row: Ssa, column: Ssa, lanes: int) -> Ssa:
        """`lanes` elements of the row that begins at `row`, from `column` on: floats as f32,
        bools as i1."""
        e, element, stride = self.e, self.element(view), view.strides[-1] if view.rank else 0
        width = BYTES[element]
        if stride == 0:
            return self.widened(e.splat(self.load(row, element), lanes))
        first = e.offset(row, e.mul(column, self.size(stride * width)))
        if stride == 1:
            return self.widened(self.load(first, element, lanes))
        offsets = [self.size(stride * width * lane) for lane in range(lanes)]
        return self.gathered(first, offsets, element)

    def gathered(self, first: Ssa, offsets: Sequence[Ssa], element: str) -> Ssa:
        """The elements that lie `offsets` bytes behind `first`, as `lanes` gives them."""
        e = self.e
        numbers = [self.load(e.offset(first, offset), element) for offset in offsets]
        type = vector(len(numbers), numbers[0].type)
        element = numbers[0].type
        zero = "false" if element == "i1" else "0" if element.startswith("i") else "0.0"
        found = e.constant(zero, type)
        for lane, number in enumerate(numbers):
            found = e.insert(number, found, lane)
        return self.widened(found)

    def load(self, place: Ssa, element: str, lanes: int = 0) -> Ssa:
        """`lanes` elements as they are stored, one as a scalar for 0; bf16 is taken for i16, and
        bools, which are bytes, for i1."""
        stored = {"bf16": "i16", "bool": "i8"}.get(element, element)
        found = self.e.load(place, vector(lanes, stored) if lanes else stored)
        if element != "bool":
            return found
        return self.e.compare("ne", found, self.e.constant("0", found.type))

    def put(self, value: Ssa, view: View, row: Ssa, column: Ssa) -> None:
        """Store `value`, as `lanes` gives it, in the row of a view whose last axis is dense."""
        element = self.element(view)
        place = self.e.offset(row, self.e.mul(column, self.e.index(BYTES[element])))
        self.e.store(self.narrowed(value, element), place)

    def widened(self, x: Ssa) -> Ssa:
        """What `load` gave, floats and i8 as f32. bf16 (as i16) is its upper bits."""
        if x.element == "i8":
            return self.e.convert("sitofp", self.e.convert("extsi", x, I32), F32)
        if x.element != "i16":
            return self.e.convert("extf", x, F32) if x.element == "f16" else x
        wide = self.e.convert("extui", x, I32)
        high = self.e.arith("shli", wide, self.e.constant("16", wide.type))
        return self.e.convert("bitcast", high, F32)

    def widened_pair(self, x: Ssa) -> tuple[Ssa, Ssa]:
        """Pairs of bf16 as i32: the first of each as f32, and the second."""
        e = self.e
        first = e.arith("shli", x, e.constant("16", x.type))
        second = e.arith("andi", x, e.constant("-65536", x.type))
        return e.convert("bitcast", first, F32), e.convert("bitcast", second, F32)

    def narrowed(self, x: Ssa, element: str) -> Ssa:
        """`x` as it is stored. To bf16 by integers: not every CPU has an instruction for it."""
        e = self.e
        if element == "bool":
            return e.convert("extui", x, "i8")
        if element == "i8":
            return e.convert("trunci", e.convert("fptosi", e.intrinsic("rint", x), I32), element)
        if element != "bf16":
            return x if element == x.element else e.convert("truncf", x, element)
        bits = e.convert("bitcast", x, I32)
        sixteen, one = e.constant("16", bits.type), e.constant("1", bits.type)
        # To the nearest, halves to even.
        odd = e.arith("andi", e.arith("shrui", bits, sixteen), one)
        rounded = e.add(bits, e.add(e.constant("32767", bits.type), odd))
        return e.convert("trunci", e.arith("shrui", rounded, sixteen), "i16")
