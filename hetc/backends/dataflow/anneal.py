"""Simulated annealing of movable things over slots, by half-perimeter wirelength (HPWL).

VPR's scheme (Betz & Rose, FPL 1997): random swaps, geometric cooling, bounding boxes updated
incrementally, a window around the moved thing that shrinks as the temperature falls. A seed gives
the same answer on every machine: costs and temperatures are integers, exp(-d / T) is read from a
table made by integer multiplication and not from a math library, and `random.Random` is the same
Mersenne Twister everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

# e**(-1/16) in units of 2**-30, to the nearest: one step of the table of acceptance chances.
_ONE = 1 << 30
_DECAY = 1_008_687_096


def _chances() -> tuple[int, ...]:
    """floor(2**30 * e**(-i/16)) within a few units, until it is next to nothing."""
    table = [_ONE]
    while table[-1] > 64:
        table.append(table[-1] * _DECAY >> 30)
    return tuple(table)


_CHANCES = _chances()
# Temperatures are in 1/64 of a hop.
_DEGREES = 64
_COOLING_STEPS = 60
_COLDEST = _DEGREES // 4
# Most moves go next to a thing on the same net, the others anywhere in the window: on a layer of
# Llama-3.1-8B, 100,000 moves so end 8 % shorter than 100,000 in the window alone.
_DIRECTED = 0.9
_NEAR = 2


@dataclass(frozen=True)
class Problem:
    """Things to arrange on a `width` x `height` array of slots, numbered by rows.

    `columns[kind][slot]` and `rows[kind][slot]` say where a pin of that kind is when its thing is
    on the slot. `pins[p]` is (thing, kind); `nets` list the pins they join and `fixed` the (column,
    row) terminals that do not move. `usable[slot]` is false where nothing may stand.
    """

    width: int
    height: int
    usable: tuple[bool, ...]
    columns: tuple[tuple[int, ...], ...]
    rows: tuple[tuple[int, ...], ...]
    pins: tuple[tuple[int, int], ...]
    nets: tuple[tuple[int, ...], ...]
    fixed: tuple[tuple[tuple[int, int], ...], ...]
    weights: tuple[int, ...]


# West, east, north and south border of a net's bounding box.
_Box = tuple[int, int, int, int]


class Arrangement:
    """Things on slots, with every net's bounding box kept up to date."""

    def __init__(self, problem: Problem, slots: Sequence[int]) -> None:
        self.problem = problem
        self.slots = list(slots)
        self.things = [-1] * len(problem.usable)
        for thing, slot in enumerate(self.slots):
            self.things[slot] = thing
        # Terminals that do not move get numbers after the pins.
        self._x = [problem.columns[kind][self.slots[thing]] for thing, kind in problem.pins]
        self._y = [problem.rows[kind][self.slots[thing]] for thing, kind in problem.pins]
        self._pins_of: list[list[tuple[int, int, int]]] = [[] for _ in self.slots]
        self._nets: list[list[int]] = []
        for number, (pins, fixed) in enumerate(zip(problem.nets, problem.fixed, strict=True)):
            terminals = range(len(self._x), len(self._x) + len(fixed))
            self._x += [x for x, _ in fixed]
            self._y += [y for _, y in fixed]
            self._nets.append([*pins, *terminals])
            for pin in pins:
                thing, kind = problem.pins[pin]
                self._pins_of[thing].append((pin, kind, number))
        self._boxes = [self._box(number) for number in range(len(self._nets))]
        self._last: list[tuple[int, _Box]] = []

    @property
    def cost(self) -> int:
        """The sum of the nets' weighted HPWL."""
        weights = self.problem.weights
        return sum(_hpwl(box) * weight for box, weight in zip(self._boxes, weights, strict=True))

    def neighbour(self, thing: int, rng: random.Random) -> int | None:
        """The slot of a random thing on a random net of `thing`, None where it has no net."""
        pins = self._pins_of[thing]
        if not pins:
            return None
        net = self.problem.nets[pins[int(rng.random() * len(pins))][2]]
        return self.slots[self.problem.pins[net[int(rng.random() * len(net))]][0]]

    def swap(self, slot: int, other: int) -> int:
        """Exchange what stands on two slots; what the cost grew by. `undo` takes it back."""
        moved = [*self._put(self.things[slot], other), *self._put(self.things[other], slot)]
        self.things[slot], self.things[other] = self.things[other], self.things[slot]
        boxes, weights, grown = self._boxes, self.problem.weights, 0
        self._last = []
        for pin, old_x, old_y, number in moved:
            box = boxes[number]
            new = self._stretched(number, box, old_x, old_y, self._x[pin], self._y[pin])
            if new != box:
                boxes[number] = new
                self._last.append((number, box))
                grown += (_hpwl(new) - _hpwl(box)) * weights[number]
        return grown

    def undo(self, slot: int, other: int) -> None:
        """Take back the `swap` of the same two slots that was the last one."""
        self._put(self.things[slot], other)
        self._put(self.things[other], slot)
        self.things[slot], self.things[other] = self.things[other], self.things[slot]
        for number, box in reversed(self._last):
            self._boxes[number] = box

    def _put(self, thing: int, slot: int) -> list[tuple[int, int, int, int]]:
        """Move a thing, or nothing (-1); its pins with their old places and nets."""
        if thing < 0:
            return []
        self.slots[thing] = slot
        columns, rows, x, y = self.problem.columns, self.problem.rows, self._x, self._y
        moved = []
        for pin, kind, number in self._pins_of[thing]:
            moved.append((pin, x[pin], y[pin], number))
            x[pin] = columns[kind][slot]
            y[pin] = rows[kind][slot]
        return moved

    def _stretched(self, number: int, box: _Box, old_x: int, old_y: int, x: int, y: int) -> _Box:
        """The box after one pin went from its old place to (x, y): VPR's incremental update."""
        west, east, north, south = box
        inward = old_x == west < x or old_x == east > x or old_y == north < y or old_y == south > y
        if inward:
            return self._box(number)
        return min(west, x), max(east, x), min(north, y), max(south, y)

    def _box(self, number: int) -> _Box:
        pins = self._nets[number]
        xs = [self._x[pin] for pin in pins]
        ys = [self._y[pin] for pin in pins]
        return min(xs), max(xs), min(ys), max(ys)


def _hpwl(box: _Box) -> int:
    return box[1] - box[0] + box[3] - box[2]


def anneal(
    problem: Problem, start: Sequence[int], frozen: frozenset[int], moves: int, seed: int
) -> list[int]:
    """The slot of every thing after `moves` moves; things in `frozen` stay where they start."""
    rng = random.Random(seed)
    arrangement = Arrangement(problem, start)
    free = [thing for thing in range(len(start)) if thing not in frozen]
    if not free or not problem.nets:
        return list(start)
    hottest = _hottest(arrangement, free, frozen, rng)
    best, best_cost, cost = list(arrangement.slots), arrangement.cost, arrangement.cost
    reach = max(problem.width, problem.height)
    for step in range(_COOLING_STEPS):
        heat = _cooled(hottest, step)
        window = max(1, reach * (_COOLING_STEPS - step) // _COOLING_STEPS)
        for _ in range(moves // _COOLING_STEPS):
            slots = _move(arrangement, free, frozen, window, rng)
            if slots is None:
                continue
            grown = arrangement.swap(*slots)
            if grown > 0 and not _accepts(grown, heat, rng):
                arrangement.undo(*slots)
            else:
                cost += grown
        if cost < best_cost:
            best, best_cost = list(arrangement.slots), cost
    return best


def _move(
    arrangement: Arrangement,
    free: list[int],
    frozen: frozenset[int],
    window: int,
    rng: random.Random,
) -> tuple[int, int] | None:
    """The slot of a free thing and another one near it, None where that may not be touched."""
    problem = arrangement.problem
    thing = free[int(rng.random() * len(free))]
    slot, goal = arrangement.slots[thing], None
    if rng.random() < _DIRECTED:
        goal, window = arrangement.neighbour(thing, rng), _NEAR
    y, x = divmod(slot if goal is None else goal, problem.width)
    x += int(rng.random() * (2 * window + 1)) - window
    y += int(rng.random() * (2 * window + 1)) - window
    if not (0 <= x < problem.width and 0 <= y < problem.height):
        return None
    other = y * problem.width + x
    if other == slot or not problem.usable[other] or arrangement.things[other] in frozen:
        return None
    return slot, other


def _accepts(grown: int, heat: int, rng: random.Random) -> bool:
    """True with chance exp(-grown / T), as the Metropolis rule says."""
    index = grown * _DEGREES * 16 // heat
    return index < len(_CHANCES) and rng.getrandbits(30) < _CHANCES[index]


def _hottest(
    arrangement: Arrangement, free: list[int], frozen: frozenset[int], rng: random.Random
) -> int:
    """A tenth of what a move costs on average, in degrees."""
    total, tried = 0, 200
    for _ in range(tried):
        slots = _move(arrangement, free, frozen, arrangement.problem.width, rng)
        if slots is not None:
            total += abs(arrangement.swap(*slots))
            arrangement.undo(*slots)
    return max(_COLDEST, total * _DEGREES // (10 * tried))


def _cooled(hottest: int, step: int) -> int:
    """Degrees after `step` of `_COOLING_STEPS` steps of geometric cooling down to the coldest."""
    # The temperature is halved evenly often; between two halvings it falls along a line.
    halvings = max(1, (hottest // _COLDEST).bit_length())
    whole, part = divmod(halvings * step, _COOLING_STEPS)
    heat = hottest >> whole
    return max(_COLDEST, heat - heat * part // (2 * _COOLING_STEPS))
