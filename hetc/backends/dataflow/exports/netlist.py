"""A plan as a netlist in YAML, with the words of PyBuda's.

After the public repository tenstorrent/tt-buda: `queues` are tensors in memory, a graph of `graphs`
is what is on the chip at one time (there an epoch, here a section) with its ops (here stages) on a
grid, and `programs` run graphs in loops, with pointers that they move. What those netlists have no
word for has a name that begins with `hetc_`.

The values are written as JSON, which is YAML, so that no writer of YAML is needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hetc.backends.dataflow.exports.label import LABEL
from hetc.backends.dataflow.exports.nodes import Wiring
from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.schema import (
    Allocation,
    Block,
    Plan,
    Stage,
)
from hetc.backends.dataflow.steps import (
    Advance,
    Configure,
    Execute,
    Loop,
)

_Entry = Mapping[str, Any]

# Keys that need no quotes, but for those that YAML 1.1 takes for truth values and null.
_BARE = re.compile(r"[A-Za-z_][\w.]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def netlist(plan: Plan, fabric: Fabric) -> str:
    """The plan as YAML; raises InputError HETC-L010 for a unit without a place."""
    wirings = [Wiring(plan, section, fabric) for section in plan.sections]
    lines = [
        f"# {LABEL}",
        f"# {plan.tool}, {plan.target.name}; all sockets are alike, one is shown",
        "",
        "devices:",
        *_entries("  ", {"arch": fabric.name, "hetc_sockets": plan.target.sockets}),
        *_entries("  ", {"hetc_grid": [fabric.lanes_y, fabric.lanes_x]}),
        "",
        "queues:",
        *_entries("  ", {queue_name(item): _queue(plan, item) for item in plan.memory}),
        "",
        "graphs:",
    ]
    for wiring in wirings:
        lines += [f"  {wiring.section.id}:", *_entries("    ", _graph(wiring))]
    lines += ["", "programs:", "  - decode:"]
    lines += [f"    - {json.dumps(step)}" for step in _program(plan)]
    return "\n".join(lines) + "\n"


def _entries(indent: str, entries: Mapping[str, Any]) -> list[str]:
    return [f"{indent}{_key(key)}: {json.dumps(value)}" for key, value in entries.items()]


def _key(name: str) -> str:
    bare = _BARE.fullmatch(name) and name.lower() not in _WORDS
    return name if bare else json.dumps(name)


def queue_name(item: Allocation) -> str:
    """A name for what lies at one place in memory: rows tell parts of a tensor apart."""
    return f"{item.block}.{item.tensor}.{item.use}[{item.rows[0]}:{item.rows[1]}]"


def _queue(plan: Plan, item: Allocation) -> _Entry:
    block = next(block for block in plan.blocks if block.id == item.block)
    writers = [append.stage for append in block.appends if append.tensor == item.tensor]
    return {
        "input": writers[0] if writers else "HOST",
        "type": "ram",
        "entries": item.count,
        "grid_size": [1, 1],
        "loc": "dram",
        "dram": [[item.tier, hex(item.offset)]],
        "target_device": 0,
        "hetc_bytes": item.bytes,
        "hetc_stride": item.stride,
    }


def _graph(wiring: Wiring) -> _Entry:
    plan = wiring.plan
    entry: dict[str, Any] = {"target_device": 0, "input_count": plan.bindings.batch}
    for stage in wiring.stages.values():
        entry[stage.id] = _op(wiring, stage, wiring.block_of[stage.id])
    return entry


def _op(wiring: Wiring, stage: Stage, block: Block) -> _Entry:
    queues = [
        queue_name(item)
        for stream in block.streams
        if stream.stage == stage.id
        for item in wiring.plan.memory
        if item.block == block.id and item.tensor in stream.tensors
    ]
    every = [buffer for other in wiring.plan.blocks for buffer in other.buffers]
    made = [buffer for buffer in every if buffer.producer == stage.id]
    left, top, width, height = _box(wiring, stage)
    attributes: dict[str, Any] = {
        "lanes": stage.units.lanes,
        "split_k": stage.split_k,
        "split_rows": stage.split_rows,
        "form": stage.form,
    }
    if stage.tiling is not None:
        tiling = stage.tiling
        attributes["tile"] = [tiling.outputs, tiling.inputs, tiling.rows]
    return {
        "type": stage.template,
        "grid_loc": [top, left],
        "grid_size": [height, width],
        "inputs": [buffer.producer for buffer in every if stage.id in buffer.consumers] + queues,
        "buf_size_mb": max((buffer.depth_bytes // buffer.bytes for buffer in made), default=1),
        "attributes": attributes,
        "hetc_name": stage.name,
        "hetc_block": block.id,
    }


def _box(wiring: Wiring, stage: Stage) -> tuple[int, int, int, int]:
    """The smallest rectangle of lane sites that holds a stage: other stages may stand in it too."""
    sites = [wiring.site(node.unit) for node in wiring.nodes if node.stage == stage.id]
    xs, ys = [x for x, _ in sites], [y for _, y in sites]
    return min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1


def _program(plan: Plan) -> Iterator[Any]:
    states = [item for item in plan.memory if item.kind == "state"]
    loops = [step for step in plan.program.steps if isinstance(step, Loop)]
    yield {"staticvar": {"$row": plan.bindings.past}}
    yield {"var": {f"${loop.block}": 0 for loop in loops}}
    for step in plan.program.steps:
        if isinstance(step, Loop):
            yield {"loop": step.count}
            yield from (_run(inner, looped=True) for inner in step.body)
            yield {"varinst": [f"${step.block}", "inc", 1]}
            yield "endloop"
        elif isinstance(step, Advance):
            if states:
                yield {"varinst": ["$row", "inc", step.rows]}
        else:
            yield _run(step, looped=False)


def _run(step: Configure | Execute, *, looped: bool) -> _Entry:
    if isinstance(step, Configure):
        return {"hetc_configure": {"graph_name": step.section, "cycles": step.cycles}}
    entry: dict[str, Any] = {"graph_name": step.section, "hetc_block": step.block}
    if looped:
        entry["queue_settings"] = {"rd_ptr_global": f"${step.block}"}
    return {"execute": entry}
