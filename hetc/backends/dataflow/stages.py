"""Stages and streams: drafts with lanes, tiles and rates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import ceil

from hetc.backends.dataflow.collectives import collective
from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.fit import LANES_A_COPY, RESERVED_FRACTION
from hetc.backends.dataflow.reads import Read
from hetc.backends.dataflow.schema import (
    Bound,
    Depends,
    Form,
    Request,
    Stage,
    StageRequest,
    Stream,
    Template,
    Tiling,
    Units,
)
from hetc.backends.dataflow.sizing import Draft
from hetc.backends.dataflow.tiling import (
    TILES_IN_UNITS,
    Grouping,
    group_lanes,
    tile_aim,
    tile_inputs,
)
from hetc.ir.op import Op


@dataclass(frozen=True)
class Staged:
    """A stage and the streams that it takes, in order."""

    stage: Stage
    streams: tuple[Stream, ...]


def make_stage(
    id: str,
    draft: Draft,
    lanes: int,
    depends: tuple[Depends, ...],
    after: str | None,
    fabric: Fabric,
    request: Request,
) -> Staged:
    """The stage of `draft` on `lanes` lanes, as far as the request leaves it open.

    `after` is the stage that chooses the experts or the rows of a table, where one does.
    """
    asked = requested(request, id, stage_name(draft))
    grouping = _grouping(draft, asked, lanes, fabric)
    tiling = asked.tiling or _tiling(draft, grouping, fabric)
    most = _most_tile_bytes(grouping, fabric)
    streams = tuple(_streams(id, draft, tiling, most, after, fabric))
    matrices = [read for read in draft.reads if read.matrix]
    usable = fabric.pmu_bytes * (1 - RESERVED_FRACTION)
    units = Units(
        lanes=grouping.lanes,
        x_copies=_copies(draft, grouping, usable) if matrices else 0,
        reducers=grouping.reducers,
        outputs=max(1, ceil(2 * draft.output_bytes / usable)),
    )
    kind = draft.group.template
    sent = None
    if draft.is_link:
        sent = collective(kind, draft.sent_bytes, draft.groups, fabric.sockets, fabric.peer)
    busy = draft.stream_work / (grouping.lanes * grouping.fill)
    stage = Stage(
        id=id,
        name=stage_name(draft),
        template=_template(draft),
        ops=tuple(draft.run.places[op] for op in draft.group.ops),
        depends=depends,
        streams=tuple(stream.id for stream in streams),
        form=_form(draft),
        tiling=tiling,
        split_k=grouping.split_k,
        split_rows=grouping.split_rows,
        units=units,
        rate_bytes_per_cycle=draft.pass_bytes / busy if busy else _vector_rate(fabric),
        work_cycles=draft.vector_work / grouping.lanes,
        latency_cycles=_latency(grouping, fabric),
        bound=_bound(draft, busy, fabric),
        collective=sent,
    )
    return Staged(stage, streams)


def _copies(draft: Draft, grouping: Grouping, usable: float) -> int:
    """Memory units for the input: one a region of lanes at least, each for the rows of its part."""
    regions = ceil(grouping.lanes / LANES_A_COPY)
    held = draft.input_bytes * ceil(regions / grouping.split_rows)
    return max(regions, ceil(held / usable))


def requested(request: Request, id: str, name: str) -> StageRequest:
    """What the user fixed of a stage; the last entry that matches wins."""
    found = StageRequest(stage="*")
    for entry in request.stages:
        if fnmatchcase(name, entry.stage) or fnmatchcase(id, entry.stage):
            found = entry
    return found


def stage_name(draft: Draft) -> str:
    """Where the stage stands in the model: `self_attn.q_proj+k_proj+v_proj`, `layers.0.rotary`."""
    group = draft.group
    anchors = group.anchors or group.ops
    locs = list(dict.fromkeys(_location(op) for op in anchors))
    heads = {loc.rpartition(".")[0] for loc in locs}
    tails = [loc.rpartition(".")[2] for loc in locs]
    place = f"{heads.pop()}.{'+'.join(tails)}" if len(heads) == 1 else locs[0]
    place = place.strip(".")
    if group.template in ("gemm", "gemv", "experts", "norm", "lookup") and place:
        return place
    return f"{place}.{group.template}" if place else group.template


def _location(op: Op) -> str:
    # A place outside the layer is written with a slash in front, one layer further with a plus.
    return op.loc.removeprefix("/")


def _template(draft: Draft) -> Template:
    if draft.group.template == "gemm":
        rows = max((read.macs_per_element for read in draft.reads if read.matrix), default=2.0)
        return "gemv" if rows <= 1 else "gemm"
    return draft.group.template


def _form(draft: Draft) -> Form:
    if draft.group.template == "attention":
        return "dot"
    return "axpy" if any(read.matrix for read in draft.reads) else ""


def _grouping(draft: Draft, asked: StageRequest, lanes: int, fabric: Fabric) -> Grouping:
    matrices = _products(draft)
    if not matrices:
        return Grouping(groups=asked.lanes or lanes)
    outputs, inputs = _outputs_inputs(matrices)
    if asked.split_k is not None and asked.lanes is not None:
        groups = max(1, asked.lanes // asked.split_k)
        slices = -(-outputs // fabric.pcu_lanes)
        rounds = -(-slices // groups)
        fill = slices / (rounds * groups)
        return Grouping(groups, asked.split_k, 1, rounds, fill)
    wanted = asked.lanes or lanes
    rows = max(1, int(max(read.macs_per_element for read in matrices)) // draft.groups)
    return group_lanes(outputs, inputs, rows, fabric.pcu_lanes, wanted, wanted + wanted // 3)


def _most_tile_bytes(grouping: Grouping, fabric: Fabric) -> int:
    return int(fabric.pmu_bytes * (1 - RESERVED_FRACTION)) * grouping.lanes // TILES_IN_UNITS


def _products(draft: Draft) -> list[Read]:
    """The matrices of a stage whose outputs are cut over its lanes."""
    return [read for read in draft.reads if read.matrix and read.kind != "state"]


def _outputs_inputs(matrices: list[Read]) -> tuple[int, int]:
    """N over all matrices of the stage, side by side, and their common K."""
    outputs, inputs = 0, 0
    for read in matrices:
        n, k = read.shape
        outputs, inputs = outputs + n, max(inputs, k)
    return outputs, inputs


def _tiling(draft: Draft, grouping: Grouping, fabric: Fabric) -> Tiling | None:
    products = _products(draft)
    most = _most_tile_bytes(grouping, fabric)
    if products:
        outputs, inputs = _outputs_inputs(products)
        wide = min(outputs, grouping.groups * fabric.pcu_lanes)
        deep = tile_inputs(wide, inputs, products[0].stored_bytes, draft.stream_bytes, most)
        return Tiling(outputs=wide, inputs=deep, rows=draft.rows)
    states = [read for read in draft.reads if read.kind == "state"]
    if not states:
        return None
    width = states[0].value.shape[-1]
    row = width if isinstance(width, int) else 1
    fits = max(1, tile_aim(states[0].bytes, most) // (row * states[0].stored_bytes))
    return Tiling(outputs=row, inputs=1, rows=fits)


def _streams(
    id: str, draft: Draft, tiling: Tiling | None, most: int, after: str | None, fabric: Fabric
) -> Iterator[Stream]:
    small = [read for read in draft.reads if not read.matrix and read.kind == "weight"]
    groups = [("v", small)] if small else []
    tables = [read for read in draft.reads if read.kind == "lookup"]
    groups += [(f"l{number}", [read]) for number, read in enumerate(tables)]
    products, states = _products(draft), _states(draft)
    # What a product multiplies comes before its matrix: else the queue would wait for ever.
    first = [read for read in states if products and _precedes(draft, read, products[0])]
    several = [(f"s{number}", [read]) for number, read in enumerate(states)]
    groups += several[: len(first)] + ([("w", products)] if products else [])
    groups += several[len(first) :]
    for suffix, reads in groups:
        nbytes = sum(read.bytes for read in reads)
        tile = _tile_bytes(reads, tiling, nbytes, most)
        yield Stream(
            id=f"{id}.{suffix}",
            stage=id,
            tensors=tuple(read.tensor for read in reads),
            kind=reads[0].kind,
            tier=fabric.main_memory,
            bytes=nbytes,
            tile_bytes=tile,
            depth_bytes=nbytes,
            ports=(),
            after=after if reads[0].kind in ("expert", "lookup") else None,
            why="",
        )


def _precedes(draft: Draft, read: Read, other: Read) -> bool:
    return draft.reads.index(read) < draft.reads.index(other)


def _states(draft: Draft) -> list[Read]:
    return [read for read in draft.reads if read.kind == "state"]


def _tile_bytes(reads: list[Read], tiling: Tiling | None, nbytes: int, most: int) -> int:
    if not reads[0].matrix or tiling is None:
        return max(1, min(nbytes, most))
    size = reads[0].stored_bytes
    if reads[0].kind == "state":
        return max(1, min(nbytes, tiling.rows * tiling.outputs * size))
    return max(1, min(nbytes, tiling.outputs * tiling.inputs * size))


def _latency(grouping: Grouping, fabric: Fabric) -> float:
    """Through a unit, the reducers of a split K, and a quarter of the way round the grid."""
    hops = (fabric.lanes_x + fabric.lanes_y) / 4
    passes = 2 if grouping.split_k > 1 else 1
    return passes * fabric.unit_latency_cycles + hops * fabric.hop_cycles


def _vector_rate(fabric: Fabric) -> float:
    return float(fabric.pmu_bytes_per_cycle)


def _bound(draft: Draft, busy: float, fabric: Fabric) -> Bound:
    if draft.is_link:
        return "link"
    memory = draft.stream_bytes / fabric.tiers[fabric.main_memory].bytes_per_cycle
    if not draft.stream_bytes:
        return "latency"
    return "memory" if memory >= draft.groups * busy else "compute"
