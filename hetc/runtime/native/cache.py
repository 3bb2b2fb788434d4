"""The KV state in the engine's own layout, and to and from that of the contract."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from hetc.bundle.dtypes import BY_NAME
from hetc.bundle.native import CAPACITY_STEP, NativeLayout, StateLayout
from hetc.runtime.handoff import size_of
from hetc.runtime.native.memory import aligned_bytes

_LANES = 16
_SCALE, _LARGEST = np.dtype(np.float32), 127
_ALL = slice(None)


class Cache:
    """All states of `batch` sequences, with room for `capacity` tokens."""

    def __init__(self, layout: NativeLayout, batch: int, tokens: int) -> None:
        # Code reads whole blocks of keys, beyond the last one as well.
        self.capacity = math.ceil(tokens / CAPACITY_STEP) * CAPACITY_STEP + CAPACITY_STEP
        self.batch = batch
        self._sizes = {"B": batch, "C": self.capacity}
        self._layout = layout
        self.memory = aligned_bytes(size_of(layout.state_bytes, self._sizes, at="state_bytes"))

    @property
    def room(self) -> int:
        """The tokens that fit."""
        return self.capacity - CAPACITY_STEP

    def read(self, state: StateLayout, past: int, row: int | None = None) -> NDArray[Any]:
        """A copy of a state after `past` tokens, as the contract has it; of one sequence where
        `row` names it."""
        chosen = _ALL if row is None else slice(row, row + 1)
        if state.role == "whole":
            return self._whole(state)[chosen].copy()
        shape = contract_shape(state, self.batch if row is None else 1, past)
        rows = self._rows(state, chosen)[:, :, past - shape[-2] : past]
        return np.ascontiguousarray(rows, dtype=BY_NAME[state.element].numpy).reshape(shape)

    def rows(self, position: int) -> list[NDArray[Any]]:
        """A copy [B, G, D] of what is at a position of each state that has them, in the order of
        the layout."""
        found: dict[str, NDArray[Any]] = {}
        for states, parts in self._alike:
            rows = _rows_at(states[0], parts, position)
            found |= {state.name: row for state, row in zip(states, rows, strict=True)}
        return [found[state.name] for state in self._layout.states if state.name in found]

    def write(self, state: StateLayout, past: int, array: NDArray[Any]) -> None:
        """Take over a state of the contract."""
        if state.role == "whole":
            self._whole(state)[...] = array
            return
        heads = array.reshape(self.batch, state.groups, *array.shape[-2:])
        self._rows(state)[:, :, past - heads.shape[2] : past] = heads

    def fill(self, sources: Sequence[tuple[Cache, int]], pasts: Sequence[int]) -> None:
        """Each sequence becomes one of another cache, with so many tokens, bit by bit."""
        for state in self._layout.states:
            for row, ((other, other_row), past) in enumerate(zip(sources, pasts, strict=True)):
                if state.role == "whole":
                    self._whole(state)[row] = other._whole(state)[other_row]
                    continue
                # Keys lie in whole tiles.
                rows = math.ceil(past / _LANES) * _LANES
                for mine, theirs in zip(self._bytes(state), other._bytes(state), strict=True):
                    mine[row, :, :rows] = theirs[other_row, :, :rows]

    @cached_property
    def _alike(self) -> list[tuple[list[StateLayout], list[NDArray[np.uint8]]]]:
        """The states with positions, those together that differ in nothing but where they lie, at
        equal distances, as layers do; and what `_bytes` has of each [L, B, G, C, bytes]."""
        kinds: dict[StateLayout, list[StateLayout]] = {}
        for state in self._layout.states:
            if state.role != "whole":
                kinds.setdefault(replace(state, name="", offset=""), []).append(state)
        found = []
        for states in kinds.values():
            starts = [size_of(state.offset, self._sizes, at=state.name) for state in states]
            distances = {after - before for before, after in pairwise(starts)} or {0}
            together = [states] if len(distances) == 1 else [[state] for state in states]
            for layers in together:
                parts = [
                    as_strided(part, (len(layers), *part.shape), (min(distances), *part.strides))
                    for part in self._bytes(layers[0])
                ]
                found.append((layers, parts))
        return found

    def _whole(self, state: StateLayout) -> NDArray[Any]:
        """A view of a state that is as the contract has it."""
        shape = contract_shape(state, self.batch, 0)
        dtype = BY_NAME[state.stored].numpy
        return self._memory(state, math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)

    def _memory(self, state: StateLayout, nbytes: int) -> NDArray[np.uint8]:
        """The bytes of a state in the order of memory."""
        start = size_of(state.offset, self._sizes, at=state.name)
        return self.memory[start : start + nbytes]

    def _bytes(self, state: StateLayout) -> list[NDArray[np.uint8]]:
        """Views [B, G, C, bytes] of all rows side by side, as they are stored, and of their scales
        where there are any."""
        scale = _SCALE.itemsize if state.stored == "i8" else 0
        row = _row(state) * BY_NAME[state.stored].itemsize
        numbers = self.capacity * row
        count = self.batch * state.groups
        heads = self._memory(state, count * (numbers + self.capacity * scale))
        heads = heads.reshape(self.batch, state.groups, -1)
        parts = [(heads[:, :, :numbers], row)] + ([(heads[:, :, numbers:], scale)] if scale else [])
        return [
            part.reshape(self.batch, state.groups, self.capacity, width) for part, width in parts
        ]

    def _rows(self, state: StateLayout, chosen: slice = _ALL) -> NDArray[Any]:
        """A view [B, G, C, D] of some sequences of a state, or what NumPy can read and write like
        one."""
        numbers, *scales = (part[chosen] for part in self._bytes(state))
        stored = numbers.view(BY_NAME[state.stored].numpy)
        own = slice(state.first, state.first + state.sizes[-1])
        rows: Any = stored[..., own]
        if state.role == "keys":
            sizes = (self.capacity // _LANES, _row(state) // _pair(state), _LANES, _pair(state))
            rows = _TiledRows(stored.reshape(*stored.shape[:2], *sizes), own)
        return _ScaledRows(rows, scales[0].view(_SCALE)[..., 0]) if scales else rows  # type: ignore[return-value]


def _rows_at(state: StateLayout, parts: Sequence[NDArray[np.uint8]], position: int) -> NDArray[Any]:
    """A copy [..., D] of the rows at a position, of what `_bytes` has [..., C, bytes]."""
    numbers, *scales = parts
    stored = numbers.view(BY_NAME[state.stored].numpy)
    if state.role == "keys":
        pair, width = _pair(state), _row(state)
        sizes = (stored.shape[-2] // _LANES, width // pair, _LANES, pair)
        tiled = stored.reshape(*stored.shape[:-2], *sizes)
        rows = tiled[..., position // _LANES, :, position % _LANES, :]
        rows = rows.reshape(*rows.shape[:-2], width)
    else:
        rows = stored[..., position, :]
    rows = rows[..., state.first : state.first + state.sizes[-1]]
    if scales:
        rows = rows * scales[0].view(_SCALE)[..., position, :]
    return np.array(rows, BY_NAME[state.element].numpy, order="C")


def _pair(state: StateLayout) -> int:
    """Numbers of a row that lie side by side."""
    return 2 if state.role == "keys" and state.stored == "bf16" else 1


def _row(state: StateLayout) -> int:
    """Numbers of a row in memory."""
    return math.ceil(state.row / _pair(state)) * _pair(state)


@dataclass(frozen=True)
class _TiledRows:
    """Keys in tiles, read and written by position as if they were [B, G, C, D]; `own` are the
    numbers of a row that these are."""

    tiled: NDArray[Any]
    own: slice

    def _places(self, index: Any) -> tuple[Any, ...]:
        rows = np.arange(self.tiled.shape[2] * _LANES)[index[2]]
        return rows // _LANES, rows % _LANES

    def __getitem__(self, index: Any) -> NDArray[Any]:
        found = self._whole_rows(index)[..., self.own]
        return found.transpose(1, 2, 0, 3)

    def __setitem__(self, index: Any, array: Any) -> None:
        tiles, steps, lanes, pair = self.tiled.shape[2:]
        start, stop, _ = index[2].indices(tiles * lanes)
        if start % lanes == 0 and self.own == slice(0, steps * pair):
            # Whole tiles in one go.
            first, count = start // lanes, (stop - start) // lanes
            whole = array[:, :, : count * lanes].reshape(
                *array.shape[:2], count, lanes, steps, pair
            )
            self.tiled[:, :, first : first + count] = whole.swapaxes(3, 4)
            start, array = start + count * lanes, array[:, :, count * lanes :]
        index = (*index[:2], slice(start, stop))
        tile, lane = self._places(index)
        rows = self._whole_rows(index)
        rows[..., self.own] = array.transpose(2, 0, 1, 3)
        self.tiled[:, :, tile, :, lane, :] = rows.reshape(*rows.shape[:3], steps, pair)

    def _whole_rows(self, index: Any) -> NDArray[Any]:
        """A copy [rows, B, G, R]: index arrays apart from each other come first."""
        tile, lane = self._places(index)
        found = self.tiled[:, :, tile, :, lane, :]
        steps, pair = found.shape[3:]
        return found.reshape(*found.shape[:3], steps * pair)


@dataclass(frozen=True)
class _ScaledRows:
    """Rows of whole numbers with a scale each, read and written as the numbers they stand for."""

    rows: Any
    scales: NDArray[np.float32]

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        return np.asarray(self.rows[index] * self.scales[index][..., None], np.float32)

    def __setitem__(self, index: Any, array: NDArray[Any]) -> None:
        array = np.asarray(array, np.float32)
        scales = np.abs(array).max(axis=-1) / _LARGEST
        self.scales[index] = scales
        safe = np.where(scales > 0, scales, 1)[..., None]
        self.rows[index] = np.rint(array / safe).astype(np.int8)


@dataclass(frozen=True)
class CacheTensor:
    """One state of a cache after `past` tokens, as `State` wants its handles: of all sequences, or
    of `row` alone."""

    cache: Cache
    state: StateLayout
    past: int
    row: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes in the contract's layout."""
        batch = self.cache.batch if self.row is None else 1
        return contract_shape(self.state, batch, self.past)

    @property
    def dtype(self) -> str:
        """Its element type, as hetc names it."""
        return self.state.element

    def numpy(self) -> NDArray[Any]:
        """A copy as an array."""
        return self.cache.read(self.state, self.past, self.row)


def contract_shape(state: StateLayout, batch: int, past: int) -> tuple[int, ...]:
    """The sizes of a state after `past` tokens, as the contract has it."""
    if state.role == "whole":
        return (batch, *state.sizes)
    rows = past if state.keep is None else min(past, state.keep)
    return (batch, *state.sizes[:-1], rows, state.sizes[-1])


# A cache, and sequences in it.
Part = tuple[Cache, Sequence[int]]


def part_of(layout: NativeLayout, tensors: Mapping[str, Any], batch: int, past: int) -> Part:
    """Where `tensors` of `batch` sequences after `past` tokens are; in a cache that is made of them
    if they are in none."""
    held = [tensors[state.name] for state in layout.states]
    places = {(id(part.cache), part.row) for part in held if isinstance(part, CacheTensor)}
    if len(places) == 1 and all(isinstance(part, CacheTensor) for part in held):
        cache, row = held[0].cache, held[0].row
        return cache, range(cache.batch) if row is None else [row]
    arrays = [part if isinstance(part, np.ndarray) else part.numpy() for part in held]
    made = Cache(layout, batch, past)
    for state, array in zip(layout.states, arrays, strict=True):
        made.write(state, past, array)
    return made, range(made.batch)


def joined(layout: NativeLayout, parts: Sequence[Part], pasts: Sequence[int], room: int) -> Cache:
    """One cache of the sequences of all `parts`, with `pasts` [B] tokens and room for `room` each;
    the very one of a part that has it all."""
    first, rows = parts[0]
    if len(parts) == 1 and list(rows) == list(range(first.batch)) and first.room >= room:
        return first
    made = Cache(layout, len(pasts), room)
    made.fill([(cache, row) for cache, rows in parts for row in rows], pasts)
    return made
