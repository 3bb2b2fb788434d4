"""What one execution of an op takes on a target: the one time model of the cut, the marks and the
predictions.

Every time is estimated from a target file, never measured. It is the larger of arithmetic and
memory time (Williams et al. 2009), plus collectives, plus fixed costs; arithmetic knows tiles and
waves, attention the blocks that stream its heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hetc.passes.cost import Amounts, Work
from hetc.targets import Target

# Rows that one instruction of a matrix unit takes (m16n8k16): no tile has fewer.
_LEAST_TILE_ROWS = 16
# Sharing a key-value head among its queries must leave a quarter of the units a block: the rule of
# TensorRT-LLM (cpp/tensorrt_llm/kernels/decoderMaskedMultiheadAttention/decoderXQARunner.cpp).
_LEAST_BLOCKS = 0.25


@dataclass(frozen=True)
class Times:
    """Estimated seconds of one execution of an op on one device, by what takes them.

    Memory time is that of weights, state and activations; fixed time that of launches and of the
    sequences of a batch after the first.
    """

    compute_s: float = 0.0
    weights_s: float = 0.0
    state_s: float = 0.0
    activations_s: float = 0.0
    link_s: float = 0.0
    launch_s: float = 0.0
    sequence_s: float = 0.0

    @property
    def memory_s(self) -> float:
        return self.weights_s + self.state_s + self.activations_s

    @property
    def latency_s(self) -> float:
        return self.launch_s + self.sequence_s

    @property
    def exposed_compute_s(self) -> float:
        """What arithmetic takes beyond the memory time that it hides behind."""
        return max(0.0, self.compute_s - self.memory_s)

    @property
    def seconds(self) -> float:
        """Arithmetic hides behind memory or the other way round; links and fixed costs add up."""
        return max(self.compute_s, self.memory_s) + self.link_s + self.latency_s


def op_times(work: Work, amounts: Amounts, target: Target, *, alone: bool = False) -> Times:
    """Estimated times of one execution on `target`.

    A fused op moves no bytes of its own unless it is looked at `alone`. A machine of several
    devices adds its all-reduces.
    """
    constant = target.device.constant
    moves = 0.0 if work.fused and not alone else 1.0 / target.bandwidth()
    link_us = target.all_reduce_us(amounts.reduced_bytes) if amounts.reduced_bytes else 0.0
    rate = target.rate(work.dtype if work.matrix else "f32")
    return Times(
        compute_s=amounts.flops / (rate * occupancy(work, amounts, target)),
        weights_s=amounts.weight_bytes * moves,
        state_s=_state_s(work, amounts, target) if moves else 0.0,
        activations_s=(amounts.activation_bytes + amounts.bytes_written) * moves,
        link_s=link_us * 1e-6,
        launch_s=_launch_us(work, target) * 1e-6,
        sequence_s=constant("sequence_us") * max(0, amounts.sequences - 1) * 1e-6,
    )


def occupancy(work: Work, amounts: Amounts, target: Target) -> float:
    """Part of the machine's arithmetic that works on elements of the result, 0 to 1.

    A product is cut into tiles of `tile_rows` x `tile_columns`, lower ones where it has fewer rows,
    and each unit takes one tile at a time: tiles that hang over the edge and units without a tile
    in the last wave are lost. Attention has a block for every head and `tile_rows` queries. 1 for a
    single row, which all units share, and where the target says nothing of tiles: a spatial device
    is divided to measure.
    """
    tile_rows, units = target.device.constant("tile_rows"), target.device.units
    if not tile_rows or units is None or amounts.rows <= 1:
        return 1.0
    height = min(tile_rows, max(_LEAST_TILE_ROWS, 2.0 ** math.ceil(math.log2(amounts.rows))))
    upright = math.ceil(amounts.rows / height)
    if work.heads:
        blocks = amounts.sequences * max(1.0, work.heads / target.count) * upright
        return blocks / _whole_waves(blocks, units.value)
    # A row-parallel product has whole rows of its result on every device, a part of the sum each.
    columns = work.columns if amounts.reduced_bytes else work.columns / target.count
    width = target.device.constant("tile_columns")
    tiles = amounts.matrices * upright * math.ceil(columns / width)
    useful = amounts.matrices * amounts.rows * columns
    return useful / (_whole_waves(tiles, units.value) * height * width)


def _whole_waves(blocks: float, units: float) -> float:
    """Places for blocks in the waves that run: a multiple of the units."""
    return math.ceil(blocks / units) * units


def _state_s(work: Work, amounts: Amounts, target: Target) -> float:
    """Time to read state: by bandwidth, or by the blocks that stream attention's heads.

    One block reads the rows of one head of one sequence, at `head_bandwidth`; as many run at a time
    as the device has units. Queries that share a key-value head read it through one block where
    they are `shared_queries` or more and enough units get one, and each for itself otherwise.
    """
    streamed = amounts.state_bytes / target.bandwidth()
    head_bandwidth, units = target.device.constant("head_bandwidth"), target.device.units
    if not head_bandwidth or units is None or not work.heads:
        return streamed
    heads = max(1.0, work.heads / target.count)
    kv_heads = max(1.0, work.kv_heads / target.count)
    fills = amounts.sequences * kv_heads >= _LEAST_BLOCKS * units.value
    shares = heads / kv_heads >= target.device.constant("shared_queries")
    blocks = amounts.sequences * (kv_heads if shares and fills else heads)
    head_bytes = amounts.state_bytes / (amounts.sequences * work.kv_heads)
    return max(streamed, head_bytes / head_bandwidth * max(1.0, blocks / units.value))


def _launch_us(work: Work, target: Target) -> float:
    """A kernel or stage, and the call of a section where the op begins one."""
    constant, section = target.device.constant, target.device.section
    begins = work.launches if section == "op" else work.mixes and section == "layer"
    call = constant("section_launch_us") if begins else 0.0
    return call + (constant("launch_us") if work.launches else 0.0)


def execution_us(target: Target) -> float:
    """Fixed time of one execution of a half: the host's step, and the section that loops over all
    layers."""
    looped = target.device.section == "step"
    call = target.device.constant("section_launch_us") if looped else 0.0
    return call + target.device.constant("step_us")
