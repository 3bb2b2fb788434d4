"""Attention of many queries to a state of bf16, by dot products of pairs.

As in `attention.py`, a block of keys at a time. Queries and the weights of keys are rounded to
bf16, as x is where matrices are multiplied so; sums are f32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

from hetc.backends.native import vector_math as fn
from hetc.backends.native.arithmetic import PAIRS, same_pair
from hetc.backends.native.attention import LEAST, Query, Rule, finish
from hetc.backends.native.dots import pair_dot
from hetc.backends.native.ssa import F32, I32, LANES, Ssa, vector
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer

# Tokens and heads whose queries walk over the keys together.
QUERIES = 24
_TILES = 8
KEYS = _TILES * LANES
# Sums that are kept in registers at a time.
_REGISTERS = 24
_FLOATS = vector(LANES, F32)
# What is kept for each query: its sums of weights by lanes, its maximum, what shrinks the sums, its
# slope; then as i32 the first key, the one behind the last, and its position.
_MOST, _SHRINK, _SLOPE, _LOW, _HIGH, _POSITION = range(LANES, LANES + 6)
LEVELS = 2 * LANES


def by_dots(rule: Rule) -> bool:
    """Whether a state has pairs of bf16, and values in whole vectors."""
    return rule.element == "bf16" and rule.value_width % LANES == 0


@dataclass(frozen=True)
class DotWalk:
    """The walk of `count` queries over the keys and values at two addresses.

    Private: `queries` [count, D] of bf16, `weights` [count, 128], `sums` [count, E], `levels`
    [count, 32].
    """

    rule: Rule
    count: int
    has_slopes: bool
    keys: Ssa
    values: Ssa
    queries: View
    weights: View
    sums: View
    levels: View

    def begin(self, w: Writer, number: int, query: Query) -> None:
        """Query `number` has seen nothing yet."""
        e, place = w.e, w.address(self.levels, [w.e.index(number)])
        zero = e.constant("0.0", _FLOATS)
        e.store(zero, place)
        e.store(e.number(LEAST, F32), self._of(w, place, _MOST))
        if query.slope is not None:
            e.store(query.slope, self._of(w, place, _SLOPE))
        bounds = ((_LOW, query.low), (_HIGH, query.high), (_POSITION, query.position))
        for at, value in bounds:
            e.store(e.convert("trunci", value, I32), self._of(w, place, at))
        sums = w.address(self.sums, [e.index(number)])
        for column in range(0, self.rule.value_width, LANES):
            e.store(zero, e.offset(sums, e.index(4 * column)))

    def walk(self, w: Writer, all_see: tuple[Ssa, Ssa], some_see: tuple[Ssa, Ssa]) -> None:
        """Over the blocks of keys that some query sees; every one sees all from `all_see[0]` to
        `all_see[1]`."""
        e = w.e
        size = e.index(KEYS)
        # As blocks begin at multiples of their size, what lies beyond the last key is in the room
        # that a state has more than its tokens.
        first = e.mul(e.div(some_see[0], size), size)

        def block(key: Ssa) -> tuple[()]:
            self._scores(w, key)
            end = e.add(key, size)
            after = e.compare("sge", key, all_see[0])
            whole = e.arith("andi", after, e.compare("sle", end, all_see[1]))
            e.when(
                whole,
                lambda: self._weigh(w, key, masked=False),
                lambda: self._weigh(w, key, masked=True),
            )
            self._gather(w, key, e.minimum(e.sub(some_see[1], key), size))
            return ()

        e.loop(first, some_see[1], KEYS, block)

    def end(self, w: Writer, number: int, sink: Ssa | None, out: View, target: Ssa) -> None:
        """Put the result of query `number` to `target`, a row of `out`."""
        e = w.e
        place = w.address(self.levels, [e.index(number)])
        total = e.reduce("add", e.load(place, _FLOATS))
        most = e.mul(e.load(self._of(w, place, _MOST), F32), e.number(self._unit, F32))
        factor = e.splat(finish(w, total, most, sink), LANES)
        sums = w.address(self.sums, [e.index(number)])
        for column in range(0, self.rule.value_width, LANES):
            value = e.load(e.offset(sums, e.index(4 * column)), _FLOATS)
            w.put(e.mul(value, factor), out, target, e.index(column))

    @property
    def _is_plain(self) -> bool:
        """Whether a score is q . k, but for its scale."""
        return self.rule.softcap is None and not self.has_slopes

    @property
    def _unit(self) -> float:
        """What a score counts for: q . k alone, or what the op makes of it."""
        return self.rule.scale if self._is_plain else 1.0

    def _of(self, w: Writer, levels: Ssa, place: int) -> Ssa:
        return w.e.offset(levels, w.e.index(4 * place))

    def _at_once(self, vectors: int) -> int:
        """The most queries, of those that divide all evenly, whose sums fit in registers."""
        fitting = range(1, max(1, _REGISTERS // vectors) + 1)
        return max(n for n in fitting if self.count % n == 0)

    def _scores(self, w: Writer, key: Ssa) -> None:
        """q . k of all queries with a block of keys, to `weights`."""
        e, rule = w.e, self.rule
        tile_bytes = rule.padded_width * LANES * 2
        first = e.offset(self.keys, e.mul(key, e.index(tile_bytes // LANES)))
        starts = [e.offset(first, e.index(tile * tile_bytes)) for tile in range(_TILES)]
        at_once, zero = self._at_once(_TILES), e.constant("0.0", _FLOATS)

        def some(query: Ssa) -> tuple[()]:
            numbers = [e.add(query, e.index(n)) for n in range(at_once)]
            rows = [w.address(self.queries, [number]) for number in numbers]

            def step(pair: Ssa, *sums: Ssa) -> list[Ssa]:
                place = e.mul(pair, e.index(4 * LANES))
                factors = [same_pair(e, e.offset(row, e.mul(pair, e.index(4)))) for row in rows]
                found = list(sums)
                # One tile after the other: not all of them fit beside the sums.
                for tile, start in enumerate(starts):
                    column = e.load(e.offset(start, place), PAIRS)
                    for number, factor in enumerate(factors):
                        at = number * _TILES + tile
                        found[at] = pair_dot(e, found[at], factor, column)
                return found

            pairs = e.index(rule.padded_width // 2)
            found = iter(e.loop(e.index(0), pairs, 1, step, [zero] * (at_once * _TILES)))
            for number in numbers:
                place = w.address(self.weights, [number])
                for tile in range(_TILES):
                    e.store(next(found), e.offset(place, e.index(4 * LANES * tile)))
            return ()

        e.loop(e.index(0), e.index(self.count), at_once, some)

    def _weigh(self, w: Writer, key: Ssa, *, masked: bool) -> None:
        """Scores become weights, in bf16; maxima and sums go on."""
        e = w.e

        def one(query: Ssa) -> tuple[()]:
            place = w.address(self.weights, [query])
            levels = w.address(self.levels, [query])
            scores = [
                e.load(e.offset(place, e.index(4 * LANES * tile)), _FLOATS)
                for tile in range(_TILES)
            ]
            seen: list[Ssa | None] = [None] * _TILES
            if masked or not self._is_plain:
                for tile, score in enumerate(scores):
                    scores[tile], seen[tile] = self._changed(w, score, levels, key, tile, masked)
            most = e.load(self._of(w, levels, _MOST), F32)
            new_most = e.maximum(most, e.reduce("maximum", reduce(e.maximum, scores)))
            # Powers of two: what makes them so is in one factor with the scale.
            unit = e.number(self._unit / math.log(2), F32)
            level = e.mul(new_most, unit)
            shrink = fn.small_exp2(e, e.splat(e.sub(e.mul(most, unit), level), LANES))
            total = e.mul(e.load(levels, _FLOATS), shrink)
            lowered = e.splat(e.sub(e.constant("0.0", F32), level), LANES)
            weights = []
            for score, visible in zip(scores, seen, strict=True):
                weight = fn.small_exp2(e, e.fma(score, e.splat(unit, LANES), lowered))
                if visible is not None:
                    weight = e.select(visible, weight, e.constant("0.0", _FLOATS))
                weights.append(weight)
            e.store(e.add(total, reduce(e.add, weights)), levels)
            for tile, weight in enumerate(weights):
                narrow = e.convert("truncf", weight, "bf16")
                e.store(narrow, e.offset(place, e.index(2 * LANES * tile)))
            e.store(new_most, self._of(w, levels, _MOST))
            e.store(
                e.op(f"vector.extract {shrink.name}[0] : f32 from {shrink.type}", F32),
                self._of(w, levels, _SHRINK),
            )
            return ()

        e.loop(e.index(0), e.index(self.count), 1, one)

    def _changed(
        self, w: Writer, score: Ssa, levels: Ssa, key: Ssa, tile: int, masked: bool
    ) -> tuple[Ssa, Ssa | None]:
        """A score with what the op adds to it, and which keys are seen, where not all are."""
        e, rule = w.e, self.rule
        lanes = e.constant(f"[{', '.join(map(str, range(LANES)))}]", vector(LANES, I32))
        first = e.convert("trunci", e.add(key, e.index(tile * LANES)), I32)
        keys = e.add(e.splat(first, LANES), lanes)

        def level(at: int, type: str) -> Ssa:
            return e.splat(e.load(self._of(w, levels, at), type), LANES)

        if not self._is_plain:
            score = e.mul(score, e.number(rule.scale, score))
        if rule.softcap is not None:
            capped = fn.tanh(e, e.mul(score, e.number(1 / rule.softcap, score)))
            score = e.mul(capped, e.number(rule.softcap, score))
        if self.has_slopes:
            distance = e.convert("sitofp", e.sub(keys, level(_POSITION, I32)), F32)
            score = e.fma(distance, level(_SLOPE, F32), score)
        if not masked:
            return score, None
        after = e.compare("sge", keys, level(_LOW, I32))
        seen = e.arith("andi", after, e.compare("slt", keys, level(_HIGH, I32)))
        return e.select(seen, score, e.number(LEAST, score)), seen

    def _gather(self, w: Writer, key: Ssa, count: Ssa) -> None:
        """Add the weighted values of `count` keys from `key` on to the sums of all queries."""
        e, rule = w.e, self.rule
        columns = range(0, rule.value_width, LANES)
        at_once = self._at_once(len(columns))
        row_bytes = 2 * rule.value_width
        first = e.offset(self.values, e.mul(key, e.index(row_bytes)))
        # An odd last key is followed by one whose weight is 0.
        pairs = e.div(e.add(count, e.index(1)), e.index(2))

        def some(query: Ssa) -> tuple[()]:
            numbers = [e.add(query, e.index(n)) for n in range(at_once)]
            places = [w.address(self.sums, [number]) for number in numbers]
            weights = [w.address(self.weights, [number]) for number in numbers]
            start = []
            for number, place in zip(numbers, places, strict=True):
                shrink = self._of(w, w.address(self.levels, [number]), _SHRINK)
                factor = e.splat(e.load(shrink, F32), LANES)
                for column in columns:
                    held = e.load(e.offset(place, e.index(4 * column)), _FLOATS)
                    start.append(e.mul(held, factor))

            def step(pair: Ssa, *sums: Ssa) -> list[Ssa]:
                row = e.offset(first, e.mul(pair, e.index(2 * row_bytes)))
                values = [self._two_rows(w, e.offset(row, e.index(2 * at))) for at in columns]
                near = [same_pair(e, e.offset(at, e.mul(pair, e.index(4)))) for at in weights]
                every = [(factor, value) for factor in near for value in values]
                return [pair_dot(e, s, *both) for s, both in zip(sums, every, strict=True)]

            found = iter(e.loop(e.index(0), pairs, 1, step, start))
            for place in places:
                for column in columns:
                    e.store(next(found), e.offset(place, e.index(4 * column)))
            return ()

        e.loop(e.index(0), e.index(self.count), at_once, some)

    def _two_rows(self, w: Writer, first: Ssa) -> Ssa:
        """16 numbers of a row of values from `first` on, each beside the one below it."""
        e = w.e
        second = e.offset(first, e.index(2 * self.rule.value_width))
        upper, lower = (w.load(place, "bf16", LANES) for place in (first, second))
        order = ", ".join(f"{lane}, {LANES + lane}" for lane in range(LANES))
        both = f"{upper.name}, {lower.name} [{order}] : {upper.type}, {lower.type}"
        return e.convert(
            "bitcast", e.op(f"vector.shuffle {both}", vector(2 * LANES, "i16")), "bf16"
        )
