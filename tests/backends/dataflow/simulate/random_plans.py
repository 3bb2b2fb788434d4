"""Small plans at random, of everything that a plan can say about time."""

from __future__ import annotations

import itertools
from typing import Literal

from hypothesis import strategies as st

from hetc.backends.dataflow.schema import (
    Append,
    Block,
    Buffer,
    Depends,
    Issue,
    Plan,
    Section,
    Stage,
    Stream,
    Tier,
)
from hetc.backends.dataflow.simulate import MemorySpeed, Speeds
from hetc.backends.dataflow.steps import (
    Configure,
    Execute,
    Loop,
    Step,
)
from tests.backends.dataflow import plans

CYCLES = st.sampled_from([0.0, 1.0, 2.5, 7.0, 30.0, 100.0])
RATES = st.sampled_from([0.5, 1.0, 3.0, 8.0])


@st.composite
def speeds(draw: st.DrawFn) -> Speeds:
    def memory() -> MemorySpeed:
        return MemorySpeed(draw(RATES), draw(st.sampled_from([0.5, 0.85, 1.0])), draw(CYCLES))

    return Speeds(
        clock_hz=1e9,
        main_memory="hbm",
        memories={"hbm": memory(), "ddr": memory()},
        port_bytes_per_cycle=draw(RATES),
    )


@st.composite
def random_plans(draw: st.DrawFn) -> Plan:
    """One to three blocks of one to four stages; the issue order of some lets them stand still."""
    blocks: list[Block] = []
    for name in "abc"[: draw(st.integers(1, 3))]:
        blocks.append(_block(draw, name, blocks))
    sections, steps = _program(draw, blocks)
    return plans.plan(
        *blocks,
        steps=steps,
        sections=sections,
        prefetch=draw(st.booleans()),
        overhead=draw(CYCLES),
    )


def _block(draw: st.DrawFn, name: str, before: list[Block]) -> Block:
    names = [f"{name}{index}" for index in range(draw(st.integers(1, 4)))]
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    streams: list[Stream] = []
    stages: list[Stage] = []
    for index, stage in enumerate(names):
        mine = [
            _stream(draw, f"w{number}.{stage}", stage, names[:index], groups)
            for number in range(draw(st.integers(0, 2)))
        ]
        streams += mine
        stages.append(
            plans.stage(
                stage,
                *_depends(draw, index, names, before),
                streams=[stream.id for stream in mine],
                rate=draw(RATES),
                work=draw(CYCLES),
                latency=draw(CYCLES),
                collective=plans.exchange(draw(CYCLES), draw(CYCLES), draw(st.integers(1, 4)))
                if draw(st.integers(0, 3)) == 0
                else None,
            )
        )
    order = streams if draw(st.booleans()) else draw(st.permutations(streams))
    issue = [
        Issue(stream=stream.id, ahead=draw(st.sampled_from([0, 0, 0, 1, 2])))
        for stream in order
        if stream.tier != "sram"
    ]
    return plans.block(
        name,
        stages,
        streams,
        repeat=draw(st.integers(1, 12)),
        issue=issue,
        appends=[
            Append(stage=stage, tensor=f"w0.{stage}", op=0, bytes=draw(st.integers(0, 9)))
            for stage in names
            if draw(st.integers(0, 4)) == 0
        ],
        buffers=_buffers(draw, names, groups),
        row_groups=groups,
    )


def _depends(draw: st.DrawFn, index: int, names: list[str], before: list[Block]) -> list[Depends]:
    found: dict[str, Depends] = {}
    kind: st.SearchStrategy[Literal["barrier", "stream"]] = st.sampled_from(["barrier", "stream"])
    for earlier in names[max(0, index - 2) : index]:
        if draw(st.integers(0, 2)):
            found[earlier] = Depends(stage=earlier, kind=draw(kind))
    if draw(st.booleans()):
        later = names[draw(st.integers(index, len(names) - 1))]
        found[later] = Depends(stage=later, kind=draw(kind), carried=True)
    for block in before:
        if draw(st.booleans()):
            other = draw(st.sampled_from(block.stages)).id
            found[other] = Depends(stage=other, kind=draw(kind))
    return list(found.values())


def _stream(draw: st.DrawFn, name: str, stage: str, earlier: list[str], groups: int) -> Stream:
    kind: Literal["weight", "state"] = draw(st.sampled_from(["weight", "state"]))
    size = draw(st.integers(0, 40)) * (groups if kind == "state" else 1)
    tile = draw(st.integers(1, 12))
    tier: Tier = draw(st.sampled_from(["hbm", "hbm", "hbm", "ddr", "sram"]))
    return plans.stream(
        name,
        stage,
        size,
        tile=tile,
        depth=(min(tile, size) if groups == 1 or kind == "state" else size)
        + draw(st.integers(0, 100)),
        kind=kind,
        ports=draw(st.integers(1, 3)),
        tier=tier,
        after=draw(st.sampled_from(earlier)) if earlier and not draw(st.integers(0, 5)) else None,
    )


def _buffers(draw: st.DrawFn, names: list[str], groups: int) -> list[Buffer]:
    """Through memory, or on the chip with room for one to three iterations."""
    found = []
    for producer, consumer in itertools.pairwise(names):
        tier = draw(st.sampled_from(["sram", "sram", "", "", "hbm"]))
        if tier and (tier == "sram" or groups == 1):
            size = draw(st.integers(0, 20))
            found.append(
                Buffer(
                    id=f"{producer}>{consumer}",
                    producer=producer,
                    consumers=(consumer,),
                    tier=tier,
                    bytes=size,
                    tile_bytes=1,
                    depth_bytes=size * draw(st.integers(1, 3)) if tier == "sram" else 1,
                    why="at random",
                )
            )
    return found


def _program(draw: st.DrawFn, blocks: list[Block]) -> tuple[list[Section], list[Step]]:
    """Each block in one section or two, which may have to be loaded, in a loop where it repeats."""
    everything = plans.section("all", [stage.id for block in blocks for stage in block.stages])
    sections, steps = [everything], list[Step]()
    for block in blocks:
        if block.row_groups > 1:
            steps += plans.resident(block, loops=draw(st.booleans()))
            continue
        launch = draw(st.sampled_from([0.0, 0.0, 0.0, 5.0]))
        kind: Literal["block", "stage"] = draw(st.sampled_from(["block", "stage"]))
        body: list[Configure | Execute] = []
        parts = ["all"]
        if len(block.stages) > 1 and not draw(st.integers(0, 3)):
            cut = draw(st.integers(1, len(block.stages) - 1))
            ids = [stage.id for stage in block.stages]
            parts = [f"{block.id}.front", f"{block.id}.back"]
            sections += [plans.section(parts[0], ids[:cut]), plans.section(parts[1], ids[cut:])]
        for part in parts:
            if draw(st.integers(0, 3)) == 0:
                body.append(Configure(section=part, cycles=draw(CYCLES)))
            body.append(Execute(block=block.id, section=part, launch=kind, launch_cycles=launch))
        if block.repeat > 1:
            prefetch = draw(st.booleans())
            steps.append(
                Loop(block=block.id, count=block.repeat, body=tuple(body), prefetch=prefetch)
            )
        else:
            steps += body
    return sections, steps
