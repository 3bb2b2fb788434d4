"""Tiles of attention, and what one of them costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hetc.backends.triton.kernel import Tile
from hetc.bundle.launches import Config

if TYPE_CHECKING:
    from hetc.backends.triton.attention import AttentionSpec

# Queries, keys and warps of a tile.
_TILES = ((128, 128, 8), (128, 64, 8), (128, 64, 4), (64, 128, 4), (64, 64, 4), (64, 32, 4))
_STAGES = (2, 3)
_SHARED_BYTES = 227 * 1024
# Scores, weights and the result of a tile are in registers: 32 bits each, of 255 a thread.
_ACCUMULATORS = 192
_BYTES = {"f32": 4, "f16": 2, "bf16": 2}


def configs(spec: AttentionSpec) -> tuple[Config, ...]:
    """The configurations that fit a chip."""
    found = []
    for queries, keys, warps in _TILES:
        for stages in _STAGES:
            config = Config(
                constants={"BLOCK_M": queries, "BLOCK_N": keys}, warps=warps, stages=stages
            )
            fits = _shared_bytes(spec, config) <= _SHARED_BYTES
            if fits and _accumulators(spec, config) <= _ACCUMULATORS:
                found.append(config)
    return tuple(found)


def _shared_bytes(spec: AttentionSpec, config: Config) -> int:
    queries, keys = config.constants["BLOCK_M"], config.constants["BLOCK_N"]
    stage = keys * (spec.width + spec.value_width)
    return int((queries * spec.width + stage * config.stages) * _BYTES[spec.element])


def _accumulators(spec: AttentionSpec, config: Config) -> int:
    queries, keys = config.constants["BLOCK_M"], config.constants["BLOCK_N"]
    # The weights are a copy of the scores in the element.
    scores = keys + keys * int(_BYTES[spec.element]) // 4
    return queries * (scores + spec.value_width) // (32 * config.warps)


@dataclass(frozen=True)
class AttentionWork:
    """The work of a launch of `spec` on one sequence; see `hetc.backends.triton.kernel.Work`."""

    spec: AttentionSpec

    @property
    def element(self) -> str:
        """What tensor cores multiply."""
        return self.spec.element

    def blocks(self, config: Config, rows: int) -> int:
        """Tiles of queries, of every head."""
        return self.spec.heads * -(-rows // config.constants["BLOCK_M"])

    def tile(self, config: Config, rows: int) -> Tile:
        """One tile, with the mean number of keys that its queries see."""
        spec, queries = self.spec, config.constants["BLOCK_M"]
        seen = float(rows)
        for span in (spec.window, spec.chunk):
            # Tiles reach over both ends of what the first and the last query see.
            seen = min(seen, span + queries if span is not None else seen)
        if spec.causal and seen == rows:
            seen = (rows + queries) / 2
        columns = spec.width + spec.value_width
        return Tile(
            flops=2.0 * queries * seen * columns,
            bytes=(seen + queries) * columns * _BYTES[spec.element],
            shared_bytes=_shared_bytes(spec, config),
            accumulators=_accumulators(spec, config),
            exponentials=queries * seen,
        )
