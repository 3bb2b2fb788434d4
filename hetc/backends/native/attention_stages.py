"""The two ways in which threads share attention: by keys, or by queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hetc.backends.native.arithmetic import Dots
from hetc.backends.native.attention import (
    LEAST,
    Flash,
    Query,
    Rule,
    exp_of,
    finish,
    seen_keys,
)
from hetc.backends.native.attention_masks import MaskRow
from hetc.backends.native.dot_attention import QUERIES, DotWalk, by_dots
from hetc.backends.native.ssa import F32, LANES, Ssa, vector
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer
from hetc.ir.dims import product

_MOST_QUERIES = 8
# A query, its sink, and where its result goes.
_Asked = tuple[Query, Ssa | None, Ssa]


@dataclass(frozen=True)
class ByKeys:
    """The keys are shared out in K parts, each walked for all queries: for few queries (decode).

    `partial` [K, B, T, H, E] gets the weighted values of each part, `levels` [K, B, T, H, 2] the
    maximum and the sum. `scratch` [queries, 64] is private. The last part has the newest keys.
    """

    rule: Rule
    q: View
    keys: View
    values: View
    slopes: View | None
    mask: View | None
    partial: View
    levels: View
    scratch: View

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.q, self.keys, self.values)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.partial, self.levels)

    def write(self, w: Writer) -> None:
        e, rule = w.e, self.rule
        batch, _, tokens, _ = (w.size(size) for size in self.q.shape)
        at_once = rule.heads_at_once(_MOST_QUERIES)
        blocks = e.index(rule.heads // at_once)

        def walk(part: Ssa) -> tuple[()]:
            def item(place: Ssa) -> tuple[()]:
                block, rest = e.remainder(place, blocks), e.div(place, blocks)
                token, row = e.remainder(rest, tokens), e.div(rest, tokens)
                self._item(w, part, row, token, e.mul(block, e.index(at_once)), at_once)
                return ()

            e.loop(e.index(0), e.mul(e.mul(batch, tokens), blocks), 1, item)
            return ()

        e.loop(w.unit, w.argument("K"), w.argument("N"), walk)

    def _item(self, w: Writer, part: Ssa, row: Ssa, token: Ssa, head: Ssa, count: int) -> None:
        e, rule = w.e, self.rule
        group = e.div(head, e.index(rule.repeat))
        position, low, high = seen_keys(w, rule, row, token)
        # Tiles of keys are shared out evenly; a walk may run over the end of its part.
        first = e.div(low, e.index(LANES))
        end = e.div(e.add(high, e.index(LANES - 1)), e.index(LANES))
        tiles, parts = e.sub(end, first), w.argument("K")
        begin = e.add(first, e.div(e.mul(tiles, part), parts))
        stop = e.add(first, e.div(e.mul(tiles, e.add(part, e.index(1))), parts))
        own_low = e.maximum(low, e.mul(begin, e.index(LANES)))
        own_high = e.minimum(high, e.mul(stop, e.index(LANES)))
        queries, sums = [], []
        for number in range(count):
            at = e.add(head, e.index(number))
            slope = None
            if self.slopes is not None:
                slope = e.load(w.address(self.slopes, [at]), F32)
            mask = MaskRow.of(w, self.mask, [row, at, token])
            queries.append(
                Query(w.address(self.q, [row, at, token]), position, own_low, own_high, slope, mask)
            )
            sums.append(w.address(self.partial, [part, row, token, at]))
        flash = Flash(
            rule,
            w.address(self.keys, [row, group]),
            w.address(self.values, [row, group]),
            [w.address(self.scratch, [e.index(number)]) for number in range(count)],
            sums,
        )
        for number, found in enumerate(flash.walk(w, queries, begin, stop, own_high)):
            at = e.add(head, e.index(number))
            place = w.address(self.levels, [part, row, token, at])
            e.store(found[0], place)
            e.store(found[1], e.offset(place, e.index(4)))


@dataclass(frozen=True)
class Combine:
    """`out` [B, H, T, E] from what was found for each part of the keys."""

    rule: Rule
    partial: View
    levels: View
    sinks: View | None
    out: View
    split: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.partial, self.levels)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,)

    def write(self, w: Writer) -> None:
        e = w.e
        batch, heads, tokens, _ = self.out.shape
        low, high = e.index(0), w.size(product((batch, heads, tokens)))
        if self.split:
            low, high = w.share(high)
        sizes = w.size(heads), w.size(tokens)

        def item(place: Ssa) -> tuple[()]:
            head, rest = e.remainder(place, sizes[0]), e.div(place, sizes[0])
            token, row = e.remainder(rest, sizes[1]), e.div(rest, sizes[1])
            self._item(w, row, token, head)
            return ()

        e.loop(low, high, 1, item)

    def _item(self, w: Writer, row: Ssa, token: Ssa, head: Ssa) -> None:
        e = w.e
        units = w.argument("K")

        def level(unit: Ssa) -> Ssa:
            return w.address(self.levels, [unit, row, token, head])

        (most,) = e.loop(
            e.index(0),
            units,
            1,
            lambda unit, most: (e.maximum(most, e.load(level(unit), F32)),),
            (e.number(LEAST, F32),),
        )

        def weight(unit: Ssa) -> Ssa:
            return exp_of(e, e.sub(e.load(level(unit), F32), most))

        def share(unit: Ssa, total: Ssa) -> tuple[Ssa]:
            sum = e.load(e.offset(level(unit), e.index(4)), F32)
            return (e.add(total, e.mul(sum, weight(unit))),)

        (total,) = e.loop(e.index(0), units, 1, share, (e.constant("0.0", F32),))
        sink = None if self.sinks is None else e.load(w.address(self.sinks, [head]), F32)
        factor = finish(w, total, most, sink)
        target = w.address(self.out, [row, head, token])
        for first in range(0, self.rule.value_width, LANES):
            lanes = min(LANES, self.rule.value_width - first)

            def part(unit: Ssa, sum: Ssa, first: int = first, lanes: int = lanes) -> tuple[Ssa]:
                place = w.address(self.partial, [unit, row, token, head])
                found = e.load(e.offset(place, e.index(4 * first)), vector(lanes, F32))
                return (e.fma(found, e.splat(weight(unit), lanes), sum),)

            (sum,) = e.loop(e.index(0), units, 1, part, (e.constant("0.0", vector(lanes, F32)),))
            value = e.mul(sum, e.splat(factor, lanes))
            w.put(value, self.out, target, e.index(first))


@dataclass(frozen=True)
class ByQueries:
    """Threads draw blocks of queries, each with all its keys: for many queries (prefill).

    Private: `scratch` [queries, 128], `sums` [queries, E], `narrow` [queries, D], `levels`
    [queries, 32].
    """

    rule: Rule
    q: View
    keys: View
    values: View
    slopes: View | None
    mask: View | None
    sinks: View | None
    out: View
    scratch: View
    sums: View
    narrow: View
    levels: View
    tickets: View

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.q, self.keys, self.values)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,)

    def write(self, w: Writer) -> None:
        e, rule = w.e, self.rule
        batch, _, tokens, _ = (w.size(size) for size in self.q.shape)
        dots = w.isa.dots and by_dots(rule) and self.mask is None
        most = QUERIES if dots else _MOST_QUERIES
        at_once = rule.heads_at_once(most // 2)
        heads, rows = e.index(rule.heads // at_once), e.index(most // at_once)
        blocks = e.div(e.add(tokens, e.sub(rows, e.index(1))), rows)
        last = e.sub(tokens, e.index(1))

        def item(place: Ssa) -> None:
            block, rest = e.remainder(place, blocks), e.div(place, blocks)
            head, row = e.remainder(rest, heads), e.div(rest, heads)
            first, queries = e.mul(head, e.index(at_once)), []
            for number in range(most // at_once):
                # Beyond the end, the last token is done again.
                token = e.minimum(e.add(e.mul(block, rows), e.index(number)), last)
                position, low, high = seen_keys(w, rule, row, token)
                for other in range(at_once):
                    at = e.add(first, e.index(other))
                    slope = self._of_head(w, self.slopes, at)
                    x = w.address(self.q, [row, at, token])
                    target = w.address(self.out, [row, at, token])
                    sink = self._of_head(w, self.sinks, at)
                    mask = MaskRow.of(w, self.mask, [row, at, token])
                    queries.append((Query(x, position, low, high, slope, mask), sink, target))
            group = e.div(first, e.index(rule.repeat))
            keys, values = (w.address(view, [row, group]) for view in (self.keys, self.values))
            (self._by_dots if dots else self._plainly)(w, keys, values, queries)

        w.draw(self.tickets, e.mul(e.mul(batch, heads), blocks), item)

    def _of_head(self, w: Writer, view: View | None, head: Ssa) -> Ssa | None:
        return None if view is None else w.e.load(w.address(view, [head]), F32)

    def _plainly(self, w: Writer, keys: Ssa, values: Ssa, asked: Sequence[_Asked]) -> None:
        e = w.e
        queries = [query for query, _, _ in asked]
        sums = [w.address(self.sums, [e.index(number)]) for number in range(len(asked))]
        scratch = [w.address(self.scratch, [e.index(number)]) for number in range(len(asked))]
        flash = Flash(self.rule, keys, values, scratch, sums)
        begin = e.div(queries[0].low, e.index(LANES))
        end_key = queries[-1].high
        end = e.div(e.add(end_key, e.index(LANES - 1)), e.index(LANES))
        walked = flash.walk(w, queries, begin, end, end_key)
        for (_, sink, target), place, found in zip(asked, sums, walked, strict=True):
            factor = finish(w, found[1], found[0], sink)
            for column in range(0, self.rule.value_width, LANES):
                lanes = min(LANES, self.rule.value_width - column)
                value = e.load(e.offset(place, e.index(4 * column)), vector(lanes, F32))
                value = e.mul(value, e.splat(factor, lanes))
                w.put(value, self.out, target, e.index(column))

    def _by_dots(self, w: Writer, keys: Ssa, values: Ssa, asked: Sequence[_Asked]) -> None:
        e = w.e
        places = (self.narrow, self.scratch, self.sums, self.levels)
        has_slopes = self.slopes is not None
        walk = DotWalk(self.rule, len(asked), has_slopes, keys, values, *places)
        for number, (query, _, _) in enumerate(asked):
            narrow = w.address(self.narrow, [e.index(number)])
            Dots().prepare(w, self.q, query.row, narrow, self.rule.width)
            walk.begin(w, number, query)
        # Positions ascend, and what is seen with them.
        first, last = asked[0][0], asked[-1][0]
        walk.walk(w, (last.low, first.high), (first.low, last.high))
        for number, (_, sink, target) in enumerate(asked):
            walk.end(w, number, sink, self.out, target)
