"""New rows of keys and values, put where attention reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hetc.backends.native import vector_math as fn
from hetc.backends.native.attention import Rule, scales_of
from hetc.backends.native.ssa import BYTES, F32, LANES, Ssa, vector
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer


@dataclass(frozen=True)
class Append:
    """New rows of keys [B, G, T, D] and values [B, G, T, E] go to the state, behind each sequence's
    own.

    With `split` every thread writes its share. Else each has all rows, and the one that will read
    the newest keys, those of the last part, writes them: with one new token nobody waits.
    """

    rule: Rule
    new_keys: View
    new_values: View
    keys: View
    values: View
    split: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.new_keys, self.new_values)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.keys, self.values) if self.split else ()

    def write(self, w: Writer) -> None:
        e = w.e
        if self.split:
            self._rows(w)
            return
        last = e.remainder(e.sub(w.argument("K"), e.index(1)), w.argument("N"))
        e.when(e.compare("eq", w.unit, last), lambda: self._rows(w))
        e.when(e.compare("ne", w.argument("T"), e.index(1)), w.wait)

    def _rows(self, w: Writer) -> None:
        e, rule = w.e, self.rule
        shape = self.new_keys.shape
        batch, groups, tokens = (w.size(size) for size in shape[:3])

        def item(place: Ssa) -> tuple[()]:
            token, rest = e.remainder(place, tokens), e.div(place, tokens)
            group, row = e.remainder(rest, groups), e.div(rest, groups)
            position = e.add(w.past(row), token)
            index, head = [row, group, token], [row, group]
            source = w.address(self.new_keys, index)
            scales = w.address(self.keys, head)
            factor = self._factor(w, self.new_keys, source, scales, position)
            self._key(w, source, head, position, factor)
            source = w.address(self.new_values, index)
            scales = w.address(self.values, head)
            factor = self._factor(w, self.new_values, source, scales, position)
            target = w.address(self.values, [*head, position])

            def some(column: Ssa, lanes: int) -> tuple[()]:
                value = w.lanes(self.new_values, source, column, lanes)
                if factor is not None:
                    value = e.mul(value, e.splat(factor, lanes))
                w.put(value, self.values, target, column)
                return ()

            w.columns(rule.value_width, some)
            return ()

        total = e.mul(e.mul(batch, groups), tokens)
        low, high = w.share(total) if self.split else (e.index(0), total)
        e.loop(low, high, 1, item)

    def _factor(self, w: Writer, view: View, source: Ssa, state: Ssa, position: Ssa) -> Ssa | None:
        """What a row is multiplied by where it becomes whole numbers; stores its scale."""
        e = w.e
        if not self.rule.is_scaled:
            return None

        def some(column: Ssa, lanes: int, most: Ssa) -> tuple[Ssa]:
            size = e.intrinsic("fabs", w.lanes(view, source, column, lanes))
            if lanes < LANES:
                size = e.splat(e.reduce("maximum", size), LANES)
            return (e.maximum(most, size),)

        (most,) = w.columns(view.columns, some, (e.constant("0.0", vector(LANES, F32)),))
        scale, factor = fn.symmetric(e, e.reduce("maximum", most), 127.0)
        e.store(scale, scales_of(w, state, view.columns, position))
        return factor

    def _key(
        self, w: Writer, source: Ssa, head: Sequence[Ssa], position: Ssa, factor: Ssa | None
    ) -> None:
        e, rule = w.e, self.rule
        width = BYTES[rule.element]
        sixteen = e.index(LANES)
        tile, lane = e.div(position, sixteen), e.remainder(position, sixteen)
        start = w.address(self.keys, [*head, tile])
        start = e.offset(start, e.mul(lane, e.index(rule.pair * width)))

        def element(column: Ssa) -> tuple[()]:
            number = w.lanes(self.new_keys, source, column, 0)
            if factor is not None:
                number = e.mul(number, factor)
            step, half = column, e.index(0)
            if rule.pair == 2:
                step, half = e.div(column, e.index(2)), e.remainder(column, e.index(2))
            place = e.mul(step, e.index(LANES * rule.pair * width))
            place = e.add(place, e.mul(half, e.index(width)))
            e.store(w.narrowed(number, rule.element), e.offset(start, place))
            return ()

        e.loop(e.index(0), e.index(rule.width), 1, element)
