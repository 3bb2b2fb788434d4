"""Tiles of matrix products, and what one of them costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hetc.backends.triton.kernel import Tile
from hetc.bundle.launches import Config

if TYPE_CHECKING:
    from hetc.backends.triton.linear import LinearSpec

# Tiles of rows that go through all columns before the next ones, so that L2 holds what they share.
GROUP_M = 16
# Rows, columns (of both products where there are two) and warps of a tile. A warp group of four
# warps multiplies 64 rows at a time; an accumulator of 128 registers a thread is the most that
# leaves enough for addresses.
_TILES = (
    (16, 32, 4), (16, 64, 4), (16, 128, 4), (16, 256, 4), (32, 64, 4), (32, 128, 4), (64, 32, 4),
    (64, 64, 4), (64, 128, 4), (64, 256, 4), (64, 256, 8), (128, 64, 4), (128, 128, 4),
    (128, 128, 8), (128, 256, 8), (256, 64, 8), (256, 128, 8),
)  # fmt: skip
_STAGES = (2, 3, 4)
# What a block of sm_90 and later can have; older ones have less, which is checked after compiling.
_SHARED_BYTES = 227 * 1024
_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "i8": 1, "u8": 1, "f8e4m3": 1, "i4": 0.5, "u4": 0.5}


def configs(spec: LinearSpec) -> tuple[Config, ...]:
    """The configurations of a product that fit a chip; those that mask nothing where there are
    some."""
    products = _products(spec)
    narrowest = 16
    if spec.heads is not None and spec.tma:
        # The columns of a pair are in one tile.
        narrowest = max(spec.heads.width, narrowest)
    elif spec.heads is not None and spec.heads.norm is not None:
        # A norm is of whole heads.
        narrowest = spec.heads.width // 2
    found = []
    for rows, columns, warps in _TILES:
        block_n = columns // products
        if block_n < narrowest:
            continue
        for block_k in _block_ks(spec, rows):
            for stages in _STAGES:
                constants = {"BLOCK_M": rows, "BLOCK_N": block_n, "BLOCK_K": block_k}
                config = Config(constants=constants, warps=warps, stages=stages)
                if _shared_bytes(spec, config) <= _SHARED_BYTES:
                    found.append(config)
    return tuple(found)


def _products(spec: LinearSpec) -> int:
    """Accumulators of a block."""
    return 1 if spec.tma or not (spec.gated or spec.heads is not None) else 2


def _block_ks(spec: LinearSpec, rows: int) -> list[int]:
    # 128 bytes are what tensor cores read at a time; few rows wait for memory, so that longer reads
    # are under way.
    line = 128 // int(_BYTES[spec.element])
    wanted = [line, 2 * line] if rows <= 32 else [line]
    whole = [size for size in (32, 64, 128) if spec.k % size == 0]
    if spec.weight is not None and spec.weight.group:
        # A tile within a group needs one scale for each column.
        whole = [size for size in whole if spec.weight.group % size == 0]
    return [size for size in wanted if size in whole] or whole[-1:] or wanted[:1]


def _weight_bytes(spec: LinearSpec) -> float:
    return _BYTES[spec.element if spec.weight is None else spec.weight.stored]


def _shared_bytes(spec: LinearSpec, config: Config) -> int:
    """Shared memory: the stages of both operands, and of quantized weights one more tile."""
    rows, columns = config.constants["BLOCK_M"], config.constants["BLOCK_N"] * _products(spec)
    element = _BYTES[spec.element]
    stage = (rows * element + columns * _weight_bytes(spec)) * config.constants["BLOCK_K"]
    unpacked = columns * element * config.constants["BLOCK_K"] if spec.weight is not None else 0
    return int(stage * config.stages + unpacked)


@dataclass(frozen=True)
class LinearWork:
    """The work of a launch of `spec`; see `hetc.backends.triton.kernel.Work`."""

    spec: LinearSpec

    @property
    def element(self) -> str:
        """What tensor cores multiply."""
        return self.spec.element

    def blocks(self, config: Config, rows: int) -> int:
        """Tiles of the result."""
        return -(-rows // config.constants["BLOCK_M"]) * -(
            -self.spec.columns // config.constants["BLOCK_N"]
        )

    def tile(self, config: Config, rows: int) -> Tile:
        """One tile: all of its rows of x and its columns of the weights are loaded."""
        spec, products = self.spec, _products(self.spec)
        block_m, block_n = config.constants["BLOCK_M"], config.constants["BLOCK_N"] * products
        out = block_m * block_n * _BYTES[spec.out_element or spec.element]
        out *= (2 if spec.residual else 1) / (2 if spec.gated else 1)
        loaded = (block_m * _BYTES[spec.element] + block_n * _weight_bytes(spec)) * spec.k
        return Tile(
            flops=2.0 * block_m * block_n * spec.k,
            bytes=loaded + out,
            shared_bytes=_shared_bytes(spec, config),
            accumulators=block_m * block_n // (32 * config.warps),
        )
