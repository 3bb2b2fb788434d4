"""A plan as the CSV files that Plasticine's placer and simulator read, by their columns.

After the files of the public repository stanford-ppl/pir (PlastiRoute, PlastiSim): nodes by type,
and nets with the tokens that each end moves in a firing, so that a section reads as a synchronous
dataflow graph. Columns that those files lack stand behind theirs.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hetc.backends.dataflow.exports.label import LABEL
from hetc.backends.dataflow.exports.nodes import Wiring
from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.schema import Plan

_Row = Sequence[object]
_COLUMNS = {
    "node.csv": ("node", "type", "section", "stage", "x", "y"),
    "link.csv": ("link", "section", "kind", "net", "vc", "src", "dst", "demand", "count", "hops"),
    "out.csv": ("out", "section", "src", "net", "count"),
    "in.csv": ("in", "section", "dst", "net", "count"),
}
_NOTES = {
    "node.csv": "x and y: the switch, from the north-west",
    "link.csv": "demand: bytes a cycle on each link of the tree; count: tokens a firing out of "
    "each source; hops: links of the tree, 0 where it was not routed",
    "out.csv": "count: tokens a firing; a token is what a link carries in a cycle",
    "in.csv": "count: tokens a firing",
}


def tables(plan: Plan, fabric: Fabric) -> Mapping[str, str]:
    """node.csv, link.csv, out.csv and in.csv; raises as `Wiring` does."""
    wirings = [Wiring(plan, section, fabric) for section in plan.sections]
    rows: Mapping[str, Iterable[_Row]] = {
        "node.csv": (row for wiring in wirings for row in _nodes(wiring)),
        "link.csv": (row for wiring in wirings for row in _links(wiring)),
        "out.csv": (row for wiring in wirings for row in _outs(wiring)),
        "in.csv": (row for wiring in wirings for row in _ins(wiring)),
    }
    return {name: _text(name, found) for name, found in rows.items()}


def _text(name: str, rows: Iterable[_Row]) -> str:
    file = io.StringIO()
    file.write(f"# {LABEL}\n# {_NOTES[name]}\n")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS[name])
    writer.writerows(rows)
    return file.getvalue()


def _nodes(wiring: Wiring) -> Iterator[_Row]:
    for node in wiring.nodes:
        yield node.name, node.kind, wiring.section.id, node.stage, *node.switch


def _links(wiring: Wiring) -> Iterator[_Row]:
    for link in wiring.links:
        net = link.net
        yield (
            net.name,
            wiring.section.id,
            net.kind,
            net.network,
            net.vc,
            " ".join(link.sources),
            " ".join(link.sinks),
            net.bytes_per_cycle,
            link.out,
            link.hops,
        )


def _outs(wiring: Wiring) -> Iterator[_Row]:
    for link in wiring.links:
        for source in link.sources:
            yield f"{link.net.name}:{source}", wiring.section.id, source, link.net.network, link.out


def _ins(wiring: Wiring) -> Iterator[_Row]:
    for link in wiring.links:
        for sink, count in zip(link.sinks, link.into, strict=True):
            yield f"{link.net.name}:{sink}", wiring.section.id, sink, link.net.network, count
