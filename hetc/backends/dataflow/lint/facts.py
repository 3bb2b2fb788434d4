"""A plan with its tables: what rules look up, computed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from hetc.backends.dataflow.fit import Capacity, Demand, capacity_of, demand_of
from hetc.backends.dataflow.lint.mesh import Mesh
from hetc.backends.dataflow.lint.trees import Tree, tree_of
from hetc.backends.dataflow.lint.work import Work
from hetc.backends.dataflow.schema import (
    Block,
    Plan,
    Section,
    ShardOf,
    Stage,
    Stream,
)
from hetc.backends.dataflow.steps import Configure, Execute, Loop
from hetc.ir.graph import Graph
from hetc.targets.machine import Target
from hetc.targets.model import Grid


@dataclass(frozen=True)
class Facts:
    """The plan, the machine and the graph that it is for; `model` is the graph before sharding.

    The tables suppose that names are unique and refer to something, which the first rules check.
    """

    plan: Plan
    target: Target
    graph: Graph | None = None
    model: Graph | None = None

    @cached_property
    def grid(self) -> Grid:
        """The fabric; rules that need one do not run where there is none."""
        return self.target.grid

    @cached_property
    def mesh(self) -> Mesh:
        return Mesh(self.grid)

    @cached_property
    def trees(self) -> dict[str, list[Tree]]:
        """Section -> its routes on the mesh."""
        return {
            section.id: [tree_of(self.mesh, route) for route in section.routes]
            for section in self.plan.sections
        }

    @cached_property
    def capacity(self) -> Capacity:
        return capacity_of(self.grid)

    @cached_property
    def work(self) -> Work:
        """The graph as the plan divides it; rules that need it do not run without a graph."""
        assert self.graph is not None
        return Work(self.plan, self.graph)

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """The sizes of the step that the plan is made for."""
        return {"B": self.plan.bindings.batch, "T": 1, "P": self.plan.bindings.past}

    @cached_property
    def blocks(self) -> dict[str, Block]:
        return {block.id: block for block in self.plan.blocks}

    @cached_property
    def block_order(self) -> dict[str, int]:
        return {block.id: place for place, block in enumerate(self.plan.blocks)}

    @cached_property
    def stages(self) -> dict[str, Stage]:
        return {stage.id: stage for block in self.plan.blocks for stage in block.stages}

    @cached_property
    def block_of(self) -> dict[str, Block]:
        """Stage -> its block."""
        return {stage.id: block for block in self.plan.blocks for stage in block.stages}

    @cached_property
    def streams(self) -> dict[str, Stream]:
        return {stream.id: stream for block in self.plan.blocks for stream in block.streams}

    @cached_property
    def sections(self) -> dict[str, Section]:
        return {section.id: section for section in self.plan.sections}

    @cached_property
    def shards(self) -> dict[tuple[str, str], ShardOf]:
        """(block, tensor) -> its shard."""
        return {(shard.block, shard.tensor): shard for shard in self.plan.shards}

    @cached_property
    def demands(self) -> dict[str, Demand]:
        """Stage -> what it takes of a socket."""
        # What a stage makes may be read in another block: its copies there take room too.
        buffers = [buffer for block in self.plan.blocks for buffer in block.buffers]
        return {
            stage.id: demand_of(stage, block.streams, buffers)
            for block in self.plan.blocks
            for stage in block.stages
        }

    @cached_property
    def runs(self) -> dict[str, list[tuple[str, int]]]:
        """Block -> the sections that execute it, each with how often."""
        found: dict[str, list[tuple[str, int]]] = {block.id: [] for block in self.plan.blocks}
        for step, count in self.executes:
            found[step.block].append((step.section, count))
        return found

    @cached_property
    def executes(self) -> list[tuple[Execute, int]]:
        """The program's executions in order, each with how often its loop runs it."""
        found = []
        for step in self.plan.program.steps:
            if isinstance(step, Execute):
                found.append((step, 1))
            elif isinstance(step, Loop):
                found += [(inner, step.count) for inner in step.body if isinstance(inner, Execute)]
        return found

    def launches(self) -> Iterator[Configure | Execute]:
        """What the program configures and executes in one token, loops unrolled."""
        for step in self.plan.program.steps:
            if isinstance(step, Configure | Execute):
                yield step
            elif isinstance(step, Loop):
                for _ in range(step.count):
                    yield from step.body

    def cycles(self, us: float) -> float:
        """Microseconds as cycles of the fabric."""
        return us * 1e-6 * self.grid.clock_hz.value

    def bytes_per_cycle(self, tier: str) -> float:
        """What a memory tier of one socket gives in a long read."""
        device = self.target.device
        peak = device.memory(tier).bandwidth.value / self.grid.clock_hz.value
        return peak * device.constant("bandwidth_fraction")
