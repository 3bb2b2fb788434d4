"""Blocks of a plan: their stages, streams, buffers, and what they append to the state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hetc.backends.dataflow.blocks import Run
from hetc.backends.dataflow.issue import issue_order
from hetc.backends.dataflow.schema import Append, Block, Buffer, Stage, Stream
from hetc.backends.dataflow.sizing import Draft
from hetc.ir.dims import evaluate
from hetc.ir.graph import Graph
from hetc.ir.ops.sequence import KVAppend


def make_block(
    run: Run,
    main: Graph,
    stages: Sequence[Stage],
    streams: Sequence[Stream],
    buffers: Sequence[Buffer],
    bindings: Mapping[str, int],
    hold: Mapping[str, int],
    groups: int,
    *,
    prefetch: bool,
) -> Block:
    """The block of `run` in the plan of the main graph `main`.

    `hold` says of a stream how many of its bytes must fit where it is fetched early.
    """
    calls = set(run.calls)
    return Block(
        id=run.id,
        graph=run.graph.name,
        repeat=run.repeat,
        calls=tuple(number for number, op in enumerate(main.ops) if op in calls),
        stages=tuple(stages),
        streams=tuple(streams),
        issue=issue_order(streams, hold, ahead=prefetch and run.repeat > 1),
        appends=tuple(_appends(run, stages, bindings)),
        buffers=tuple(buffers),
        row_groups=groups,
    )


def _appends(run: Run, stages: Sequence[Stage], bindings: Mapping[str, int]) -> Iterator[Append]:
    for out in run.outs:
        place = run.places[out.op]
        stage = next(stage for stage in stages if place in stage.ops)
        new = out.op.new if isinstance(out.op, KVAppend) else run.states[out.tensor]
        yield Append(
            stage=stage.id,
            tensor=out.tensor,
            op=place,
            bytes=evaluate(new.nbytes, bindings),
            ring=out.keep if out.append else None,
            whole=not out.append,
        )


def make_buffers(
    stages: Sequence[Sequence[Stage]], drafts: Sequence[Sequence[Draft]], tier: str
) -> tuple[tuple[Buffer, ...], ...]:
    """What stages hand on, by block: double buffers on the chip, or vectors through memory."""
    readers: dict[str, list[str]] = {}
    for stage in (stage for block in stages for stage in block):
        for depends in stage.depends:
            readers.setdefault(depends.stage, []).append(stage.id)
    return tuple(
        tuple(
            _buffer(stage, item, readers[stage.id], tier)
            for stage, item in zip(block, items, strict=True)
            if stage.id in readers and item.output_bytes
        )
        for block, items in zip(stages, drafts, strict=True)
    )


def _buffer(stage: Stage, item: Draft, readers: Sequence[str], tier: str) -> Buffer:
    consumers = tuple(dict.fromkeys(readers))
    chunks = 1 if stage.tiling is None else max(1, -(-item.outputs // stage.tiling.outputs))
    return Buffer(
        id=f"{stage.id}.b",
        producer=stage.id,
        consumers=consumers,
        tier=tier,
        bytes=item.output_bytes,
        tile_bytes=-(-item.output_bytes // chunks),
        depth_bytes=2 * item.output_bytes,
        why=f"double buffer: {len(consumers)} reader{'s' * (len(consumers) > 1)} may take this "
        "iteration's while the next is written",
    )
