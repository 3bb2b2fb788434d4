"""Faults to seed into a good plan, as data: a name, what is done to the plan, and the codes of
which the linter must find one. Plans of the planner go through the same table."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hetc.backends.dataflow.schema import Plan
from tests.backends.dataflow import faults
from tests.backends.dataflow.edits import (
    Change,
    Draw,
    add,
    backwards,
    drop,
    edit,
    fields,
    grow,
    repeat,
    shift,
    times,
    to,
    when,
)

STAGES, STREAMS, BUFFERS = "blocks.*.stages", "blocks.*.streams", "blocks.*.buffers"
NOBODY = "nobody"


@dataclass(frozen=True)
class Mutation:
    """A fault: `change` at a place of the plan that fits `pattern` (see edits.py)."""

    name: str
    pattern: str
    change: Change
    codes: tuple[str, ...]

    def mutate(self, plan: Plan, draw: Draw) -> Plan | None:
        """The plan with the fault; None where the plan has no place for it."""
        return edit(plan, self.pattern, self.change, draw)


def _fault(name: str, pattern: str, change: Change, *codes: int) -> Mutation:
    return Mutation(name, pattern, change, tuple(f"HETC-L{code}" for code in codes))


IDENTITY = (
    _fault("another schema", "schema", to("hetc.plan/9"), 200),
    _fault("another target", "target.sha256", to("0" * 64), 201),
    _fault("more sockets", "target.sockets", grow, 201),
    _fault("a stage twice", STAGES, repeat, 202),
    _fault("a stream twice", STREAMS, repeat, 202),
    _fault("a buffer twice", BUFFERS, repeat, 202),
    _fault("a net twice", "sections.*.routes", repeat, 202),
    _fault("a stage renamed", f"{STAGES}.*.id", to(NOBODY), 203),
    _fault("a block renamed", "blocks.*.id", to(NOBODY), 203),
    _fault("a stream renamed", f"{STREAMS}.*.id", to(NOBODY), 203),
    _fault("an unknown stream issued", "blocks.*.issue.*.stream", to(NOBODY), 203),
    _fault("an unknown consumer", f"{BUFFERS}.*.consumers", add(NOBODY), 203),
    _fault("an unknown section", "program.steps.*.section", to(NOBODY), 203),
    _fault("a stream from nowhere", f"{STREAMS}.*.tier", to(NOBODY), 203),
    _fault("a tensor that lies nowhere", "memory.*.tier", to(NOBODY), 203),
    _fault("an unknown life", "memory.*.live", to((NOBODY, NOBODY)), 203),
    _fault("a rate that is no number", f"{STAGES}.*.rate_bytes_per_cycle", to(math.nan), 204),
    _fault("endless work", f"{STAGES}.*.work_cycles", to(math.inf), 204),
    _fault("a negative offset", "memory.*.offset", to(-64), 204),
    _fault("tiles of nothing", f"{STREAMS}.*.tile_bytes", to(0), 204),
    _fault("a step beyond the context", "bindings.past", grow, 204, 234),
    _fault("another graph", "graph_sha256", to("0" * 64), 205),
    _fault("an op that does not exist", f"{STAGES}.*.ops", add(10_000), 206),
    _fault("a tensor that does not exist", f"{STREAMS}.*.tensors", add(NOBODY), 206),
    _fault("a graph that does not exist", "blocks.*.graph", to(NOBODY), 206),
    _fault("an iteration more", "blocks.*.repeat", lambda old, draw: old + 1, 206, 213),
)
COVERAGE = (
    _fault("a stage without ops", f"{STAGES}.*.ops", to(()), 210),
    _fault("an op in two stages", "blocks.*", faults.share_op, 210),
    _fault("ops of two stages swapped", "blocks.*", faults.swap_ops, 217, 218, 233, 235),
    _fault("calls backwards", "blocks.*.calls", backwards, 211),
    _fault("a call twice", "blocks.*.calls", when(bool, lambda old, draw: old[:1] * len(old)), 211),
    _fault("a stage in no section", "sections.*.stages", drop, 212),
    _fault("a step lost", "program.steps", drop, 213, 214, 215),
    _fault("a step twice", "program.steps", repeat, 213, 214, 215),
    _fault("a loop too long", "program.steps.*.count", grow, 213),
    _fault("a loop too short", "program.steps.*.count", when(lambda n: n > 1, to(1)), 213),
    _fault("an empty loop", "program.steps.*.body", to(()), 213),
    _fault("steps backwards", "program.steps", faults.executes_backwards, 214, 218),
    _fault("two rows a token", "program.steps.*.rows", to(2), 215),
)
ORDER = (
    _fault("no dependences", f"{STAGES}.*.depends", to(()), 217),
    _fault("dependences an iteration late", "blocks.*", faults.late, 217),
    _fault(
        "a carried dependence at once", f"{STAGES}.*.depends.*.carried", when(bool, to(False)), 216
    ),
)
UNITS = (
    _fault("too many lanes", f"{STAGES}.*.units.lanes", to(5000), 220),
    _fault("too many outputs", f"{STAGES}.*.units.outputs", to(5000), 220),
    _fault("endless credits", f"{STREAMS}.*.depth_bytes", to(10**12), 221),
    _fault("a full memory unit", f"{BUFFERS}.*.depth_bytes", to(10**7), 221),
    _fault("false count of PCUs", "sections.*.resources.pcus", shift, 222),
    _fault("false count of PMUs", "sections.*.resources.pmus_of", shift, 222),
    _fault("false count of bytes", "sections.*.resources.sram_bytes", shift, 222),
    _fault("false count of ports", "sections.*.resources.ports", shift, 222),
    _fault("a unit without a site", "sections.*.sites", faults.lose_site, 223),
    _fault("two units on one site", "sections.*.sites", faults.on_top, 223),
    _fault(
        "a unit off the grid",
        "sections.*.sites",
        lambda s, d: {**s, min(s, default=NOBODY): (999, 0)},
        223,
    ),
    _fault("a unit of nobody", "sections.*.sites", lambda s, d: {**s, "nobody.w0": (0, 0)}, 223),
    _fault("units swapped", "sections.*.sites", faults.swap_sites, 241, 244, 245),
    _fault("another pin", "request.pins.*.site", lambda old, draw: (old[0] + 50, old[1]), 224),
    _fault("a port that does not exist", f"{STREAMS}.*.ports", to((9999,)), 225),
    _fault("no port", f"{STREAMS}.*.ports", to(()), 225),
)
FLOW = (
    _fault("too few credits", f"{STREAMS}.*", fields(depth_bytes=faults.below_two_tiles), 230),
    _fault("no room for what stays", "blocks.*", faults.no_room_for_groups, 230),
    _fault("unequal row groups", "blocks.*.row_groups", to(7), 238),
    _fault("row groups through memory", "blocks.*", faults.grouped_through_memory, 238),
    _fault("a shallow buffer", f"{BUFFERS}.*.depth_bytes", to(0), 231),
    _fault("a wait for the end", "blocks.*", faults.waits_for_the_end, 231, 271),
    _fault("a tensor not streamed", f"{STREAMS}.*.tensors", drop, 233),
    _fault("a tensor streamed twice", f"{STREAMS}.*.tensors", repeat, 233),
    _fault("false bytes", f"{STREAMS}.*", faults.false_bytes, 234),
    _fault("no buffer", BUFFERS, drop, 235),
    _fault("a consumer forgotten", f"{BUFFERS}.*.consumers", drop, 235),
    _fault("false bytes of a buffer", f"{BUFFERS}.*.bytes", shift, 236),
    _fault("a state not written", "blocks.*.appends", drop, 237),
    _fault("a state written twice", "blocks.*.appends", repeat, 237),
    _fault("false bytes of new rows", "blocks.*.appends.*.bytes", shift, 237),
    _fault("a ring that is none", "blocks.*.appends.*", faults.other_ring, 237),
    _fault("rows of another op", "blocks.*.appends.*.op", to(0), 237),
    _fault("a state replaced", "blocks.*.appends.*.whole", to(True), 237),
)
ROUTES = (
    _fault("a net lost", "sections.*.routes", faults.lose_net, 244, 245),
    _fault("a tree without root", "sections.*.routes.*.paths", faults.no_root, 240, 244, 245),
    _fault(
        "a path from elsewhere", "sections.*.routes.*.paths", faults.elsewhere, 240, 244, 245, 247
    ),
    _fault("a path one hop short", "sections.*.routes.*", faults.hop_short, 240, 244, 245, 247),
    _fault(
        "a path turned around", "sections.*.routes.*.paths.*", faults.turned, 240, 244, 245, 246
    ),
    _fault("a path off the grid", "sections.*.routes.*.paths.*", faults.off_grid, 240),
    _fault("a path of nothing", "sections.*.routes.*.paths.*", faults.no_hops, 240),
    _fault("a path back and forth", "sections.*.routes.*.paths.*", faults.back_and_forth, 240),
    _fault("too much on a link", "sections.*.routes.*", faults.too_wide, 241),
    _fault("a channel too many", "sections.*.routes.*.vc", to(99), 242),
    _fault("a circle of channels", "sections.*", faults.circle, 243),
    _fault("an empty net", "sections.*.routes.*.bytes_per_cycle", to(0), 246),
    _fault("a net to elsewhere", "sections.*.routes.*", faults.renamed, 247),
    _fault("a thin net from memory", "sections.*.routes.*", faults.thin, 246),
)
MEMORY = (
    _fault("beyond the end", "memory.*.offset", to(2**60), 250),
    _fault("half a word off", "memory.*.offset", lambda old, draw: old + 1, 250),
    _fault("a stride of odd bytes", "memory.*.stride", lambda old, draw: old + 1, 250),
    _fault("one on another", "memory", faults.other_offset, 251),
    _fault("an allocation twice", "memory", repeat, 251),
    _fault("a stride too long", "memory.*", faults.long_stride, 251),
    _fault("one place for all", "memory.*", faults.no_stride, 255),
    _fault("places missing", "memory.*.count", lambda old, draw: old + 1, 252),
    _fault("false life", "memory", faults.lives_elsewhere, 252),
    _fault("false bytes in memory", "memory.*.bytes", shift, 253),
    _fault("rows missing", "memory.*.rows", faults.fewer_rows, 253, 254),
    _fault("rows shifted", "memory.*.rows", lambda old, draw: (old[0] + 1, old[1] + 1), 254),
    _fault("a tensor not in memory", "memory", drop, 254),
)
SHARDS = (
    _fault("parts that sockets cannot share", "shards.*.parts", to(1013), 260),
    _fault("groups that do not divide", "shards.*.groups", to(1013), 260),
    _fault("an axis too many", "shards.*.axis", to(9), 260),
    _fault("a shard twice", "shards", repeat, 260),
    _fault("a shard lost", "shards", faults.lose_shard, 260),
    _fault("the other axis", "shards.*", faults.other_axis, 261),
    _fault("a part that is the whole", "shards.*", faults.whole, 261, 283),
)
QUEUE = (
    _fault("a stream not issued", "blocks.*.issue", drop, 270),
    _fault("a stream issued twice", "blocks.*.issue", repeat, 270),
    _fault("an address that comes too late", "blocks.*", faults.needs_the_last, 271),
    _fault("a stream too early", "blocks.*", faults.too_early, 271),
    _fault("the queue backwards", "blocks.*", faults.queue_backwards, 271, 272),
)
RATES = (
    _fault("lanes too fast", f"{STAGES}.*", faults.too_fast, 280),
    _fault("lanes too slow", f"{STAGES}.*", faults.too_slow, 281, 284),
    _fault("one port", f"{STREAMS}.*", faults.one_port, 244, 282),
    _fault("false bytes read", "estimate.bytes_read", shift, 283),
    _fault("false unique bytes", "estimate.unique_bytes", times(2), 283),
    _fault("too fast a token", "estimate.tpot_us", times(0.001), 284),
    _fault("a slow token at the old rate", "estimate.tpot_us", times(10), 285),
    _fault("too many tokens", "estimate.tokens_per_s", times(1.1), 285),
    _fault("too much bandwidth", "estimate.mbu", to(1.2), 285),
    _fault("a false bound", "estimate.mbu_bound", to(1.1), 285),
    _fault("another constant", "estimate.constants.*.value", times(0.5), 285),
    _fault("a fast wire", f"{STAGES}.*.collective.wire_cycles", times(0.5), 286),
    _fault("a fast link", f"{STAGES}.*.collective.latency_cycles", times(0.5), 286),
    _fault("false bytes of a sum", f"{STAGES}.*.collective.bytes", shift, 286),
    _fault("a sum without a collective", f"{STAGES}.*", faults.no_collective, 286),
)

MUTATIONS = (
    *IDENTITY,
    *COVERAGE,
    *ORDER,
    *UNITS,
    *FLOW,
    *ROUTES,
    *MEMORY,
    *SHARDS,
    *QUEUE,
    *RATES,
)
