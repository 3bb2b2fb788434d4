"""Sections to place: one decoder layer of Llama-3.1-8B at TP8, and random small ones."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.nets import Flow, StageUnits


def llama_8b_layer(fabric: Fabric, lanes_a_port: int = 4) -> tuple[list[StageUnits], list[Flow]]:
    """The stages of a layer on one of eight sockets, every gemv at twice the rate of HBM.

    hidden 4096, 4 query heads and 1 KV head a socket, inner 1792: gate+up have 56 groups of 64
    outputs, qkv 24 groups of 32 with K split in two. Neighbouring lanes share a memory port; with 4
    of them wires are shorter, with 2 more ports feed each stage.
    """
    firsts = itertools.count(0, step=12)

    def bound(lanes: int) -> tuple[int, ...]:
        first = next(firsts)
        return tuple((first + lane // lanes_a_port) % len(fabric.ports) for lane in range(lanes))

    stages = [
        StageUnits("norm1", work=2, outputs=1),
        StageUnits("qkv", work=48, x_copies=3, reducers=24, outputs=2, ports=bound(48)),
        StageUnits("scores", work=36, x_copies=3, outputs=2, ports=bound(36)),
        StageUnits("softmax", work=2, outputs=1),
        StageUnits("values", work=36, x_copies=3, reducers=4, outputs=1, ports=bound(36)),
        StageUnits("o", work=48, x_copies=3, outputs=4, ports=bound(48)),
        StageUnits("reduce1", work=4, outputs=1),
        StageUnits("norm2", work=2, outputs=1),
        StageUnits("gateup", work=56, x_copies=4, outputs=4, ports=bound(56)),
        StageUnits("silu", work=4, outputs=2),
        StageUnits("down", work=56, x_copies=4, outputs=4, ports=bound(56)),
        StageUnits("reduce2", work=4, outputs=1),
    ]
    chain = [stage.name for stage in stages]
    flows = [
        Flow(source, sink, 16)
        for source, sink in itertools.pairwise(chain)
        if source not in ("o", "down")
    ]
    flows += [Flow("qkv", "values", 4), Flow("qkv", "port.7", 4, "append")]
    flows += [Flow("norm1", "reduce1", 16), Flow("reduce1", "reduce2", 16)]
    for gemv, reduce, port in (("o", "reduce1", 12), ("down", "reduce2", 19)):
        flows += [Flow(gemv, f"peer.{port}", 50, "peer"), Flow(f"peer.{port}", reduce, 50, "peer")]
        flows += [Flow(gemv, reduce, 8)]
    return stages, flows


@st.composite
def sections(draw: st.DrawFn, fabric: Fabric) -> tuple[list[StageUnits], list[Flow]]:
    """A chain of stages that fits a small fabric, with gentle flows."""
    lanes = fabric.lanes
    stages: list[StageUnits] = []
    for number in range(draw(st.integers(1, 4))):
        work = draw(st.integers(1, 5))
        copies = draw(st.integers(0, min(2, work)))
        reducers = draw(st.integers(0, min(2, work)))
        outputs = draw(st.integers(0, 2))
        needed = work + max(reducers, copies + outputs)
        if needed > lanes:
            break
        lanes -= needed
        port = st.integers(0, len(fabric.ports) - 1)
        ports = draw(st.one_of(st.just(()), st.tuples(*[port] * work)))
        stages.append(StageUnits(f"s{number}", work, copies, reducers, outputs, ports))
    flows = [
        Flow(source.name, sink.name, draw(st.sampled_from([0.5, 1, 4])))
        for source, sink in itertools.pairwise(stages)
    ]
    if draw(st.booleans()):
        flows.append(Flow(stages[-1].name, "port.0", 1, "append"))
    if draw(st.booleans()):
        flows.append(Flow("peer.1", stages[0].name, 2, "peer"))
    return stages, flows
