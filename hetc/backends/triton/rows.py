"""IR values as expressions of a row program: whatever is not stored is computed where it is read.

An expression is wanted at a *place* among the columns of a value. Views change the place and cost
nothing. What has to be in memory first ends the attempt with `MustStand`, and whoever builds the
program stores that value and tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce as fold

from hetc.backends.triton.elementwise import elementwise
from hetc.backends.triton.layouts import Domain, Refusal
from hetc.backends.triton.places import Place, joined, split
from hetc.backends.triton.row_expressions import (
    apply,
    total,
)
from hetc.backends.triton.row_program import (
    Access,
    At,
    Expression,
    Load,
    Number,
    Reduce,
    Rounded,
)
from hetc.backends.triton.row_rules import RULES, position_shift
from hetc.backends.triton.values import ANY, MustStand, Stored, Values, element_of, source_of
from hetc.backends.triton.views import seen_through
from hetc.bundle.launches import Argument
from hetc.ir.op import Op, Value
from hetc.ir.ops.elementwise_base import Elementwise
from hetc.ir.ops.reduce import Mean, ReduceMax, Sum
from hetc.ir.ops.reduce import Reduce as ReduceOp
from hetc.ir.ops.shape import Slice, View
from hetc.ir.ops.source import Source

# A sum of so few is written out.
_UNROLLED = 16
# What a store and a load between two ops would round to.
_NARROW = frozenset({"bf16", "f16"})


class Rows:
    """One row program while it is built: `inner` rows of `columns` for each row of `over`.

    What there is of each position is computed by every token that has it, and read by position.

    `aside` are values that pass through whole and that others read as well: the program stores
    them too. `ops` are what it computes.
    """

    def __init__(self, values: Values, over: Domain, inner: int, columns: int) -> None:
        self.values, self.over, self.inner, self.columns = values, over, inner, columns
        self.operands: dict[Argument, str] = {}
        self.aside: dict[Value, Expression] = {}
        self.ops: list[Op] = []
        self.whole = Place(inner=columns if inner > 1 else 0, column=1)
        # How far the column runs: further or less far inside of an `At`.
        self._reach = columns
        self._done: dict[tuple[Value, Place, bool, int], Expression] = {}

    def name(self, argument: Argument) -> str:
        """What the program calls `argument`: equal programs call equal things the same."""
        return self.operands.setdefault(argument, f"x{len(self.operands)}")

    def split(self, place: Place, sizes: tuple[int, ...]) -> list[Place] | None:
        """The indices of `place` along `sizes`, as functions of this program's row and column."""
        return split(place, sizes, self.inner, self._reach)

    @property
    def reached(self) -> int:
        """How far the column runs in what is made now."""
        return self._reach

    @contextmanager
    def reach(self, columns: int) -> Iterator[None]:
        """Expressions that are made inside have a column that runs to `columns`."""
        before, self._reach = self._reach, columns
        yield
        self._reach = before

    def value(self, value: Value, place: Place, *, last: bool = False) -> Expression:
        """The element of `value` at `place`; of the last token of a sequence with `last`.

        Raises MustStand, and Refusal for what no program can compute.
        """
        key = (value, place, last, self._reach)
        if key not in self._done:
            self._done[key] = self._value(value, place, last)
        return self._done[key]

    def computed(self, value: Value) -> Expression:
        """The whole of `value`, which others read as well: this program is what computes it."""
        assert value.op is not None
        return self._computed(value.op, self.whole, last=False)

    def _value(self, value: Value, place: Place, last: bool) -> Expression:
        stored = self.values.stored.get(value)
        if stored is not None:
            return Load(self.access(stored, place, last, value))
        op = value.op
        if op is None or value not in self.values.layouts:
            raise Refusal("HETC-E057", "token ids are more than looked up")
        if isinstance(op, View):
            return self._view(op, value, place, last)
        domain = self.values.domain(value)
        if domain == "none" and not isinstance(op, Source):
            return self._computed(op, place, last)
        if not self.values.stands(value):
            return self._computed(op, place, last)
        if last and domain != "sequences":
            raise MustStand(value)
        whole = self.values.columns(value) == self.inner * self.columns
        whole = whole and place == self.whole and self._reach == self.columns
        if op.kind in _ELSEWHERE or domain != self.over or not whole:
            raise MustStand(value)
        made = self._computed(op, place, last)
        self.aside[value] = made
        element = element_of(value)
        return Rounded(made, element) if element in _NARROW else made

    def access(
        self, stored: Stored, place: Place, last: bool = False, value: Value | None = None
    ) -> Access:
        """How the program reads or writes `place` of what is stored."""
        name = self.name(stored.argument)
        if stored.is_state:
            parts = self.split(place, (stored.heads, stored.width))
            head = Place(inner=1) if stored.heads > 1 or self.inner > 1 else Place()
            if parts is None or last or parts[0] != head or parts[1].inner:
                raise Refusal("HETC-E057", "a state is read otherwise than by heads")
            within, width = parts[1], stored.width
            return Access(name, stored.element, "state", 0, width, within.base, within.column)
        if stored.domain == "none":
            row = "none"
        elif stored.domain == "positions" and not last and self.over != "sequences":
            row = "position"
        elif stored.domain == "tokens" and last and self.over == "sequences":
            row = "last"
        elif stored.domain != self.over:
            raise Refusal("HETC-E056", "rows of tokens meet rows of sequences")
        else:
            row = "token"
        outer = 0 if row == "none" else stored.row
        return Access(
            name,
            stored.element,
            row,  # type: ignore[arg-type]  # one of the four above
            outer,
            place.inner,
            stored.offset + place.base,
            place.column,
        )

    def _view(self, op: View, value: Value, place: Place, last: bool) -> Expression:
        x = op.operands[0]
        takes_last = (
            isinstance(op, Slice)
            and self.values.domain(x) != "sequences"
            and self.values.domain(value) == "sequences"
        )
        seen = seen_through(op, value, place, self.values.layouts, self.inner, self._reach)
        if seen is None:
            source = source_of(value)
            if source in self.values.stored or isinstance(source.op, Source):
                raise Refusal("HETC-E057", "a view is no evenly spaced part of a row", op.loc)
            raise MustStand(source)
        return self.value(x, seen, last=last or takes_last)

    def _computed(self, op: Op, place: Place, last: bool) -> Expression:
        self.ops.append(op)
        if isinstance(op, Elementwise):
            return self._elementwise(op, place, last)
        rule = RULES.get(type(op))
        if isinstance(op, ReduceOp):
            return self._reduced(op, place, last)
        if rule is None:
            raise Refusal("HETC-E050", f"a row program has no form of {op.kind}", op.loc)
        return rule(self, op, place, last)

    def _elementwise(self, op: Elementwise, place: Place, last: bool) -> Expression:
        sizes = self.values.layouts[op.result].sizes
        parts: list[Expression] = []
        for item in (getattr(op, name) for name, _ in op.operand_fields):
            if not isinstance(item, Value):
                parts.append(Number(float(item)))
                continue
            if item.dtype.is_int and op.kind not in _ON_INTEGERS:
                raise Refusal("HETC-E050", f"a row program has no {op.kind} of integers", op.loc)
            parts.append(self.broadcast(item, sizes, place, last))
        return elementwise(op, parts)

    def broadcast(
        self, x: Value, sizes: tuple[int, ...], place: Place, last: bool, loc: str = ""
    ) -> Expression:
        """`x` where something of `sizes` that it is broadcast to has `place`."""
        own = self.values.layouts[x].sizes
        own = (1,) * (len(sizes) - len(own)) + own
        if own == sizes:
            return self.value(x, place, last=last)
        if all(size == 1 for size in own):
            at = Place()
        else:
            parts = self.split(place, sizes)
            if parts is None:
                raise Refusal("HETC-E057", "what is broadcast is no evenly spaced part", loc)
            kept = [p if size > 1 else Place() for p, size in zip(parts, own, strict=True)]
            at = joined(kept, own)
        source = source_of(x)
        if (
            source not in self.values.stored
            and source.op is not None
            and not isinstance(source.op, Source)
            and self.values.domain(source) != "none"
            and position_shift(source) is None
            and not self._reduces_row(source)
        ):
            # Computed once, not for each that reads it.
            raise MustStand(source)
        return self.value(x, at, last=last)

    def _reduces_row(self, value: Value) -> bool:
        """Whether `value` is one number of this program's own row."""
        op = value.op
        if op is None or value in self.values.stored:
            return False
        if isinstance(op, ReduceOp):
            return self.values.layouts[op.x].sizes[-1] == self.columns and _last_axis(op)
        if isinstance(op, Elementwise | View) and self.values.uses[value] == 1:
            return any(self._reduces_row(x) for x in op.operands)
        return False

    def _reduced(self, op: ReduceOp, place: Place, last: bool) -> Expression:
        x = op.x
        sizes = self.values.layouts[x].sizes
        gone = {axis % x.rank for axis in op.axes if sizes[axis % x.rank] > 1}
        if not gone:
            return self.value(x, place, last=last)
        kept = tuple(1 if axis in gone else size for axis, size in enumerate(sizes))
        parts = self.split(place, kept)
        if parts is None or len(gone) > 1:
            raise Refusal("HETC-E057", "what is reduced is no evenly spaced part", op.loc)
        (axis,) = gone
        count = sizes[axis]

        def at(index: Place) -> Place:
            assert parts is not None
            return joined([*parts[:axis], index, *parts[axis + 1 :]], sizes)

        function = {Sum: "sum", Mean: "mean", ReduceMax: "max"}.get(type(op))
        if function is None:
            raise Refusal("HETC-E050", f"a row program has no {op.kind}", op.loc)
        outside = all(part.column == 0 for part in parts)
        if count == self.columns and outside:
            with self.reach(count):
                inside = self.value(x, at(Place(column=1)), last=last)
            return Reduce(function, inside)  # type: ignore[arg-type]  # one of the three above
        if count > _UNROLLED:
            raise MustStand(op.result)
        terms = [self.value(x, at(Place(base=i)), last=last) for i in range(count)]
        if function == "max":
            return fold(lambda a, b: apply("maximum", a, b), terms)
        summed = total(terms)
        return apply("div", summed, float(count)) if function == "mean" else summed

    def along(
        self, op: Op, place: Place, make: Callable[[Place], Expression], *, needs_row: bool
    ) -> Expression:
        """What `make` gives for all columns of the last axis of `op.result`, seen from `place`;
        `make` is given the number of the row along that axis. With `needs_row` the axis must be the
        program's own row."""
        size = self.values.layouts[op.result].sizes[-1]
        parts = self.split(place, (ANY, size))
        if parts is None or parts[0].column or (needs_row and size != self.columns):
            raise MustStand(op.result)
        with self.reach(size):
            made = make(parts[0])
        within = parts[1]
        if within.inner:
            raise MustStand(op.result)
        if within.is_column:
            return made
        return At(made, step=within.column, offset=within.base)


_ELSEWHERE = frozenset({"linear", "expert_linear", "attention", "topk"})
_ON_INTEGERS = frozenset({"add", "sub", "mul", "maximum", "minimum", "cast", "neg"})


def _last_axis(op: ReduceOp) -> bool:
    return [axis % op.x.rank for axis in op.axes] == [op.x.rank - 1]
