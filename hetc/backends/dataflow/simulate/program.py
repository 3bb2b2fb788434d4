"""The program of a token, step by step, and the names in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from hetc.backends.dataflow.schema import Block, Plan
from hetc.backends.dataflow.simulate.timing import Repeat, Segment, Turn
from hetc.backends.dataflow.steps import Configure, Execute, Loop
from hetc.errors import BackendError

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """One `Execute` of a token: iteration `iteration` of `count`.

    `fence`: it begins so many cycles after everything before it has finished (a section is loaded,
    or it is launched); None where it is resident and started by its data. `launch` is paid by each
    stage. `enters`: it begins an iteration, other than the first, of a loop without prefetch.
    """

    block: str
    section: str
    iteration: int
    count: int
    fence: float | None
    launch: float
    reads_ahead: bool
    enters: bool


@dataclass(frozen=True)
class LoopSpan:
    """Where a loop stands in a list of steps or turns: `count` iterations of `length` of them."""

    start: int
    length: int
    count: int


def find(names: Mapping[str, T], name: str, kind: str, at: str) -> T:
    """What is called `name`; BackendError HETC-L101 where the plan has no such thing."""
    if name not in names:
        raise BackendError("HETC-L101", f"the plan has no such {kind}", at=at, found=name)
    return names[name]


def amount(value: float, at: str) -> float:
    """`value`, which must not be negative: BackendError HETC-L105."""
    if not 0 <= value < float("inf"):
        raise BackendError("HETC-L105", "a number must not be negative", at=at, found=value)
    return value


def rate(value: float, at: str) -> float:
    """`value`, which must be positive: BackendError HETC-L105."""
    if amount(value, at) == 0:
        raise BackendError("HETC-L105", "nothing can move at this rate", at=at, found=value)
    return value


def steps_of(plan: Plan) -> tuple[tuple[Step, ...], tuple[LoopSpan, ...]]:
    """A token's steps and its loops; BackendError HETC-L107 for a program that cannot be run.

    The chip is as a token leaves it: a section that is loaded already costs nothing.
    """
    walk = _Walk(_last_section(plan))
    for step in plan.program.steps:
        if isinstance(step, Loop):
            walk.loop(step)
        elif isinstance(step, Execute):
            place = (step.block, step.section)
            times = sum((before.block, before.section) == place for before in walk.steps)
            walk.execute(step, times, times + 1, reads_ahead=False, enters=False)
        elif isinstance(step, Configure):
            walk.configure(step)
    if not walk.steps:
        raise BackendError("HETC-L107", "the program executes nothing", at="program.steps")
    return tuple(walk.steps), tuple(walk.loops)


def _last_section(plan: Plan) -> str:
    flat = [
        part
        for step in plan.program.steps
        for part in (step.body if isinstance(step, Loop) else (step,))
    ]
    loads = [step.section for step in flat if isinstance(step, Configure)]
    return loads[-1] if loads else ""


class _Walk:
    def __init__(self, loaded: str) -> None:
        self.loaded = loaded
        self.fence: float | None = None
        self.steps: list[Step] = []
        self.loops: list[LoopSpan] = []

    def configure(self, step: Configure) -> None:
        if step.section != self.loaded:
            self.loaded = step.section
            self.fence = (self.fence or 0.0) + amount(step.cycles, f"configure {step.section}")

    def execute(
        self, step: Execute, iteration: int, count: int, *, reads_ahead: bool, enters: bool
    ) -> None:
        launch = amount(step.launch_cycles, f"launch of {step.block}")
        if launch and step.launch == "block":
            self.fence = (self.fence or 0.0) + launch
        self.steps.append(
            Step(
                block=step.block,
                section=step.section,
                iteration=iteration,
                count=count,
                fence=self.fence,
                launch=launch if step.launch == "stage" else 0.0,
                reads_ahead=reads_ahead,
                enters=enters,
            )
        )
        self.fence = None

    def loop(self, loop: Loop) -> None:
        executes = [step for step in loop.body if isinstance(step, Execute)]
        if loop.count < 1 or not executes or any(step.block != loop.block for step in executes):
            raise BackendError(
                "HETC-L107",
                "a loop must execute its own block at least once",
                at=f"loop of {loop.block}",
            )
        fenced = len(executes) < len(loop.body) or any(step.launch_cycles for step in executes)
        self.loops.append(LoopSpan(len(self.steps), len(executes), loop.count))
        for iteration in range(loop.count):
            enters = iteration > 0 and not loop.prefetch
            for step in loop.body:
                if isinstance(step, Configure):
                    self.configure(step)
                    continue
                ahead = loop.prefetch and not fenced
                self.execute(step, iteration, loop.count, reads_ahead=ahead, enters=enters)
                enters = False


def _row_groups(step: Step, block: Block, here: list[str]) -> int:
    """In how many groups a step runs; BackendError HETC-L107 where they cannot follow."""
    resident = step.fence is None and not step.launch and len(here) == len(block.stages)
    resident = resident and all(buffer.tier == "sram" for buffer in block.buffers)
    if block.row_groups < 1 or (block.row_groups > 1 and not resident):
        raise BackendError(
            "HETC-L107",
            "row groups follow each other through stages that are resident together",
            at=f"{step.block} in {step.section}",
            found=f"{block.row_groups} row groups",
        )
    return block.row_groups


def repeat_of(turns: tuple[Turn, ...], span: LoopSpan) -> Repeat:
    """The iterations of a loop that are equal: not the first, nor those that read less ahead."""

    def iteration(index: int) -> tuple[Turn, ...]:
        start = span.start + index * span.length
        return turns[start : start + span.length]

    high = 1
    while high < span.count and all(
        turn is like for turn, like in zip(iteration(high), iteration(1), strict=True)
    ):
        high += 1
    return Repeat(span.start, span.length, high)


class Names:
    """Indices of what a program executes: segments, and stages in the order of their segments."""

    def __init__(self, plan: Plan, steps: tuple[Step, ...]) -> None:
        self.segments: list[Segment] = []
        self.segment_of: dict[tuple[str, str], int] = {}
        self.stage_of: dict[str, int] = {}
        self.block_of: dict[str, Block] = {}
        places = {block.id: place for place, block in enumerate(plan.blocks)}
        sections = {section.id: section for section in plan.sections}
        for step in steps:
            if (step.block, step.section) not in self.segment_of:
                place = find(places, step.block, "block", "program")
                members = find(sections, step.section, "section", "program").stages
                self._add(step, place, plan.blocks[place], set(members))

    def _add(self, step: Step, place: int, block: Block, members: set[str]) -> None:
        names = [stage.id for stage in block.stages if stage.id in members]
        if not names:
            raise BackendError(
                "HETC-L107", "an execute runs no stage", at=f"{step.block} in {step.section}"
            )
        for name in names:
            if name in self.stage_of:
                raise BackendError("HETC-L102", "a stage is executed by two sections", at=name)
            self.stage_of[name] = len(self.stage_of)
            self.block_of[name] = block
        self.segment_of[step.block, step.section] = len(self.segments)
        stages = tuple(self.stage_of[name] for name in names)
        self.segments.append(Segment(place, stages, _row_groups(step, block, names)))

    def stage(self, name: str, at: str) -> int:
        """Index of an executed stage; BackendError HETC-L101."""
        return find(self.stage_of, name, "executed stage", at)
