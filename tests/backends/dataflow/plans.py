"""Plans made by hand: parts with defaults, and a Llama-3.1-8B socket as a planner would cut it.

Only what takes time is filled in: units are one lane a stage, and there is no placement, memory map
or shard. `decoder` follows the experiment of reference/spatial-planner.md: 13 stages a layer, a
stream for each matrix and each half of the KV cache, and its assumed machine (1.6 GHz, HBM of
1.8 TB/s, 32 ports of 64 bytes, units of 30 cycles, a peer link of 125 GB/s).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hetc.backends.dataflow.schema import (
    SCHEMA,
    Append,
    Bindings,
    Block,
    Buffer,
    Collective,
    Depends,
    Issue,
    Plan,
    Request,
    Resources,
    Section,
    Stage,
    Stream,
    TargetRef,
    Template,
    Tier,
    Units,
)
from hetc.backends.dataflow.steps import (
    Execute,
    Loop,
    Program,
    Step,
)

CLOCK_HZ = 1.6e9
KIB = 1024


def barrier(stage: str, *, carried: bool = False) -> Depends:
    return Depends(stage=stage, kind="barrier", carried=carried)


def streamed(stage: str, *, carried: bool = False) -> Depends:
    return Depends(stage=stage, kind="stream", carried=carried)


def stage(
    name: str,
    *depends: Depends,
    streams: Sequence[str] = (),
    rate: float = 1.0,
    work: float = 0.0,
    latency: float = 0.0,
    template: Template = "generic",
    collective: Collective | None = None,
) -> Stage:
    return Stage(
        id=name,
        name=name,
        template=template,
        ops=(),
        depends=depends,
        streams=tuple(streams),
        units=Units(lanes=1),
        rate_bytes_per_cycle=rate,
        work_cycles=work,
        latency_cycles=latency,
        bound="memory" if streams else "latency",
        collective=collective,
    )


def stream(
    name: str,
    stage: str,
    size: int,
    *,
    tile: int = 0,
    depth: int = 0,
    ports: int = 1,
    tier: Tier = "hbm",
    after: str | None = None,
    kind: Literal["weight", "state"] = "weight",
) -> Stream:
    """`size` bytes an iteration, in one tile and with credits for one iteration by default."""
    return Stream(
        id=name,
        stage=stage,
        tensors=(name,),
        kind=kind,
        tier=tier,
        bytes=size,
        tile_bytes=tile or size,
        depth_bytes=depth or size,
        ports=tuple(range(ports)),
        after=after,
        why="by hand",
    )


def exchange(wire: float, latency: float = 0.0, chunks: int = 1) -> Collective:
    return Collective(
        algorithm="one-shot", bytes=1, chunks=chunks, wire_cycles=wire, latency_cycles=latency
    )


def block(
    name: str,
    stages: Sequence[Stage],
    streams: Sequence[Stream] = (),
    *,
    repeat: int = 1,
    issue: Sequence[Issue] | None = None,
    appends: Sequence[Append] = (),
    buffers: Sequence[Buffer] = (),
    row_groups: int = 1,
) -> Block:
    """`streams` are issued in their order by default."""
    in_order = tuple(Issue(stream=s.id) for s in streams if s.tier != "sram")
    return Block(
        id=name,
        graph=name,
        repeat=repeat,
        stages=tuple(stages),
        streams=tuple(streams),
        issue=tuple(issue) if issue is not None else in_order,
        appends=tuple(appends),
        buffers=tuple(buffers),
        row_groups=row_groups,
    )


def section(name: str, stages: Sequence[str]) -> Section:
    nothing = Resources(
        pcus=0, pcus_of=0, pmus=0, pmus_of=0, sram_bytes=0, sram_bytes_of=0, ports=0, ports_of=0
    )
    return Section(id=name, stages=tuple(stages), resources=nothing, sites={}, routes=())


def resident(*blocks: Block, loops: bool = True) -> tuple[Step, ...]:
    """Everything on the chip at once: a loop for each block that repeats."""
    return tuple(
        Loop(block=b.id, count=b.repeat, body=(Execute(block=b.id, section="all"),), prefetch=loops)
        if b.repeat > 1
        else Execute(block=b.id, section="all")
        for b in blocks
    )


def plan(
    *blocks: Block,
    steps: Sequence[Step] | None = None,
    sections: Sequence[Section] = (),
    prefetch: bool = True,
    overhead: float = 0.0,
    target: str = "sn40l:8",
    batch: int = 1,
) -> Plan:
    """By default one section with everything, and the blocks one after the other."""
    everything = section("all", [s.id for b in blocks for s in b.stages])
    name, _, sockets = target.partition(":")
    return Plan(
        schema=SCHEMA,
        tool="by hand",
        target=TargetRef(name=name, sha256="", sockets=int(sockets or 1)),
        graph_sha256="",
        bindings=Bindings(batch=batch, past=0, context=0),
        request=Request(),
        blocks=blocks,
        sections=tuple(sections) or (everything,),
        program=Program(
            steps=tuple(steps) if steps is not None else resident(*blocks),
            prefetch=prefetch,
            overhead_cycles=overhead,
        ),
        memory=(),
        shards=(),
    )


@dataclass(frozen=True)
class Decoder:
    """A dense decoder on `sockets` in bf16, and how it is run. Sizes default to Llama-3.1-8B."""

    sockets: int = 8
    past: int = 4096
    layers: int = 32
    hidden: int = 4096
    heads: int = 32
    kv_heads: int = 8
    head: int = 128
    inner: int = 14336
    vocab: int = 128256
    tile_bytes: int = 256 * KIB
    # Credits of a stream in iterations of it.
    depth: float = 1.0
    layer_prefetch: bool = True
    token_prefetch: bool = True
    overlap: bool = True
    launch_us: float = 0.0
    peer_us: float = 1.0
    overhead_us: float = 10.0


def decoder(shape: Decoder) -> Plan:
    """The plan of one socket: layers in a loop, then the final norm and the head."""
    layer, head = _layer(shape), _head(shape)
    launch = _cycles(shape.launch_us)
    run = Execute(block="layer", section="all", launch_cycles=launch)
    loop = Loop(block="layer", count=shape.layers, body=(run,), prefetch=shape.layer_prefetch)
    return plan(
        layer,
        head,
        steps=(loop, Execute(block="head", section="all")),
        prefetch=shape.token_prefetch,
        overhead=_cycles(shape.overhead_us),
        target=f"sn40l:{shape.sockets}",
    )


def _layer(shape: Decoder) -> Block:
    hidden, inner = shape.hidden, shape.inner // shape.sockets
    queries = shape.heads * shape.head // shape.sockets
    keys = max(1, shape.kv_heads // shape.sockets) * shape.head
    past = 2 * shape.past * keys
    sizes = {
        "qkv": 2 * hidden * (queries + 2 * keys),
        "score": past,
        "values": past,
        "o": 2 * queries * hidden,
        "gate_up": 2 * hidden * 2 * inner,
        "down": 2 * inner * hidden,
    }
    # How many matrices a stage takes side by side, each at twice the speed of HBM.
    matrices = {"qkv": 3, "gate_up": 2}
    names = (
        ("norm1", (barrier("head.sample"), barrier("add2", carried=True))),
        ("qkv", (barrier("norm1"),)),
        ("rope", (streamed("qkv"),)),
        ("score", (barrier("rope"),)),
        ("values", (barrier("score"),)),
        ("o", (barrier("values"),)),
        ("reduce1", (streamed("o") if shape.overlap else barrier("o"),)),
        ("norm2", (barrier("reduce1"),)),
        ("gate_up", (barrier("norm2"),)),
        ("act", (streamed("gate_up"),)),
        ("down", (barrier("act"),)),
        ("reduce2", (streamed("down") if shape.overlap else barrier("down"),)),
        ("add2", (barrier("reduce2"),)),
    )
    stages = [
        stage(
            name,
            *depends,
            streams=(f"w.{name}",) if name in sizes else (),
            rate=2 * _HBM * matrices.get(name, 1),
            latency=90.0,
            collective=_all_reduce(shape) if name.startswith("reduce") else None,
        )
        for name, depends in names
    ]
    streams = [_stream(f"w.{name}", name, size, shape) for name, size in sizes.items()]
    row = Append(stage="rope", tensor="w.score", op=0, bytes=2 * keys)
    rows = (row, Append(stage="qkv", tensor="w.values", op=0, bytes=2 * keys))
    return block("layer", stages, streams, repeat=shape.layers, appends=rows)


def _head(shape: Decoder) -> Block:
    size = 2 * shape.hidden * shape.vocab // shape.sockets
    stages = (
        stage("head.norm", barrier("add2"), latency=60.0),
        stage(
            "head.matrix", barrier("head.norm"), streams=("w.head",), rate=2 * _HBM, latency=60.0
        ),
        stage("head.sample", streamed("head.matrix"), latency=60.0),
    )
    return block("head", stages, [_stream("w.head", "head.matrix", size, shape)])


def _stream(name: str, owner: str, size: int, shape: Decoder) -> Stream:
    tile = min(shape.tile_bytes, size)
    depth = max(2 * tile, int(size * shape.depth))
    return stream(name, owner, size, tile=tile, depth=depth, ports=32)


def _all_reduce(shape: Decoder) -> Collective:
    """One shot: the vector goes to every other socket, in chunks, and is added there."""
    size = 2 * shape.hidden
    wire = (shape.sockets - 1) * size / 125e9 * CLOCK_HZ
    return Collective(
        algorithm="one-shot",
        bytes=size,
        chunks=8,
        wire_cycles=wire,
        latency_cycles=_cycles(shape.peer_us),
    )


def _cycles(us: float) -> float:
    return us * 1e-6 * CLOCK_HZ


# Bytes a cycle of HBM at its peak.
_HBM = 1.8e12 / CLOCK_HZ
