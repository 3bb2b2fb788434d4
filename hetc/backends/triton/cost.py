"""Which configurations of a kernel are worth compiling, and which of them is launched.

A roofline of one multiprocessor (Williams et al. 2009): the blocks that fall to it take their
arithmetic or their bytes, whichever is longer, and each wave of blocks fills and drains a pipeline
once. Estimated from a target file, never measured; `hetc tune` measures. Bytes that blocks share
come from the cache between them and main memory, so that the time is right among configurations of
one kernel, and no prediction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from hetc.backends.triton.kernel import Kernel
from hetc.backends.triton.limits import Limits, limits_of
from hetc.bundle.launches import Choice, Config
from hetc.errors import BackendError
from hetc.targets import Target

# Rows for which configurations are compiled; None is any number of them.
BUCKETS = (16, 128, 512, 2048, 8192, None)
# Rows up to which one of those is chosen. One tile more can be one more wave of blocks, so that
# neighbours want other configurations.
STEPS = (16, 64, *range(128, 4096, 128), *range(4096, 8193, 512), None)
# 64 bytes a clock pass from the second-level cache to a multiprocessor, at about 1.75 GHz.
_UNIT_BANDWIDTH = 112e9
# From the request of a byte of main memory to its use: 0.6 us in `head_bandwidth` of the target
# files, and longer while all multiprocessors ask.
_LATENCY_S = 1e-6
# The warps of a block wait for each other at every stage of its pipeline: some 35 clocks.
_STAGE_S = 0.02e-6
# What a block accumulated is converted and stored after its pipeline has drained.
_STORE_S = 0.5e-6
# Arithmetic and memory hide each other but for what this norm of the two leaves, 1.19 of either
# where both take the same time.
_OVERLAP = 4
# A thread loads 16 bytes at a time. Without a pipeline it asks for up to 16 times as many at once,
# whose results need registers.
_LOAD_BYTES = 16
_LOADS_IN_FLIGHT = 16
# Operands are read once for each accumulator of a thread, or so: few accumulators, many reads.
_OPERAND_REGISTERS = 12
# Exponentials of a multiprocessor in a second at about 1.75 GHz: 16 a clock, and some four sums,
# maxima and products with each of them, of which it does 128 a clock.
_EXPONENTIAL_RATE = 19e9
# Registers of a thread beside its accumulators.
_OTHER_REGISTERS = 64
# Accumulators of a thread with which no kernel of the backend spilled on sm_90, and the most that
# are tried: with 128 most products do not spill, with 160 attention does not, and the fastest are
# among them. Of what may spill, one is tried for a bucket.
_SAFE_ACCUMULATORS = 112
_MOST_ACCUMULATORS = 192
# A configuration that never spills.
_FALLBACK_ACCUMULATORS = 64


@dataclass(frozen=True)
class Resources:
    """What a compiled configuration takes of a multiprocessor; each thread spills `spill_bytes`."""

    registers: int
    shared_bytes: int
    tmem_columns: int = 0
    spill_bytes: int = 0


@dataclass(frozen=True)
class Estimate:
    """A launch: seconds, what bounds it, its blocks, and how many of them a multiprocessor runs at
    a time."""

    seconds: float
    bound: str
    blocks: int
    resident: int


@dataclass(frozen=True)
class Space:
    """The configurations of a kernel on one device of `target`."""

    kernel: Kernel
    target: Target

    @property
    def arch(self) -> str:
        """What the device is compiled for: `sm_90`."""
        return self.target.device.arch

    @cached_property
    def limits(self) -> Limits:
        """Of the device; BackendError HETC-E073 where they are not known."""
        return limits_of(self.arch)

    @cached_property
    def accumulators(self) -> tuple[int, ...]:
        """Accumulators of a thread in each configuration."""
        kernel = self.kernel
        return tuple(kernel.work.tile(config, 1).accumulators for config in kernel.configs)

    def estimate(
        self, config: Config, rows: int, resources: Resources | None = None
    ) -> Estimate | None:
        """The launch on `rows` rows, None where no block fits; before it is compiled, registers are
        guessed."""
        device, work = Target(self.target.device), self.kernel.work
        if device.device.units is None:
            raise BackendError(
                "HETC-E073",
                "the target's file does not say how many multiprocessors it has",
                at=device.name,
                do="add units to the file",
            )
        tile, blocks = work.tile(config, rows), max(1, work.blocks(config, rows))
        taken = resources or Resources(
            min(self.limits.thread_registers, tile.accumulators + _OTHER_REGISTERS),
            tile.shared_bytes,
        )
        resident = self.limits.resident(
            config.warps, taken.registers, taken.shared_bytes, taken.tmem_columns
        )
        if not resident or taken.shared_bytes > self.limits.block_shared_bytes:
            return None
        units = device.device.units.value
        each = math.ceil(blocks / units)
        reuse = tile.accumulators / (tile.accumulators + _OPERAND_REGISTERS)
        rate = device.rate(work.element) / units * (reuse or 1.0)
        side_by_side = min(resident, each)
        load_bytes = config.warps * 32 * _LOAD_BYTES
        stage_bytes = max(load_bytes, taken.shared_bytes / config.stages)
        # One stage is computed on while the others are filled.
        asked = stage_bytes * (config.stages - 1)
        if config.stages == 1:
            asked = max(load_bytes, min(tile.bytes, load_bytes * _LOADS_IN_FLIGHT))
        # What is spilled is stored once and loaded once.
        moved = tile.bytes + 2 * taken.spill_bytes * config.warps * 32
        compute_s = each * tile.flops / rate
        softmax_s = each * tile.exponentials / _EXPONENTIAL_RATE
        # One block's products wait for its exponentials; those of another block need not.
        beside = _OVERLAP if side_by_side > 1 else 1
        compute_s = float((compute_s**beside + softmax_s**beside) ** (1 / beside))
        memory_s = each * moved * (1 / _UNIT_BANDWIDTH + _LATENCY_S / (side_by_side * asked))
        busy_s = (compute_s**_OVERLAP + memory_s**_OVERLAP) ** (1 / _OVERLAP)
        # What blocks wait for, others beside them hide, but for the first.
        stages = tile.bytes / stage_bytes if config.stages > 1 else 1.0
        fill_s = _LATENCY_S + stage_bytes / _UNIT_BANDWIDTH + _STORE_S
        fills = max(1.0, each / side_by_side**2)
        waits_s = each / side_by_side * stages * _STAGE_S + fills * fill_s
        launch_s = device.device.constant("launch_us") * 1e-6
        return Estimate(
            busy_s + waits_s + launch_s,
            "compute" if compute_s > memory_s else "memory",
            blocks,
            resident,
        )

    def rank(
        self, rows: tuple[int, ...], among: Iterable[int], compiled: Mapping[int, Resources]
    ) -> list[int]:
        """The configurations `among`, fastest first over all `rows`; without those that do not
        fit."""
        found = []
        for number in among:
            config = self.kernel.configs[number]
            times = [self.estimate(config, count, compiled.get(number)) for count in rows]
            seconds = [time.seconds for time in times if time is not None]
            if len(seconds) == len(rows):
                # Each number of rows has the same say, so that ratios count.
                found.append((math.prod(seconds), number))
        return [number for _, number in sorted(found)]

    def worth_compiling(self, top: int) -> tuple[int, ...]:
        """The `top` fastest of every bucket, and one that never spills; in order of number."""
        accumulators = self.accumulators
        numbers = [
            number for number, count in enumerate(accumulators) if count <= _MOST_ACCUMULATORS
        ]
        kept: set[int] = set()
        for rows in _samples(BUCKETS):
            ranked = self.rank(rows, numbers, {})
            daring = [each for each in ranked if accumulators[each] > _SAFE_ACCUMULATORS]
            kept.update([each for each in ranked if each not in daring[1:]][:top])
        ranked = self.rank(_samples(BUCKETS)[2], numbers, {})
        safe = [each for each in ranked if accumulators[each] <= _FALLBACK_ACCUMULATORS]
        if safe and not kept.intersection(safe):
            kept.add(safe[0])
        return tuple(sorted(kept))

    def choose(self, compiled: Mapping[int, Resources]) -> tuple[Choice, ...]:
        """What is launched of the `compiled` configurations, step by step; equal neighbours are
        one."""
        choices: list[Choice] = []
        for step, rows in zip(STEPS, _samples(STEPS), strict=True):
            number = self.rank(rows, compiled, compiled)[0]
            estimate = self.estimate(self.kernel.configs[number], rows[-1], compiled[number])
            assert estimate is not None
            if choices and choices[-1].config == number:
                choices.pop()
            choices.append(
                Choice(
                    rows=step,
                    config=number,
                    why=f"estimated: {estimate.blocks} blocks on {rows[-1]} rows, "
                    f"{estimate.resident} a multiprocessor, bound by {estimate.bound}",
                )
            )
        return tuple(choices)


def _samples(spans: tuple[int | None, ...]) -> list[tuple[int, ...]]:
    """For which rows each of `spans` is priced, given by their ends: its middle and its end."""
    ends = [0, *(end for end in spans if end is not None)]
    ends.append(4 * ends[-1])
    return [((low + high) // 2, high) for low, high in pairwise(ends)]
