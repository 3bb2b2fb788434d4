"""Rules that compare a plan with its graph, on graphs that the toy plan does not have."""

from __future__ import annotations

import pytest

from hetc import targets
from hetc.backends.dataflow.lint import flow, memory, state
from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Rule
from hetc.backends.dataflow.schema import (
    SCHEMA,
    Allocation,
    Append,
    Bindings,
    Block,
    Plan,
    Request,
    ShardOf,
    Stage,
    Stream,
    TargetRef,
    Units,
)
from hetc.backends.dataflow.steps import Program
from hetc.ir.text import parse

EXPERTS = """
graph @decode(%x: bf16[4,8], %ids: i64[4]) {
  %w = weight {name = "experts", type = bf16[6,8,8]}
  %y = expert_linear %x, %w, %ids
  return %y
}
"""
LOOKUP = """
graph @decode(%tokens: i64[B,1]) {
  %w = weight {name = "embed", type = bf16[256,8]}
  %y = embedding %w, %tokens
  return %y
}
"""
RECURRENT = """
graph @decode(%x: bf16[B,8], %memory: bf16[B,8]) -> (y: bf16[B,8], memory.out: bf16[B,8]) {
  %y = add %memory, %x
  return %y, %y
}
"""


def facts(
    text: str,
    ops: tuple[int, ...],
    stream: Stream,
    appends: tuple[Append, ...] = (),
    stored: tuple[Allocation, ...] = (),
    shards: tuple[ShardOf, ...] = (),
) -> Facts:
    """A plan of one stage that has nothing but what the rules here look at; two sequences."""
    stage = Stage(
        id="only",
        name="only",
        template="generic",
        ops=ops,
        streams=(stream.id,),
        units=Units(lanes=1),
        rate_bytes_per_cycle=64,
        work_cycles=0,
        latency_cycles=0,
        bound="memory",
    )
    block = Block(
        id="all",
        graph="decode",
        repeat=1,
        stages=(stage,),
        streams=(stream,),
        issue=(),
        appends=appends,
    )
    plan = Plan(
        schema=SCHEMA,
        tool="",
        target=TargetRef(name="grid-8x8", sha256="", sockets=1),
        graph_sha256="",
        bindings=Bindings(batch=2, past=4, context=16),
        request=Request(),
        blocks=(block,),
        sections=(),
        program=Program(steps=(), prefetch=True, overhead_cycles=0),
        memory=stored,
        shards=shards,
    )
    return Facts(plan, targets.load("grid-8x8"), parse(text))


def stream(tensor: str, kind: str, nbytes: int) -> Stream:
    return Stream(
        id="s",
        stage="only",
        tensors=(tensor,),
        kind=kind,  # type: ignore[arg-type]
        tier="hbm",
        bytes=nbytes,
        tile_bytes=64,
        depth_bytes=128,
        ports=(0,),
        why="",
    )


def texts(rule: Rule, found: Facts) -> list[str]:
    return [finding.text for finding in rule.run(found)[0]]


@pytest.mark.parametrize(("matrices", "fits"), [(1, False), (2, True), (4, True), (5, False)])
def test_experts_are_those_of_one_token_to_one_for_each_row(matrices: int, fits: bool) -> None:
    """Two tokens pick two of six matrices each."""
    found = texts(
        flow.stream_bytes, facts(EXPERTS, (1,), stream("experts", "expert", 128 * matrices))
    )
    assert (not found) == fits
    if not fits:
        assert found[0].endswith("its tensors are 256 to 512")


def test_a_socket_may_have_none_of_the_experts_of_a_token() -> None:
    """Over two sockets the expectation halves."""
    half = ShardOf(block="all", tensor="experts", axis=0, parts=2)
    found = facts(EXPERTS, (1,), stream("experts", "expert", 128), shards=(half,))
    assert texts(flow.stream_bytes, found) == []


def test_a_lookup_moves_the_rows_of_the_tokens() -> None:
    assert texts(flow.stream_bytes, facts(LOOKUP, (1,), stream("embed", "lookup", 32))) == []
    (text,) = texts(flow.stream_bytes, facts(LOOKUP, (1,), stream("embed", "lookup", 4096)))
    assert text == "stream s moves 4,096 bytes an iteration, its tensors are 32"


def append(**changes: object) -> Append:
    fields = {"stage": "only", "tensor": "memory", "op": 0, "bytes": 32, "whole": True}
    return Append(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_recurrent_state_is_replaced_as_a_whole() -> None:
    read = stream("memory", "state", 32)
    assert texts(state.appends, facts(RECURRENT, (0,), read, (append(),))) == []
    assert texts(state.appends, facts(RECURRENT, (0,), read)) == [
        "all changes the state memory and does not write it"
    ]
    assert texts(state.appends, facts(RECURRENT, (0,), read, (append(whole=False),))) == [
        "the state memory is replaced as a whole, not appended to"
    ]


def test_rows_of_a_state_without_positions_are_its_sequences() -> None:
    stored = Allocation(
        block="all",
        tensor="memory",
        kind="state",
        use="state",
        tier="hbm",
        rows=(0, 2),
        offset=0,
        bytes=32,
        stride=0,
        count=1,
        live=("all", "all"),
    )
    found = facts(RECURRENT, (0,), stream("memory", "state", 32), (append(),), (stored,))
    assert texts(memory.rows_once, found) == []
    assert texts(memory.row_bytes, found) == []


def test_a_tensor_that_rests_in_sram_needs_no_stream() -> None:
    read = stream("embed", "lookup", 32)
    other = Stream(**{**{f: getattr(read, f) for f in read.__struct_fields__}, "tensors": ()})
    assert texts(flow.streamed, facts(LOOKUP, (1,), other)) == [
        "stage only reads embed, which 0 of its streams name"
    ]
    resting = Allocation(
        block="all",
        tensor="embed",
        kind="weight",
        use="table",
        tier="sram",
        rows=(0, 256),
        offset=0,
        bytes=4096,
        stride=0,
        count=1,
        live=("all", "all"),
    )
    assert texts(flow.streamed, facts(LOOKUP, (1,), other, stored=(resting,))) == []
