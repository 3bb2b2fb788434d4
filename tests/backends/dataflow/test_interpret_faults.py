"""A wrong number in a plan gives an error or a wrong answer: the interpreter obeys the plan."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hetc.backends.dataflow.interpret import PlanRun
from hetc.backends.dataflow.schema import Allocation, Plan, Stage, Tiling
from hetc.errors import PlanError
from hetc.ir.text import print_graph
from tests.backends.dataflow import faults
from tests.backends.dataflow.conftest import TinyModels
from tests.backends.dataflow.edits import (
    Change,
    Draw,
    backwards,
    drop,
    edit,
    fields,
    grow,
    repeat,
    shift,
    to,
    when,
)
from tests.backends.dataflow.test_interpret import TOLERANCE
from tests.backends.dataflow.tiny_models import PROMPT, Made, Subject, small_tiles
from tests.golden import Golden

STAGES, STREAMS, BUFFERS = "blocks.*.stages", "blocks.*.streams", "blocks.*.buffers"


def further(old: int, draw: Draw) -> int:
    return old + 256 * draw(st.integers(1, 8))


def repeats(item: Allocation) -> bool:
    return item.count > 1


def multiplies(stage: Stage) -> bool:
    return stage.form == "axpy" and stage.tiling is not None and stage.tiling.inputs > 1


def taller(stage: Stage) -> Tiling:
    assert stage.tiling is not None
    return msgspec.structs.replace(stage.tiling, rows=stage.tiling.rows + 1)


def narrower(stage: Stage) -> Tiling:
    assert stage.tiling is not None
    return msgspec.structs.replace(stage.tiling, outputs=stage.tiling.outputs // 3)


def other(old: object, draw: Draw) -> object:
    """The id of another stage of the plan that has two at least."""
    return draw(st.sampled_from(["b0.s1", "b1.s0", "b1.s4", "b1.s7", "b2.s0"]))


def one_more(old: int, draw: Draw) -> int:
    return old + 1


def halve(old: int, draw: Draw) -> int:
    return old // 2


# What no machine can do as it is written, or what gives something else.
FAULTS: dict[str, tuple[str, Change]] = {
    "a loop too short": ("program.steps.*.count", when(lambda n: n > 1, to(1))),
    "a loop too long": ("program.steps.*.count", one_more),
    "a step lost": ("program.steps", drop),
    "steps backwards": ("program.steps", faults.executes_backwards),
    "two rows a token": ("program.steps.*.rows", to(2)),
    "no row a token": ("program.steps.*.rows", to(0)),
    "another section": ("program.steps.*.section", to("c9")),
    "an iteration more": ("blocks.*.repeat", one_more),
    "calls backwards": ("blocks.*.calls", when(lambda calls: len(calls) > 1, backwards)),
    "an op lost": (f"{STAGES}.*.ops", drop),
    "an op in two stages": ("blocks.*", faults.share_op),
    "ops of two stages swapped": ("blocks.*", faults.swap_ops),
    "a dependence lost": (f"{STAGES}.*.depends", drop),
    "a dependence on another": (f"{STAGES}.*.depends.*.stage", other),
    "a dependence too late": (f"{STAGES}.*.depends.*.carried", when(lambda c: not c, to(True))),
    "a stage in no section": ("sections.*.stages", drop),
    "tiles for more rows": (f"{STAGES}.*", when(multiplies, fields(tiling=taller))),
    "K split without reducers": (
        f"{STAGES}.*",
        when(lambda stage: stage.form == "axpy", fields(split_k=lambda stage: stage.split_k + 1)),
    ),
    "a stream lost": (STREAMS, drop),
    "a stream not issued": ("blocks.*.issue", drop),
    "a stream issued twice": ("blocks.*.issue", repeat),
    "a stream of the wrong stage": (f"{STREAMS}.*.stage", other),
    "a tensor not streamed": (f"{STREAMS}.*.tensors", drop),
    "false bytes": (f"{STREAMS}.*", faults.false_bytes),
    "credits below a tile": (f"{STREAMS}.*.depth_bytes", when(lambda n: n > 8, to(8))),
    "addresses from nowhere": (f"{STREAMS}.*", when(lambda s: s.after, fields(after=None))),
    "addresses from another stage": (f"{STREAMS}.*.after", other),
    "another tier": (f"{STREAMS}.*.tier", to("ddr")),
    "a buffer lost": (BUFFERS, drop),
    "a consumer forgotten": (f"{BUFFERS}.*.consumers", drop),
    "a shallow buffer": (f"{BUFFERS}.*.depth_bytes", to(1)),
    "a state not written": ("blocks.*.appends", drop),
    "rows of another op": ("blocks.*.appends.*.op", to(0)),
    "rows of another stage": ("blocks.*.appends.*.stage", other),
    "false bytes of new rows": ("blocks.*.appends.*.bytes", shift),
    "a ring too long": ("blocks.*.appends.*.ring", when(bool, one_more)),
    "a ring too short": ("blocks.*.appends.*.ring", when(bool, halve)),
    "no ring": ("blocks.*.appends.*", when(lambda item: item.ring, fields(ring=None))),
    "a state replaced": ("blocks.*.appends.*.whole", to(True)),
    "one on another": ("memory", faults.other_offset),
    "a stride too short": ("memory.*", when(repeats, fields(stride=lambda i: i.stride // 2))),
    "one place for all": ("memory.*", faults.no_stride),
    "places missing": ("memory.*.count", one_more),
    "false bytes in memory": ("memory.*.bytes", shift),
    "rows missing": ("memory.*.rows", faults.fewer_rows),
    "rows shifted": ("memory.*.rows", lambda old, draw: (old[0] + 1, old[1] + 1)),
    "a tensor not in memory": ("memory", drop),
    "parts that sockets cannot share": ("shards.*.parts", when(lambda n: n > 1, one_more)),
    "a part that is the whole": ("shards.*", faults.whole),
    "the other axis": ("shards.*", faults.other_axis),
    "a shard lost": ("shards", faults.lose_shard),
    "a sum without a collective": (f"{STAGES}.*", faults.no_collective),
    "false bytes of a sum": (f"{STAGES}.*.collective.bytes", shift),
    "more sockets": ("target.sockets", one_more),
    "a larger batch": ("bindings.batch", grow),
}
# What is a plan too, but not the one by which memory was filled.
ELSEWHERE: dict[str, tuple[str, Change]] = {
    "another offset": ("memory.*.offset", further),
    "another stride": ("memory.*", when(repeats, fields(stride=lambda item: item.stride + 256))),
    "another width of tiles": (f"{STAGES}.*", when(multiplies, fields(tiling=narrower))),
    "tensors in another order": (f"{STREAMS}.*.tensors", when(lambda t: len(t) > 2, backwards)),
}


def examples(few: int) -> settings:
    shared = HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much
    return settings(max_examples=few, suppress_health_check=shared)


@pytest.mark.parametrize("name", FAULTS)
@examples(4)
@given(st.data())
def test_a_fault_is_never_right(tiny_models: TinyModels, name: str, data: st.DataObject) -> None:
    model = tiny_models("gpt_oss", 1)
    made = model.made("sn40l:2")
    plan = edit(made.plan, *FAULTS[name], data.draw)
    assert plan is not None, "the plan has no place for this fault"
    assert_not_right(model, Made(integers(plan), made.graph))


@pytest.mark.parametrize("name", ELSEWHERE)
@examples(6)
@given(st.data())
def test_memory_is_read_where_the_plan_says(
    tiny_models: TinyModels, name: str, data: st.DataObject
) -> None:
    model = tiny_models("llama", 1)
    made = model.made("sn40l:2", small_tiles(1))
    plan = edit(made.plan, *ELSEWHERE[name], data.draw)
    assume(plan is not None)
    assert plan is not None
    good = model.run(made)
    assert_not_right(model, Made(plan, made.graph), memory_of=good)


def integers(plan: Plan) -> Plan:
    """The plan as it would be read from its file: changed numbers may be floats."""
    return msgspec.json.decode(msgspec.json.encode(plan), type=Plan, strict=False)


def assert_not_right(model: Subject, made: Made, memory_of: PlanRun | None = None) -> None:
    try:
        run = model.run(made)
        for tier, size in run.memory.sizes.items() if memory_of else ():
            assert memory_of is not None
            shared = min(size, memory_of.memory.sizes[tier])
            run.memory.write(tier, 0, np.zeros((made.plan.target.sockets, size), np.uint8))
            run.memory.write(tier, 0, memory_of.memory.read(tier, 0, shared))
        error = model.largest_error(run)
    except PlanError:
        return
    assert error > 10 * TOLERANCE


def test_a_plan_of_another_graph_is_refused(tiny_models: TinyModels) -> None:
    model = tiny_models("llama", 1)
    made, other = model.made("sn40l:2"), model.made("sn40l:4")
    with pytest.raises(PlanError, match="HETC-L301") as refused:
        model.run(Made(made.plan, other.graph))
    assert refused.value.found == hashlib.sha256(print_graph(other.graph).encode()).hexdigest()


def test_a_deadlock_says_who_waits_for_what(tiny_models: TinyModels, golden: Golden) -> None:
    model = tiny_models("mixtral", 1)
    made = model.made("sn40l:2")
    block = made.plan.blocks[1]
    # Half of a tile: the queue stops at this stream, and what stands behind it never comes.
    streams = tuple(
        msgspec.structs.replace(stream, depth_bytes=stream.tile_bytes // 2)
        if stream.kind == "state"
        else stream
        for stream in block.streams
    )
    shallow = msgspec.structs.replace(block, streams=streams)
    blocks = (made.plan.blocks[0], shallow, *made.plan.blocks[2:])
    run = model.run(Made(msgspec.structs.replace(made.plan, blocks=blocks), made.graph))
    with pytest.raises(PlanError, match="HETC-L307") as refused:
        run.step(model.tokens[:, PROMPT : PROMPT + 1])
    golden("standing_still.txt", str(refused.value))
