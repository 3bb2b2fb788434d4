"""How much work a stage is, and how many lanes it gets.

The decode of one token is a chain of stages, so that lanes go where they shorten the chain most: a
stage of work w on l lanes takes w / l, and the sum is least where l grows with the root of w. No
stage gets more than what memory can feed it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hetc.backends.dataflow.blocks import Run
from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.fit import lanes_to_hold
from hetc.backends.dataflow.groups import Group
from hetc.backends.dataflow.reads import Read, reads_of
from hetc.backends.dataflow.row_groups import balance
from hetc.backends.dataflow.tiling import TILE_BYTES
from hetc.ir.dims import evaluate
from hetc.ir.op import Op
from hetc.ir.ops.sequence import KVAppend
from hetc.passes.cost import MATRIX

# Below this many cycles a stage without streams is latency, and more lanes do not help.
_SHORT_CYCLES = 128
# Of an iteration's memory traffic, what a stage that row groups pass may be busy: the rest absorbs
# that the groups do not come evenly.
_PIPED_BUSY = 0.8
# Of the lanes, what the stages of a loop may take together: what runs once a token needs some too.
_PIPED_FRACTION = 0.75
_FORMATS = {8: "f8", 16: "bf16"}


@dataclass(frozen=True)
class Wish:
    """What a stage asks for: its work in lane-cycles an iteration, and the most lanes that are
    useful to it. `fewest` is for a stage that row groups pass: the lanes that hold what stays for
    all of them."""

    work: float
    most: int
    fewest: int | None = None


@dataclass(frozen=True, eq=False)
class Draft:
    """A stage before it has units: its ops, what it reads, and its work in lane-cycles.

    `stream_work` is what its matrices and state take on one lane, `vector_work` everything else, in
    each of `groups` passes of `rows` rows; `pass_bytes` of the matrices and state pass in one. The
    others are of a whole iteration: `outputs` are the elements it hands on, `sent_bytes` what a
    collective makes, and `useful_lanes` how many lanes memory can keep busy, or can share the work.
    """

    run: Run
    group: Group
    reads: tuple[Read, ...]
    rows: int
    outputs: int
    output_bytes: int
    input_bytes: int
    sent_bytes: int
    stream_work: float
    vector_work: float
    pass_bytes: int
    groups: int
    useful_lanes: int

    @property
    def stream_bytes(self) -> int:
        return sum(read.bytes for read in self.reads if read.matrix)

    @property
    def work(self) -> float:
        """Lane-cycles of an iteration."""
        return self.groups * (self.stream_work + self.vector_work)

    @property
    def wish(self) -> Wish:
        return Wish(self.work, 1 if self.is_link else self.useful_lanes)

    @property
    def is_link(self) -> bool:
        return self.group.template in ("all_reduce", "all_gather")


def draft(
    run: Run, group: Group, bindings: Mapping[str, int], fabric: Fabric, *, groups: int = 1
) -> Draft:
    """The work of one stage at these sizes, its sequences in so many row groups."""
    reads = reads_of(run, group, bindings)
    one = {**bindings, "B": bindings["B"] // groups}
    matrices = [read for read in reads_of(run, group, one) if read.matrix]
    stream_work = sum(
        read.bytes / read.element_bytes / elements_per_cycle(read, fabric) for read in matrices
    )
    streamed = {read.op for read in matrices}
    # What turns a tensor on its way costs nothing: it runs at the rate of the stream.
    others = [op for op in group.ops if op not in streamed and op not in group.turned]
    vector_work = sum(_work(op, one, fabric) for op in others)
    outputs, output_bytes = _outputs(run, group, bindings)
    pass_bytes = sum(read.bytes for read in matrices)
    if pass_bytes:
        fed = stream_work * fabric.tiers[fabric.main_memory].peak_bytes_per_cycle / pass_bytes
        useful = min(math.ceil(fed), fabric.lanes)
    else:
        useful = min(math.ceil(vector_work / _SHORT_CYCLES), -(-outputs // fabric.pcu_lanes))
    return Draft(
        run=run,
        group=group,
        reads=reads,
        rows=one["B"] * one["T"],
        outputs=outputs,
        output_bytes=output_bytes,
        input_bytes=_input_bytes(run, group, bindings),
        sent_bytes=evaluate(group.anchors[0].result.nbytes, bindings) if group.anchors else 0,
        stream_work=stream_work,
        vector_work=vector_work,
        pass_bytes=pass_bytes,
        groups=groups,
        useful_lanes=max(1, useful),
    )


def elements_per_cycle(read: Read, fabric: Fabric) -> float:
    """Elements of a streamed tensor that one lane takes in a cycle: what its memory unit reads, or
    what its multipliers do where an element meets several rows."""
    fed = fabric.pmu_bytes_per_cycle / read.element_bytes
    done = fabric.macs_per_cycle[_FORMATS.get(read.multiplied.bits, "f32")]
    return min(fed, done / max(1.0, read.macs_per_element))


def share_lanes(wishes: Sequence[Wish], lanes: int) -> tuple[int, ...]:
    """Lanes of each stage, `lanes` in all at most; as many as are useful where they suffice.

    Stages that row groups pass come first, with equal intervals.
    """
    piped = [wish for wish in wishes if wish.fewest is not None]
    if not piped:
        return _share_by_root(wishes, lanes)
    most = int(lanes * _PIPED_FRACTION)
    even = balance(
        [wish.work for wish in piped],
        [wish.fewest or 1 for wish in piped],
        [wish.most for wish in piped],
        most,
    )
    others = [wish for wish in wishes if wish.fewest is None]
    evenly, by_root = iter(even), iter(_share_by_root(others, lanes - sum(even)))
    return tuple(next(by_root if wish.fewest is None else evenly) for wish in wishes)


def _share_by_root(wishes: Sequence[Wish], lanes: int) -> tuple[int, ...]:
    if sum(wish.most for wish in wishes) <= lanes:
        return tuple(wish.most for wish in wishes)

    def at(scale: float) -> list[int]:
        return [max(1, min(wish.most, math.floor(math.sqrt(wish.work) * scale))) for wish in wishes]

    low, high = 0.0, float(lanes)
    for _ in range(60):
        middle = (low + high) / 2
        if sum(at(middle)) <= lanes:
            low = middle
        else:
            high = middle
    return tuple(at(low))


def _work(op: Op, bindings: Mapping[str, int], fabric: Fabric) -> float:
    """Cycles of an op on one lane whose operands are on the chip."""
    flops = float(evaluate(op.cost().flops, bindings))
    if op.kind in MATRIX:
        return flops / 2 / fabric.macs_per_cycle[_FORMATS.get(op.operands[0].dtype.bits, "f32")]
    return flops / fabric.pcu_lanes


def _outputs(run: Run, group: Group, bindings: Mapping[str, int]) -> tuple[int, int]:
    """Elements and bytes that other stages, or the outside, read of this one."""
    inside = set(group.ops)
    needed = set(run.handed)
    for op in run.graph.ops:
        if op not in inside:
            needed.update(op.operands)
    # Of a state that grows, the new rows are handed on: the others come from memory.
    handed = [
        op.new if isinstance(op, KVAppend) else value
        for op in group.ops
        for value in op.results
        if value in needed
    ]
    elements = sum(evaluate(value.size, bindings) for value in handed)
    return elements, sum(evaluate(value.nbytes, bindings) for value in handed)


def _input_bytes(run: Run, group: Group, bindings: Mapping[str, int]) -> int:
    """Bytes that the stage reads of other stages in one iteration."""
    made = {value for op in group.ops for value in op.results}
    stored = {*run.weights.values(), *run.states.values()}
    taken = {
        value: evaluate(value.nbytes, bindings)
        for op in group.ops
        for value in op.operands
        if value not in made
        and value not in stored
        and value.type.dtype.is_float
        and not isinstance(value.op, KVAppend)
    }
    return sum(taken.values())


def interval_lanes(item: Draft, stages: Sequence[Draft], fabric: Fabric) -> int:
    """Lanes on which a stage that row groups pass keeps up with the memory traffic of its block's
    `stages`, and which as many ports reach as fill the memory."""
    memory = fabric.tiers[fabric.main_memory]
    cycles = sum(stage.stream_bytes for stage in stages) / memory.bytes_per_cycle
    keeps_up = math.ceil(item.work / max(1.0, _PIPED_BUSY * cycles))
    ports = math.ceil(memory.peak_bytes_per_cycle / fabric.port_bytes_per_cycle)
    fed = min(ports, item.useful_lanes) if item.stream_bytes else 1
    return max(1, keeps_up, fed, fewest_lanes(item, fabric))


def fewest_lanes(item: Draft, fabric: Fabric) -> int:
    """Lanes that hold what stays for all row groups, and tiles of what does not."""
    if item.groups == 1:
        return 1
    stays = sum(read.bytes for read in item.reads if read.kind != "state")
    passes = sum(2 * TILE_BYTES for read in item.reads if read.kind == "state")
    return lanes_to_hold(stays + passes, fabric) if stays + passes else 1
