"""Rates and times: what memory, lanes and links allow, against what the plan claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Fault, Faults, number, rule
from hetc.backends.dataflow.schema import Block, Estimate, Stage, Stream
from hetc.ir.dims import evaluate
from hetc.ir.ops.control import AllReduce

# The part of a token that a slow stream may cost before it is worth a word.
SIGNIFICANT = 0.01


def _streaming(facts: Facts) -> Iterator[tuple[Block, Stage, list[Stream]]]:
    """Stages that read memory outside of the chip, with their streams."""
    for block in facts.plan.blocks:
        for stage in block.stages:
            streams = [facts.streams[name] for name in stage.streams]
            streams = [stream for stream in streams if stream.tier != "sram"]
            if streams:
                yield block, stage, streams


@rule(
    "HETC-L280",
    "a stage takes its streams no faster than its memory units can be read",
    "give the stage more lanes, or lower its rate",
)
def lane_rate(facts: Facts) -> Faults:
    width = facts.grid.memory_unit_bytes_per_cycle.value
    count = 0
    for _, stage, _ in _streaming(facts):
        count += 1
        bound = stage.units.lanes * width
        rate = stage.rate_bytes_per_cycle
        if not 0 < rate <= bound * (1 + 1e-9):
            text = f"stage {stage.id} takes {number(rate)} bytes a cycle"
            text += f", its {stage.units.lanes} lanes read {number(bound)}"
            yield Fault(f"stage {stage.id}", text, rate, bound)
    return f"{count} stages"


@rule(
    "HETC-L281",
    "stages take their streams as fast as memory gives them",
    "give the stage more lanes",
    severity="advice",
)
def stage_rate(facts: Facts) -> Faults:
    worst, least = 0.0, SIGNIFICANT * _token_cycles(facts)
    for block, stage, streams in _streaming(facts):
        rate = stage.rate_bytes_per_cycle
        bound = max(facts.bytes_per_cycle(stream.tier) for stream in streams)
        if block.row_groups == 1:
            lost = block.repeat * sum(_lost(facts, stream, rate) for stream in streams)
        else:
            # While a stage works, all others do: what counts is the traffic of the whole block.
            traffic = sum(s.bytes / facts.bytes_per_cycle(s.tier) for s in block.streams)
            lost = block.repeat * max(0.0, _taken(block, stage, streams) - traffic)
        worst = max(worst, lost)
        if lost > least:
            text = f"stage {stage.id} takes {number(rate)} bytes a cycle, memory gives"
            text += f" {number(bound)}: {number(lost)} cycles a token"
            yield Fault(f"stage {stage.id}", text, rate, bound)
    return f"at most {number(worst)} cycles a token lost"


@rule(
    "HETC-L282",
    "the ports of a stream together are as wide as memory",
    "bind the stream to more memory ports",
    severity="advice",
)
def port_rate(facts: Facts) -> Faults:
    width = facts.grid.port_bytes_per_cycle.value
    worst, least = 0.0, SIGNIFICANT * _token_cycles(facts)
    for block, _, streams in _streaming(facts):
        for stream in streams:
            together = len(set(stream.ports)) * width
            lost = block.repeat * _lost(facts, stream, together)
            worst = max(worst, lost)
            if lost > least:
                bound = facts.bytes_per_cycle(stream.tier)
                text = f"the ports of stream {stream.id} carry {number(together)} bytes a cycle,"
                text += f" memory gives {number(bound)}: {number(lost)} cycles a token"
                yield Fault(f"stream {stream.id}", text, together, bound)
    return f"at most {number(worst)} cycles a token lost"


def _taken(block: Block, stage: Stage, streams: list[Stream]) -> float:
    """Cycles an iteration in which a stage takes its streams, for every row group anew what they
    share."""
    groups = block.row_groups
    nbytes = sum(stream.bytes * groups / stream.parts(groups) for stream in streams)
    return nbytes / max(stage.rate_bytes_per_cycle, 1e-9)


def _lost(facts: Facts, stream: Stream, rate: float) -> float:
    """The cycles a token that a stream takes longer at `rate` than at that of its memory."""
    best = facts.bytes_per_cycle(stream.tier)
    return stream.bytes / max(rate, 1e-9) - stream.bytes / best if rate < best else 0.0


def _token_cycles(facts: Facts) -> float:
    """What one token takes: as the estimate says, else what it takes of memory."""
    if facts.plan.estimate is not None:
        return facts.cycles(facts.plan.estimate.tpot_us)
    return sum(n / facts.bytes_per_cycle(tier) for tier, n in _tier_bytes(facts).items())


@rule(
    "HETC-L283",
    "the estimate states the bytes that the streams move",
    "simulate the plan anew",
)
def estimated_bytes(facts: Facts) -> Faults:
    estimate = facts.plan.estimate
    if estimate is None:
        return "no estimate"
    read = sum(_tier_bytes(facts).values())
    if estimate.bytes_read != read:
        text = f"the estimate reads {number(estimate.bytes_read)} bytes a token"
        text += f", the streams move {number(read)}"
        yield Fault("estimate", text, estimate.bytes_read, read)
    unique = sum(
        block.repeat * _unique(facts, block, stream)
        for block, _, streams in _streaming(facts)
        for stream in streams
    )
    # Expected experts are no whole numbers.
    if abs(estimate.unique_bytes - unique) > len(facts.streams):
        text = f"the estimate has {number(estimate.unique_bytes)} unique bytes"
        yield Fault(
            "estimate", f"{text}, the shards {number(unique)}", estimate.unique_bytes, unique
        )
    return f"{number(read)} bytes read, {number(unique)} unique"


def _tier_bytes(facts: Facts) -> dict[str, int]:
    """Tier -> the bytes that a socket reads of it in one token."""
    found: dict[str, int] = {}
    for block, _, streams in _streaming(facts):
        for stream in streams:
            found[stream.tier] = found.get(stream.tier, 0) + block.repeat * stream.bytes
    return found


def _unique(facts: Facts, block: Block, stream: Stream) -> int:
    """What all sockets read with `stream` in one iteration, copies of one part counted once."""
    sizes = {}
    for name in stream.tensors:
        type = facts.work.tensor_type(block, name)
        assert type is not None
        sizes[name] = evaluate(type.nbytes, facts.sizes)
    whole = sum(sizes.values())
    if not whole:
        return 0
    shards = {name: facts.shards.get((block.id, name)) for name in sizes}
    parts = sum(size * (s.parts if (s := shards[name]) else 1) for name, size in sizes.items())
    return stream.bytes * parts // whole


@rule(
    "HETC-L284",
    "no token is faster than memory, ports and lanes allow",
    "simulate the plan anew, or correct the bytes and rates that it states",
)
def time_bounds(facts: Facts) -> Faults:
    estimate = facts.plan.estimate
    if estimate is None:
        return "no estimate"
    found = facts.cycles(estimate.tpot_us)
    least = 0.0
    for what, cycles in _bounds(facts):
        least = max(least, cycles)
        if found < cycles * (1 - 1e-6):
            text = f"the estimate is {number(found)} cycles a token, {what} takes {number(cycles)}"
            yield Fault("estimate", text, found, cycles)
    return f"{number(found)} cycles a token, at least {number(least)}"


def _bounds(facts: Facts) -> Iterator[tuple[str, float]]:
    """(what, the cycles that it takes a token at the least)."""
    width = facts.capacity.ports * facts.grid.port_bytes_per_cycle.value
    for tier, nbytes in _tier_bytes(facts).items():
        yield f"reading {number(nbytes)} bytes of {tier}", nbytes / facts.bytes_per_cycle(tier)
        yield f"{number(nbytes)} bytes through all memory ports", nbytes / width
    for block, stage, streams in _streaming(facts):
        if stage.rate_bytes_per_cycle > 0:
            work = stage.work_cycles * block.row_groups
            yield f"stage {stage.id}", block.repeat * max(_taken(block, stage, streams), work)


@rule(
    "HETC-L285",
    "the figures of the estimate agree with each other and with the target",
    "simulate the plan anew",
)
def figures(facts: Facts) -> Faults:
    estimate = facts.plan.estimate
    if estimate is None:
        return "no estimate"
    for name, stated, wanted in _figures(facts, estimate):
        if abs(stated - wanted) > 1e-3 * max(abs(wanted), 1e-9):
            text = f"the estimate states {name} {number(stated)}, it comes to {number(wanted)}"
            yield Fault("estimate", text, stated, wanted)
    if estimate.mbu > estimate.mbu_bound * (1 + 1e-3) or estimate.mbu_bound > 1:
        text = f"the estimate uses {number(estimate.mbu)} of the bandwidth"
        bound = min(1.0, estimate.mbu_bound)
        yield Fault("estimate", f"{text}, at most {number(bound)} is there", estimate.mbu, bound)
    return f"MBU {number(estimate.mbu)} of {number(estimate.mbu_bound)}"


def _figures(facts: Facts, estimate: Estimate) -> Iterator[tuple[str, float, float]]:
    """(name, as stated, as it must be)."""
    device = facts.target.device
    tokens = facts.plan.bindings.batch * 1e6
    yield "tokens a second", estimate.tokens_per_s, tokens / max(estimate.tpot_us, 1e-9)
    peak = device.memory().bandwidth.value * max(estimate.tpot_us, 1e-9) * 1e-6
    read = Counter[str]()
    for block in facts.plan.blocks:
        for stream in block.streams:
            read[stream.tier] += block.repeat * stream.bytes
    share = read[device.main_memory] / max(1, read.total())
    yield "MBU", estimate.mbu, estimate.bytes_read * share / peak
    yield "the bound of MBU", estimate.mbu_bound, device.constant("bandwidth_fraction")
    for constant in estimate.constants:
        if constant.name in device.constants:
            yield constant.name, constant.value, device.constants[constant.name].value


@rule(
    "HETC-L286",
    "a collective takes what its algorithm and the link say",
    "state the vector's bytes, and wire and latency of the algorithm over the target's link",
)
def collectives(facts: Facts) -> Faults:
    sockets = facts.target.count
    count = 0
    for block in facts.plan.blocks:
        for stage in block.stages:
            sums = [op for op in facts.work.ops(block, stage) if isinstance(op, AllReduce)]
            place = f"stage {stage.id}"
            for op in sums:
                if op.group_size != sockets:
                    text = f"stage {stage.id} sums over {op.group_size} of {sockets} sockets"
                    yield Fault(place, text, op.group_size, sockets)
            if sums and sockets > 1 and stage.collective is None:
                yield Fault(place, f"stage {stage.id} sums over sockets without a collective")
            if stage.collective is None:
                continue
            count += 1
            nbytes = sum(evaluate(op.x.nbytes, facts.sizes) for op in sums)
            if sums and stage.collective.bytes != nbytes:
                text = f"the collective of {stage.id} has {number(stage.collective.bytes)} bytes"
                text += f", its ops sum {number(nbytes)}"
                yield Fault(place, text, stage.collective.bytes, nbytes)
            yield from _wire(facts, stage, place)
    return f"{count} collectives over {sockets} sockets"


def _wire(facts: Facts, stage: Stage, place: str) -> Iterator[Fault]:
    collective = stage.collective
    assert collective is not None
    peer = facts.target.device.links.get("peer")
    if peer is None or facts.target.count == 1:
        yield Fault(place, f"the collective of {stage.id} has no other socket to talk to")
        return
    wire = _rounds(facts, stage, collective.algorithm)
    if abs(collective.wire_cycles - wire) > 1e-2 * max(wire, 1):
        text = f"the {collective.algorithm} collective of {stage.id} is on the wire for"
        text += f" {number(collective.wire_cycles)} cycles, by its formula {number(wire)}"
        yield Fault(place, text, collective.wire_cycles, wire)
    shots = 2 if collective.algorithm == "two-shot" else 1
    latency = shots * facts.cycles(peer.latency_us.value)
    if collective.latency_cycles < latency * (1 - 1e-2):
        text = f"the {collective.algorithm} collective of {stage.id} waits for"
        text += f" {number(collective.latency_cycles)} cycles, {shots} x the link {number(latency)}"
        yield Fault(place, text, collective.latency_cycles, latency)


def _rounds(facts: Facts, stage: Stage, algorithm: str) -> float:
    """Cycles that one socket sends for: reference `Target.all_reduce_us`.

    One shot sends the vector (a gather: the socket's part of it) to each of the n-1 others; two
    shots send (n-1)/n of it twice.
    """
    collective = stage.collective
    assert collective is not None
    sockets = facts.target.count
    bandwidth = facts.target.device.links["peer"].sustained_bandwidth
    cycles = collective.bytes / bandwidth * facts.grid.clock_hz.value
    others = sockets - 1
    if algorithm == "two-shot":
        return 2 * others / sockets * cycles
    return others * cycles / (sockets if stage.template == "all_gather" else 1)
