"""A plan as a skeleton in MLIR, with the ops of the AIE dialect.

After the public repository Xilinx/mlir-aie, in MLIR's generic form, so that any MLIR parser reads
it that allows unregistered dialects. A section is an `aie.device`; a lane site is a tile, at column
and row one more than its own, and memory ports are the tiles around them. Bodies of cores are
empty: it says what is where, and what is joined to what.

- `aie.buffer`: what a memory unit holds of streams, inputs or results.
- `aie.objectfifo`: activations from stage to stage, with the depth of their buffer.
- `aie.packet_flow`: a memory port to all lanes that it feeds.
- `aie.flow`: every other net, one for each source and sink; the channel is its virtual channel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property

from hetc.backends.dataflow.exports.label import LABEL
from hetc.backends.dataflow.exports.nodes import Link, Wiring
from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.fit import LANES_A_COPY
from hetc.backends.dataflow.mesh import port_number
from hetc.backends.dataflow.schema import Buffer, Plan, Section
from hetc.ir.mlir import string_literal

Tile = tuple[int, int]


def aie_module(plan: Plan, fabric: Fabric) -> str:
    """The plan as an MLIR module; raises InputError HETC-L010 for a unit without a place."""
    devices = "\n".join(_Device(plan, section, fabric).text() for section in plan.sections)
    facts = _attributes(
        {
            "hetc.label": string_literal(LABEL),
            "hetc.target": string_literal(plan.target.name),
            "hetc.tool": string_literal(plan.tool),
        }
    )
    return f'// {LABEL}\n"builtin.module"() ({{\n{devices}\n}}){facts} : () -> ()\n'


class _Device:
    """One section: its tiles, and what stands on them and between them."""

    def __init__(self, plan: Plan, section: Section, fabric: Fabric) -> None:
        self.wiring = Wiring(plan, section, fabric)
        self.buffers = [buffer for block in plan.blocks for buffer in block.buffers]

    def text(self) -> str:
        lines = [*self._tiles(), *self._buffers(), *self._cores(), *self._fifos(), *self._flows()]
        lines.append('"aie.end"() : () -> ()')
        body = "\n".join(f"    {line}" for line in lines)
        facts = {
            "device": string_literal(self.wiring.fabric.name),
            "sym_name": string_literal(self.wiring.section.id),
        }
        return f'  "aie.device"() ({{\n{body}\n  }}){_attributes(facts)} : () -> ()'

    @cached_property
    def tile_names(self) -> Mapping[Tile, str]:
        """The name of every tile that has a unit or a port, by column and row."""
        tiles = sorted({self._tile(node.unit) for node in self.wiring.nodes})
        return {(column, row): f"%tile_{column}_{row}" for column, row in tiles}

    def _tile(self, unit: str) -> Tile:
        number, fabric = port_number(unit), self.wiring.fabric
        if number is None:
            x, y = self.wiring.site(unit)
            return x + 1, y + 1
        x, y = fabric.ports[number]
        width = fabric.columns // fabric.lanes_x
        if x in (0, fabric.columns - 1):
            return (0 if x == 0 else fabric.lanes_x + 1), y + 1
        return x // width + 1, (0 if y == 0 else fabric.lanes_y + 1)

    def _at(self, unit: str) -> str:
        return self.tile_names[self._tile(unit)]

    def _tiles(self) -> Iterator[str]:
        for (column, row), name in self.tile_names.items():
            facts = {"col": f"{column} : i32", "row": f"{row} : i32"}
            yield f'{name} = "aie.tile"(){_attributes(facts)} : () -> index'

    def _buffers(self) -> Iterator[str]:
        memories = (node for node in self.wiring.nodes if node.kind == "PMU")
        for number, node in enumerate(memories):
            size = self._held(node.stage, node.unit)
            if size:
                facts = _attributes({"sym_name": string_literal(node.name)})
                operation = f'%buffer_{number} = "aie.buffer"({self._at(node.unit)}){facts}'
                yield f"{operation} : (index) -> {_bytes(size)}"

    def _held(self, stage_id: str, unit: str) -> int:
        """The bytes that one memory unit has room for, as `fit.py` counts them."""
        stage, block = self.wiring.stages[stage_id], self.wiring.block_of[stage_id]
        units, role = stage.units, unit.rpartition(".")[2][0]
        here = [buffer for buffer in self.buffers if buffer.tier == "sram"]
        made = sum(buffer.depth_bytes for buffer in here if buffer.producer == stage_id)
        if role == "x":
            brought = sum(min(b.bytes, b.depth_bytes) for b in here if stage_id in b.consumers)
            return math.ceil(brought * math.ceil(units.lanes / LANES_A_COPY) / units.x_copies)
        if role == "b":
            return math.ceil(made / units.outputs)
        own = sum(stream.depth_bytes for stream in block.streams if stream.stage == stage_id)
        return math.ceil((own if units.outputs else own + made) / units.lanes)

    def _cores(self) -> Iterator[str]:
        for number, node in enumerate(node for node in self.wiring.nodes if node.kind == "PCU"):
            stage = self.wiring.stages[node.stage]
            facts = {
                "hetc.unit": string_literal(node.unit),
                "hetc.stage": string_literal(stage.name),
                "hetc.template": string_literal(stage.template),
            }
            body = '({ "aie.end"() : () -> () })'
            operation = f'%core_{number} = "aie.core"({self._at(node.unit)}) {body}'
            yield f"{operation}{_attributes(facts)} : (index) -> index"

    def _fifos(self) -> Iterator[str]:
        nets = {link.net.name.partition(".activation")[0]: link for link in self.wiring.links}
        for buffer in self.buffers:
            joined = [nets.get(f"{buffer.producer}>{reader}") for reader in buffer.consumers]
            links = [link for link in joined if link is not None]
            if links:
                yield self._fifo(buffer, links)

    def _fifo(self, buffer: Buffer, links: list[Link]) -> str:
        ends = [links[0].net.sources[0], *(link.net.sinks[0] for link in links)]
        facts = {
            "sym_name": string_literal(buffer.id),
            "elemNumber": f"{max(1, buffer.depth_bytes // buffer.bytes)} : i32",
            "elemType": _bytes(buffer.bytes),
        }
        tiles, types = ", ".join(map(self._at, ends)), ", ".join(["index"] * len(ends))
        return f'"aie.objectfifo"({tiles}){_attributes(facts)} : ({types}) -> ()'

    def _flows(self) -> Iterator[str]:
        packets = 0
        for link in self.wiring.links:
            net = link.net
            if net.kind == "memory":
                yield self._packets(link, packets)
                packets += 1
            elif net.kind != "activation":
                for source in net.sources:
                    for sink in net.sinks:
                        yield self._flow(link, source, sink)

    def _flow(self, link: Link, source: str, sink: str) -> str:
        facts = {
            "source_bundle": string_literal(link.net.network),
            "source_channel": f"{link.net.vc} : i32",
            "dest_bundle": string_literal(link.net.network),
            "dest_channel": f"{link.net.vc} : i32",
            "hetc.net": string_literal(link.net.name),
        }
        ends = f"{self._at(source)}, {self._at(sink)}"
        return f'"aie.flow"({ends}){_attributes(facts)} : (index, index) -> ()'

    def _packets(self, link: Link, number: int) -> str:
        sinks = link.net.sinks
        facts = _attributes({"bundle": string_literal("DMA"), "channel": f"{link.net.vc} : i32"})
        ends = [
            f'"aie.packet_source"({self._at(link.net.sources[0])}){facts} : (index) -> ()',
            *(f'"aie.packet_dest"({self._at(sink)}){facts} : (index) -> ()' for sink in sinks),
            '"aie.end"() : () -> ()',
        ]
        body = "\n".join(f"      {end}" for end in ends)
        named = {"ID": f"{number} : i32", "hetc.net": string_literal(link.net.name)}
        return f'"aie.packet_flow"() ({{\n{body}\n    }}){_attributes(named)} : () -> ()'


def _bytes(size: int) -> str:
    return f"memref<{size}xi8>"


def _attributes(facts: Mapping[str, str]) -> str:
    return f" {{{', '.join(f'{name} = {value}' for name, value in facts.items())}}}"
