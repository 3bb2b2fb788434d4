"""Offsets of buffers in one arena, whatever the sizes of a call turn out to be.

Buffers whose bytes are the same multiple of one size (tokens, sequences, positions) are packed in a
region of that size, in which offsets are plain numbers; the regions lie behind each other. So every
offset is a polynomial, two buffers never overlap while both are in use, and all factors being
multiples of the alignment, so are all offsets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hetc.backends.triton.memory import VirtualBuffer
from hetc.bundle.launches import Buffer, Launch, Size
from hetc.ir.dims import Dim, DimLike


@dataclass(frozen=True)
class Arena:
    """The buffers that launches use, in the order of their names' first use, and bytes of all.

    `lower_bound` is what the buffers in use at one launch take at least, region by region.
    """

    buffers: tuple[Buffer, ...]
    bytes: Size
    lower_bound: Size


@dataclass(frozen=True)
class _Life:
    buffer: VirtualBuffer
    unit: DimLike
    count: int
    first: int
    last: int

    def meets(self, other: _Life) -> bool:
        """Whether both are in use at some launch."""
        return self.first <= other.last and other.first <= self.last


def place_buffers(
    buffers: Mapping[str, VirtualBuffer], launches: Sequence[Launch], results: Iterable[str]
) -> Arena:
    """Place what `launches` use; `results` are still in use after the last of them."""
    regions: dict[DimLike, list[_Life]] = {}
    for life in _lives(buffers, launches, set(results)):
        regions.setdefault(life.unit, []).append(life)
    placed: dict[str, Buffer] = {}
    base: DimLike = 0
    bound: DimLike = 0
    for unit, lives in sorted(regions.items(), key=lambda item: str(item[0])):
        offsets, size = _pack(lives)
        for life, offset in zip(lives, offsets, strict=True):
            buffer = life.buffer
            placed[buffer.name] = Buffer(
                name=buffer.name,
                element=buffer.element,
                bytes=str(buffer.bytes),
                offset=str(base + unit * offset),
                first=life.first,
                last=life.last,
            )
        base = base + unit * size
        bound = bound + unit * _most_at_once(lives, len(launches))
    ordered = sorted(placed.values(), key=lambda buffer: (buffer.first, buffer.name))
    return Arena(tuple(ordered), str(base), str(bound))


def _lives(
    buffers: Mapping[str, VirtualBuffer], launches: Sequence[Launch], results: set[str]
) -> list[_Life]:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for number, launch in enumerate(launches):
        for name in (*launch.reads, *launch.writes):
            if name in buffers:
                first.setdefault(name, number)
                last[name] = number
    lives = []
    for name, begin in first.items():
        end = len(launches) - 1 if name in results else last[name]
        unit, count = _unit(buffers[name].bytes)
        lives.append(_Life(buffers[name], unit, count, begin, end))
    return lives


def _unit(size: DimLike) -> tuple[DimLike, int]:
    """A size as a number of some unit: one symbol, or the whole polynomial once."""
    if isinstance(size, Dim) and len(size.terms) == 1:
        names, factor = size.terms[0]
        return Dim(((names, 1),)), factor
    return (size, 1) if isinstance(size, Dim) else (1, size)


def _pack(lives: Sequence[_Life]) -> tuple[list[int], int]:
    """Offsets of each, and the size of all: the largest first, each as low as those let it that
    are in use at the same time."""
    offsets: dict[int, int] = {}
    for number in sorted(range(len(lives)), key=lambda n: (-lives[n].count, lives[n].first, n)):
        life = lives[number]
        taken = sorted(
            (offset, offset + lives[other].count)
            for other, offset in offsets.items()
            if lives[other].meets(life)
        )
        low = 0
        for begin, end in taken:
            if begin >= low + life.count:
                break
            low = max(low, end)
        offsets[number] = low
    size = max((offsets[n] + life.count for n, life in enumerate(lives)), default=0)
    return [offsets[number] for number in range(len(lives))], size


def _most_at_once(lives: Sequence[_Life], launches: int) -> int:
    return max(
        sum(life.count for life in lives if life.first <= number <= life.last)
        for number in range(launches)
    )
