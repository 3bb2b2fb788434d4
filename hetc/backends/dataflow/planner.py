"""The planner: from the graph of one socket to a plan.

Blocks and their stages, sections, lanes, tiles, streams with ports and credits, the memory map and
the program, in this order; places and routes follow. Every choice that a user fixed stays as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec

from hetc.backends.dataflow.assemble import make_block, make_buffers
from hetc.backends.dataflow.blocks import Run, find_blocks
from hetc.backends.dataflow.depends import Dependences, stage_id
from hetc.backends.dataflow.fabric import Fabric, fabric_of
from hetc.backends.dataflow.fit import (
    Capacity,
    Demand,
    Shortfall,
    capacity_of,
    demand_of,
    fit,
    lanes_to_hold,
    total,
)
from hetc.backends.dataflow.groups import Group, group_ops
from hetc.backends.dataflow.issue import held_whole
from hetc.backends.dataflow.memory_map import Piece, lay_out, pieces_of, spill
from hetc.backends.dataflow.plannable import require_plannable
from hetc.backends.dataflow.program import make_program
from hetc.backends.dataflow.reads import reads_of
from hetc.backends.dataflow.resources import resources_of
from hetc.backends.dataflow.row_groups import why_whole
from hetc.backends.dataflow.schema import (
    SCHEMA,
    Bindings,
    Block,
    Buffer,
    Plan,
    Request,
    Section,
    ShardOf,
    Stage,
    Stream,
    TargetRef,
)
from hetc.backends.dataflow.sections import Place, Unit, find_sections
from hetc.backends.dataflow.sizing import (
    Draft,
    Wish,
    draft,
    fewest_lanes,
    interval_lanes,
    share_lanes,
)
from hetc.backends.dataflow.stages import make_stage
from hetc.backends.dataflow.streams import (
    behind,
    bind_ports,
    give_credits,
    held_bytes,
    split_tiers,
)
from hetc.errors import BackendError
from hetc.ir.op import Value
from hetc.ir.ops.source import Weight
from hetc.ir.text import print_graph
from hetc.passes.shard import Sharded
from hetc.targets import Target


@dataclass(frozen=True)
class Sizes:
    """What the plan is made for: sequences, tokens in the state when a step begins, and the most of
    them that memory must hold."""

    batch: int = 1
    past: int = 2048
    context: int = 4096

    @property
    def bindings(self) -> dict[str, int]:
        return {"B": self.batch, "T": 1, "P": self.past}


@dataclass(frozen=True)
class _Filled:
    """The stages, streams and buffers of every block, on so many lanes."""

    stages: tuple[tuple[Stage, ...], ...]
    streams: tuple[tuple[Stream, ...], ...]
    buffers: tuple[tuple[Buffer, ...], ...]

    def demand(self, place: Place) -> Demand:
        """What one stage takes of a socket; buffers lie with their producer, in any block."""
        block, number = place
        every = [buffer for buffers in self.buffers for buffer in buffers]
        return demand_of(self.stages[block][number], self.streams[block], every)


class Planner:
    """Plans the decode half of one socket of `target`; `plan` is the answer.

    The sequences of blocks that repeat pass in `row_groups` groups, where they can.
    """

    def __init__(
        self,
        sharded: Sharded,
        target: Target,
        sizes: Sizes,
        request: Request,
        tool: str,
        *,
        row_groups: int = 1,
    ) -> None:
        self.sharded, self.target, self.sizes = sharded, target, sizes
        self.request, self.tool = request, tool
        self.fabric: Fabric = fabric_of(target)
        self.runs: tuple[Run, ...] = find_blocks(sharded.graph)
        require_plannable(self.runs)
        groups = [group_ops(run) for run in self.runs]
        self.row_groups = tuple(
            row_groups if self._why_whole(run, found) is None else 1
            for run, found in zip(self.runs, groups, strict=True)
        )
        self.drafts: tuple[tuple[Draft, ...], ...] = tuple(
            tuple(draft(run, group, sizes.bindings, self.fabric, groups=count) for group in found)
            for run, found, count in zip(self.runs, groups, self.row_groups, strict=True)
        )
        self.dependences = Dependences(self.runs, groups)

    def _why_whole(self, run: Run, groups: Sequence[Group]) -> str | None:
        """Why all sequences of a block pass together; None where they may pass in row groups."""
        asked = self.request
        if not (asked.looping and asked.fused):
            return "its stages are launched"
        if any(entry.depth_bytes is not None for entry in asked.stages):
            return "the depth of streams is fixed"
        bindings = self.sizes.bindings
        reads = [read for group in groups for read in reads_of(run, group, bindings)]
        return why_whole(run, reads)

    @property
    def pipelines(self) -> bool:
        """Whether row groups pass some block, whose stages are on the chip together."""
        return any(count > 1 for count in self.row_groups) and len(self.sections) == 1

    @cached_property
    def capacity(self) -> Capacity:
        return capacity_of(self.target.grid)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """Every stored tensor, in the tier where it lies."""
        sizes, main = self.sizes, self.fabric.main_memory
        held = pieces_of(self.runs, self.drafts, sizes.batch, sizes.context, main)
        return spill(held, self.fabric)

    @cached_property
    def sections(self) -> tuple[tuple[Place, ...], ...]:
        """The stages of each section, in the order of execution."""
        units = [
            Unit(
                block,
                number,
                self._least.demand((block, number)),
                item.work,
                self._wish((block, number)).most,
                item.stream_bytes / self.fabric.tiers[self.fabric.main_memory].bytes_per_cycle,
            )
            for block, items in enumerate(self.drafts)
            for number, item in enumerate(items)
        ]
        repeats = [run.repeat for run in self.runs]
        return find_sections(
            units, repeats, self.capacity, self.fabric.lanes, self.fabric.reconfigure_cycles
        )

    @cached_property
    def filled(self) -> _Filled:
        """Every section on as many lanes as are useful and there."""
        lanes: dict[Place, int] = {}
        for section in self.sections:
            lanes |= self._lanes(section)
        return self.fill(lanes)

    def _wish(self, place: Place) -> Wish:
        """The lanes that a stage can use: for its work, or to hold what is fetched early or stays
        for all row groups."""
        block, number = place
        item, piped = self.drafts[block][number], self.row_groups[block] > 1
        wish = item.wish
        if piped and not item.is_link:
            stages = self.drafts[block]
            most = interval_lanes(item, stages, self.fabric)
            wish = Wish(wish.work, most, fewest_lanes(item, self.fabric))
        held = self._least.streams[block]
        own = [stream for stream in held if stream.stage == stage_id(block, number)]
        early = self._early(block, held)
        slower = any(stream.tier != self.fabric.main_memory for stream in own)
        hold = held_bytes(own, self.pieces, early, self.row_groups[block])
        needed = [stream for stream in own if slower or piped or stream.id in early]
        if not needed:
            return wish
        room = sum(behind(own, stream, self.fabric, hold) for stream in needed)
        return replace(wish, most=max(wish.most, lanes_to_hold(room, self.fabric)))

    def _early(self, block: int, streams: Sequence[Stream]) -> frozenset[str]:
        """The streams of a block that may be fetched before others that their stage waits for."""
        loops = self.runs[block].repeat > 1 and self.request.prefetch and self.request.looping
        return held_whole(streams) if loops else frozenset()

    @cached_property
    def _least(self) -> _Filled:
        """Every stage on the fewest lanes, with the fewest credits."""
        return self.fill(self._fewest, least=True)

    @cached_property
    def _fewest(self) -> dict[Place, int]:
        return {
            (block, number): fewest_lanes(item, self.fabric)
            for block, items in enumerate(self.drafts)
            for number, item in enumerate(items)
        }

    def _lanes(self, section: tuple[Place, ...]) -> dict[Place, int]:
        wishes = [self._wish(place) for place in section]
        budget = self.fabric.lanes
        while True:
            lanes = dict(zip(section, share_lanes(wishes, budget), strict=True))
            filled = self.fill(self._fewest | lanes)
            lacks = fit(total(filled.demand(place) for place in section), self.capacity)
            sites = sum(self._sites(filled.stages[block][number]) for block, number in section)
            if not lacks and sites <= self.fabric.lanes:
                return lanes
            budget = min(budget - 1, budget * 19 // 20)
            if budget < len(section):
                raise self._overfull(lacks, sites)

    def _overfull(self, lacks: tuple[Shortfall, ...], sites: int) -> BackendError:
        found = [f"{lack.demand:,} {lack.resource} of {lack.bound:,}" for lack in lacks]
        return BackendError(
            "HETC-E033",
            "the stages of a section do not fit with one lane each",
            at=self.target.name,
            found="; ".join(found) or f"{sites:,} sites of {self.fabric.lanes:,}",
            do=lacks[0].lever if lacks else "lower the batch",
        )

    @staticmethod
    def _sites(stage: Stage) -> int:
        """Lane sites of a stage: an input copy or output unit can share one with a reducer."""
        units = stage.units
        return units.lanes + max(units.reducers, units.x_copies + units.outputs)

    def fill(self, lanes: Mapping[Place, int], *, least: bool = False) -> _Filled:
        """All stages on these lanes; with `least` credits where only the smallest matter."""
        stages: list[tuple[Stage, ...]] = []
        streams: list[tuple[Stream, ...]] = []
        for block, items in enumerate(self.drafts):
            made = [
                make_stage(
                    stage_id(block, number),
                    item,
                    lanes[block, number],
                    self.dependences.of(block, number, overlap=self.request.overlap),
                    self.dependences.chooser(block, number),
                    self.fabric,
                    self.request,
                )
                for number, item in enumerate(items)
            ]
            own = [stream for one in made for stream in one.streams]
            split = split_tiers(own, self.pieces, self.fabric.main_memory)
            by_id = {one.stage.id: one.stage for one in made}
            bound = bind_ports(split, by_id, self.fabric)
            groups = self.row_groups[block]
            hold = held_bytes(bound, self.pieces, self._early(block, bound), groups)
            streams.append(
                give_credits(bound, by_id, self.fabric, self.request, hold, groups, least=least)
            )
            stages.append(tuple(_with_streams(one.stage, streams[-1]) for one in made))
        tier = "sram" if self.request.fused else self.fabric.main_memory
        return _Filled(tuple(stages), tuple(streams), make_buffers(stages, self.drafts, tier))

    def blocks(self) -> tuple[Block, ...]:
        filled, bindings = self.filled, self.sizes.bindings
        return tuple(
            make_block(
                run,
                self.sharded.graph,
                filled.stages[number],
                filled.streams[number],
                filled.buffers[number],
                bindings,
                held_bytes(
                    filled.streams[number],
                    self.pieces,
                    self._early(number, filled.streams[number]),
                    self.row_groups[number],
                ),
                self.row_groups[number],
                prefetch=self._goes_on(number),
            )
            for number, run in enumerate(self.runs)
        )

    def _goes_on(self, block: int) -> bool:
        """Whether the queues may go on into the next iteration while one computes."""
        parts = sum(any(place[0] == block for place in part) for part in self.sections)
        asked = self.request
        return asked.prefetch and asked.looping and asked.fused and parts == 1

    def plan(self) -> Plan:
        """The plan, without places, routes, estimate and checks."""
        constant, cycle_us = self.target.device.constant, self.fabric.clock_hz / 1e6
        text = print_graph(self.sharded.graph)
        blocks = self.blocks()
        return Plan(
            schema=SCHEMA,
            tool=self.tool,
            target=TargetRef(
                name=self.target.name, sha256=self.target.sha256, sockets=self.target.count
            ),
            graph_sha256=hashlib.sha256(text.encode()).hexdigest(),
            bindings=Bindings(
                batch=self.sizes.batch, past=self.sizes.past, context=self.sizes.context
            ),
            request=self.request,
            blocks=blocks,
            sections=tuple(self._section(n, blocks) for n in range(len(self.sections))),
            program=make_program(
                self.runs,
                self.sections,
                self.request,
                reconfigure_cycles=self.fabric.reconfigure_cycles,
                launch_cycles=constant("section_launch_us") * cycle_us,
                overhead_cycles=constant("step_us") * cycle_us,
            ),
            memory=lay_out(self.pieces, [run.id for run in self.runs]),
            shards=tuple(self._shards()),
        )

    def _section(self, number: int, blocks: tuple[Block, ...]) -> Section:
        stages = tuple(stage_id(*place) for place in self.sections[number])
        used = resources_of(blocks, stages, self.capacity)
        return Section(id=f"c{number}", stages=stages, resources=used, sites={}, routes=())

    def _shards(self) -> Iterator[ShardOf]:
        """Which part of each tensor of a block a socket holds, in every iteration alike."""
        known = {**self.sharded.weights, **self.sharded.states}
        for run in self.runs:
            for tensor, value in (*run.weights.items(), *run.states.items()):
                shard = known[_outer_name(run, tensor, value)]
                yield ShardOf(
                    block=run.id,
                    tensor=tensor,
                    axis=shard.axis,
                    parts=shard.parts,
                    groups=shard.groups,
                )


def _outer_name(run: Run, tensor: str, value: Value) -> str:
    """What the main graph calls a tensor of a block, in its first iteration."""
    if not run.calls:
        return tensor
    argument = run.calls[0].operands[run.graph.inputs.index(value)]
    return argument.op.name if isinstance(argument.op, Weight) else argument.name


def _with_streams(stage: Stage, streams: tuple[Stream, ...]) -> Stage:
    own = tuple(stream.id for stream in streams if stream.stage == stage.id)
    return msgspec.structs.replace(stage, streams=own)
