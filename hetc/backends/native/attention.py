"""Attention over the KV state, block by block of keys: the scores of all keys are never stored.

Running maximum, sum and weighted values are kept a query, and rescaled where a block has a larger
score (Milakov and Gimelshein 2018, algorithm 3; Dao et al. 2022). Keys lie in tiles of 16
positions, `[C/16, D, 16]`, so that the lanes of a vector are keys; values lie row by row. In 8 bits
the scales [C] of all rows (f32) follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hetc.backends.native import vector_math as fn
from hetc.backends.native.attention_masks import MaskRow
from hetc.backends.native.ssa import BYTES, F32, I32, LANES, Emitter, Ssa, vector
from hetc.backends.native.writer import Writer

KEY_TILES = 4
KEYS_AT_ONCE = KEY_TILES * LANES
LEAST = -1e30
_REGISTERS = 16


@dataclass(frozen=True)
class Rule:
    """The attributes of one attention, and its sizes: R query heads share each of G key heads."""

    groups: int
    repeat: int
    width: int
    value_width: int
    element: str
    scale: float
    softcap: float | None
    causal: bool
    window: int | None
    chunk: int | None

    @property
    def heads(self) -> int:
        return self.groups * self.repeat

    @property
    def pair(self) -> int:
        """Numbers along D that lie side by side in a tile of keys."""
        return 2 if self.element == "bf16" else 1

    @property
    def is_scaled(self) -> bool:
        """Whether numbers are whole, and each row has a scale."""
        return self.element == "i8"

    @property
    def padded_width(self) -> int:
        return -(-self.width // self.pair) * self.pair

    def heads_at_once(self, most: int) -> int:
        """The largest divisor of R that is at most `most`."""
        return max(n for n in range(1, most + 1) if self.repeat % n == 0)


@dataclass(frozen=True)
class Query:
    """One row of q: where it lies, its position and its slope; keys `low` to `high` are seen."""

    row: Ssa
    position: Ssa
    low: Ssa
    high: Ssa
    slope: Ssa | None
    mask: MaskRow | None = None


@dataclass(frozen=True)
class Flash:
    """The walk of some queries over keys, and where it keeps what it needs.

    `scratch` [queries, 64] holds the weights of one block of keys, `sums` addresses of [E] each.
    """

    rule: Rule
    keys: Ssa
    values: Ssa
    scratch: Sequence[Ssa]
    sums: Sequence[Ssa]

    def walk(
        self, w: Writer, queries: Sequence[Query], first_tile: Ssa, end_tile: Ssa, end_key: Ssa
    ) -> list[tuple[Ssa, Ssa]]:
        """Maximum and sum of every query over the tiles `first_tile` to `end_tile`; the weighted
        values are in `sums`. No key from `end_key` on is seen by any of them."""
        e, count = w.e, len(queries)
        zero = e.constant("0.0", vector(LANES, F32))
        for sums in self.sums:
            for column, lanes in self._vectors:
                e.store(e.first_lanes(zero, lanes), e.offset(sums, e.index(4 * column)))
        start = [e.number(LEAST, F32)] * count + [e.constant("0.0", F32)] * count

        def block(tile: Ssa, *carried: Ssa) -> list[Ssa]:
            most, total = list(carried[:count]), list(carried[count:])
            shrink: list[Ssa] = []
            at_once = max(1, _REGISTERS // KEY_TILES)
            for first in range(0, count, at_once):
                group = range(first, min(first + at_once, count))
                scores = self._scores(w, [queries[i].row for i in group], tile)
                for place, i in enumerate(group):
                    masked = self._masked(w, scores[place], queries[i], tile)
                    most[i], total[i], factor = self._weigh(w, masked, i, tile, most[i], total[i])
                    shrink.append(factor)
            key = e.mul(tile, e.index(LANES))
            left = e.minimum(e.sub(end_key, key), e.index(KEYS_AT_ONCE))
            vectors = -(-self.rule.value_width // LANES)
            at_once = max(1, _REGISTERS // vectors)
            for first in range(0, count, at_once):
                self._gather(w, range(first, min(first + at_once, count)), key, left, shrink)
            return [*most, *total]

        ended = e.loop(first_tile, end_tile, KEY_TILES, block, start)
        return list(zip(ended[:count], ended[count:], strict=True))

    @property
    def _vectors(self) -> list[tuple[int, int]]:
        """Column and lanes of the vectors of one row of values."""
        width = self.rule.value_width
        return [(column, min(LANES, width - column)) for column in range(0, width, LANES)]

    def _scores(self, w: Writer, rows: Sequence[Ssa], tile: Ssa) -> list[list[Ssa]]:
        """q . k of every row with the keys of KEY_TILES tiles.

        One tile after the other, so that keys are one stream: of several the CPU reads none ahead.
        Each sum has two parts, which need not wait for each other.
        """
        e, rule = w.e, self.rule
        tile_bytes = rule.padded_width * LANES * BYTES[rule.element]
        zero = e.constant("0.0", vector(LANES, F32))
        found: list[list[Ssa]] = [[] for _ in rows]
        for place in range(KEY_TILES):
            start = e.offset(self.keys, e.mul(e.add(tile, e.index(place)), e.index(tile_bytes)))

            def two(step: Ssa, *sums: Ssa, start: Ssa = start, count: int = 2) -> list[Ssa]:
                totals = list(sums)
                columns = self._keys(w, start, step)
                for i, row in enumerate(rows):
                    first = e.offset(row, e.mul(step, e.index(8)))
                    for half in range(count):
                        factor = e.load(e.offset(first, e.index(4 * half)), F32)
                        at = 2 * i + half
                        totals[at] = e.fma(columns[half], e.splat(factor, LANES), totals[at])
                return totals

            whole = e.index(rule.width // 2)
            sums = e.loop(e.index(0), whole, 1, two, [zero] * (2 * len(rows)))
            if rule.width % 2:
                sums = tuple(two(whole, *sums, count=1))
            for i, scores in enumerate(found):
                scores.append(e.add(*sums[2 * i :][:2]))
        return found

    def _keys(self, w: Writer, start: Ssa, step: Ssa) -> tuple[Ssa, Ssa]:
        """Two numbers along D of 16 keys; behind the last one of an odd D there are others."""
        e, rule = w.e, self.rule
        width = LANES * BYTES[rule.element]
        place = e.offset(start, e.mul(step, e.index(2 * width)))
        if rule.pair == 2:
            return w.widened_pair(e.load(place, vector(LANES, I32)))
        first, second = (
            w.widened(w.load(there, rule.element, LANES))
            for there in (place, e.offset(place, e.index(width)))
        )
        return first, second

    def _masked(
        self, w: Writer, scores: Sequence[Ssa], query: Query, tile: Ssa
    ) -> list[tuple[Ssa, Ssa]]:
        """The scores with everything that the op adds to them, and which keys are seen."""
        e, rule = w.e, self.rule
        low, high, position = (
            e.splat(_narrow(e, number), LANES) for number in (query.low, query.high, query.position)
        )
        lanes = e.constant(f"[{', '.join(map(str, range(LANES)))}]", vector(LANES, I32))
        found = []
        for place, score in enumerate(scores):
            first = e.mul(e.add(tile, e.index(place)), e.index(LANES))
            key = e.add(e.splat(_narrow(e, first), LANES), lanes)
            seen = e.arith("andi", e.compare("sge", key, low), e.compare("slt", key, high))
            scale = e.number(rule.scale, score)
            if rule.is_scaled:
                scales = scales_of(w, self.keys, rule.width, first)
                scale = e.mul(e.load(scales, score.type), scale)
            score = e.mul(score, scale)
            if rule.softcap is not None:
                capped = fn.tanh(e, e.mul(score, e.number(1 / rule.softcap, score)))
                score = e.mul(capped, e.number(rule.softcap, score))
            if query.slope is not None:
                distance = e.convert("sitofp", e.sub(key, position), F32)
                score = e.fma(distance, e.splat(query.slope, LANES), score)
            if query.mask is not None:
                score, seen = query.mask.apply(w, first, score, seen)
            found.append((e.select(seen, score, e.number(LEAST, score)), seen))
        return found

    def _weigh(
        self,
        w: Writer,
        scores: Sequence[tuple[Ssa, Ssa]],
        i: int,
        tile: Ssa,
        most: Ssa,
        total: Ssa,
    ) -> tuple[Ssa, Ssa, Ssa]:
        """Store the weights of a block of keys, times the scales of their values; the new maximum
        and sum, and what shrinks the old sums."""
        e, rule = w.e, self.rule
        scales = None
        if rule.is_scaled:
            scales = scales_of(w, self.values, rule.value_width, e.mul(tile, e.index(LANES)))
        highest = scores[0][0]
        for score, _ in scores[1:]:
            highest = e.maximum(highest, score)
        new_most = e.maximum(most, e.reduce("maximum", highest))
        level = e.splat(new_most, LANES)
        sum = e.constant("0.0", highest.type)
        for place, (score, seen) in enumerate(scores):
            weight = fn.exp(e, e.sub(score, level))
            weight = e.select(seen, weight, e.constant("0.0", weight.type))
            sum = e.add(sum, weight)
            there = e.index(place * LANES * 4)
            if scales is not None:
                weight = e.mul(weight, e.load(e.offset(scales, there), weight.type))
            e.store(weight, e.offset(self.scratch[i], there))
        factor = exp_of(e, e.sub(most, new_most))
        return new_most, e.add(e.mul(total, factor), e.reduce("add", sum)), factor

    def _gather(self, w: Writer, group: range, key: Ssa, count: Ssa, shrink: Sequence[Ssa]) -> None:
        """Add the weighted values of `count` keys from `key` on to the sums of some queries."""
        e, rule = w.e, self.rule
        places = self._vectors
        start = []
        for i in group:
            for at, lanes in places:
                held = e.load(e.offset(self.sums[i], e.index(4 * at)), vector(lanes, F32))
                start.append(e.mul(held, e.splat(shrink[i], lanes)))
        row_bytes = rule.value_width * BYTES[rule.element]
        first = e.offset(self.values, e.mul(key, e.index(row_bytes)))

        def one(number: Ssa, *sums: Ssa) -> list[Ssa]:
            row = e.offset(first, e.mul(number, e.index(row_bytes)))
            values = [
                w.widened(w.load(e.offset(row, e.index(at * BYTES[rule.element])), rule.element, n))
                for at, n in places
            ]
            totals = []
            for place, i in enumerate(group):
                weight = e.load(e.offset(self.scratch[i], e.mul(number, e.index(4))), F32)
                for at, value in enumerate(values):
                    factor = e.splat(weight, value.lanes)
                    totals.append(e.fma(factor, value, sums[place * len(places) + at]))
            return totals

        ended = iter(e.loop(e.index(0), count, 1, one, start))
        for i in group:
            for at, _ in places:
                e.store(next(ended), e.offset(self.sums[i], e.index(4 * at)))


def scales_of(w: Writer, state: Ssa, width: int, key: Ssa) -> Ssa:
    """Where the scale of `key` is: behind the numbers [C, width] of a head, from `state` on."""
    e = w.e
    numbers = e.mul(w.argument("C"), e.index(width))
    return e.offset(e.offset(state, numbers), e.mul(key, e.index(BYTES[F32])))


def _narrow(e: Emitter, x: Ssa) -> Ssa:
    return e.convert("trunci", x, I32)


def exp_of(e: Emitter, x: Ssa) -> Ssa:
    """e^x of one number."""
    result = fn.exp(e, e.splat(x, 1))
    return e.op(f"vector.extract {result.name}[0] : f32 from {result.type}", F32)


def seen_keys(w: Writer, rule: Rule, row: Ssa, token: Ssa) -> tuple[Ssa, Ssa, Ssa]:
    """The position of a new token of sequence `row`, the first key that its query sees, and the one
    behind the last."""
    e, past = w.e, w.past(row)
    position = e.add(past, token)
    low, next = e.index(0), e.add(position, e.index(1))
    high = next if rule.causal else e.add(past, w.argument("T"))
    if rule.window is not None:
        low = e.maximum(low, e.sub(next, e.index(rule.window)))
    if rule.chunk is not None:
        chunk = e.index(rule.chunk)
        begin = e.mul(e.div(position, chunk), chunk)
        low = e.maximum(low, begin)
        high = e.minimum(high, e.add(begin, chunk))
    return position, low, high


def finish(w: Writer, total: Ssa, most: Ssa, sink: Ssa | None) -> Ssa:
    """What the weighted values of a query are multiplied by: one over the sum, to which a sink
    adds. A query that saw nothing gets zeros."""
    e = w.e
    zero, shrunk = e.constant("0.0", F32), e.constant("1.0", F32)
    if sink is not None:
        level = e.maximum(most, sink)
        shrunk = exp_of(e, e.sub(most, level))
        total = e.add(e.mul(total, shrunk), exp_of(e, e.sub(sink, level)))
    some = e.compare("ogt", total, zero)
    return e.select(some, e.div(shrunk, e.select(some, total, shrunk)), zero)
