"""What every backend is to the driver: a name, an answer per op, and files for a half."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from hetc.errors import Reason
from hetc.ir.graph import Graph
from hetc.ir.op import Op

OpCheck = Callable[[Op], Reason | None]


class Backend(Protocol):
    """One way to run a half; stateless."""

    name: str

    def supports(self, op: Op) -> Reason | None:
        """Why `op` cannot be emitted, None where it can."""
        ...

    def validate(self, graph: Graph) -> list[Reason]:
        """Every reason why `graph` cannot be emitted, in graph order; empty where it can."""
        ...

    def emit(self, graph: Graph) -> Mapping[str, bytes]:
        """The files of a half by name inside its folder; raises BackendError where it cannot."""
        ...


def walk(graph: Graph) -> Iterator[Op]:
    """The ops of `graph` and of every graph that it calls, callees first, each graph once."""
    for inner in graph.subgraphs():
        yield from inner.ops
    yield from graph.ops


def reasons(graph: Graph, supports: OpCheck) -> list[Reason]:
    """What `supports` answers for the ops of `graph` and its callees, without repetitions."""
    found = (supports(op) for op in walk(graph))
    return list(dict.fromkeys(reason for reason in found if reason is not None))
