"""bf16 in 12 bits, without loss: upper bytes (the sign and 7 bits of the exponent) take few values.

A number is its lower byte and a code of 4 bits: which of 15 upper bytes it has, or that it is one
of 16 others, which are whole numbers; then the lower byte says which one. A tile holds K in chunks
of equal length. A chunk begins with its tables, 16 bytes each: upper bytes, then upper and lower
ones of the others, and 16 bytes that fill a line. Blocks of 16 outputs by 8 steps follow, of three
lines of 64 bytes: codes, those of steps 4 to 7 in the upper halves, then the lower bytes of steps 0
to 3, and of 4 to 7. They lie so that each 16 of them, interleaved with their upper bytes, are pairs
of bf16 of 4 outputs for steps 0 and 1, then for 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hetc.backends.native.ssa import LANES
from hetc.ir.types import Array

TABLE = 16
LINE = 64
STEPS = 8
BLOCK = 3 * LINE
OTHER = TABLE - 1
# Long enough that tables take less than 1 % of it, and short enough for 16 others: numbers of a
# normal distribution have up to 4 different ones, SmolLM2's up to 7 (measured).
_LONGEST_CHUNK = 576
# Tiles are coded so many numbers at a time, so that what it takes beside them stays small. NumPy's
# loops run beside each other, and more threads wait for what Python does between them.
_NUMBERS_AT_A_TIME = 2**18
_THREADS = 2
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Coded:
    """How K = `inner` steps of 16 outputs lie in a tile, `chunk` of them with tables of their
    own."""

    inner: int
    chunk: int

    @staticmethod
    def of(inner: int) -> Coded | None:
        """The longest chunks that K has; None where there are none, or the tables outweigh what
        codes save."""
        lengths = range(STEPS, min(inner, _LONGEST_CHUNK) + 1, STEPS)
        chunk = max((length for length in lengths if inner % length == 0), default=0)
        form = Coded(inner, chunk)
        return form if chunk and form.tile_bytes < 2 * LANES * inner else None

    @property
    def chunk_bytes(self) -> int:
        return LINE + self.chunk // STEPS * BLOCK

    @property
    def tile_bytes(self) -> int:
        return self.inner // self.chunk * self.chunk_bytes

    def fits(self, matrix: Array) -> bool:
        """Whether no chunk of `matrix` bf16 [N, K] has more than 16 other numbers."""
        return all(coded is not None for coded in _in_threads(_code, self._chunks(matrix)))

    def pack(self, matrix: Array) -> Array:
        """The tiles of `matrix` bf16 [N, K], which fits, as bytes [tiles, tile_bytes]."""
        return np.concatenate(list(_in_threads(self._pack, self._chunks(matrix))))

    def _pack(self, numbers: Array) -> Array:
        """The tiles of some chunks."""
        coded = _code(numbers)
        assert coded is not None, "the matrix fits"
        tables, codes, low = coded
        out = np.zeros((len(numbers), self.chunk_bytes), np.uint8)
        out[:, : tables.shape[1]] = tables
        blocks = out[:, LINE:].reshape(len(numbers), -1, 3, LINE)
        halves = codes.reshape(*codes.shape[:2], -1, 2, STEPS // 2)
        blocks[:, :, 0] = _lines(halves[:, :, :, 0] | halves[:, :, :, 1] << 4)
        blocks[:, :, 1:] = _lines(low).reshape(len(numbers), -1, 2, LINE)
        return out.reshape(-1, self.tile_bytes)

    def _chunks(self, matrix: Array) -> list[Array]:
        """The numbers u16 [chunks, 16, steps] of some tiles each, filled up with zeros."""
        outputs, inner = matrix.shape
        words = np.ascontiguousarray(matrix).view(np.uint16)
        missing = -outputs % LANES
        if missing:
            words = np.pad(words, ((0, missing), (0, 0)))
        tiles = words.reshape(-1, LANES, inner // self.chunk, self.chunk).transpose(0, 2, 1, 3)
        some = max(1, _NUMBERS_AT_A_TIME // (LANES * inner))
        return [
            tiles[first : first + some].reshape(-1, LANES, self.chunk)
            for first in range(0, len(tiles), some)
        ]


def _in_threads(make: Callable[[Array], _Made], items: Iterable[Array]) -> Iterator[_Made]:
    """What is made of each item, in order."""
    with ThreadPoolExecutor(_THREADS) as threads:
        yield from threads.map(make, items)


def _code(numbers: Array) -> tuple[Array, Array, Array] | None:
    """Tables u8 [chunks, 3 * 16], and codes and lower bytes u8 [chunks, 16, steps], of u16 numbers
    in chunks; None where one has too many others."""
    count = len(numbers)
    low = numbers.astype(np.uint8)
    place = (numbers >> 8).astype(np.int32)
    place += 256 * np.arange(count, dtype=np.int32)[:, None, None]
    often = np.bincount(place.reshape(-1), minlength=256 * count).reshape(count, 256)
    known = np.argsort(-often, axis=1, kind="stable")[:, :OTHER]
    code_of = np.full((count, 256), OTHER, np.uint8)
    np.put_along_axis(code_of, known, np.arange(OTHER, dtype=np.uint8)[None], axis=1)
    codes = code_of.reshape(-1).take(place)
    others = np.zeros((count, TABLE), np.uint16)
    # Flat, as NumPy searches one axis much faster than three.
    where = np.flatnonzero(codes == OTHER)
    words = numbers.reshape(-1)[where]
    different, which = np.unique(where // numbers[0].size << 16 | words, return_inverse=True)
    chunk = different >> 16
    rank = np.arange(len(different)) - np.searchsorted(chunk, chunk)
    if np.any(rank >= TABLE):
        return None
    others[chunk, rank] = different & 65535
    low.reshape(-1)[where] = rank[which]
    tables = np.zeros((count, 3 * TABLE), np.uint8)
    tables[:, :OTHER] = known
    tables[:, TABLE : 2 * TABLE] = others >> 8
    tables[:, 2 * TABLE :] = others & 255
    return tables, codes, low


def _lines(bytes: Array) -> Array:
    """`bytes` of 16 outputs, four steps for each line, [chunks, 16, steps] as [chunks, lines, 64]:
    see above for their order."""
    # Outputs are (4, 4), steps (line, pair, 2): [4, pair, 4, 2] make a line.
    pairs = bytes.reshape(len(bytes), -1).view(np.uint16).reshape(len(bytes), 4, 4, -1, 2)
    return (
        pairs.transpose(0, 3, 1, 4, 2)
        .reshape(len(bytes), -1)
        .view(np.uint8)
        .reshape(len(bytes), -1, LINE)
    )
