"""The reference backend: a half as its text, which the interpreter runs."""

from __future__ import annotations

from collections.abc import Mapping

from hetc.backends.base import reasons
from hetc.errors import Reason
from hetc.ir.graph import Graph
from hetc.ir.op import Op
from hetc.ir.ops.control import COLLECTIVES, OPAQUE_RUNNERS, Opaque
from hetc.ir.text import print_graph

GRAPH_FILE = "graph.hetc"


class ReferenceBackend:
    """Writes a half as `graph.hetc`; runs every op that has semantics."""

    name = "reference"

    def supports(self, op: Op) -> Reason | None:
        """Why `op` cannot run (HETC-E010): an unknown op without its framework, or many shards."""
        at = op.loc or op.kind
        if isinstance(op, Opaque) and op.framework not in OPAQUE_RUNNERS:
            return Reason("HETC-E010", f"nothing here runs {op.framework} ops ({op.target})", at)
        if isinstance(op, COLLECTIVES) and op.group_size != 1:
            return Reason("HETC-E010", f"one process is not {op.group_size} shards", at)
        return None

    def validate(self, graph: Graph) -> list[Reason]:
        """Every reason why `graph` cannot run."""
        return reasons(graph, self.supports)

    def emit(self, graph: Graph) -> Mapping[str, bytes]:
        """`graph.hetc`, the text form."""
        return {GRAPH_FILE: print_graph(graph).encode()}
