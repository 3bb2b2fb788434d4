"""A good plan of the toy graph on grid-8x8, for one socket or two, made by hand.

Every stage of every block is on the chip at once; the program loops over the two layers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import msgspec

from hetc import targets
from hetc.backends.dataflow.fit import capacity_of, demand_of, total
from hetc.backends.dataflow.lint.mesh import Mesh
from hetc.backends.dataflow.schema import (
    SCHEMA,
    Allocation,
    Append,
    Bindings,
    Block,
    Buffer,
    Collective,
    Constant,
    Depends,
    Estimate,
    Issue,
    Pin,
    Plan,
    Request,
    Resources,
    Section,
    ShardOf,
    Stage,
    Stream,
    TargetRef,
    Units,
)
from hetc.backends.dataflow.steps import (
    Advance,
    Configure,
    Execute,
    Loop,
    Program,
    Step,
)
from hetc.ir.graph import Graph
from hetc.ir.text import print_graph
from hetc.targets.machine import Target
from tests.backends.dataflow.toy_graph import LAYERS, op_numbers, toy_graph
from tests.backends.dataflow.toy_routes import toy_routes, toy_sites
from tests.backends.dataflow.toy_stages import (
    BATCH,
    PAST,
    X_BYTES,
    Row,
    buffer_rows,
    stage_rows,
)

CONTEXT = 128


@dataclass(frozen=True)
class Toy:
    """A good plan, and what it is for. `model` is the graph of one socket alone."""

    plan: Plan
    target: Target
    graph: Graph
    model: Graph


# Axis along which a weight or state is split; what is not here is whole on every socket.
SPLIT = {"q": 0, "k": 0, "v": 0, "key": 1, "value": 1, "o": 1, "gate": 0, "up": 0, "down": 1}
SPLIT |= {"head": 0}


def toy(sockets: int = 1, sections: int = 1, window: int = 0) -> Toy:
    """The good plan.

    With two sections, what stands after the layers has a section of its own; with a window, the
    state keeps that many rows.
    """
    target = targets.load("grid-8x8" if sockets == 1 else f"grid-8x8:{sockets}")
    graph = toy_graph(sockets, window)
    blocks = _blocks(graph, target, window)
    plan = Plan(
        schema=SCHEMA,
        tool="by hand",
        target=TargetRef(name=target.name, sha256=target.sha256, sockets=sockets),
        graph_sha256=hashlib.sha256(print_graph(graph).encode()).hexdigest(),
        bindings=Bindings(batch=BATCH, past=PAST, context=CONTEXT),
        request=Request(pins=(Pin(unit="qkv.w0", site=(0, 2)),)),
        blocks=blocks,
        sections=_sections(blocks, target, sections),
        program=_program(sections),
        memory=_memory(graph, blocks, window or CONTEXT),
        shards=_shards(graph, blocks, sockets),
        estimate=_estimate(blocks, target),
    )
    return Toy(plan, target, graph, toy_graph(1, window))


def _blocks(graph: Graph, target: Target, window: int) -> tuple[Block, ...]:
    numbers = op_numbers(graph, target.count)
    blocks = []
    for name, rows in stage_rows(target.count, min(PAST, window or PAST)).items():
        block = _block(
            name, rows, numbers["layer0" if name == "layers" else graph.name], graph, target
        )
        appends = [msgspec.structs.replace(a, ring=window or None) for a in block.appends]
        blocks.append(msgspec.structs.replace(block, appends=tuple(appends)))
    return tuple(blocks)


def _block(
    name: str, rows: list[Row], numbers: dict[str, int], graph: Graph, target: Target
) -> Block:
    calls = [i for i, op in enumerate(graph.ops) if op.kind == "call"] if name == "layers" else []
    streams = [stream for row in rows for stream in _streams(row)]
    appends = [
        Append(stage="attend", tensor=tensor, op=numbers[op], bytes=BATCH * 64 // target.count)
        for tensor, op in ([("key", "keys"), ("value", "values")] if calls else [])
    ]
    return Block(
        id=name,
        graph="layer0" if calls else graph.name,
        repeat=LAYERS if calls else 1,
        calls=tuple(calls),
        stages=tuple(_stage(row, numbers, target) for row in rows),
        streams=tuple(streams),
        issue=tuple(Issue(stream=stream.id) for stream in streams),
        appends=tuple(appends),
        buffers=tuple(_buffer(*row) for row in buffer_rows(target.count)[name]),
    )


def _stage(row: Row, numbers: dict[str, int], target: Target) -> Stage:
    collective = None
    if row.template == "all_reduce":
        # Two sockets: one sends the vector to the other, 10 B a cycle; 1 us is 1,000 cycles.
        collective = Collective(
            algorithm="one-shot", bytes=X_BYTES, chunks=1, wire_cycles=25.6, latency_cycles=1000
        )
    return Stage(
        id=row.id,
        name=row.id,
        template=row.template,
        ops=tuple(numbers[op] for op in row.ops.split()),
        depends=tuple(_depends(text) for text in row.depends.split()),
        streams=tuple(stream.id for stream in _streams(row)),
        form="axpy" if row.template == "gemv" else "",
        split_k=2 if row.others[1] else 1,
        units=Units(
            lanes=row.lanes, x_copies=row.others[0], reducers=row.others[1], outputs=row.others[2]
        ),
        rate_bytes_per_cycle=64.0 if row.lanes > 1 else 16.0,
        work_cycles=10,
        latency_cycles=20,
        bound="memory" if row.streams else "latency",
        collective=collective,
    )


def _depends(text: str) -> Depends:
    return Depends(
        stage=text.rstrip("'~"),
        kind="stream" if text.endswith("~") else "barrier",
        carried=text.endswith("'"),
    )


def _streams(row: Row) -> list[Stream]:
    kinds = {"embed": "lookup", "key": "state", "value": "state"}
    return [
        Stream(
            id=f"{row.id}:{tensors.split()[0]}",
            stage=row.id,
            tensors=tuple(tensors.split()),
            kind=kinds.get(tensors, "weight"),  # type: ignore[arg-type]
            tier="hbm",
            bytes=nbytes,
            tile_bytes=max(16, nbytes // 4),
            # gate and up do not wait whole: their stage has room for three tiles of four.
            depth_bytes=nbytes * 3 // 4 if row.id == "gateup" else nbytes,
            ports=(0, 1, 2, 3) if row.lanes > 1 else (0,),
            why="all of it" if row.id != "gateup" else "three tiles",
        )
        for tensors, nbytes in row.streams
    ]


def _buffer(producer: str, consumers: str, nbytes: int) -> Buffer:
    # down takes what gateup makes tile by tile; everything else waits for the whole.
    half = producer == "gateup"
    return Buffer(
        id=f"{producer}>{consumers.split()[0]}",
        producer=producer,
        consumers=tuple(consumers.split()),
        bytes=nbytes,
        tile_bytes=nbytes // 4,
        depth_bytes=nbytes // 2 if half else nbytes,
        why="half" if half else "the whole",
    )


def _sections(blocks: tuple[Block, ...], target: Target, count: int) -> tuple[Section, ...]:
    assert target.device.grid is not None
    mesh, capacity = Mesh(target.device.grid), capacity_of(target.device.grid)
    buffers = [buffer for block in blocks for buffer in block.buffers]
    found = []
    for number, group in enumerate([blocks] if count == 1 else [blocks[:-1], blocks[-1:]]):
        stages = [stage for block in group for stage in block.stages]
        demand = total(
            demand_of(stage, block.streams, buffers) for block in group for stage in block.stages
        )
        sites = toy_sites(stages)
        resources = Resources(
            pcus=demand.pcus,
            pcus_of=capacity.pcus,
            pmus=demand.pmus,
            pmus_of=capacity.pmus,
            sram_bytes=demand.sram_bytes,
            sram_bytes_of=capacity.sram_bytes,
            ports=len(demand.ports),
            ports_of=capacity.ports,
        )
        found.append(
            Section(
                id=f"s{number}",
                stages=tuple(stage.id for stage in stages),
                resources=resources,
                sites=sites,
                routes=toy_routes(mesh, group, sites),
            )
        )
    return tuple(found)


def _program(sections: int) -> Program:
    steps: list[Step] = [
        Execute(block="pre", section="s0"),
        Loop(block="layers", count=LAYERS, body=(Execute(block="layers", section="s0"),)),
        Execute(block="post", section=f"s{sections - 1}"),
        Advance(rows=1),
    ]
    if sections > 1:
        steps.insert(2, Configure(section="s1", cycles=10_000))
        steps.insert(0, Configure(section="s0", cycles=10_000))
    return Program(steps=tuple(steps), prefetch=True, overhead_cycles=0)


def _local_bytes(graph: Graph, block: Block, tensor: str, kept: int) -> tuple[int, int]:
    """Rows and bytes of a tensor as stored."""
    callee = next(graph.subgraphs())
    values = callee.inputs if block.calls else ()
    types = {value.name: value.type for value in values}
    types |= {op.name: op.type for op in graph.ops if op.kind == "weight"}  # type: ignore[attr-defined]
    type = types[tensor]
    if tensor in ("key", "value"):
        return BATCH * kept, BATCH * kept * type.shape[1] * 32  # type: ignore[return-value]
    return type.shape[0], type.nbytes  # type: ignore[return-value]


def _memory(graph: Graph, blocks: tuple[Block, ...], kept: int) -> tuple[Allocation, ...]:
    found, base = [], 0
    for block in blocks:
        tensors = [name for stream in block.streams for name in stream.tensors]
        sizes = {name: _local_bytes(graph, block, name, kept) for name in tensors}
        stride = sum(nbytes for _, nbytes in sizes.values())
        offset = base
        for name, (rows, nbytes) in sizes.items():
            allocation = Allocation(
                block=block.id,
                tensor=name,
                kind="state" if name in ("key", "value") else "weight",
                use=_use(name),
                tier="hbm",
                rows=(0, rows),
                offset=offset,
                bytes=nbytes,
                stride=stride if block.repeat > 1 else 0,
                count=block.repeat,
                live=(block.id, block.id),
            )
            found.append(allocation)
            offset += nbytes
        base += stride * block.repeat
    return tuple(found)


def _use(tensor: str) -> Literal["matrix", "vector", "table", "state"]:
    if tensor in ("key", "value"):
        return "state"
    if tensor == "embed":
        return "table"
    return "vector" if tensor in ("rates", "norm1", "norm2", "norm") else "matrix"


def _shards(graph: Graph, blocks: tuple[Block, ...], sockets: int) -> tuple[ShardOf, ...]:
    return tuple(
        ShardOf(
            block=block.id,
            tensor=name,
            axis=SPLIT.get(name) if sockets > 1 else None,
            parts=sockets if name in SPLIT else 1,
        )
        for block in blocks
        for stream in block.streams
        for name in stream.tensors
    )


def _estimate(blocks: tuple[Block, ...], target: Target) -> Estimate:
    read = unique = 0
    for block in blocks:
        for stream in block.streams:
            read += block.repeat * stream.bytes
            copies = target.count if stream.tensors[0] in SPLIT else 1
            unique += block.repeat * stream.bytes * copies
    # 64 B a cycle at 1 GHz, and as long again for everything else.
    tpot_us = read / 64 / 1000 * 2
    fraction = target.device.constants["bandwidth_fraction"]
    constant = Constant(name=fraction.name, value=fraction.value, source="the target file")
    return Estimate(
        model="by hand",
        calibrated=False,
        tpot_us=tpot_us,
        tokens_per_s=BATCH * 1e6 / tpot_us,
        bytes_read=read,
        unique_bytes=unique,
        mbu=0.5,
        mbu_bound=fraction.value,
        bottleneck="memory",
        constants=(constant,),
    )
