"""Outcome of an engine -> Simulated."""

from __future__ import annotations

from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate.analytic import closed_form, pass_cost, passes
from hetc.backends.dataflow.simulate.result import (
    BlockUse,
    Bottleneck,
    Mode,
    QueueUse,
    Simulated,
    StageUse,
    StreamUse,
)
from hetc.backends.dataflow.simulate.speeds import Speeds
from hetc.backends.dataflow.simulate.tally import Outcome
from hetc.backends.dataflow.simulate.timing import Timing
from hetc.errors import BackendError, InternalError

# From this share of the time on, a resource that is busy is said to bound the token.
_BOUND = 0.85


def simulated(
    plan: Plan, speeds: Speeds, timing: Timing, outcome: Outcome, mode: Mode
) -> Simulated:
    """The result; BackendError HETC-L110 where a token takes no time, and
    InternalError HETC-Z020 if more was read than the memory can give."""
    cycles = outcome.ends[-1] - outcome.ends[-2]
    if cycles <= 0:
        raise BackendError("HETC-L110", "a token takes no time", at="the plan", found=cycles)
    main = speeds.memories[speeds.main_memory]
    queues = _queues(timing, outcome, cycles)
    blocks = _blocks(timing, outcome)
    read = {queue.tier: queue.bytes_read for queue in queues}
    mbu = read[speeds.main_memory] / (cycles * main.bytes_per_cycle)
    if mbu > 1 + 1e-9:
        raise InternalError(
            "HETC-Z020",
            "the simulation reads faster than the memory",
            expected="MBU of at most 1",
            found=f"{mbu:.6f}",
            do="simulate more tokens, and report the plan",
        )
    tpot_us = speeds.us(cycles)
    return Simulated(
        mode=mode,
        tokens=len(outcome.ends),
        cycles=cycles,
        tpot_us=tpot_us,
        tokens_per_s=plan.bindings.batch / tpot_us * 1e6,
        bytes_read=sum(read.values()),
        mbu=mbu,
        mbu_bound=main.efficiency,
        bottleneck=_bottleneck(speeds, cycles, queues, outcome.last.link[0], blocks),
        stages=_stages(timing, outcome, cycles),
        streams=_streams(timing, outcome),
        queues=queues,
        link_busy_cycles=outcome.last.link[0],
        blocks=blocks,
        analytic_us=speeds.us(closed_form(timing).ends[-1]),
        energy_j=None if speeds.power_w is None else speeds.power_w * tpot_us * 1e-6,
    )


def _stages(timing: Timing, outcome: Outcome, cycles: float) -> tuple[StageUse, ...]:
    uses = []
    last = outcome.last
    for index, stage in enumerate(timing.stages):
        active, starved, stalled = last.active[index], last.starved[index], last.stalled[index]
        block = timing.blocks[timing.segments[timing.segment_of[index]].block]
        busy, idle = active - starved - stalled, cycles - active
        uses.append(StageUse(stage.name, block, busy, stalled, starved, idle))
    return tuple(uses)


def _streams(timing: Timing, outcome: Outcome) -> tuple[StreamUse, ...]:
    return tuple(
        StreamUse(flow.name, peak, flow.depth_bytes, credit)
        for flow, peak, credit in zip(timing.flows, outcome.peaks, outcome.last.credit, strict=True)
        if flow.queue is not None
    )


def _queues(timing: Timing, outcome: Outcome, cycles: float) -> tuple[QueueUse, ...]:
    uses = []
    for index, queue in enumerate(timing.queues):
        busy = outcome.last.busy[index]
        credit = sum(
            waited
            for flow, waited in zip(timing.flows, outcome.last.credit, strict=True)
            if flow.queue == index
        )
        uses.append(
            QueueUse(
                tier=queue.tier,
                bytes_read=queue.bytes_read,
                bytes_written=queue.bytes_written,
                busy_cycles=busy,
                idle_cycles=cycles - busy,
                credit_cycles=credit,
                order_cycles=outcome.last.order[index],
            )
        )
    return tuple(uses)


def _blocks(timing: Timing, outcome: Outcome) -> tuple[BlockUse, ...]:
    uses = []
    done = passes(timing)
    for index, name in enumerate(timing.blocks):
        own = [turns for turns in done if timing.segments[turns[0].segment].block == index]
        latest = {turns[0].segment: turns for turns in own}
        if not latest:
            continue
        costs = [pass_cost(timing, turns) for turns in latest.values()]
        uses.append(
            BlockUse(
                block=name,
                iterations=len(own) // len(latest),
                cycles=outcome.last.blocks[index],
                memory_cycles=sum(cost.memory for cost in costs),
                chain_cycles=sum(cost.chain for cost in costs),
                chain=tuple(stage for cost in costs for stage in cost.path.stages),
            )
        )
    return tuple(uses)


def _bottleneck(
    speeds: Speeds,
    cycles: float,
    queues: tuple[QueueUse, ...],
    link: float,
    blocks: tuple[BlockUse, ...],
) -> Bottleneck:
    """The resource that is busy nearly all the time; else what the main memory waits for."""
    shares = {queue.tier: queue.busy_cycles / cycles for queue in queues}
    shares["peer link"] = link / cycles
    name = max(shares, key=lambda key: shares[key])
    chain = sum(block.iterations * block.chain_cycles for block in blocks) / cycles
    main = next(queue for queue in queues if queue.tier == speeds.main_memory)
    if shares[name] >= max(chain, _BOUND):
        return Bottleneck(name, f"{name} {_percent(shares[name])} busy")
    if chain >= _BOUND:
        worst = max(blocks, key=lambda block: block.iterations * block.chain_cycles)
        why = (
            f"stages of {worst.block} that wait for each other take "
            f"{speeds.us(worst.chain_cycles):.1f} us an iteration, "
            f"its memory traffic {speeds.us(worst.memory_cycles):.1f} us"
        )
        return Bottleneck("dependences", why)
    if main.credit_cycles > main.order_cycles:
        share = _percent(main.credit_cycles / cycles)
        why = f"{main.tier} waits {share} of the time for room in buffers"
        return Bottleneck("buffers", why)
    if main.order_cycles == 0:
        share = _percent(main.busy_cycles / cycles)
        why = f"{main.tier} is busy {share} of the time; the closed form does not tell what else is"
        return Bottleneck("order", why)
    share = _percent(main.order_cycles / cycles)
    why = f"{main.tier} waits {share} of the time for launches and results"
    return Bottleneck("order", why)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
